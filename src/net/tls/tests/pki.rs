//! An authority, certificates, and servers that show them. The provider under test signs, so that no other
//! cryptography is needed.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyIdMethod, PublicKeyData, SerialNumber,
    SignatureAlgorithm,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::SigningKey;
use rustls::{RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::super::super::Transport;
use super::super::config::{Pem, Tls};
use super::super::provider;

/// A key, with which this signs as an authority and servers and clients prove who they are.
pub(in crate::net) struct Key {
    der: PrivateKeyDer<'static>,
    public: Vec<u8>,
    signer: Arc<dyn SigningKey>,
    algorithm: &'static SignatureAlgorithm,
    scheme: SignatureScheme,
}

impl Key {
    /// The Ed25519 key made of a number.
    pub(in crate::net) fn new(number: u8) -> Self {
        // RFC 8410: a PKCS#8 key of version 1, and its 32 bytes.
        let mut pkcs8 = vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        pkcs8.extend([number; 32]);
        let der = PrivateKeyDer::Pkcs8(pkcs8.into());
        Self::load(der, 32, &rcgen::PKCS_ED25519, SignatureScheme::ED25519)
    }

    /// A key on the curve P-256. Not every provider takes Ed25519 in TLS 1.2.
    pub(in crate::net) fn p256() -> Self {
        let der = PrivateKeyDer::from_pem_slice(include_bytes!("keys/ec-pkcs8.pem")).unwrap();
        Self::load(der, 65, &rcgen::PKCS_ECDSA_P256_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256)
    }

    /// A key whose public half is the last bytes of its `SubjectPublicKeyInfo`.
    fn load(
        der: PrivateKeyDer<'static>,
        public_bytes: usize,
        algorithm: &'static SignatureAlgorithm,
        scheme: SignatureScheme,
    ) -> Self {
        let provider = provider::of(&Tls::new()).unwrap();
        let signer = provider.key_provider.load_private_key(der.clone_key()).unwrap();
        let spki = signer.public_key().unwrap();
        let public = spki[spki.len() - public_bytes..].to_vec();
        Self { der, public, signer, algorithm, scheme }
    }

    pub(in crate::net) fn der(&self) -> PrivateKeyDer<'static> {
        self.der.clone_key()
    }

    pub(in crate::net) fn pem(&self) -> String {
        pem("PRIVATE KEY", self.der.secret_der())
    }
}

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl rcgen::SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.signer.choose_scheme(&[self.scheme]).unwrap().sign(message).unwrap())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<_> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

pub(in crate::net) fn certificate_pem(der: &CertificateDer<'_>) -> String {
    pem("CERTIFICATE", der)
}

/// A certificate to be, for these names and numbers, valid for centuries.
pub(in crate::net) fn request(names: &[&str]) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a broker for tests");
    params.serial_number = Some(SerialNumber::from(7));
    params.key_identifier_method = KeyIdMethod::PreSpecified(vec![7; 20]);
    params
}

/// An authority by the name and the key that a number gives.
pub(in crate::net) struct Authority {
    issuer: Issuer<'static, Key>,
    pub(in crate::net) certificate: CertificateDer<'static>,
}

impl Authority {
    pub(in crate::net) fn new(number: u8) -> Self {
        let key = Key::new(number);
        let mut params = request(&[]);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("authority {number}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(in crate::net) fn issue(&self, params: &CertificateParams, key: &Key) -> CertificateDer<'static> {
        params.signed_by(key, &self.issuer).unwrap().der().clone()
    }

    /// TLS that trusts this authority only.
    pub(in crate::net) fn trusted(&self) -> Tls {
        Tls::new().roots(Pem::memory(certificate_pem(&self.certificate)))
    }

    /// A server with a certificate of this authority for these names.
    pub(in crate::net) fn server(&self, names: &[&str]) -> ServerConfig {
        let key = Key::new(100);
        let leaf = self.issue(&request(names), &key);
        server(vec![leaf], &key, None)
    }
}

/// A server that shows these certificates, and wants one of this authority if it is given.
pub(in crate::net) fn server(
    chain: Vec<CertificateDer<'static>>,
    key: &Key,
    clients: Option<&Authority>,
) -> ServerConfig {
    let provider = provider::of(&Tls::new()).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_protocol_versions(rustls::ALL_VERSIONS).unwrap();
    let builder = match clients {
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.certificate.clone()).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    builder.with_single_cert(chain, key.der()).unwrap()
}

/// Serves one connection: what it gets it says again, until the client ends.
pub(in crate::net) async fn echo(config: Arc<ServerConfig>, stream: impl Transport) -> std::io::Result<()> {
    let mut stream = TlsAcceptor::from(config).accept(stream).await?;
    let mut buffer = [0; 1024];
    loop {
        let count = stream.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        stream.write_all(&buffer[..count]).await?;
        stream.flush().await?;
    }
}
