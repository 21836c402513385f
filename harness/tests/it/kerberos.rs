//! The KDC by itself and before a broker.

use weir_kafka_harness::kdc::{CLIENT, Kdc, REALM};
use weir_kafka_harness::{Cluster, Listener, Mechanism, unless_skipped};

use crate::java::{answers, client};

#[test]
fn a_ticket_lets_in() {
    let Some(kdc) = unless_skipped("Kerberos", Kdc::start()) else { return };
    let cache = kdc.config().with_file_name("cache");
    if unless_skipped("kinit", kdc.kinit(&cache)).is_some() {
        let bytes = std::fs::read(&cache).unwrap();
        assert!(bytes.windows(REALM.len()).any(|part| part == REALM.as_bytes()), "a ticket of the realm");
    }
    let listener = Listener::sasl(Mechanism::Gssapi);
    for version in ["4.4.0", "0.11.0.3"] {
        let started = Cluster::builder(version).listener(listener).kdc(&kdc).start();
        let Some(cluster) = unless_skipped(&format!("{version} with Kerberos"), started) else { return };
        assert!(cluster.bootstrap_text(listener).starts_with("localhost:"));
        let mut java = client(&cluster, listener);
        java.push(("sasl.kerberos.service.name".to_owned(), "kafka".to_owned()));
        let login = |keytab: std::path::PathBuf| {
            format!(
                "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true storeKey=true \
                 keyTab=\"{}\" principal=\"{CLIENT}@{REALM}\";",
                keytab.display()
            )
        };
        let mut stranger = java.clone();
        java.push(("sasl.jaas.config".to_owned(), login(kdc.client_keytab())));
        stranger.push(("sasl.jaas.config".to_owned(), login(kdc.service_keytab())));
        let flag = format!("-Djava.security.krb5.conf={}", kdc.config().display());
        let answers = answers(&cluster, &[flag], &[java, stranger]);
        assert_eq!(answers[0], "in 1", "{version}");
        assert!(answers[1].starts_with("out "), "{version}: the wrong key: {answers:?}");
    }
}

#[test]
fn a_listener_for_kerberos_needs_a_kdc() {
    let started = Cluster::builder("4.4.0").listener(Listener::sasl(Mechanism::Gssapi)).start();
    match started.unwrap_err() {
        weir_kafka_harness::Failure::NotHere(why) => weir_kafka_harness::skip("4.4.0", &why),
        weir_kafka_harness::Failure::Broken(why) => assert_eq!(why, "a GSSAPI listener needs a KDC"),
    }
}
