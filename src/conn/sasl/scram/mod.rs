//! SCRAM-SHA-256 and SCRAM-SHA-512: both sides prove that they know the password, and neither says it.
//!
//! [`Scram`] is what a user configures. Its session drives the pure exchange of `machine`, gives it a nonce, and
//! has the keys derived on a thread of their own, once for all connections: a broker's salt and iterations for
//! a user are the same until the password changes.
//!
//! The exchange is ours and not that of `rsasl`, which derives keys on the calling thread, takes any number of
//! iterations, prepares passwords as Kafka does not, and has no way to say `tokenauth`.

mod keys;
mod machine;
#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::conn::sasl::{Mechanism, Peer, Session, check_user, out_of_turn};
use crate::net::{BoxFuture, task};
use crate::{Error, Result, Secret};
use keys::{Algorithm, Keys};
use machine::{Challenge, ClientFirst, Verify};

/// Fewer iterations than Kafka lets a user have would make a stolen exchange easy to search; a million keep a
/// core busy for some tenths of a second, which is as much as a broker may ask of us.
const ITERATIONS: RangeInclusive<u32> = 4096..=1_000_000;

/// The mechanisms `SCRAM-SHA-256` and `SCRAM-SHA-512` (RFC 5802, RFC 7677, KIP-84), for users and for
/// delegation tokens (KIP-48).
///
/// The password is never sent, and the broker must prove that it knows it. But Kafka binds the exchange to no
/// TLS channel, so on a connection that is not encrypted an eavesdropper can try passwords against what was
/// said, and whoever sits in between can go on with the connection: a warning says so.
///
/// Clones share the derived keys, which are kept (and overwritten in the end) so that only the first connection
/// pays for them.
///
/// ```
/// use weir::conn::sasl::Scram;
///
/// let user = Scram::sha512("alice", "swordfish")?;
/// let token = Scram::sha256("a-token-id", "its-hmac-in-base64")?.delegation_token();
/// assert!(!format!("{user:?}").contains("swordfish"));
/// # Ok::<(), weir::Error>(())
/// ```
#[derive(Clone)]
pub struct Scram {
    algorithm: Algorithm,
    user: String,
    password: Secret,
    delegation_token: bool,
    iterations: RangeInclusive<u32>,
    shared: Arc<Shared>,
}

/// What the sessions of a mechanism have in common.
#[derive(Default)]
struct Shared {
    /// The keys that were derived last, and from what. One place: a cluster has one salt for a user.
    derived: Mutex<Option<Derived>>,
    warned: AtomicBool,
}

#[derive(Clone)]
struct Derived {
    salt: Vec<u8>,
    iterations: u32,
    keys: Arc<Keys>,
}

impl Scram {
    /// `SCRAM-SHA-256` with a user and its password, neither of them empty.
    pub fn sha256(user: impl Into<String>, password: impl Into<Secret>) -> Result<Self> {
        Self::new(Algorithm::Sha256, user.into(), password.into())
    }

    /// `SCRAM-SHA-512` with a user and its password, neither of them empty.
    pub fn sha512(user: impl Into<String>, password: impl Into<Secret>) -> Result<Self> {
        Self::new(Algorithm::Sha512, user.into(), password.into())
    }

    fn new(algorithm: Algorithm, user: String, password: Secret) -> Result<Self> {
        check_user(&user)?;
        if user.len() > 1024 {
            return Err(Error::invalid("a SCRAM user name of more than 1024 bytes"));
        }
        if password.is_empty() {
            return Err(Error::invalid("an empty SCRAM password"));
        }
        let shared = Arc::default();
        Ok(Self { algorithm, user, password, delegation_token: false, iterations: ITERATIONS, shared })
    }

    /// Says that the user is the id of a delegation token, and the password its HMAC in base64 (KIP-48).
    #[must_use]
    pub fn delegation_token(mut self) -> Self {
        self.delegation_token = true;
        self
    }

