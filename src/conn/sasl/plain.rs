//! PLAIN (RFC 4616): the name and the password, as they are, in one token.

use zeroize::Zeroizing;

use crate::conn::sasl::{Mechanism, Peer, Session, check_token_len, check_user, out_of_turn};
use crate::net::BoxFuture;
use crate::{Error, Result, Secret};

/// The mechanism `PLAIN`: a name and a password, which cross the connection readably. So it is for encrypted
/// connections, and refused on others unless the client was told that it may.
///
/// ```
/// use weir::conn::sasl::Plain;
///
/// let plain = Plain::new("alice", "swordfish")?;
/// assert!(!format!("{plain:?}").contains("swordfish"));
/// # Ok::<(), weir::Error>(())
/// ```
#[derive(Clone)]
pub struct Plain {
    user: String,
    password: Secret,
}

impl Plain {
    /// A user and its password. Neither may be empty or have a NUL in it, and the password must be UTF-8.
    pub fn new(user: impl Into<String>, password: impl Into<Secret>) -> Result<Self> {
        let (user, password) = (user.into(), password.into());
        check_user(&user)?;
        let bytes = password.expose();
        if bytes.is_empty() || bytes.contains(&0) || std::str::from_utf8(bytes).is_err() {
            return Err(Error::invalid("a PLAIN password that is empty, not UTF-8, or has a NUL in it"));
        }
        check_token_len("our", user.len() + bytes.len() + 2)?;
        Ok(Self { user, password })
    }

    /// `authzid NUL authcid NUL passwd`. No identity is asked for but that of the user: Kafka's brokers refuse
    /// any other.
    fn token(&self) -> Secret {
        let mut token =
            Zeroizing::new(Vec::with_capacity(self.user.len() + self.password.expose().len() + 2));
        token.push(0);
        token.extend_from_slice(self.user.as_bytes());
        token.push(0);
        token.extend_from_slice(self.password.expose());
        token.into()
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Mechanism for Plain {
    fn name(&self) -> &'static str {
        "PLAIN"
    }

    fn wants_encryption(&self) -> bool {
        true
    }

    fn begin<'a>(&'a self, _peer: &'a Peer) -> BoxFuture<'a, Result<Box<dyn Session>>> {
        let session = PlainSession::Begun(self.token());
        Box::pin(async { Ok(Box::new(session) as _) })
    }
}

/// One token, to which the broker has nothing to say.
enum PlainSession {
    Begun(Secret),
    Sent,
    Over,
}

impl Session for PlainSession {
    fn respond<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Option<Secret>>> {
        let (next, answer) = match (std::mem::replace(self, Self::Over), challenge) {
            (Self::Begun(token), None) => (Self::Sent, Ok(Some(token))),
            (Self::Sent, Some([])) => (Self::Over, Ok(None)),
            (Self::Sent, Some(_)) => {
                (Self::Over, Err(Error::auth("the broker answered PLAIN with a challenge")))
            }
            _ => (Self::Over, Err(out_of_turn("PLAIN"))),
        };
        *self = next;
        Box::pin(async { answer })
    }
}
