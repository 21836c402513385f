//! TLS with real brokers: what is in order is taken, and what is not is refused with words that say why.

use std::fs;
use std::path::Path;

use weir::net::tls::{Pem, Tls};
use weir::{Builder, Client};
use weir_kafka_harness::run_dir::{RunDir, new_dir};
use weir_kafka_harness::{
    Certificates, Cluster, Identity, KEY_PASSWORD, Listener, Mechanism, unless_skipped,
};

use super::{metadata, site, sites, stays_out, who};
use crate::broker::VERSIONS;

#[tokio::test]
async fn a_certificate_of_ours_is_who_we_are() {
    for site in sites() {
        let certificates = site.cluster.certificates().unwrap();
        let (chain, key) = (certificates.certificate(Identity::Client), certificates.key(Identity::Client));
        let sealed = certificates.encrypted_client_key();
        let memory = |path: &Path| Pem::memory(fs::read(path).unwrap());
        let trust = Tls::new().roots(memory(&certificates.authority()));
        for tls in [
            site.identity(Identity::Client),
            trust.clone().identity(memory(&chain), memory(&key)),
            trust.clone().identity(Pem::file(&chain), Pem::file(&sealed)).key_password(KEY_PASSWORD),
            trust.identity(memory(&chain), memory(&sealed)).key_password(KEY_PASSWORD),
        ] {
            let what = format!("{tls:?}");
            let client = site.nobody(Listener::mtls()).tls(tls).connect().await.unwrap();
            assert_eq!(who(&client).await.unwrap(), "CN=weir-client", "{what}");
            client.close().await;
        }
        // Who shows none is nobody, where that is allowed.
        let client = site.nobody(Listener::tls()).connect().await.unwrap();
        metadata(&client).await.unwrap();
        client.close().await;
    }
}

#[tokio::test]
async fn a_certificate_of_ours_that_is_not_good_is_refused() {
    for site in sites() {
        for (what, tls, why) in [
            ("none", site.trust(), &["wants one of ours and none is set"][..]),
            (
                "of another authority",
                site.identity(Identity::ClientOfAnotherAuthority),
                // Java says so in general or in particular, as its release has it.
                &[
                    "does not accept our certificate",
                    "does not know who issued",
                    "wants a certificate of ours",
                ],
            ),
            (
                "expired",
                site.identity(Identity::ExpiredClient),
                &["does not accept our certificate", "our certificate has expired"],
            ),
        ] {
            stays_out(what, site.nobody(Listener::mtls()).tls(tls), why).await;
        }
    }
}

#[tokio::test]
async fn settings_that_cannot_be_are_told_before_anything_is_sent() {
    let Some(site) = site(VERSIONS[0]) else { return };
    let certificates = site.cluster.certificates().unwrap();
    let chain = || Pem::file(certificates.certificate(Identity::Client));
    let sealed = || Pem::file(certificates.encrypted_client_key());
    let other = Pem::file(certificates.key(Identity::Server));
    for (what, tls) in [
        ("no password", site.trust().identity(chain(), sealed())),
        ("a wrong password", site.trust().identity(chain(), sealed()).key_password("guess")),
        ("another's key", site.trust().identity(chain(), other)),
        ("no such file", Tls::new().roots(Pem::file(certificates.authority().with_extension("absent")))),
    ] {
        let built = site.nobody(Listener::mtls()).tls(tls).build().await;
        let error = built.map(|_| ()).expect_err(what);
        assert!(!error.is_retriable() || error.is_io(), "{what}: {error}");
        assert!(!format!("{error:?}").contains("guess"), "{error:?}");
    }
}

/// A broker whose listeners show what they should not, and two that speak one version of TLS only.
struct Zoo {
    cluster: Cluster,
    certificates: Certificates,
    // Removed last.
    _dir: RunDir,
}

const ONLY_1_2: Listener = Listener::tls();
const ONLY_1_3: Listener = Listener::mtls();
const EXPIRED: Listener = Listener::sasl(Mechanism::Plain).over_tls();
const ELSEWHERE: Listener = Listener::sasl(Mechanism::ScramSha256).over_tls();
const STRANGER: Listener = Listener::sasl(Mechanism::ScramSha512).over_tls();

