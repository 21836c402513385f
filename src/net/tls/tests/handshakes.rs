//! Good and bad servers, each met once over a pipe.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, CustomExtension, date_time_ymd};
use rustls::{ProtocolVersion, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::client::TlsStream;

use super::super::super::dial::lost;
use super::super::super::{Address, clock};
use super::super::config::{Pem, Tls};
use super::super::connector::Connector;
use super::super::head::Head;
use super::pki::{Authority, Key, certificate_pem, echo, request, server};
use crate::error::{Error, Result};

const BROKER: &str = "broker.example.com:9093";

type Stream = TlsStream<Head<DuplexStream>>;

/// A handshake with `config`'s server as the broker at `to`, and a word said there and back.
async fn meet(tls: Tls, config: ServerConfig, to: &str) -> Result<Stream> {
    let (ours, theirs) = duplex(64 * 1024);
    let served = tokio::spawn(echo(Arc::new(config), theirs));
    let outcome = async {
        let mut stream = handshake(tls, ours, to).await?;
        let mut back = [0; 4];
        stream.write_all(b"ping").await.map_err(lost)?;
        stream.read_exact(&mut back).await.map_err(lost)?;
        assert_eq!(&back, b"ping");
        Ok(stream)
    }
    .await;
    served.abort();
    outcome
}

async fn handshake(tls: Tls, stream: DuplexStream, to: &str) -> Result<Stream> {
    let to: Address = to.parse().unwrap();
    Connector::new(tls).await.unwrap().handshake(stream, &to, clock::now() + Duration::from_secs(10)).await
}

/// A handshake with a server that says these bytes, whatever it hears, and then closes if told to.
async fn hear(bytes: &[u8], closes: bool) -> Error {
    let (ours, mut theirs) = duplex(64 * 1024);
    theirs.write_all(bytes).await.unwrap();
    if closes {
        theirs.shutdown().await.unwrap();
    }
    let outcome = handshake(Authority::new(1).trusted(), ours, BROKER).await;
    drop(theirs);
    outcome.unwrap_err()
}

#[track_caller]
fn refused(outcome: Result<Stream>, why: &str) {
    let error = outcome.unwrap_err();
    assert!(error.is_auth() && !error.is_retriable(), "{error:?}");
    assert!(error.to_string().contains(why), "{error:?}");
}

#[tokio::test]
async fn b42_good_certificates_are_accepted() {
    let authority = Authority::new(1);
    for (names, to) in [
        (&["broker.example.com"][..], BROKER),
        (&["other", "broker.example.com"], "BROKER.example.com:9093"),
        (&["*.example.com"], BROKER),
        (&["broker.example.com"], "broker.example.com.:9093"),
        (&["192.0.2.7"], "192.0.2.7:9093"),
        (&["2001:db8::7"], "[2001:db8:0::7]:9093"),
        (&["fe80::1"], "[fe80::1%eth0]:9093"),
    ] {
        let stream = meet(authority.trusted(), authority.server(names), to).await.unwrap();
        let session = stream.get_ref().1;
        assert_eq!(session.protocol_version(), Some(ProtocolVersion::TLSv1_3), "{to}");
        assert_eq!(session.alpn_protocol(), None);
    }
}

#[tokio::test]
async fn b42_a_wrong_name_is_refused() {
    let authority = Authority::new(1);
    for (names, to, why) in [
        (&["other.example.com"][..], BROKER, "not for 'broker.example.com' but for"),
        (&["*.example.com"], "a.broker.example.com:9093", "not for 'a.broker.example.com'"),
        (&["*.com"], BROKER, "not for 'broker.example.com'"),
        (&["192.0.2.7"], "192.0.2.8:9093", "not for '192.0.2.8'"),
        (&["192.0.2.7"], BROKER, "not for 'broker.example.com'"),
        (&["broker.example.com"], "192.0.2.7:9093", "not for '192.0.2.7'"),
        (&[], BROKER, "no name at all"),
    ] {
        refused(meet(authority.trusted(), authority.server(names), to).await, why);
    }
}

#[tokio::test]
async fn the_name_to_check_can_be_set() {
    let authority = Authority::new(1);
    let tls = authority.trusted().server_name("broker.example.com.");
    meet(tls.clone(), authority.server(&["broker.example.com"]), "localhost:9093").await.unwrap();
    refused(
        meet(tls, authority.server(&["localhost"]), "localhost:9093").await,
        "not for 'broker.example.com'",
    );
}

/// A server whose certificate was changed before the authority signed it.
fn changed(authority: &Authority, change: impl FnOnce(&mut CertificateParams)) -> ServerConfig {
    let key = Key::new(100);
    let mut params = request(&["broker.example.com"]);
    change(&mut params);
    server(vec![authority.issue(&params, &key)], &key, None)
}

#[tokio::test]
async fn b42_a_bad_certificate_is_refused() {
    let authority = Authority::new(1);
    let expired = changed(&authority, |params| params.not_after = date_time_ymd(2020, 1, 1));
    refused(meet(authority.trusted(), expired, BROKER).await, "has expired");
    let early = changed(&authority, |params| params.not_before = date_time_ymd(3020, 1, 1));
    refused(meet(authority.trusted(), early, BROKER).await, "not valid yet");
    let client = rcgen::ExtendedKeyUsagePurpose::ClientAuth;
    let no_server = changed(&authority, |params| params.extended_key_usages = vec![client]);
    refused(meet(authority.trusted(), no_server, BROKER).await, "not meant for servers");
    let stranger = Authority::new(2).server(&["broker.example.com"]);
    refused(meet(authority.trusted(), stranger, BROKER).await, "not issued by anyone trusted here");
    let key = Key::new(100);
    let alone = request(&["broker.example.com"]).self_signed(&key).unwrap().der().clone();
    refused(meet(authority.trusted(), server(vec![alone], &key, None), BROKER).await, "self-signed");
}

/// The same name and number as the trusted authority, but another key.
#[tokio::test]
async fn a_forged_authority_is_refused() {
    let (authority, key) = (Authority::new(1), Key::new(100));
    let mut params = request(&[]);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, "authority 1");
    let forger = rcgen::Issuer::new(params, Key::new(9));
    let leaf = request(&["broker.example.com"]).signed_by(&key, &forger).unwrap().der().clone();
    refused(
        meet(authority.trusted(), server(vec![leaf], &key, None), BROKER).await,
        "was not signed by whom it says",
    );
}

