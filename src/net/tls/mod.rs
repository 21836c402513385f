//! TLS by rustls: whom to trust, who we are, and the handshake.
//!
//! [`Tls`] is what a user says (`config.rs`). From it and the files that it names a `rustls::ClientConfig` is made
//! (`load.rs`, `keys.rs`, `provider.rs`), and made again when a file changes (`connector.rs`), for connections from
//! then on. The handshake remembers the peer's first bytes (`head.rs`), and its failures become errors that say in
//! words what to mend (`words.rs`).

mod config;
mod connector;
mod head;
mod keys;
mod load;
mod provider;
mod verify;
mod words;

pub use config::{Pem, Tls};
pub(super) use connector::Connector;
#[cfg(feature = "oidc")]
pub(crate) use keys::private_key;
pub(super) use words::refusal;

#[cfg(all(test, any(feature = "ring", feature = "aws-lc-rs", feature = "graviola")))]
pub(super) mod tests;
