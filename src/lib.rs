//! weir: a pure-Rust client for the Kafka wire protocol.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod error;
#[cfg_attr(
    not(feature = "protocol"),
    allow(dead_code, unreachable_pub, reason = "the client takes what it needs")
)]
mod frame;
#[cfg_attr(
    not(feature = "protocol"),
    allow(dead_code, unreachable_pub, unused_imports, reason = "the client takes what it needs")
)]
#[allow(clippy::struct_field_names, reason = "Kafka's names")]
mod messages;
#[cfg(feature = "protocol")]
pub mod protocol;
pub mod records;
#[cfg_attr(
    not(feature = "protocol"),
    allow(dead_code, unreachable_pub, unused_imports, reason = "the client takes what it needs")
)]
mod wire;

pub use error::{Error, Result};