impl Zoo {
    fn start(version: &str) -> Option<Self> {
        let dir = unless_skipped("a folder", new_dir("zoo").and_then(RunDir::take))?;
        let certificates = unless_skipped("certificates", Certificates::generate(dir.path().join("all")))?;
        let mut builder = Cluster::builder(version)
            .property("listener.name.tls.ssl.enabled.protocols", "TLSv1.2")
            .property("listener.name.mtls.ssl.enabled.protocols", "TLSv1.3")
            .property("ssl.truststore.location", certificates.authority().display().to_string());
        for (listener, name, identity) in [
            (ONLY_1_2, "tls", Identity::Server),
            (ONLY_1_3, "mtls", Identity::Server),
            (EXPIRED, "tls_plain", Identity::ExpiredServer),
            (ELSEWHERE, "tls_scram_sha_256", Identity::ServerOfAnotherHost),
            (STRANGER, "tls_scram_sha_512", Identity::ServerOfAnotherAuthority),
        ] {
            // Key and certificate in one file, which is what brokers take.
            let store = dir.path().join(format!("{name}.pem"));
            let both = [certificates.key(identity), certificates.certificate(identity)]
                .map(|path| fs::read_to_string(path).unwrap());
            fs::write(&store, both.concat()).unwrap();
            let key = format!("listener.name.{name}.ssl.keystore.location");
            builder = builder.listener(listener).property(key, store.display().to_string());
        }
        let cluster = unless_skipped(&format!("bad certificates at {version}"), builder.start())?;
        Some(Self { cluster, certificates, _dir: dir })
    }

    fn trust(&self) -> Tls {
        Tls::new().roots(Pem::file(self.certificates.authority()))
    }

    fn identity(&self) -> Tls {
        let (chain, key) =
            (self.certificates.certificate(Identity::Client), self.certificates.key(Identity::Client));
        self.trust().identity(Pem::file(chain), Pem::file(key))
    }

    fn builder(&self, listener: Listener, tls: Tls) -> Builder {
        Client::builder(&self.cluster.bootstrap_text(listener)).tls(tls)
    }
}

/// Row B42 with a real broker.
#[tokio::test]
async fn b42_brokers_that_are_not_who_they_should_be_are_not_talked_to() {
    let Some(zoo) = Zoo::start(VERSIONS[0]) else { return };
    let other = Tls::new().roots(Pem::file(zoo.certificates.other_authority()));
    for (what, listener, tls, why) in [
        ("an expired certificate", EXPIRED, zoo.trust(), "has expired"),
        ("a certificate for another host", ELSEWHERE, zoo.trust(), "not for '127.0.0.1' but for"),
        ("another authority's", STRANGER, zoo.trust(), "not issued by anyone trusted here"),
        ("an authority that is not trusted", ONLY_1_2, other.clone(), "not issued by anyone trusted here"),
        ("the same by 1.3", ONLY_1_3, other, "not issued by anyone trusted here"),
        (
            "another name than asked for",
            ONLY_1_2,
            zoo.trust().server_name("kafka.example"),
            "not for 'kafka.example' but for",
        ),
        ("TLS 1.2, which was ruled out", ONLY_1_2, zoo.trust().tls13_only(), "the versions of TLS"),
    ] {
        stays_out(what, zoo.builder(listener, tls), &[why]).await;
    }
    // Each of the two versions alone is enough.
    for (listener, tls) in
        [(ONLY_1_2, zoo.trust()), (ONLY_1_3, zoo.identity()), (ONLY_1_3, zoo.identity().tls13_only())]
    {
        let client = zoo.builder(listener, tls).connect().await.unwrap();
        metadata(&client).await.unwrap();
        client.close().await;
    }
    // A name that is checked in place of the address, and a certificate that has it, though it is for another.
    let named = zoo.trust().server_name("elsewhere.example");
    let nobody = zoo.builder(ELSEWHERE, named).sasl(weir::conn::sasl::Scram::sha256("x", "y").unwrap());
    stays_out("TLS is fine, the password is not", nobody, &["SASL_AUTHENTICATION_FAILED"]).await;
}