    /// How many iterations a broker may ask for; 4096 to 1,000,000 unless told. The range may not be empty or
    /// begin with zero.
    pub fn iterations(mut self, allowed: RangeInclusive<u32>) -> Result<Self> {
        if allowed.is_empty() || allowed.contains(&0) {
            return Err(Error::invalid("a range of SCRAM iterations that is empty or has zero in it"));
        }
        self.iterations = allowed;
        Ok(self)
    }

    /// The keys for that challenge: those that were derived before, or new ones.
    async fn keys(&self, challenge: &Challenge) -> Result<Arc<Keys>> {
        let (salt, iterations) = (challenge.salt.clone(), challenge.iterations);
        let derived = self.shared.derived.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(derived) = derived.filter(|had| had.salt == salt && had.iterations == iterations) {
            return Ok(derived.keys);
        }
        let (algorithm, password) = (self.algorithm, self.password.clone());
        let derive = move || {
            Keys::derive(algorithm, password.expose(), &salt, iterations).map(|keys| Derived {
                salt,
                iterations,
                keys: Arc::new(keys),
            })
        };
        let derived = task::blocking(derive).await??;
        let keys = Arc::clone(&derived.keys);
        *self.shared.derived.lock().unwrap_or_else(PoisonError::into_inner) = Some(derived);
        Ok(keys)
    }

    fn warn_once(&self, peer: &Peer) {
        if !peer.encrypted && !self.shared.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                target: "weir",
                host = %peer.host.escape_debug(),
                port = peer.port,
                mechanism = self.algorithm.name(),
                "SCRAM on a connection without TLS: an eavesdropper can try passwords against it"
            );
        }
    }
}

impl fmt::Debug for Scram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scram")
            .field("mechanism", &self.algorithm.name())
            .field("user", &self.user)
            .field("delegation_token", &self.delegation_token)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

impl Mechanism for Scram {
    fn name(&self) -> &str {
        self.algorithm.name()
    }

    fn wants_encryption(&self) -> bool {
        false
    }

    fn begin<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Box<dyn Session>>> {
        self.warn_once(peer);
        let session = nonce().map(|nonce| {
            let first = ClientFirst::new(&self.user, nonce, self.delegation_token);
            Box::new(ScramSession { scram: self.clone(), state: State::Begun(first) }) as _
        });
        Box::pin(async { session })
    }
}

/// 24 bytes that nobody can guess, in 32 characters.
fn nonce() -> Result<String> {
    let mut bytes = [0; 24];
    getrandom::fill(&mut bytes).map_err(|e| Error::io("the system gives no random numbers").because(e))?;
    Ok(STANDARD_NO_PAD.encode(bytes))
}

struct ScramSession {
    scram: Scram,
    state: State,
}

/// Whose turn it is, with what was said. Over after an error, too, and after a future that was dropped.
enum State {
    Begun(ClientFirst),
    First(ClientFirst),
    Final(Verify),
    Over,
}

impl ScramSession {
    async fn step(&mut self, challenge: Option<&[u8]>) -> Result<Option<Secret>> {
        match (std::mem::replace(&mut self.state, State::Over), challenge) {
            (State::Begun(first), None) => {
                let message = first.message();
                self.state = State::First(first);
                Ok(Some(message))
            }
            (State::First(first), Some(theirs)) => {
                let challenge = first.server_first(theirs, &self.scram.iterations)?;
                let keys = self.scram.keys(&challenge).await?;
                let (message, verify) = challenge.prove(&keys)?;
                self.state = State::Final(verify);
                Ok(Some(message))
            }
            (State::Final(verify), Some(theirs)) => verify.server_final(theirs).map(|()| None),
            _ => Err(out_of_turn(self.scram.name())),
        }
    }
}

impl Session for ScramSession {
    fn respond<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Option<Secret>>> {
        Box::pin(self.step(challenge))
    }
}
