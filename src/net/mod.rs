//! The only place with sockets, TLS, tasks and the clock.
//!
//! Everything above asks here for a connected stream of bytes, for the time, and for a task to run in.
//! [`Config`] says how brokers are reached. A connection is made in steps, each in a file of its own: where an
//! advertised address leads and whether it is allowed, the addresses of the name, a race among them, the proxy,
//! TLS. All of them share one deadline.
//!
//! A stream is anything that reads and writes ([`Transport`]); who wants Unix sockets, a tunnel or pipes
//! in memory gives the client a [`Connect`] of his own.

use std::fmt;
use std::pin::Pin;
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::{Error, Result};

mod address;
mod allow;
/// The time, and waiting for it.
pub(crate) mod clock;
mod config;
mod dial;
/// Which protocol it is, when it is not Kafka's.
#[cfg(feature = "rustls")]
pub(crate) mod hint;
mod proxy;
mod race;
mod resolve;
/// Tasks in the background.
pub(crate) mod task;
// Encryption, and certificates.
#[cfg(feature = "rustls")]
pub mod tls;

pub use address::Address;
pub use config::Config;
pub(crate) use dial::{Dialer, Link, Origin, lost};
pub use proxy::Proxy;
pub use resolve::Resolve;

#[cfg(test)]
mod tests;

/// A future on the heap, as traits that are used as objects return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream of bytes to a broker: whatever reads and writes.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}

/// A user's own way to a broker: Unix sockets, a tunnel, pipes in memory.
///
/// The stream is read and written with locks of the client held: its `poll_` functions must not call the client.
///
/// It takes the place of looking up the name, TCP and the proxy; TLS, where it is configured, runs on top of what it
/// gives. An [`std::io::Error`] becomes this crate's by `?`.
pub trait Connect: fmt::Debug + Send + Sync + 'static {
    /// A new stream to the broker at `to`. The connection's deadline bounds it by dropping the future, which
    /// must be safe.
    fn connect<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Box<dyn Transport>>>;
}

/// Text from outside as an error may carry it: escaped, and cut to so many characters.
fn shown(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect::<String>().escape_debug().collect()
}

/// What `future` gives, or a timeout at `deadline` that says what was being done.
async fn until<T>(
    deadline: Instant,
    doing: impl FnOnce() -> String,
    future: impl Future<Output = T>,
) -> Result<T> {
    let bounded = tokio::time::timeout_at(deadline.into(), future);
    bounded.await.map_err(|_| Error::timeout(doing()))
}
