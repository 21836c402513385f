//! Every way into a broker: it sees whom it should, and who has not what it takes stays out and is told why.

use std::time::Duration;

use weir::conn::sasl::gssapi::Gssapi;
use weir::conn::sasl::{OAuthBearer, Plain, Scram, Token};
use weir_kafka_harness::kdc;
use weir_kafka_harness::{Identity, Listener, Mechanism, PASSWORD, USER};

use super::own::unsigned;
use super::{sites, stays_out, user, ways};

const GUESS: &str = "guess";

#[tokio::test]
async fn every_way_in_leads_in() {
    for site in sites() {
        for listener in ways().chain([Listener::mtls()]) {
            let what = format!("{listener} of {}", site.version);
            let client = site.builder(listener).connect().await.unwrap_or_else(|e| panic!("{what}: {e}"));
            let name = super::who(&client).await.unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(name, user(listener), "{what}");
            let stats = client.stats();
            let authenticated = stats.authentications >= stats.connections_opened;
            assert_eq!(authenticated, listener.mechanism().is_some(), "{what}: {stats:?}");
            assert_eq!(stats.connections_failed, 0, "{what}");
            client.close().await;
        }
        // A password for Kerberos in place of a keytab.
        let me = format!("{}@{}", kdc::CLIENT, kdc::REALM);
        let password = Gssapi::password(me, kdc::CLIENT_PASSWORD).kdc(site.kdc.address().to_string());
        let builder = site.nobody(Listener::sasl(Mechanism::Gssapi)).sasl(password.build().unwrap());
        assert_eq!(site.sees(builder).await.unwrap(), kdc::CLIENT);
    }
}

#[tokio::test]
async fn a_wrong_password_stays_out() {
    let failed: &[&str] = &["SASL_AUTHENTICATION_FAILED"];
    for site in sites() {
        for (user, password) in [(USER, GUESS), ("nobody", PASSWORD)] {
            for over_tls in [false, true] {
                let way =
                    |kind| if over_tls { Listener::sasl(kind).over_tls() } else { Listener::sasl(kind) };
                let builder = site.nobody(way(Mechanism::Plain)).allow_sasl_without_tls();
                stays_out("PLAIN", builder.sasl(Plain::new(user, password).unwrap()), failed).await;
                let builder = site.nobody(way(Mechanism::ScramSha256));
                let scram = Scram::sha256(user, password).unwrap();
                stays_out("SCRAM-SHA-256", builder.sasl(scram), failed).await;
                let builder = site.nobody(way(Mechanism::ScramSha512));
                let scram = Scram::sha512(user, password).unwrap();
                stays_out("SCRAM-SHA-512", builder.sasl(scram), failed).await;
            }
        }
        // Unsigned, where the issuer's are wanted; the broker tells by JSON, and then by an error.
        let builder = site.nobody(Listener::sasl(Mechanism::OauthBearer).over_tls());
        let builder = builder.sasl(OAuthBearer::new(Token::new(unsigned(USER)).unwrap()));
        stays_out("OAUTHBEARER", builder, &["invalid_token"]).await;
        let me = format!("{}@{}", kdc::CLIENT, kdc::REALM);
        let guess = Gssapi::password(me, GUESS).kdc(site.kdc.address().to_string()).build().unwrap();
        let builder = site.nobody(Listener::sasl(Mechanism::Gssapi)).sasl(guess);
        stays_out("GSSAPI", builder, &["a wrong password"]).await;
    }
}

/// Row B38 with a real broker.
#[tokio::test]
async fn b38_a_mechanism_that_the_broker_has_not_is_named_with_those_that_it_has() {
    for site in sites() {
        for over_tls in [false, true] {
            let listener = Listener::sasl(Mechanism::ScramSha256);
            let listener = if over_tls { listener.over_tls() } else { listener };
            let builder = site.nobody(listener).allow_sasl_without_tls();
            // The password is right, and PLAIN would show it: no other mechanism is taken in its place.
            let plain = builder.sasl(Plain::new(USER, PASSWORD).unwrap());
            stays_out("PLAIN", plain, &["does not take PLAIN; it takes \"SCRAM-SHA-256\""]).await;
            let scram = site.nobody(listener).sasl(Scram::sha512(USER, PASSWORD).unwrap());
            stays_out("SCRAM-SHA-512", scram, &["does not take SCRAM-SHA-512; it takes \"SCRAM-SHA-256\""])
                .await;
        }
    }
}

#[tokio::test]
async fn what_shows_a_secret_is_refused_without_tls() {
    for site in sites() {
        let plain = site.nobody(Listener::sasl(Mechanism::Plain)).sasl(Plain::new(USER, PASSWORD).unwrap());
        stays_out("PLAIN", plain, &["PLAIN would show a secret without TLS"]).await;
        let token = OAuthBearer::new(Token::new(unsigned(USER)).unwrap());
        let bearer = site.nobody(Listener::sasl(Mechanism::OauthBearer)).sasl(token);
        stays_out("OAUTHBEARER", bearer, &["OAUTHBEARER would show a secret without TLS"]).await;
        // SCRAM and Kerberos show none.
        for mechanism in [Mechanism::ScramSha512, Mechanism::Gssapi] {
            let listener = Listener::sasl(mechanism);
            let builder = site.nobody(listener);
            let builder = match mechanism {
                Mechanism::Gssapi => builder.sasl(site.kerberos()),
                _ => builder.sasl(Scram::sha512(USER, PASSWORD).unwrap()),
            };
            assert_eq!(site.sees(builder).await.unwrap(), user(listener));
        }
    }
}

/// The two sides do not speak of the same thing. Neither hangs, and the error says what to mend.
#[tokio::test]
async fn a_listener_of_another_kind_is_told() {
    for site in sites() {
        let short = Duration::from_secs(3);
        for (what, to, builder, says) in [
            ("TLS to plain", Listener::sasl(Mechanism::Plain), Some(site.trust()), "plaintext"),
            ("plain to TLS", Listener::tls(), None, "TLS"),
        ] {
            let to = site.cluster.bootstrap_text(to);
            let settings = weir::Client::builder(&to).api_timeout(short).setup_timeout(short, short);
            let settings = match builder {
                Some(tls) => settings.tls(tls),
                None => settings,
            };
            let error = settings.connect().await.map(|_| ()).expect_err(what);
            assert!(error.to_string().contains(says), "{what}: {error}");
        }
        // A client of mTLS at a listener for passwords: nobody yet, so the broker hangs up.
        let builder = site
            .nobody(Listener::sasl(Mechanism::Plain).over_tls())
            .tls(site.identity(Identity::Client))
            .api_timeout(short);
        let error = builder.connect().await.map(|_| ()).expect_err("no SASL");
        assert!(error.is_io() || error.is_timeout() || error.is_auth(), "{error}");
    }
}