#[tokio::test]
async fn danger_does_what_its_name_says_and_no_more() {
    let (authority, stranger) = (Authority::new(1), Authority::new(2));
    let anybody = Tls::new().danger_accept_any_certificate();
    meet(anybody, stranger.server(&["other"]), BROKER).await.unwrap();
    let any_name = authority.trusted().danger_accept_any_host_name();
    meet(any_name.clone(), authority.server(&["other"]), BROKER).await.unwrap();
    refused(meet(any_name.clone(), stranger.server(&["other"]), BROKER).await, "not issued by anyone");
    let expired = changed(&authority, |params| params.not_after = date_time_ymd(2020, 1, 1));
    refused(meet(any_name, expired, BROKER).await, "has expired");
    let without_roots = Connector::new(Tls::new().danger_accept_any_host_name()).await;
    assert!(without_roots.unwrap_err().is_invalid());
}

#[tokio::test]
async fn versions_can_be_kept_to_tls13() {
    let authority = Authority::new(1);
    let tls12 = || {
        let key = Key::p256();
        let leaf = authority.issue(&request(&["broker.example.com"]), &key);
        let provider = super::super::provider::of(&Tls::new()).unwrap();
        let builder = ServerConfig::builder_with_provider(provider);
        let builder =
            builder.with_protocol_versions(&[&rustls::version::TLS12]).unwrap().with_no_client_auth();
        builder.with_single_cert(vec![leaf], key.der()).unwrap()
    };
    let stream = meet(authority.trusted(), tls12(), BROKER).await.unwrap();
    assert_eq!(stream.get_ref().1.protocol_version(), Some(ProtocolVersion::TLSv1_2));
    refused(meet(authority.trusted().tls13_only(), tls12(), BROKER).await, "versions of TLS");
}

#[tokio::test]
async fn b42_an_old_tls_is_refused() {
    // An alert "protocol version" in a record of TLS 1.1.
    let error = hear(&[0x15, 3, 2, 0, 2, 2, 70], false).await;
    assert!(error.is_auth() && error.to_string().contains("versions of TLS"), "{error:?}");
    // A ServerHello that chooses TLS 1.1.
    let mut hello = vec![0x16, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0xc0, 0x13, 0]);
    let error = hear(&hello, false).await;
    assert!(error.is_auth() && error.to_string().contains("versions of TLS"), "{error:?}");
}

