//! The issuer by itself and before a broker.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use weir_kafka_harness::oidc::{Behaviour, CLIENT_ID, CLIENT_SECRET, Issuer};
use weir_kafka_harness::{Cluster, Listener, Mechanism, unless_skipped};

use crate::java::{Properties, answers, client};

/// One request over HTTP; head and body of the answer.
fn http(issuer: &Issuer, request: &str) -> (String, String) {
    let name = issuer.name();
    let mut stream = TcpStream::connect(name.strip_prefix("http://").unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    answer.split_once("\r\n\r\n").map(|(head, body)| (head.to_owned(), body.to_owned())).unwrap_or_default()
}

fn post(issuer: &Issuer, body: &str) -> (String, String) {
    let length = body.len();
    http(issuer, &format!("POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}"))
}

fn good() -> String {
    format!("grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&scope=a+b")
}

#[test]
fn a_secret_or_an_assertion_gets_a_token() {
    let issuer = Issuer::start().unwrap();
    let (head, keys) = http(&issuer, "GET /jwks HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200") && keys.contains("\"crv\":\"P-256\""), "{head} {keys}");
    let (head, body) = post(&issuer, &good());
    assert!(head.starts_with("HTTP/1.1 200"), "{head} {body}");
    assert!(body.contains("\"access_token\":\"ey") && body.contains("\"scope\":\"a b\""), "{body}");
    let basic = "POST /token HTTP/1.1\r\nAuthorization: Basic d2Vpci1jbGllbnQ6d2Vpci1jbGllbnQtc2VjcmV0\r\n\
         Content-Length: 29\r\n\r\ngrant_type=client_credentials";
    assert!(http(&issuer, basic).0.starts_with("HTTP/1.1 200"));
    // Its own token is no assertion, for want of a client's key.
    let token = issuer.token("x", Duration::from_mins(1)).unwrap();
    for (body, error) in [
        ("grant_type=client_credentials&client_id=x&client_secret=y".to_owned(), "invalid_client"),
        ("grant_type=client_credentials".to_owned(), "invalid_client"),
        ("grant_type=password".to_owned(), "unsupported_grant_type"),
        (
            format!("grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion={token}"),
            "invalid_grant",
        ),
    ] {
        let (head, answer) = post(&issuer, &body);
        assert!(head.starts_with("HTTP/1.1 40") && answer.contains(error), "{body}: {head} {answer}");
    }
    let seen = issuer.seen();
    assert_eq!((seen[1].path.as_str(), seen[1].tls), ("/token", false));
    assert_eq!(seen[1].fields[1], ("client_id".to_owned(), CLIENT_ID.to_owned()));
    assert!(std::fs::read_to_string(issuer.client_key()).unwrap().starts_with("-----BEGIN PRIVATE KEY-----"));
}

