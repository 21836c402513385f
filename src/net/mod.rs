//! The only place with sockets, TLS, tasks and the clock.
//!
//! Everything above asks here for a connected stream of bytes, for the time, and for a task to run in.
//! A stream is anything that reads and writes ([`Transport`]); who wants Unix sockets, a tunnel or pipes
//! in memory gives the client a [`Connect`] of his own.

use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// The time, and waiting for it.
pub(crate) mod clock;
/// Tasks in the background.
pub(crate) mod task;

/// A future on the heap, as traits that are used as objects return it.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream of bytes to a broker: whatever reads and writes.
pub trait Transport: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Transport for T {}
