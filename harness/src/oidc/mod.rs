//! A small OIDC issuer on loopback: enough for a broker to check tokens and for a client to get them, in good
//! ways and in bad ones.
//!
//! Endpoints: `/jwks`, `/token` and `/.well-known/openid-configuration`, each over HTTP and HTTPS. The token
//! endpoint takes the grants `client_credentials` (with a secret in the header or in the body, or with a client
//! assertion, RFC 7523) and `jwt-bearer` (RFC 7523). Tokens are signed with ES256 for the audience [`AUDIENCE`].
//! What every request brought is kept, for tests to look at.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use crate::certs::{Certificates, Identity};
use crate::failure::{Result, broken};
use crate::jars::need;
use crate::process::run;
use crate::run_dir::{RunDir, new_dir};

/// What the endpoints answer.
mod endpoint;
/// Requests and responses.
mod http;
/// Accepting connections.
mod server;
/// Signing and checking.
mod token;

use token::{ClientKey, Signer, seconds_now};

/// For whom the tokens are.
pub const AUDIENCE: &str = "weir-brokers";

/// The client that the issuer knows.
pub const CLIENT_ID: &str = "weir-client";

/// The secret of [`CLIENT_ID`].
pub const CLIENT_SECRET: &str = "weir-client-secret";

/// How long tokens are good, unless a test wants otherwise.
const LIFETIME: Duration = Duration::from_mins(5);

/// How the token endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// As it should.
    #[default]
    Good,
    /// `302` to another path of the issuer, where a token would be had.
    Redirect,
    /// `200` with a body of 1 GiB that has no end before that.
    HugeBody,
    /// Says nothing for so long, then answers as it should.
    Slow(Duration),
    /// Closes the connection without an answer.
    HangUp,
    /// `400` with `invalid_request` and a description.
    Refuse,
    /// `503`, as a proxy before an issuer that is down.
    Unavailable,
    /// `200` with a body that is no JSON.
    NotJson,
    /// `200` with JSON that has no token.
    NoToken,
    /// `200` with a token that is no JWT.
    BadToken,
    /// A good answer, but its token has expired.
    ExpiredToken,
    /// A good answer, but its token is for another audience, so that brokers refuse it.
    ForeignToken,
}

/// One request that came, without its secrets' checks: what a test wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// `POST` or `GET`.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The header `Authorization`.
    pub authorization: Option<String>,
    /// The form's fields in order.
    pub fields: Vec<(String, String)>,
}

/// A running issuer. Dropping it closes its ports.
#[derive(Debug)]
pub struct Issuer {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    run_dir: RunDir,
    certificates: Certificates,
    client_key: PathBuf,
}

/// What the connections' threads know.
#[derive(Debug)]
struct Shared {
    plain: SocketAddr,
    tls: SocketAddr,
    signer: Signer,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    behaviour: Behaviour,
    lifetime: Duration,
    client_keys: Vec<ClientKey>,
    seen: Vec<Seen>,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn name(&self) -> String {
        format!("http://{}", self.plain)
    }

    fn url(&self, tls: bool, path: &str) -> String {
        if tls { format!("https://localhost:{}{path}", self.tls.port()) } else { self.name() + path }
    }
}

impl Issuer {
    /// Starts one, with fresh keys and certificates.
    ///
    /// # Errors
    ///
    /// [`Failure::Broken`](crate::Failure::Broken) if it cannot listen or write.
    pub fn start() -> Result<Self> {
        let run_dir = RunDir::take(new_dir("issuer")?)?;
        let certificates = Certificates::generate(run_dir.path().join("certificates"))?;
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(broken("the issuer's port"));
        let (plain, tls) = (bind()?, bind()?);
        let client = Signer::generate("client")?;
        let client_key = run_dir.path().join("client-key.pem");
        fs::write(&client_key, pem("PRIVATE KEY", client.pkcs8())).map_err(broken(client_key.display()))?;
        let state = State {
            behaviour: Behaviour::Good,
            lifetime: LIFETIME,
            client_keys: vec![client.public()],
            seen: Vec::new(),
            ended: false,
        };
        let shared = Arc::new(Shared {
            plain: plain.local_addr().map_err(broken("the issuer's port"))?,
            tls: tls.local_addr().map_err(broken("the issuer's port"))?,
            signer: Signer::generate("weir-1")?,
            state: Mutex::new(state),
        });
        let config = server::tls_config(&certificates, Identity::Server)?;
        let threads = vec![
            server::serve(plain, None, Arc::clone(&shared)),
            server::serve(tls, Some(config), Arc::clone(&shared)),
        ];
        Ok(Self { shared, threads, run_dir, certificates, client_key })
    }

    /// The claim `iss` of its tokens, and the beginning of its URLs over HTTP.
    pub fn name(&self) -> String {
        self.shared.name()
    }

    /// The token endpoint; over TLS it shows a certificate of [`certificates`](Self::certificates).
    pub fn token_url(&self, tls: bool) -> String {
        self.shared.url(tls, "/token")
    }

    /// The keys for brokers.
    pub fn jwks_url(&self, tls: bool) -> String {
        self.shared.url(tls, "/jwks")
    }

    /// Whom clients must trust to reach it over TLS.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// A PEM file with the private key (ES256, PKCS#8) whose assertions the issuer takes from clients.
    pub fn client_key(&self) -> &std::path::Path {
        &self.client_key
    }

    /// Makes an RSA key (PKCS#8, PEM) whose assertions (RS256) the issuer takes too.
    ///
    /// # Errors
    ///
    /// [`Failure::NotHere`](crate::Failure::NotHere) without the program `openssl`, which makes it.
    pub fn rsa_client_key(&self) -> Result<PathBuf> {
        let openssl = need("openssl")?;
        let dir = self.run_dir.path();
        let (private, public) = (dir.join("client-rsa.pem"), dir.join("client-rsa.der"));
        let mut make = Command::new(&openssl);
        make.args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]).arg(&private);
        run(dir, "openssl", &make)?;
        let mut export = Command::new(&openssl);
        export
            .args(["rsa", "-RSAPublicKey_out", "-outform", "DER", "-in"])
            .arg(&private)
            .arg("-out")
            .arg(&public);
        run(dir, "openssl", &export)?;
        let key = fs::read(&public).map_err(broken(public.display()))?;
        self.shared.state().client_keys.push(ClientKey::Rs256(key));
        Ok(private)
    }

    /// How the token endpoint answers from now on.
    pub fn behave(&self, how: Behaviour) {
        self.shared.state().behaviour = how;
    }

    /// How long the tokens are good from now on: whole seconds.
    pub fn set_lifetime(&self, lifetime: Duration) {
        self.shared.state().lifetime = lifetime;
    }

    /// A token without asking the endpoint.
    ///
    /// # Errors
    ///
    /// If it cannot be signed.
    pub fn token(&self, subject: &str, lifetime: Duration) -> Result<String> {
        let now = seconds_now();
        self.shared.signer.sign(&json!({
            "iss": self.name(), "sub": subject, "aud": AUDIENCE, "scope": "",
            "iat": now, "exp": now + lifetime.as_secs(),
        }))
    }

    /// Every request so far, in the order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        self.shared.state().seen.clone()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.shared.state().ended = true;
        for address in [self.shared.plain, self.shared.tls] {
            // Whoever waits for a connection gets one, and looks up.
            drop(TcpStream::connect(address));
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
