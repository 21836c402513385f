//! OAUTHBEARER: a token of an identity provider's, shown to the broker (KIP-255, RFC 7628).
//!
//! A [`TokenProvider`] gives a [`Token`] for each authentication; where it comes from is the provider's affair.

use std::fmt;
use std::time::SystemTime;

use crate::conn::sasl::{Peer, check_token_len};
use crate::net::BoxFuture;
use crate::{Error, Result, Secret};

/// Gives the token for each authentication. Implement it for your own source of tokens.
///
/// It is asked at the start of each authentication of each connection, the first and those that renew it, so
/// a provider that goes over the network keeps its token while it is good. Its `Debug` must not show secrets.
pub trait TokenProvider: fmt::Debug + Send + Sync + 'static {
    /// A token that is good now, for that broker. The connection's setup timeout bounds it, and dropping the
    /// future must be safe. An error ends the attempt to connect; a retriable one is tried again.
    fn token<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Token>>;
}

/// What a [`TokenProvider`] gives: a token, SASL extensions that go with it (KIP-342), and when it ends.
///
/// Its `Debug` shows neither the token nor what the extensions say, only their names.
#[derive(Clone)]
pub struct Token {
    value: Secret,
    extensions: Vec<(String, String)>,
    expires: Option<SystemTime>,
}

impl Token {
    /// A token as `Authorization: Bearer` takes it: letters, digits and `-._~+/`, then any number of `=`
    /// (RFC 6750). Anything else is refused, so that it cannot break out of its field.
    pub fn new(value: impl Into<Secret>) -> Result<Self> {
        let value = value.into();
        check_token_len("our", value.expose().len())?;
        let end = value.expose().iter().rposition(|byte| *byte != b'=').map_or(0, |last| last + 1);
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(byte);
        let body = value.expose().get(..end).unwrap_or_default();
        if body.is_empty() || !body.iter().all(fits) {
            return Err(Error::invalid(
                "an OAUTHBEARER token of nothing, or with characters that it cannot have",
            ));
        }
        Ok(Self { value, extensions: Vec::new(), expires: None })
    }

    /// Adds an extension, which the broker's own code may look at (KIP-342): a name of letters, though not
    /// `auth`, and a value of printable ASCII, space, tab, CR and LF.
    pub fn extension(mut self, name: impl Into<String>, value: impl Into<String>) -> Result<Self> {
        let (name, value) = (name.into(), value.into());
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphabetic()) || name == "auth" {
            let name = name.escape_debug();
            return Err(Error::invalid(format!(
                "the SASL extension {name}: a name has letters only, and is not auth"
            )));
        }
        if self.extensions.iter().any(|(taken, _)| *taken == name) {
            return Err(Error::invalid(format!("the SASL extension {name} comes twice")));
        }
        let fits = |byte: u8| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n');
        if value.is_empty() || !value.bytes().all(fits) {
            return Err(Error::invalid(format!(
                "the SASL extension {name} is empty, or not printable ASCII"
            )));
        }
        self.extensions.push((name, value));
        Ok(self)
    }

    /// Says when it ends, by which whoever keeps tokens may go.
    pub fn expiring(mut self, at: SystemTime) -> Self {
        self.expires = Some(at);
        self
    }

    /// The token itself.
    pub fn value(&self) -> &Secret {
        &self.value
    }

    /// The extensions, in the order that they were added in.
    pub fn extensions(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.extensions.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// When it ends, if that is known.
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.extensions().map(|(name, _)| name).collect();
        f.debug_struct("Token")
            .field("extensions", &names)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
