//! Listeners with certificates and passwords, tried with Kafka's own client: who has the right ones gets in,
//! who has not stays out.

use weir_kafka_harness::{Cluster, Identity, Listener, Mechanism, unless_skipped};

use crate::java::{Properties, answers, client, login, mtls};

fn with(mut client: Properties, key: &str, value: String) -> Properties {
    client.push((key.to_owned(), value));
    client
}

#[test]
fn every_listener_lets_in_whom_it_should() {
    let secured = [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512, Mechanism::OauthBearer];
    let mut listeners = vec![Listener::plain(), Listener::tls(), Listener::mtls()];
    listeners.extend(secured.map(Listener::sasl));
    listeners.extend(secured.map(|mechanism| Listener::sasl(mechanism).over_tls()));
    let builder =
        listeners.iter().fold(Cluster::builder("4.4.0"), |builder, listener| builder.listener(*listener));
    let Some(cluster) = unless_skipped("secured 4.4.0", builder.start()) else { return };
    let clients: Vec<_> = listeners.iter().map(|listener| client(&cluster, *listener)).collect();
    for (listener, answer) in listeners.iter().zip(answers(&cluster, &[], &clients)) {
        assert_eq!(answer, "in 1", "{listener}");
    }

    let certificates = cluster.certificates().unwrap();
    let other = Identity::ClientOfAnotherAuthority;
    let stranger = Listener::mtls();
    let scram = Listener::sasl(Mechanism::ScramSha512);
    let wrong = [
        with(
            client(&cluster, Listener::tls()),
            "ssl.truststore.location",
            certificates.other_authority().display().to_string(),
        ),
        [client(&cluster, stranger), mtls(&cluster, other)].concat(),
        with(client(&cluster, scram), "sasl.jaas.config", login(Mechanism::ScramSha512, "weir", "wrong")),
        with(
            client(&cluster, scram),
            "sasl.jaas.config",
            login(Mechanism::ScramSha512, "nobody", "weir-secret"),
        ),
        with(client(&cluster, scram), "sasl.mechanism", "PLAIN".to_owned()),
    ];
    for (n, answer) in answers(&cluster, &[], &wrong).iter().enumerate() {
        let expected = if n < 2 { "SslAuthenticationException" } else { "SaslAuthentication" };
        assert!(answer.contains(expected) || answer.contains("UnsupportedSaslMechanism"), "{n}: {answer}");
    }
}

#[test]
fn a_broker_can_show_a_bad_certificate() {
    let builder = Cluster::builder("3.9.2").listener(Listener::tls()).identity(Identity::ServerOfAnotherHost);
    let Some(cluster) = unless_skipped("3.9.2 with a bad certificate", builder.start()) else { return };
    let careful = client(&cluster, Listener::tls());
    let careless = with(careful.clone(), "ssl.endpoint.identification.algorithm", String::new());
    let answers = answers(&cluster, &[], &[careful, careless]);
    assert!(answers[0].contains("SslAuthenticationException"), "{answers:?}");
    assert_eq!(answers[1], "in 1");
}

/// Key stores instead of PEM, users in a `ZooKeeper`.
#[test]
fn old_brokers_are_secured_too() {
    let scram = Listener::sasl(Mechanism::ScramSha256);
    for version in ["0.11.0.3", "2.8.2"] {
        let listeners = [scram, scram.over_tls(), Listener::sasl(Mechanism::Plain)];
        let builder =
            listeners.iter().fold(Cluster::builder(version), |builder, listener| builder.listener(*listener));
        let started = builder.user("alice", "rabbit-hole").user("bob", "builder").start();
        let Some(cluster) = unless_skipped(&format!("secured {version}"), started) else { return };
        let bob = ("sasl.jaas.config", login(Mechanism::ScramSha256, "bob", "builder"));
        let mallory = ("sasl.jaas.config", login(Mechanism::ScramSha256, "bob", "rabbit-hole"));
        let tls = scram.over_tls();
        let mut clients: Vec<_> = listeners.iter().map(|listener| client(&cluster, *listener)).collect();
        clients.push(with(client(&cluster, scram), bob.0, bob.1));
        clients.push(with(client(&cluster, scram), mallory.0, mallory.1));
        // The client of 0.11 has no PEM: it takes Java's own store, which the harness made for the broker.
        if version == "0.11.0.3" {
            let trust = cluster.dir().join("certificates/server-trust.p12").display().to_string();
            let old = with(
                with(client(&cluster, tls), "ssl.truststore.type", "PKCS12".to_owned()),
                "ssl.truststore.location",
                trust,
            );
            clients[1] = with(old, "ssl.truststore.password", weir_kafka_harness::KEY_PASSWORD.to_owned());
        }
        let answers = answers(&cluster, &[], &clients);
        assert_eq!(answers[..4], ["in 1"; 4], "{version}");
        assert!(answers[4].starts_with("out "), "{version}: {answers:?}");
    }
}
