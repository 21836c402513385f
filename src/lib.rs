//! weir: a pure-Rust client for the Kafka wire protocol.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

mod error;
pub mod records;
mod wire;

pub use error::{Error, Result};
