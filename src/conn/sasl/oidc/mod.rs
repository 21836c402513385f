//! OIDC: tokens for OAUTHBEARER from an identity provider, by three ways to ask for one.
//!
//! - a client id and its secret ([`Oidc::client_credentials`], KIP-768);
//! - a client assertion in place of the secret ([`Oidc::client_assertion`], KIP-1258);
//! - an assertion that is itself what is exchanged ([`Oidc::jwt_bearer`], KIP-1139).
//!
//! An [`Oidc`] is a [`TokenProvider`]. It keeps its token and renews it in the background between 80 and 85 % of its
//! life (at most 5 minutes before the end, or at half of a short life), so authentications wait only for the first.
//! However many connections ask at once, there is one request. While the old token is good, a failure to renew it is
//! tried again 10 s later and disturbs nobody.
//!
//! What an identity provider may do to us is bounded: https only, certificates verified, no redirect followed, answers
//! of 1 MiB and 10 s at most. Busy and broken providers (connections that fail, 408, 429, most of 5xx) are
//! asked up to six times, 100 ms to 10 s apart; any other answer is final. Secrets are in the body or the header
//! `Authorization`, never in an address, an error or `Debug`.

mod assertion;
mod driver;
mod endpoint;
mod http;
mod jwt;
mod machine;
mod request;
mod response;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;

pub use assertion::{Assertion, PrivateKey, SignedAssertion};
pub use jwt::Algorithm;

use self::driver::{Driver, Setup};
use self::endpoint::{Endpoint, Guards};
use self::request::{Extras, Grant, OWN_FIELDS};
use crate::conn::sasl::{Peer, Token, TokenProvider};
use crate::net::{BoxFuture, Config};
use crate::{Error, Result, Secret};

/// Tokens from an identity provider. Give it to the OAUTHBEARER mechanism; clones share the token.
///
/// ```no_run
/// # fn f() -> weir::Result<()> {
/// use weir::conn::sasl::oidc::Oidc;
///
/// let tokens = Oidc::client_credentials("https://login.example.com/oauth2/token", "billing", "its secret")
///     .scope("kafka")
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Oidc(Arc<Driver>);

impl Oidc {
    /// With a client id and its secret (KIP-768, RFC 6749 section 4.4), sent as HTTP Basic authentication.
    pub fn client_credentials(
        endpoint: impl Into<String>,
        id: impl Into<String>,
        secret: impl Into<Secret>,
    ) -> OidcBuilder {
        OidcBuilder::new(endpoint, Grant::ClientSecret { id: id.into(), secret: secret.into() })
    }

    /// With an assertion that says who we are in place of a secret (KIP-1258, RFC 7523 section 2.2).
    pub fn client_assertion(endpoint: impl Into<String>, assertion: impl Into<Assertion>) -> OidcBuilder {
        OidcBuilder::new(endpoint, Grant::ClientAssertion { id: None, assertion: assertion.into() })
    }

    /// With an assertion that is exchanged for a token (KIP-1139, RFC 7523 section 2.1).
    pub fn jwt_bearer(endpoint: impl Into<String>, assertion: impl Into<Assertion>) -> OidcBuilder {
        OidcBuilder::new(endpoint, Grant::JwtBearer { assertion: assertion.into() })
    }
}

impl TokenProvider for Oidc {
    /// Waits only where there is no good token. Cancel safe: the request goes on for whoever asks next.
    ///
    /// # Errors
    /// [`is_auth`](Error::is_auth) if the provider refuses us or answers nonsense; [`is_io`](Error::is_io) or
    /// [`is_timeout`](Error::is_timeout), which are retriable, if it could not be reached or is out of order;
    /// [`is_invalid`](Error::is_invalid) if a key or an assertion cannot be read. A failure is remembered for one
    /// second.
    fn token<'a>(&'a self, _peer: &'a Peer) -> BoxFuture<'a, Result<Token>> {
        Box::pin(self.0.token())
    }
}

impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc").field("endpoint", &self.0.setup().endpoint.authority).finish_non_exhaustive()
    }
}

