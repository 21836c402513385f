//! Kerberos against MIT's KDC on one side and Java's acceptor, which is what a Kafka broker has, on the other.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use weir::conn::sasl::gssapi::Gssapi;
use weir::conn::sasl::{Mechanism as _, Peer};

use weir_kafka_harness::kdc::{CLIENT, CLIENT_PASSWORD, Kdc, REALM};
use weir_kafka_harness::{skip, unless_skipped};

const SHA1: &str = "aes256-cts-hmac-sha1-96 aes128-cts-hmac-sha1-96";
const SHA2: &str = "aes256-cts-hmac-sha384-192 aes128-cts-hmac-sha256-128";

/// Java at work as `kafka/localhost`.
struct Acceptor {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Acceptor {
    fn start(kdc: &Kdc) -> Self {
        let source = crate::broker::root().join("tests/oracle/Acceptor.java");
        let mut child = Command::new("java")
            .arg(format!("-Djava.security.krb5.conf={}", kdc.config().display()))
            .arg(source)
            .arg(kdc.service_keytab())
            .args([&format!("kafka/localhost@{REALM}"), "kafka", "localhost"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (to, from) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        Self { child, to, from }
    }

    fn say(&mut self, token: &[u8]) {
        self.to.write_all(&[&(token.len() as u32).to_be_bytes(), token].concat()).unwrap();
        self.to.flush().unwrap();
    }

    fn hear(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 5];
        self.from.read_exact(&mut head).unwrap();
        let mut token = vec![0; u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize];
        self.from.read_exact(&mut token).unwrap();
        (head[0], token)
    }

    /// Authenticates, and gives the name that Java authorized.
    async fn accept(&mut self, gssapi: &Gssapi) -> weir::Result<String> {
        let peer = Peer { host: "LocalHost.".into(), port: 9092, encrypted: false };
        let mut session = gssapi.begin(&peer).await?;
        let mut challenge: Option<Vec<u8>> = None;
        let mut done = false;
        while let Some(token) = session.respond(challenge.as_deref()).await? {
            assert!(!done, "Java was done, and we were not");
            self.say(token.expose());
            let (kind, answer) = self.hear();
            assert_ne!(kind, 2, "Java refuses: {}", String::from_utf8_lossy(&answer));
            done = kind == 1;
            challenge = Some(answer);
        }
        assert!(done, "we were done, and Java was not");
        Ok(String::from_utf8(self.hear().1).unwrap())
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A KDC, or a skip.
fn kdc(label: &str, enctypes: &str) -> Option<Kdc> {
    let java = Command::new("java").arg("-version").stderr(Stdio::null()).status();
    if !java.is_ok_and(|status| status.success()) {
        skip(&format!("Kerberos, {label}"), "no java");
        return None;
    }
    unless_skipped(&format!("Kerberos, {label}"), Kdc::with_keys_of(enctypes))
}

/// How often the KDC gave a ticket.
fn issued(kdc: &Kdc) -> usize {
    std::fs::read_to_string(kdc.dir().join("kdc.log")).unwrap().matches(": ISSUE").count()
}

/// A principal with a random key, which is also in this keytab.
fn keytab(kdc: &Kdc, principal: &str) -> PathBuf {
    let path = kdc.dir().join(format!("{principal}.keytab"));
    kdc.admin(&format!("addprinc +requires_preauth -randkey {principal}")).unwrap();
    kdc.admin(&format!("ktadd -k {} {principal}", path.display())).unwrap();
    path
}

async fn keytab_and_password(label: &str, enctypes: &str) {
    let Some(kdc) = kdc(label, enctypes) else { return };
    let mut java = Acceptor::start(&kdc);
    let (client, address) = (keytab(&kdc, "client"), kdc.address().to_string());
    let gssapi = Gssapi::keytab(format!("client@{REALM}"), client).kdc(&address).build().unwrap();
    assert_eq!(java.accept(&gssapi).await.unwrap(), format!("client@{REALM}"));
    // A ticket for tickets, and one for the broker; then what was kept is used again.
    assert_eq!(issued(&kdc), 2);
    for _ in 0..3 {
        assert_eq!(java.accept(&gssapi).await.unwrap(), format!("client@{REALM}"));
    }
    assert_eq!(issued(&kdc), 2);

    kdc.admin("addprinc +requires_preauth -pw hunter2 team/member").unwrap();
    let gssapi = Gssapi::password("team/member", "hunter2").krb5_conf(kdc.config()).build().unwrap();
    assert_eq!(java.accept(&gssapi).await.unwrap(), format!("team/member@{REALM}"));
    assert!(!format!("{gssapi:?}").contains("hunter2"));
    // One that need not prove himself first.
    let gssapi =
        Gssapi::password(format!("{CLIENT}@{REALM}"), CLIENT_PASSWORD).kdc(&address).build().unwrap();
    assert_eq!(java.accept(&gssapi).await.unwrap(), format!("{CLIENT}@{REALM}"));
}

#[tokio::test]
async fn java_accepts_us_with_keys_of_sha1() {
    keytab_and_password("sha1", SHA1).await;
}

#[tokio::test]
async fn java_accepts_us_with_keys_of_sha2() {
    keytab_and_password("sha2", SHA2).await;
}

#[tokio::test]
async fn what_goes_wrong_is_told() {
    let Some(kdc) = kdc("wrong", SHA1) else { return };
    let client = keytab(&kdc, "client");
    kdc.admin("addprinc +requires_preauth -pw hunter2 person").unwrap();
    let peer = |host: &str| Peer { host: host.into(), port: 9092, encrypted: false };
    let (address, me) = (kdc.address().to_string(), format!("client@{REALM}"));
    let stale = kdc.dir().join("stale.keytab");
    std::fs::copy(&client, &stale).unwrap();
    let other = keytab(&kdc, "other");
    let absent = kdc.dir().join("absent.keytab");
    for (builder, host, says) in [
        (Gssapi::keytab(&me, &client), "unknown.host", "Kerberos error 7: it does not know the service"),
        (Gssapi::keytab(format!("nobody@{REALM}"), &client), "localhost", "it has no key of AES for nobody"),
        (
            Gssapi::password(format!("nobody@{REALM}"), "x"),
            "localhost",
            "error 6: it does not know the client",
        ),
        (
            Gssapi::password(format!("person@{REALM}"), "hunter3"),
            "localhost",
            "error 24: the password or key is wrong",
        ),
        (Gssapi::keytab(&me, &other), "localhost", "it has no key of AES for client"),
        (Gssapi::keytab(&me, &absent), "localhost", "No such file"),
        (Gssapi::password("person@ELSE.WHERE", "x"), "localhost", "person@ELSE.WHERE: the KDC answers"),
        (
            Gssapi::keytab(&me, &client).service_name("http"),
            "localhost",
            "a ticket for http/localhost@WEIR.TEST",
        ),
    ] {
        let gssapi = builder.kdc(&address).build().unwrap();
        let error = gssapi.begin(&peer(host)).await.err().unwrap();
        assert!(error.to_string().contains(says), "{error:?} should say {says}");
        assert!(!format!("{error:?}").contains("hunter"), "{error:?}");
        assert!(!error.is_retriable(), "{error:?}");
    }
    // A new key was made, so the old keytab is of no use any more.
    kdc.admin(&format!("ktadd -k {} client", client.display())).unwrap();
    let gssapi = Gssapi::keytab(&me, &stale).kdc(&address).build().unwrap();
    let error = gssapi.begin(&peer("localhost")).await.err().unwrap();
    assert!(error.is_auth(), "{error:?}");
    // The first of two KDCs is away.
    let gssapi = Gssapi::keytab(&me, &client).kdc("127.0.0.1:9").kdc(&address).build().unwrap();
    assert!(gssapi.begin(&peer("localhost")).await.is_ok());
    let gssapi = Gssapi::keytab(&me, &client).kdc("127.0.0.1:9").build().unwrap();
    let error = gssapi.begin(&peer("localhost")).await.err().unwrap();
    assert!(error.is_io() && error.is_retriable(), "{error:?}");
}

#[test]
fn settings_are_checked_when_it_is_built() {
    for wrong in [
        Gssapi::keytab("client", "x").kdc("host"),
        Gssapi::keytab("client@R", "x"),
        Gssapi::keytab("client@R", "x").kdc("host:0"),
        Gssapi::keytab("client@R", "x").kdc(""),
        Gssapi::keytab("client@R", "x").kdc("host").service_name("a/b"),
        Gssapi::keytab("client@R", "x").krb5_conf("no/such/file"),
    ] {
        let shown = format!("{wrong:?}");
        assert!(wrong.build().unwrap_err().is_invalid(), "{shown}");
    }
    for fine in ["host", "host:8888", "[::1]:88", "192.0.2.1"] {
        let gssapi = Gssapi::password("client@R", "hunter2").kdc(fine).build().unwrap();
        assert!(gssapi.name() == "GSSAPI" && !format!("{gssapi:?}").contains("hunter2"));
    }
}
