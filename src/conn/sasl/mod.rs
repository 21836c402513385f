//! SASL: proving to a broker who we are.
//!
//! A [`Mechanism`] is what a user configures, once for a client; it begins a [`Session`] for each
//! authentication of each connection, the first and those that renew it (KIP-368). Sessions know
//! tokens and no sockets: the connection's driver carries what they say.

pub(crate) use crate::error::quoted;
use crate::net::BoxFuture;
use crate::{Error, Result, Secret};

mod aws;
// Kerberos.
#[cfg(feature = "gssapi")]
pub mod gssapi;
mod hash;
mod oauth;
// Tokens from an identity provider.
#[cfg(feature = "oidc")]
pub mod oidc;
mod plain;
mod scram;

pub use aws::{AwsCredentials, AwsCredentialsProvider, MskIam, MskToken};
pub use oauth::{OAuthBearer, Token, TokenProvider};
pub use plain::Plain;
pub use scram::Scram;

/// The broker to which a connection is being authenticated.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The host's name, as it was configured or advertised: what Kerberos makes a principal of.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
}

/// A way to authenticate, by the name that brokers know it by.
///
/// Implement it for a mechanism that weir does not have. Its `Debug` must not show secrets. Errors are made by
/// [`Error::authentication`].
///
/// ```
/// use weir::conn::sasl::{Mechanism, Peer, Session};
/// use weir::net::BoxFuture;
/// use weir::{Error, Result, Secret};
///
/// /// A key in one message, to which the broker says `OK`.
/// #[derive(Debug, Clone)]
/// struct InHouse(Secret);
///
/// impl Mechanism for InHouse {
///     fn name(&self) -> &str {
///         "IN-HOUSE"
///     }
///
///     fn wants_encryption(&self) -> bool {
///         true
///     }
///
///     fn begin<'a>(&'a self, _: &'a Peer) -> BoxFuture<'a, Result<Box<dyn Session>>> {
///         Box::pin(async { Ok(Box::new(self.clone()) as _) })
///     }
/// }
///
/// impl Session for InHouse {
///     fn respond<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Option<Secret>>> {
///         let answer = match challenge {
///             None => Ok(Some(self.0.clone())),
///             Some(b"OK") => Ok(None),
///             Some(_) => Err(Error::authentication("the broker did not say OK")),
///         };
///         Box::pin(async { answer })
///     }
/// }
/// ```
pub trait Mechanism: std::fmt::Debug + Send + Sync + 'static {
    /// The name in `sasl.enabled.mechanisms`, such as `SCRAM-SHA-512`.
    fn name(&self) -> &str;

    /// Whether a secret would cross an unencrypted connection readably or nearly so. Such a mechanism is refused
    /// there, unless the client was told that it may.
    fn wants_encryption(&self) -> bool;

    /// Begins one authentication. May fetch what it needs, such as a token; the connection's setup
    /// timeout bounds it, and dropping the future must be safe.
    fn begin<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Box<dyn Session>>>;
}

/// One authentication.
pub trait Session: Send {
    /// Takes what the broker said, nothing at first, and gives what to say to it; `None` when the
    /// session is done and the broker has proved what it must. An error ends the connection.
    ///
    /// What it gives is overwritten after it was sent.
    fn respond<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Option<Secret>>>;

    /// Whether the token that was given last is the end of the exchange, so that the mechanism has nothing for
    /// the broker to say to it. Brokers before 1.0 then say nothing, and are not waited for; the empty answer of
    /// others is given to [`respond`](Self::respond) all the same. Not so at first, which is right for most.
    fn is_over(&self) -> bool {
        false
    }
}

/// The longest token of either side, in bytes. A token of an identity provider takes a few thousand.
pub const TOKEN_MAX: usize = 64 * 1024;

/// Refuses a token that is too long for either side.
pub(crate) fn check_token_len(whose: &str, len: usize) -> Result<()> {
    if len <= TOKEN_MAX {
        return Ok(());
    }
    Err(Error::limit(format!("{whose} SASL token has {len} bytes, at most {TOKEN_MAX}")))
}

/// What a session says to a token for which it is not its turn.
#[cold]
pub(crate) fn out_of_turn(mechanism: &str) -> Error {
    Error::auth(format!("the broker went on with {mechanism} where it was at its end, or not begun"))
}

/// Refuses a user's name that no broker could take: empty, or with a NUL.
pub(crate) fn check_user(user: &str) -> Result<()> {
    if user.is_empty() || user.contains('\0') {
        return Err(Error::invalid("a SASL user name that is empty or has a NUL in it"));
    }
    Ok(())
}

#[cfg(test)]
mod planted;
#[cfg(test)]
mod tests;