/// Settings of an [`Oidc`]. All have a default but the endpoint and the grant.
pub struct OidcBuilder {
    endpoint: String,
    grant: Grant<Assertion>,
    extras: Extras,
    extensions: Vec<(String, String)>,
    guards: Guards,
    network: Config,
    timeout: Duration,
    tries_max: u32,
}

impl OidcBuilder {
    fn new(endpoint: impl Into<String>, grant: Grant<Assertion>) -> Self {
        Self {
            endpoint: endpoint.into(),
            grant,
            extras: Extras::default(),
            extensions: Vec::new(),
            guards: Guards::default(),
            network: Config::new(),
            timeout: Duration::from_secs(10),
            tries_max: 6,
        }
    }

    /// The scope to ask for (`sasl.oauthbearer.scope`); several are separated by spaces.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.extras.scope = Some(scope.into());
        self
    }

    /// One more field of the form; some providers want an `audience` or a `resource`. Not for secrets.
    #[must_use]
    pub fn parameter(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extras.parameters.push((name.into(), value.into()));
        self
    }

    /// The client id that goes beside a client assertion, for providers that want it; without meaning for the
    /// other grants.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        if let Grant::ClientAssertion { id, .. } = &mut self.grant {
            *id = Some(client_id.into());
        }
        self
    }

    /// Whether id and secret are URL-encoded before they go into the header, as RFC 6749 says
    /// (`sasl.oauthbearer.header.urlencode`). Not at first, as in Kafka's own client: many providers
    /// do not decode them.
    #[must_use]
    pub fn urlencode_header(mut self, urlencode: bool) -> Self {
        self.extras.urlencode_header = urlencode;
        self
    }

    /// An extension that is shown to the broker with each token (KIP-342).
    #[must_use]
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.extensions.push((name.into(), value.into()));
        self
    }

    /// Refuses an endpoint whose host is none of these (upper and lower case are the same), for where its address
    /// comes from a configuration that others write. The port does not matter.
    #[must_use]
    pub fn allowed_hosts<H: Into<String>>(mut self, hosts: impl IntoIterator<Item = H>) -> Self {
        self.guards.hosts = Some(hosts.into_iter().map(Into::into).collect());
        self
    }

    /// Lets the endpoint be one without TLS. Then whoever is between reads the secret and the token, so this is
    /// for providers on the same machine, in tests.
    #[must_use]
    pub fn danger_allow_plain_http(mut self) -> Self {
        self.guards.allow_plain = true;
        self
    }

    /// How the provider is reached: whom TLS trusts, a certificate of ours (mTLS), a proxy, a resolver. At first
    /// as the operating system would.
    #[must_use]
    pub fn network(mut self, network: Config) -> Self {
        self.network = network;
        self
    }

    /// How long one try may take, from the first look-up of the name to the last byte of the answer; 10 s at first.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout.min(crate::net::clock::FOREVER);
        self
    }

    /// How often one fetch is tried where trying again may help; 6 times at first, and at least once.
    #[must_use]
    pub fn tries_max(mut self, tries: u32) -> Self {
        self.tries_max = tries;
        self
    }

    /// Checks the settings. Nothing is fetched and no key is read yet.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid) if the endpoint is not allowed or is none, or if a parameter or an extension
    /// has a name that it cannot have.
    pub fn build(self) -> Result<Oidc> {
        let endpoint = Endpoint::parse(&self.endpoint, &self.guards)?;
        if let Some((name, _)) = self
            .extras
            .parameters
            .iter()
            .find(|(name, _)| OWN_FIELDS.contains(&name.as_str()) || name.is_empty())
        {
            return Err(Error::invalid(format!(
                "the parameter {name:?} of a token request has its own setting"
            )));
        }
        // The check of extensions is the token's.
        self.extensions
            .iter()
            .try_fold(Token::new("x")?, |token, (name, value)| token.extension(name, value))?;
        let network = if endpoint.secure { self.network.with_tls() } else { self.network.without_tls() };
        Ok(Oidc(Arc::new(Driver::new(Setup {
            endpoint,
            grant: self.grant,
            extras: self.extras,
            extensions: self.extensions,
            network,
            dialer: OnceCell::new(),
            timeout: self.timeout,
            tries_max: self.tries_max,
        }))))
    }
}

impl fmt::Debug for OidcBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcBuilder")
            .field("grant", &self.grant)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
