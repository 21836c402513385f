//! Kerberos and OIDC with a real broker as the judge: it takes the tokens that weir gets, and tells whom it sees.

use std::net::SocketAddr;

use weir::conn::sasl::gssapi::Gssapi;
use weir::conn::sasl::oidc::{Algorithm, Oidc, OidcBuilder, PrivateKey, SignedAssertion};
use weir::conn::sasl::{Mechanism, OAuthBearer, Peer};
use weir::net::Config;
use weir::net::tls::{Pem, Tls};
use weir::protocol::ErrorCode;
use weir::protocol::metadata::MetadataRequest;
use weir::protocol::sasl_authenticate::SaslAuthenticateRequest;
use weir::protocol::sasl_handshake::SaslHandshakeRequest;
use weir_kafka_harness::kdc::{self, Kdc};
use weir_kafka_harness::oidc::{AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, Issuer};
use weir_kafka_harness::{Cluster, Listener, Mechanism as Kind, unless_skipped};

use super::VERSIONS;
use super::roundtrip::support::Connection;

/// Authenticates by hand and asks for something that only an authenticated client may. The error is what either
/// side said.
async fn gets_in(at: SocketAddr, mechanism: &dyn Mechanism) -> Result<(), String> {
    let mut connection = Connection::open(&at.to_string()).unwrap();
    let handshake = SaslHandshakeRequest { mechanism: mechanism.name().into(), ..Default::default() };
    assert_eq!(connection.call(&handshake).unwrap().error_code, 0);
    let peer = Peer { host: "localhost".into(), port: at.port(), encrypted: false };
    let mut session = mechanism.begin(&peer).await.map_err(|error| error.to_string())?;
    let mut challenge: Option<Vec<u8>> = None;
    while let Some(token) = session.respond(challenge.as_deref()).await.map_err(|error| error.to_string())? {
        let auth_bytes = token.expose().to_vec().into();
        let answer = connection.call(&SaslAuthenticateRequest { auth_bytes, ..Default::default() }).unwrap();
        if answer.error_code != 0 {
            return Err(format!("{} {:?}", ErrorCode(answer.error_code), answer.error_message));
        }
        challenge = Some(answer.auth_bytes.to_vec());
    }
    let cluster = connection.call(&MetadataRequest::default()).map_err(|error| error.to_string())?;
    assert_eq!(cluster.brokers.len(), 1);
    Ok(())
}

async fn kerberos(version: &str) {
    let Some(kdc) = unless_skipped("a KDC", Kdc::start()) else { return };
    let listener = Listener::sasl(Kind::Gssapi);
    let started = Cluster::builder(version).listener(listener).kdc(&kdc).start();
    let Some(cluster) = unless_skipped(&format!("{version} with a KDC"), started) else { return };
    let at = cluster.bootstrap(listener)[0];
    let me = format!("{}@{}", kdc::CLIENT, kdc::REALM);
    let keytab = Gssapi::keytab(&me, kdc.client_keytab()).krb5_conf(kdc.config()).build().unwrap();
    let password =
        Gssapi::password(&me, kdc::CLIENT_PASSWORD).kdc(kdc.address().to_string()).build().unwrap();
    for _ in 0..3 {
        gets_in(at, &keytab).await.unwrap();
        gets_in(at, &password).await.unwrap();
    }
    let wrong = Gssapi::password(&me, "guess").kdc(kdc.address().to_string()).build().unwrap();
    let said = gets_in(at, &wrong).await.unwrap_err();
    assert!(said.contains("wrong"), "{said}");
}

#[tokio::test]
async fn a_broker_of_4_4_0_takes_kerberos() {
    kerberos(VERSIONS[0]).await;
}

#[tokio::test]
async fn a_broker_of_3_9_2_takes_kerberos() {
    kerberos(VERSIONS[1]).await;
}

fn assertion(issuer: &Issuer, algorithm: Algorithm, key: PrivateKey) -> SignedAssertion {
    let signed = SignedAssertion::new(algorithm, key).with_id(true);
    signed.issuer(CLIENT_ID).subject(CLIENT_ID).audience(issuer.token_url(true))
}

/// The three grants, over TLS.
fn grants(issuer: &Issuer) -> Vec<(&'static str, Oidc)> {
    let url = issuer.token_url(true);
    let es256 = || assertion(issuer, Algorithm::Es256, PrivateKey::file(issuer.client_key()));
    let mut grants = vec![
        ("client credentials", Oidc::client_credentials(&url, CLIENT_ID, CLIENT_SECRET)),
        ("client assertion", Oidc::client_assertion(&url, es256()).client_id(CLIENT_ID)),
        ("jwt bearer", Oidc::jwt_bearer(&url, es256())),
    ];
    if let Some(key) = unless_skipped("RS256", issuer.rsa_client_key()) {
        let rs256 = assertion(issuer, Algorithm::Rs256, PrivateKey::file(key));
        grants.push(("jwt bearer by RSA", Oidc::jwt_bearer(&url, rs256)));
    }
    let trust = Tls::new().roots(Pem::file(issuer.certificates().authority()));
    let build = |builder: OidcBuilder| {
        // The broker's validator refuses a token without a scope.
        builder.scope("weir").network(Config::new().tls(trust.clone())).build().unwrap()
    };
    grants.into_iter().map(|(name, builder)| (name, build(builder))).collect()
}

#[tokio::test]
async fn a_broker_takes_the_tokens_of_every_grant() {
    let issuer = Issuer::start().unwrap();
    let listener = Listener::sasl(Kind::OauthBearer);
    let started = Cluster::builder(VERSIONS[0]).listener(listener).issuer(&issuer).start();
    let Some(cluster) = unless_skipped("4.4.0 with an issuer", started) else { return };
    let at = cluster.bootstrap(listener)[0];
    for (name, oidc) in grants(&issuer) {
        let asked = issuer.seen().iter().filter(|seen| seen.path == "/token").count();
        let mechanism = OAuthBearer::new(oidc);
        for _ in 0..3 {
            gets_in(at, &mechanism).await.unwrap_or_else(|said| panic!("{name}: {said}"));
        }
        let seen: Vec<_> = issuer.seen().into_iter().filter(|seen| seen.path == "/token").collect();
        assert_eq!(seen.len(), asked + 1, "{name}: one token serves all");
        assert!(seen.iter().all(|seen| seen.tls && !seen.path.contains('?')));
    }
    // A token for others than this broker's audience.
    issuer.behave(Behaviour::ForeignToken);
    let (_, oidc) = grants(&issuer).remove(0);
    let said = gets_in(at, &OAuthBearer::new(oidc)).await.unwrap_err();
    assert!(!said.is_empty() && !said.contains(AUDIENCE), "{said}");
}
