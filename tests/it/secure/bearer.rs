//! OAUTHBEARER with an identity provider: every grant gets a token that the broker takes.

use weir::conn::sasl::OAuthBearer;
use weir::conn::sasl::oidc::{Algorithm, Oidc, OidcBuilder, PrivateKey, SignedAssertion};
use weir::net::Config;
use weir::net::tls::{Pem, Tls};
use weir_kafka_harness::oidc::{AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, Issuer};
use weir_kafka_harness::{Listener, Mechanism, unless_skipped};

use super::{Site, sites, stays_out};

const LISTENER: Listener = Listener::sasl(Mechanism::OauthBearer).over_tls();

fn assertion(issuer: &Issuer, algorithm: Algorithm, key: PrivateKey) -> SignedAssertion {
    let signed = SignedAssertion::new(algorithm, key).with_id(true);
    signed.issuer(CLIENT_ID).subject(CLIENT_ID).audience(issuer.token_url(true))
}

/// The three grants (KIP-768, KIP-1258, KIP-1139), over TLS.
fn grants(site: &Site) -> Vec<(&'static str, Oidc)> {
    let issuer = &site.issuer;
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
    let build = |builder: OidcBuilder| builder.scope("weir").network(site.to_issuer()).build().unwrap();
    grants.into_iter().map(|(name, builder)| (name, build(builder))).collect()
}

#[tokio::test]
async fn a_broker_takes_the_tokens_of_every_grant() {
    for site in sites() {
        for (name, oidc) in grants(site) {
            for _ in 0..2 {
                let builder = site.nobody(LISTENER).sasl(OAuthBearer::new(oidc.clone()));
                let seen = site.sees(builder).await.unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(seen, CLIENT_ID, "{name} of {}", site.version);
            }
        }
        let asked: Vec<_> = site.issuer.seen().into_iter().filter(|seen| seen.path == "/token").collect();
        assert!(asked.len() >= 4 && asked.iter().all(|seen| seen.tls), "{asked:?}");
    }
}

/// What a provider says, or what the broker says to its token, is what the client's user is told.
#[tokio::test]
async fn b41_a_token_that_is_refused_or_not_given_is_told() {
    let stranger = Issuer::start().unwrap();
    let network = Config::new().tls(Tls::new().roots(Pem::file(stranger.certificates().authority())));
    let oidc = || {
        let url = stranger.token_url(true);
        let builder = Oidc::client_credentials(url, CLIENT_ID, CLIENT_SECRET).scope("weir");
        OAuthBearer::new(builder.network(network.clone()).tries_max(1).build().unwrap())
    };
    for site in sites() {
        for (how, says) in [
            // Its tokens are in order, but it is not the issuer that the broker trusts.
            (Behaviour::Good, "invalid_token"),
            (Behaviour::Refuse, "invalid_request"),
            (Behaviour::Redirect, "302"),
        ] {
            stranger.behave(how);
            let error = stays_out(&format!("{how:?}"), site.nobody(LISTENER).sasl(oidc()), &[says]).await;
            let shown = format!("{error:?}");
            assert!(!shown.contains(CLIENT_SECRET) && !shown.contains(AUDIENCE), "{shown}");
        }
    }
}
