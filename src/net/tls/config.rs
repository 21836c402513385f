//! The settings of TLS.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;

use crate::secret::Secret;

/// TLS 1.2 and 1.3 to every broker, its certificate and its name verified.
///
/// Without more, it trusts whom the operating system trusts (feature `platform-verifier`), else Mozilla's list
/// (feature `webpki-roots`), and shows no certificate of its own.
///
/// The cryptography is [`crypto_provider`](Self::crypto_provider)'s, else the one that the program installed for the
/// process (`CryptoProvider::install_default`), else that of a feature: `aws-lc-rs` before `ring` before `graviola`.
///
/// Files are read when the client is made, and again when their time or length has changed: looked at when a
/// connection is made, at most once a second. New connections use what is new, and standing ones go on. If what is
/// new cannot be used, a warning says so and what was read before stays in use.
///
/// ```
/// use weir::net::tls::{Pem, Tls};
/// let tls = Tls::new()
///     .roots(Pem::file("ca.pem"))
///     .identity(Pem::file("client.pem"), Pem::file("client.key"))
///     .key_password("secret");
/// # let _ = tls;
/// ```
#[derive(Clone, Default)]
pub struct Tls {
    pub(super) trust: Trust,
    pub(super) identity: Option<(Pem, Pem)>,
    pub(super) key_password: Option<Secret>,
    pub(super) server_name: Option<Box<str>>,
    pub(super) tls13_only: bool,
    pub(super) any_host_name: bool,
    pub(super) provider: Option<Arc<CryptoProvider>>,
    pub(super) whole: Option<Arc<ClientConfig>>,
}

/// Whose certificates are good.
#[derive(Clone, Default)]
pub(super) enum Trust {
    #[default]
    Usual,
    #[cfg(feature = "webpki-roots")]
    Mozilla,
    Roots(Pem),
    Verifier(Arc<dyn ServerCertVerifier>),
    Anybody,
}

/// Certificates or a key as text (RFC 7468), in a file or in memory. `Debug` shows the file's name, and nothing of
/// what is in memory.
#[derive(Clone)]
pub struct Pem(pub(super) Source);

#[derive(Clone)]
pub(super) enum Source {
    File(PathBuf),
    Memory(Secret),
}

impl Pem {
    /// In a file of at most 16 MiB, which is read again when it changes.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// In memory. It is taken for a secret, since it may be a key.
    pub fn memory(text: impl Into<Secret>) -> Self {
        Self(Source::Memory(text.into()))
    }
}

impl Tls {
    /// What the operating system trusts, or Mozilla's list, as features say.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificate authorities in this file, or these very certificates, and no others.
    #[must_use]
    pub fn roots(mut self, certificates: Pem) -> Self {
        self.trust = Trust::Roots(certificates);
        self
    }

    /// Trusts Mozilla's list of authorities as it was when this was compiled, and no others.
    #[cfg(feature = "webpki-roots")]
    #[must_use]
    pub fn mozilla_roots(mut self) -> Self {
        self.trust = Trust::Mozilla;
        self
    }

    /// Leaves it to the user's own verifier which certificates are good.
    #[must_use]
    pub fn verifier(mut self, verifier: Arc<dyn ServerCertVerifier>) -> Self {
        self.trust = Trust::Verifier(verifier);
        self
    }

    /// Shows brokers who ask for it a certificate (the leaf first, then its issuers), and proves that we have its
    /// key. Keys are in PKCS#8, also encrypted, in PKCS#1 or in SEC1. Both may be in the same file.
    #[must_use]
    pub fn identity(mut self, chain: Pem, key: Pem) -> Self {
        self.identity = Some((chain, key));
        self
    }

    /// The password of an encrypted key: PKCS#8 with PBES2 (RFC 8018), as `openssl pkcs8 -topk8` writes it. One that
    /// is not encrypted is read all the same.
    #[must_use]
    pub fn key_password(mut self, password: impl Into<Secret>) -> Self {
        self.key_password = Some(password.into());
        self
    }

    /// The name that every broker's certificate must have, and that is sent as SNI, in place of the broker's host.
    #[must_use]
    pub fn server_name(mut self, name: &str) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Refuses TLS 1.2.
    #[must_use]
    pub fn tls13_only(mut self) -> Self {
        self.tls13_only = true;
        self
    }

    /// The cryptography to use.
    #[must_use]
    pub fn crypto_provider(mut self, provider: Arc<CryptoProvider>) -> Self {
        self.provider = Some(provider);
        self
    }

    /// A whole configuration of rustls, used as it is; of the settings here, only the server's name holds then.
    #[must_use]
    pub fn client_config(mut self, config: Arc<ClientConfig>) -> Self {
        self.whole = Some(config);
        self
    }

    /// Takes any certificate from anybody. Whoever sits between us and the broker can read and change everything.
    #[must_use]
    pub fn danger_accept_any_certificate(mut self) -> Self {
        self.trust = Trust::Anybody;
        self
    }

    /// Takes a trusted certificate for any host name. Whoever has any certificate of a trusted authority can pose as
    /// the broker; that is harmless only if the authority makes certificates for these brokers alone. It goes with
    /// [`roots`](Self::roots) only.
    #[must_use]
    pub fn danger_accept_any_host_name(mut self) -> Self {
        self.any_host_name = true;
        self
    }

    /// The files that it is read from.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        if self.whole.is_some() {
            return Vec::new();
        }
        let roots = match &self.trust {
            Trust::Roots(roots) => Some(roots),
            _ => None,
        };
        let identity = self.identity.iter().flat_map(|(chain, key)| [chain, key]);
        let files = roots.into_iter().chain(identity).filter_map(|pem| match &pem.0 {
            Source::File(path) => Some(path.clone()),
            Source::Memory(_) => None,
        });
        files.collect()
    }
}

impl fmt::Debug for Pem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => write!(f, "{}", path.display()),
            Source::Memory(_) => f.write_str("(in memory)"),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usual => f.write_str("Usual"),
            #[cfg(feature = "webpki-roots")]
            Self::Mozilla => f.write_str("Mozilla"),
            Self::Roots(roots) => write!(f, "Roots({roots:?})"),
            Self::Verifier(_) => f.write_str("Verifier(..)"),
            Self::Anybody => f.write_str("Anybody"),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("trust", &self.trust)
            .field("identity", &self.identity)
            .field("key_password", &self.key_password)
            .field("server_name", &self.server_name)
            .field("tls13_only", &self.tls13_only)
            .field("any_host_name", &self.any_host_name)
            .field("provider", &self.provider.is_some())
            .field("whole", &self.whole.is_some())
            .finish()
    }
}
