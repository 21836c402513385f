//! Kafka's own client against a listener: whether it gets in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use weir_kafka_harness::{Cluster, Identity, Listener, Mechanism, Transport};

/// A client's properties.
pub(crate) type Properties = Vec<(String, String)>;

/// What each client says: `in` with the number of nodes, or `out` with the reason.
pub(crate) fn answers(cluster: &Cluster, flags: &[String], clients: &[Properties]) -> Vec<String> {
    let files: Vec<PathBuf> = (0..clients.len()).map(|n| cluster.dir().join(format!("client-{n}"))).collect();
    for (file, client) in files.iter().zip(clients) {
        let text: Vec<String> = client.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        fs::write(file, text.concat()).unwrap();
    }
    let output = Command::new("java")
        .args(["-Xmx256m", "-XX:TieredStopAtLevel=1"])
        .args(flags)
        .arg("-cp")
        .arg(cluster.jars().join("*"))
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/Client.java"))
        .args(&files)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let said: Vec<String> = said
        .lines()
        .filter(|line| line.starts_with("in ") || line.starts_with("out "))
        .map(str::to_owned)
        .collect();
    assert_eq!(said.len(), clients.len(), "{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// A client that should get in by this listener; lines put after it are stronger.
pub(crate) fn client(cluster: &Cluster, listener: Listener) -> Properties {
    let mut lines = vec![
        ("bootstrap.servers".to_owned(), cluster.bootstrap_text(listener)),
        ("request.timeout.ms".to_owned(), "20000".to_owned()),
        ("default.api.timeout.ms".to_owned(), "20000".to_owned()),
    ];
    let protocol = match (listener.transport(), listener.mechanism()) {
        (Transport::Plain, None) => "PLAINTEXT",
        (Transport::Plain, Some(_)) => "SASL_PLAINTEXT",
        (_, None) => "SSL",
        (_, Some(_)) => "SASL_SSL",
    };
    lines.push(("security.protocol".to_owned(), protocol.to_owned()));
    if let Some(certificates) = cluster.certificates() {
        let path = |path: PathBuf| path.display().to_string();
        lines.push(("ssl.truststore.type".to_owned(), "PEM".to_owned()));
        lines.push(("ssl.truststore.location".to_owned(), path(certificates.authority())));
        if listener.transport() == Transport::Mtls {
            lines.extend(mtls(cluster, Identity::Client));
        }
    }
    if let Some(mechanism) = listener.mechanism() {
        lines.push(("sasl.mechanism".to_owned(), mechanism.name().to_owned()));
        let (user, password) = &cluster.users()[0];
        lines.push(("sasl.jaas.config".to_owned(), login(mechanism, user, password)));
    }
    lines
}

/// A client certificate. The key is not encrypted: Java 17 cannot open what is usual since PKCS#5 2.0.
pub(crate) fn mtls(cluster: &Cluster, whose: Identity) -> Properties {
    let certificates = cluster.certificates().unwrap();
    let store = cluster.dir().join(format!("{whose:?}-client-store.pem"));
    let key = fs::read_to_string(certificates.key(whose)).unwrap();
    fs::write(&store, key + &fs::read_to_string(certificates.certificate(whose)).unwrap()).unwrap();
    vec![
        ("ssl.keystore.type".to_owned(), "PEM".to_owned()),
        ("ssl.keystore.location".to_owned(), store.display().to_string()),
    ]
}

/// The login module of a mechanism as one line.
pub(crate) fn login(mechanism: Mechanism, user: &str, password: &str) -> String {
    let user = format!("username=\"{user}\" password=\"{password}\"");
    let common = "org.apache.kafka.common.security";
    match mechanism {
        Mechanism::Plain => format!("{common}.plain.PlainLoginModule required {user};"),
        Mechanism::ScramSha256 | Mechanism::ScramSha512 => {
            format!("{common}.scram.ScramLoginModule required {user};")
        }
        Mechanism::OauthBearer => format!(
            "{common}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"weir\";"
        ),
        Mechanism::Gssapi => {
            "com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;".to_owned()
        }
    }
}
