//! Assertions: JWTs by which we say to an identity provider who we are, instead of a password.
//!
//! Either another program keeps a file with one in it, or it is made and signed here, with Kafka's settings
//! `sasl.oauthbearer.assertion.*` (KIP-1139) as the model. Everything here may read files and sign, which takes a
//! millisecond or so: the driver calls it where blocking is allowed.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::jwt::{self, Algorithm};
use crate::conn::sasl::TOKEN_MAX;
use crate::net::tls::private_key;
use crate::{Error, Result, Secret};

/// A JWT that says who we are: read from a file, or signed here ([`SignedAssertion`]).
///
/// Its `Debug` does not show keys.
#[derive(Debug, Clone)]
pub struct Assertion(Source);

#[derive(Debug, Clone)]
enum Source {
    File(PathBuf),
    Signed(Box<SignedAssertion>),
}

impl Assertion {
    /// One that another program writes to this file and renews there; it is read for each request. White space
    /// around it is left out. The file has at most 64 KiB.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// The JWT to send now. `random` is 16 fresh random bytes. Blocks.
    pub(super) fn make(
        &self,
        now: SystemTime,
        provider: &CryptoProvider,
        random: [u8; 16],
    ) -> Result<Secret> {
        match &self.0 {
            Source::File(path) => {
                let text = read_file("assertion", path)?;
                let jwt = text.trim_ascii();
                let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
                if jwt.is_empty() || !jwt.iter().all(fits) {
                    return Err(Error::invalid(format!("no JWT in the assertion file {}", path.display())));
                }
                Ok(jwt.into())
            }
            Source::Signed(signed) => signed.make(now, provider, random),
        }
    }
}

impl From<SignedAssertion> for Assertion {
    fn from(signed: SignedAssertion) -> Self {
        Self(Source::Signed(Box::new(signed)))
    }
}

/// A private key in PEM: PKCS#8, also encrypted, or what OpenSSL writes for RSA (PKCS#1) and for elliptic curves
/// (SEC1).
#[derive(Clone)]
pub struct PrivateKey {
    key: Key,
    password: Option<Secret>,
}

#[derive(Clone)]
enum Key {
    Pem(Secret),
    File(PathBuf),
}

impl PrivateKey {
    /// The key itself, as PEM text.
    pub fn pem(pem: impl Into<Secret>) -> Self {
        Self { key: Key::Pem(pem.into()), password: None }
    }

    /// The key in this file, which is read for each assertion, so that a new key may be put there.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { key: Key::File(path.into()), password: None }
    }

    /// The password of an encrypted key (`sasl.oauthbearer.assertion.private.key.passphrase`).
    #[must_use]
    pub fn password(mut self, password: impl Into<Secret>) -> Self {
        self.password = Some(password.into());
        self
    }

    fn load(&self) -> Result<PrivateKeyDer<'static>> {
        let pem = match &self.key {
            Key::Pem(pem) => pem.clone(),
            Key::File(path) => read_file("private key", path)?.into(),
        };
        private_key(pem.expose(), self.password.as_ref()).map_err(|error| error.within("the assertion's key"))
    }
}

/// Says from where the key is, and nothing of it.
impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.key {
            Key::Pem(_) => f.write_str("PrivateKey(..)"),
            Key::File(path) => write!(f, "PrivateKey({})", path.display()),
        }
    }
}

/// An assertion that is made and signed here, anew for each request (KIP-1139).
///
/// Its claims are those of the template, then those that are set here, then `iat`, `exp`, `nbf` and `jti`; of two with
/// the same name the later counts.
///
/// ```
/// use weir::conn::sasl::oidc::{Algorithm, PrivateKey, SignedAssertion};
///
/// let assertion = SignedAssertion::new(Algorithm::Rs256, PrivateKey::file("client-key.pem"))
///     .issuer("billing")
///     .subject("billing")
///     .audience("https://login.example.com/token");
/// assert!(format!("{assertion:?}").contains("client-key.pem"));
/// ```
#[derive(Debug, Clone)]
pub struct SignedAssertion {
    algorithm: Algorithm,
    key: PrivateKey,
    template: Template,
    template_file: Option<PathBuf>,
    claims: Map<String, Value>,
    lifetime: Duration,
    not_before: Duration,
    with_id: bool,
}