/// An assertion for this issuer, signed with RS256 by the program `openssl`: made by others than those who check.
fn assertion(issuer: &Issuer, key: &Path, audience: &str) -> String {
    let claims = format!("{{\"iss\":\"me\",\"sub\":\"me\",\"aud\":\"{audience}\",\"exp\":99999999999}}");
    let signed = format!("{}.{}", BASE64URL.encode(r#"{"alg":"RS256"}"#), BASE64URL.encode(claims));
    let mut openssl = Command::new("openssl")
        .args(["dgst", "-sha256", "-sign"])
        .arg(key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    openssl.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    let output = openssl.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", issuer.name());
    format!("{signed}.{}", BASE64URL.encode(output.stdout))
}

#[test]
fn an_assertion_is_as_good_as_a_secret() {
    let issuer = Issuer::start().unwrap();
    let Some(key) = unless_skipped("RS256", issuer.rsa_client_key()) else { return };
    let good = assertion(&issuer, &key, &issuer.token_url(true));
    let foreign = assertion(&issuer, &key, "https://elsewhere.example");
    let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
    let as_client = |kind: &str, text: &str| {
        format!("grant_type=client_credentials&client_assertion_type={kind}&client_assertion={text}")
    };
    let as_grant =
        |text: &str| format!("grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer&assertion={text}");
    for (body, expected) in [
        (as_client(kind, &good), "\"access_token\":\"ey"),
        (as_client("saml", &good), "unknown type"),
        (as_client(kind, &foreign), "another audience"),
        (as_grant(&good), "\"access_token\":\"ey"),
        (as_grant(&foreign), "another audience"),
    ] {
        let (head, answer) = post(&issuer, &body);
        assert!(answer.contains(expected), "{expected}: {head} {answer}");
    }
}

#[test]
fn it_is_reached_by_tls_too() {
    let issuer = Issuer::start().unwrap();
    let ask = |authority: &Path| -> std::io::Result<String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(authority).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let url = issuer.jwks_url(true);
        let address = url.strip_prefix("https://").and_then(|rest| rest.strip_suffix("/jwks")).unwrap();
        let stream = TcpStream::connect(address.replace("localhost", "127.0.0.1"))?;
        let session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        stream.write_all(b"GET /jwks HTTP/1.1\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    let answer = ask(&issuer.certificates().authority()).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("\"kid\":\"weir-1\""), "{answer}");
    assert!(issuer.seen().iter().any(|seen| seen.tls && seen.path == "/jwks"));
    assert!(ask(&issuer.certificates().other_authority()).is_err(), "who does not trust it gets nothing");
}

#[test]
fn it_misbehaves_as_it_is_told() {
    let issuer = Issuer::start().unwrap();
    for (how, head_has, body_has) in [
        (Behaviour::Redirect, "302 Found\r\n", ""),
        (Behaviour::Refuse, "400 ", "invalid_request"),
        (Behaviour::Unavailable, "503 ", ""),
        (Behaviour::NotJson, "200 OK", "<html>"),
        (Behaviour::NoToken, "200 OK", "token_type"),
        (Behaviour::BadToken, "200 OK", "\"not.a.token\""),
        (Behaviour::ExpiredToken, "200 OK", "access_token"),
        (Behaviour::Slow(Duration::from_millis(100)), "200 OK", "access_token"),
        (Behaviour::HangUp, "", ""),
    ] {
        issuer.behave(how);
        let (head, body) = post(&issuer, &good());
        assert!(head.contains(head_has) && body.contains(body_has), "{how:?}: {head} {body}");
    }
    issuer.behave(Behaviour::HugeBody);
    let address = issuer.name();
    let mut stream = TcpStream::connect(address.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "POST /token HTTP/1.1\r\nContent-Length: 0\r\n\r\n").unwrap();
    let mut some = vec![0; 1 << 20];
    stream.read_exact(&mut some).unwrap();
    assert!(some.ends_with(b"xxxx"));
}

#[test]
fn brokers_take_the_tokens_of_their_issuer_alone() {
    let issuer = Issuer::start().unwrap();
    let listener = Listener::sasl(Mechanism::OauthBearer);
    for version in ["4.4.0", "3.9.2"] {
        let started = Cluster::builder(version).listener(listener).issuer(&issuer).start();
        let Some(cluster) = unless_skipped(&format!("{version} with an issuer"), started) else { return };
        let stranger = client(&cluster, listener);
        let clients = [oidc(&cluster, listener, &issuer, version), stranger];
        let allowed = format!("-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls={}", issuer.token_url(false));
        let before = issuer.seen().len();
        issuer.behave(Behaviour::Good);
        let answers_good = answers(&cluster, std::slice::from_ref(&allowed), &clients);
        assert_eq!(answers_good[0], "in 1", "{version}");
        assert!(answers_good[1].starts_with("out "), "an unsigned token: {answers_good:?}");
        let paths: Vec<_> = issuer.seen()[before..].iter().map(|seen| seen.path.clone()).collect();
        assert!(paths.contains(&"/token".to_owned()), "{paths:?}");
        assert!(issuer.seen().iter().any(|seen| seen.path == "/jwks"), "the broker fetched the keys");
        issuer.behave(Behaviour::ForeignToken);
        let answers = answers(&cluster, &[allowed], &clients[..1]);
        assert!(answers[0].contains("Authentication"), "{answers:?}");
    }
}

/// Java's client with OIDC.
fn oidc(cluster: &Cluster, listener: Listener, issuer: &Issuer, version: &str) -> Properties {
    let package = "org.apache.kafka.common.security.oauthbearer";
    let secured = if version.starts_with('4') { "" } else { ".secured" };
    let mut lines = client(cluster, listener);
    lines.extend([
        ("sasl.login.callback.handler.class".to_owned(), format!("{package}{secured}.OAuthBearerLoginCallbackHandler")),
        ("sasl.oauthbearer.token.endpoint.url".to_owned(), issuer.token_url(false)),
        (
            "sasl.jaas.config".to_owned(),
            format!(
                "{package}.OAuthBearerLoginModule required clientId=\"{CLIENT_ID}\" clientSecret=\"{CLIENT_SECRET}\" scope=\"weir\";"
            ),
        ),
    ]);
    lines
}
