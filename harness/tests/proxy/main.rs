//! The fault proxy over real sockets, before a small broker of our own: each fault as a client meets it.
//! Once it stands before a real cluster.
//!
//! What the machine decides is tested beside it; here is shown that sockets do what it says. Times are
//! compared with lower bounds only.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

/// A broker and a client that know frames and no more.
mod peers;

/// A real cluster behind proxies.
mod cluster;
/// Faults at frames and bytes: cut, held, swallowed, changed.
mod frames;
/// Starting, ending, waiting.
mod life;
/// Faults of whole links: late, slow, silent, refused, replaced.
mod links;
