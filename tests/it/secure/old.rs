//! Kafka 0.11, whose brokers take tokens without a request around them, and tell no session's end.

use std::time::Duration;

use weir::conn::sasl::gssapi::Gssapi;
use weir::conn::sasl::{Plain, Scram};
use weir::net::tls::{Pem, Tls};
use weir::protocol::ApiKey;
use weir::{Builder, Client};
use weir_kafka_harness::kdc::{self, Kdc};
use weir_kafka_harness::{Cluster, Listener, Mechanism, PASSWORD, Transport, USER, unless_skipped};

use super::{metadata, stays_out};

const VERSION: &str = "0.11.0.3";

fn listeners() -> Vec<Listener> {
    let kinds = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512, Mechanism::Gssapi];
    kinds.map(Listener::sasl).into_iter().flat_map(|listener| [listener, listener.over_tls()]).collect()
}

fn settings(cluster: &Cluster, listener: Listener) -> Builder {
    let builder = Client::builder(&cluster.bootstrap_text(listener)).api_timeout(Duration::from_secs(20));
    if listener.transport() == Transport::Plain {
        return builder.allow_sasl_without_tls();
    }
    builder.tls(Tls::new().roots(Pem::file(cluster.certificates().unwrap().authority())))
}

fn login(builder: Builder, mechanism: Option<Mechanism>, kdc: &Kdc, password: &str) -> Builder {
    match mechanism {
        Some(Mechanism::Plain) => builder.sasl(Plain::new(USER, password).unwrap()),
        Some(Mechanism::ScramSha256) => builder.sasl(Scram::sha256(USER, password).unwrap()),
        Some(Mechanism::ScramSha512) => builder.sasl(Scram::sha512(USER, password).unwrap()),
        _ => {
            let me = format!("{}@{}", kdc::CLIENT, kdc::REALM);
            let gssapi = Gssapi::keytab(me, kdc.client_keytab()).krb5_conf(kdc.config());
            builder.sasl(gssapi.build().unwrap())
        }
    }
}

#[tokio::test]
async fn an_old_broker_takes_tokens_as_they_are() {
    let Some(kdc) = unless_skipped("a KDC", Kdc::start()) else { return };
    let builder = listeners()
        .into_iter()
        .fold(Cluster::builder(VERSION).kdc(&kdc), weir_kafka_harness::Builder::listener);
    let Some(cluster) = unless_skipped(&format!("secured {VERSION}"), builder.start()) else { return };
    for listener in listeners() {
        let builder = login(settings(&cluster, listener), listener.mechanism(), &kdc, PASSWORD);
        let client = builder.connect().await.unwrap_or_else(|error| panic!("{listener}: {error}"));
        metadata(&client).await.unwrap_or_else(|error| panic!("{listener}: {error}"));
        let broker = client.brokers()[0].id;
        let versions = client.versions(broker).await.unwrap();
        // No SaslAuthenticate, so what follows the agreement on a mechanism are raw tokens.
        assert_eq!(versions.theirs(ApiKey::SASL_AUTHENTICATE), None);
        assert_eq!(versions.theirs(ApiKey::SASL_HANDSHAKE), Some(0..=0));
        assert!(client.stats().authentications >= 1);
        client.close().await;
    }
    for listener in listeners().into_iter().filter(|one| one.mechanism() != Some(Mechanism::Gssapi)) {
        // Such a broker cannot say why; it breaks off, and so the client goes on trying until its time is over.
        let builder = settings(&cluster, listener).api_timeout(Duration::from_secs(2));
        let builder = login(builder, listener.mechanism(), &kdc, "guess");
        let error = builder.connect().await.map(|_| ()).expect_err("a wrong password");
        assert!(error.to_string().contains("authenticating"), "{listener}: {error}");
    }
    let builder = settings(&cluster, Listener::sasl(Mechanism::ScramSha256));
    let plain = login(builder, Some(Mechanism::Plain), &kdc, PASSWORD);
    stays_out("PLAIN", plain, &["does not take PLAIN; it takes \"SCRAM-SHA-256\""]).await;
}
