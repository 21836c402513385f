//! TLS against servers made here: rustls with certificates of an authority of its own, over pipes in memory, and
//! servers that only say bytes.

mod files;
mod handshakes;
mod key_forms;
pub(in crate::net) mod pki;
