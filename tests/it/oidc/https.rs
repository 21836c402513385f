//! The provider behind TLS: one whose certificate is not good is no provider.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;
use weir::conn::sasl::oidc::Oidc;
use weir::net::Config;
use weir::net::tls::{Pem, Tls};
use weir_kafka_harness::{Certificates, Identity};

use super::ask;
use super::assertion::Folder;
use super::idp::{Idp, token};

fn acceptor(certificates: &Certificates, identity: Identity) -> TlsAcceptor {
    let chain = CertificateDer::pem_file_iter(certificates.certificate(identity)).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(certificates.key(identity)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

#[tokio::test]
async fn certificates_are_verified() {
    let folder = Folder::new("https");
    let certificates = Certificates::generate(&folder.0).unwrap();
    let ours = Config::new().tls(Tls::new().roots(Pem::file(certificates.authority())));
    let others = Config::new().tls(Tls::new().roots(Pem::file(certificates.other_authority())));
    for (identity, network, good) in [
        (Identity::Server, ours.clone(), true),
        (Identity::Server, others, false),
        (Identity::Server, Config::new(), false),
        (Identity::ServerOfAnotherHost, ours.clone(), false),
        (Identity::ExpiredServer, ours, false),
    ] {
        let tls = acceptor(&certificates, identity);
        let idp = Idp::start_with(vec![token("safe", 60)], Some(tls)).await;
        let url = format!("https://localhost:{}/token", idp.port);
        let oidc = Oidc::client_credentials(url, "a", "b").network(network).tries_max(1).build().unwrap();
        match ask(&oidc).await {
            Ok(value) => assert!(good && value == "safe", "{identity:?}"),
            Err(error) => {
                assert!(!good && error.is_auth() && !error.is_retriable(), "{identity:?}: {error:?}");
            }
        }
        assert_eq!(idp.asked().len(), usize::from(good), "{identity:?}");
    }
}
