//! Delegation tokens (KIP-48): made through one client, and a login by SCRAM for another.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use weir::conn::sasl::Scram;
use weir::protocol::create_delegation_token::CreateDelegationTokenRequest;
use weir::protocol::expire_delegation_token::ExpireDelegationTokenRequest;
use weir::{Builder, Client, ErrorCode};
use weir_kafka_harness::{Listener, Mechanism};

use super::{Site, metadata, sites, stays_out, who};

/// A broker learns of a new token soon, but not at once.
async fn gets_in_soon(what: &str, builder: impl Fn() -> Builder) -> Client {
    let until = Instant::now() + Duration::from_secs(15);
    loop {
        match builder().connect().await {
            Ok(client) => return client,
            Err(error) if error.is_auth() && Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }
}

async fn logs_in(site: &Site, owner: &Client) {
    let request = CreateDelegationTokenRequest { max_lifetime_ms: 600_000, ..Default::default() };
    let made = owner.request(request).await.unwrap();
    assert_eq!(ErrorCode(made.error_code), ErrorCode::NONE);
    let (id, password) = (made.token_id.to_string(), STANDARD.encode(&made.hmac));
    let token = |listener: Listener, id: &str, password: &str| {
        let scram = match listener.mechanism() {
            Some(Mechanism::ScramSha256) => Scram::sha256(id, password),
            _ => Scram::sha512(id, password),
        };
        site.nobody(listener).sasl(scram.unwrap().delegation_token())
    };
    for kind in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
        for listener in [Listener::sasl(kind), Listener::sasl(kind).over_tls()] {
            let what = format!("{listener} of {}", site.version);
            let client = gets_in_soon(&what, || token(listener, &id, &password)).await;
            metadata(&client).await.unwrap();
            // Who came by a token gets no other by it, which shows that it was one.
            let refused = who(&client).await.unwrap_err().to_string();
            assert!(refused.contains("DELEGATION_TOKEN_REQUEST_NOT_ALLOWED"), "{what}: {refused}");
            client.close().await;
            stays_out(&what, token(listener, &id, "guess"), &["SASL_AUTHENTICATION_FAILED"]).await;
            stays_out(&what, token(listener, "nobody", &password), &["SASL_AUTHENTICATION_FAILED"]).await;
        }
    }
    let expire =
        ExpireDelegationTokenRequest { hmac: made.hmac, expiry_time_period_ms: -1, ..Default::default() };
    let expired = owner.request(expire).await.unwrap();
    assert_eq!(ErrorCode(expired.error_code), ErrorCode::NONE);
}

#[tokio::test]
async fn a_delegation_token_logs_in_by_scram() {
    for site in sites() {
        let owner = Listener::sasl(Mechanism::ScramSha512).over_tls();
        let owner = site.builder(owner).connect().await.unwrap();
        logs_in(site, &owner).await;
        owner.close().await;
    }
}