#[tokio::test]
async fn b42_what_is_not_tls_is_named() {
    for (bytes, why) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "speaks HTTP"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "speaks SSH"),
        (&[0, 0, 0, 10, 0, 0, 0, 1, 0, 35, 0, 0, 0, 0], "plaintext"),
        (&[0xff; 64], "plaintext"),
    ] {
        let error = hear(bytes, false).await;
        assert!(error.is_malformed() && !error.is_retriable(), "{error:?}");
        assert!(error.to_string().contains(why), "{error:?}");
    }
}

#[tokio::test]
async fn a_broker_that_hangs_up_is_lost_and_perhaps_plaintext() {
    let error = hear(&[], true).await;
    assert!(error.is_io() && error.is_retriable(), "{error:?}");
    assert!(error.to_string().contains("plaintext"), "{error:?}");
    let error = hear(&[0x16, 3, 3, 0, 80, 2], true).await;
    assert!(error.is_io() && !error.to_string().contains("plaintext"), "{error:?}");
}

#[tokio::test]
async fn records_that_lie_about_themselves_are_refused() {
    // Too long a record; a handshake message of 16 MB, which would have to be collected.
    for bytes in [&[0x16, 3, 3, 0xff, 0xff][..], &[0x16, 3, 3, 0, 4, 2, 0xff, 0xff, 0xff]] {
        let error = hear(bytes, false).await;
        assert!(error.is_malformed(), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn b42_a_stalled_handshake_times_out() {
    let (ours, theirs) = duplex(64 * 1024);
    let begun = clock::now();
    let error = handshake(Authority::new(1).trusted(), ours, BROKER).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("TLS handshake"), "{error:?}");
    assert_eq!((clock::now() - begun).as_secs(), 10);
    drop(theirs);
}

#[tokio::test]
async fn b42_a_huge_chain_is_refused() {
    let (authority, key) = (Authority::new(1), Key::new(100));
    let mut params = request(&["broker.example.com"]);
    let leaf = authority.issue(&params, &key);
    params
        .custom_extensions
        .push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99], vec![4; 16 * 1024]));
    let ballast = authority.issue(&params, &key);
    let mut chain = vec![leaf];
    chain.extend(std::iter::repeat_n(ballast, 8));
    let error = meet(authority.trusted(), server(chain, &key, None), BROKER).await.unwrap_err();
    assert!(error.is_malformed() && error.to_string().contains("TooLarge"), "{error:?}");
}

#[tokio::test]
async fn a_broker_that_wants_a_certificate_gets_it() {
    let (authority, clients, key) = (Authority::new(1), Authority::new(3), Key::new(101));
    let wanting = || {
        let key = Key::new(100);
        server(vec![authority.issue(&request(&["broker.example.com"]), &key)], &key, Some(&clients))
    };
    let show =
        |leaf: &_| authority.trusted().identity(Pem::memory(certificate_pem(leaf)), Pem::memory(key.pem()));
    let good = clients.issue(&request(&["client"]), &key);
    let stream = meet(show(&good), wanting(), BROKER).await.unwrap();
    assert!(stream.get_ref().1.peer_certificates().is_some());

    refused(meet(authority.trusted(), wanting(), BROKER).await, "wants a certificate of ours");
    let mut params = request(&["client"]);
    params.not_after = date_time_ymd(2020, 1, 1);
    refused(
        meet(show(&clients.issue(&params, &key)), wanting(), BROKER).await,
        "our certificate has expired",
    );
    let strange = Authority::new(4).issue(&request(&["client"]), &key);
    refused(meet(show(&strange), wanting(), BROKER).await, "does not know who issued our certificate");
}

#[tokio::test]
async fn a_session_is_resumed() {
    let authority = Authority::new(1);
    let config = Arc::new(authority.server(&["broker.example.com"]));
    let connector = Connector::new(authority.trusted()).await.unwrap();
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (ours, theirs) = duplex(64 * 1024);
        let served = tokio::spawn(echo(Arc::clone(&config), theirs));
        let deadline = clock::now() + Duration::from_secs(10);
        let mut stream = connector.handshake(ours, &BROKER.parse().unwrap(), deadline).await.unwrap();
        // The ticket comes after the handshake, with the first data.
        stream.write_all(b"ping").await.unwrap();
        stream.read_exact(&mut [0; 4]).await.unwrap();
        kinds.push(stream.get_ref().1.handshake_kind().unwrap());
        served.abort();
    }
    assert_eq!(kinds, [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]);
}