#[derive(Debug, Clone, Default)]
struct Template {
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl SignedAssertion {
    /// One that is signed so, with this key. It lives for 300 seconds and is good from 60 seconds ago.
    pub fn new(algorithm: Algorithm, key: PrivateKey) -> Self {
        Self {
            algorithm,
            key,
            template: Template::default(),
            template_file: None,
            claims: Map::new(),
            lifetime: Duration::from_mins(5),
            not_before: Duration::from_mins(1),
            with_id: false,
        }
    }

    /// The claim `iss` (`sasl.oauthbearer.assertion.claim.iss`).
    #[must_use]
    pub fn issuer(self, issuer: impl Into<String>) -> Self {
        self.claim("iss", issuer)
    }

    /// The claim `sub` (`sasl.oauthbearer.assertion.claim.sub`).
    #[must_use]
    pub fn subject(self, subject: impl Into<String>) -> Self {
        self.claim("sub", subject)
    }

    /// The claim `aud` (`sasl.oauthbearer.assertion.claim.aud`).
    #[must_use]
    pub fn audience(self, audience: impl Into<String>) -> Self {
        self.claim("aud", audience)
    }

    /// Any other claim that is a string. What is not a string goes into a template.
    #[must_use]
    pub fn claim(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.claims.insert(name.into(), Value::String(value.into()));
        self
    }

    /// For how long it is good from now (`sasl.oauthbearer.assertion.claim.exp.seconds`).
    #[must_use]
    pub fn lifetime(mut self, lifetime: Duration) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// For how long it has been good already, for clocks that do not agree
    /// (`sasl.oauthbearer.assertion.claim.nbf.seconds`).
    #[must_use]
    pub fn not_before(mut self, before: Duration) -> Self {
        self.not_before = before;
        self
    }

    /// Whether it has a random claim `jti`, by which a provider can refuse to see it twice
    /// (`sasl.oauthbearer.assertion.claim.jti.include`). Not at first.
    #[must_use]
    pub fn with_id(mut self, with_id: bool) -> Self {
        self.with_id = with_id;
        self
    }

    /// What it is made on top of, in JSON: `{"header": {...}, "payload": {...}}`, either of which may be absent.
    /// Anything else is refused.
    pub fn template(mut self, json: &str) -> Result<Self> {
        self.template = template(json.as_bytes())?;
        Ok(self)
    }

    /// A file with such a template, read for each assertion (`sasl.oauthbearer.assertion.template.file`). It is
    /// applied after [`template`](Self::template). At most 64 KiB.
    #[must_use]
    pub fn template_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.template_file = Some(path.into());
        self
    }

    fn make(&self, now: SystemTime, provider: &CryptoProvider, random: [u8; 16]) -> Result<Secret> {
        let mut base = self.template.clone();
        if let Some(path) = &self.template_file {
            let more = template(&read_file("template", path)?)
                .map_err(|error| error.within(path.display().to_string()))?;
            base.header.extend(more.header);
            base.claims.extend(more.claims);
        }
        let Template { mut header, mut claims } = base;
        header.insert("alg".to_owned(), self.algorithm.name().into());
        header.insert("typ".to_owned(), "JWT".into());
        claims.extend(self.claims.clone());
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        claims.insert("iat".to_owned(), now.as_secs().into());
        claims.insert("exp".to_owned(), now.saturating_add(self.lifetime).as_secs().into());
        claims.insert("nbf".to_owned(), now.saturating_sub(self.not_before).as_secs().into());
        if self.with_id {
            claims.insert("jti".to_owned(), format!("{:032x}", u128::from_be_bytes(random)).into());
        }
        jwt::sign(self.algorithm, &header, &claims, self.key.load()?, provider)
    }
}

fn template(json: &[u8]) -> Result<Template> {
    let bad = || Error::invalid("an assertion's template is {\"header\": {...}, \"payload\": {...}}");
    let Ok(Value::Object(fields)) = serde_json::from_slice(json) else { return Err(bad()) };
    let mut template = Template::default();
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("header", Value::Object(header)) => template.header = header,
            ("payload", Value::Object(claims)) => template.claims = claims,
            _ => return Err(bad()),
        }
    }
    Ok(template)
}

/// Reads a small file whole.
fn read_file(what: &str, path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    // Room for all that may come, so that growing leaves no copies behind.
    let mut text = Zeroizing::new(Vec::with_capacity(TOKEN_MAX + 1));
    let opened = std::fs::File::open(path);
    opened.and_then(|file| file.take(TOKEN_MAX as u64 + 1).read_to_end(&mut text)).map_err(|error| {
        Error::invalid(format!("the {what} file {}: {error}", path.display())).because(error)
    })?;
    if text.len() > TOKEN_MAX {
        let path = path.display();
        return Err(Error::invalid(format!("the {what} file {path} has more than {TOKEN_MAX} bytes")));
    }
    Ok(text)
}
