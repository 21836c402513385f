//! weir: a pure-Rust client for the Kafka wire protocol.
//!
//! What stands today:
//!
//! - `Producer` (feature `client`, on by default): records in, and the outcome of each told once; idempotent,
//!   and in transactions. Made by `Client::producer`; its settings are in `producer`.
//! - `Consumer`: batches of records out, borrowed from the memory in which they came; partitions by hand, or shared in
//!   a group by either protocol. Made by `Client::consumer`; its settings are in `consumer`.
//! - `Client` (feature `client`): connections to a cluster and their security, brokers,
//!   topics and coordinators as they are now, and any request brought to who answers it. Its settings are in
//!   `net`, `conn::sasl` and `observe`.
//! - [`records`]: record batches, read lazily and without copies, written once; the codecs gzip,
//!   snappy, lz4 and zstd, each a feature of its name.
//! - `protocol` (feature `protocol`): every message of Kafka 0.11 to 4.4 in every version, as public
//!   types and by name or API key at run time; frames, and which answer belongs to which request.
//!
//! Everything that can fail gives an [`Error`]. Bytes from outside are not trusted: they give a value
//! or an error, never a panic, and memory grows with bytes that arrived, not with numbers that claim.

#![forbid(unsafe_code)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

#[cfg(feature = "client")]
mod client;
#[cfg(feature = "client")]
#[allow(dead_code, reason = "producers and consumers, which come next, want topics and coordinators")]
mod cluster;
#[cfg(feature = "client")]
pub mod conn;
#[cfg(feature = "client")]
#[allow(
    clippy::similar_names,
    clippy::struct_excessive_bools,
    clippy::match_bool,
    reason = "a kick and a change; facts that are true by themselves; two cases side by side"
)]
pub mod consumer;
#[cfg_attr(not(feature = "client"), allow(dead_code, reason = "connections fail in ways that bytes do not"))]
mod error;
mod error_code;
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
#[cfg(feature = "client")]
pub mod net;
#[cfg(feature = "client")]
pub mod observe;
#[cfg(feature = "client")]
#[allow(clippy::similar_names, clippy::match_bool, reason = "lanes and lines; two cases side by side")]
pub mod producer;
#[cfg(feature = "protocol")]
pub mod protocol;
pub mod records;
#[cfg(feature = "client")]
mod secret;
#[cfg_attr(
    not(feature = "protocol"),
    allow(dead_code, unreachable_pub, unused_imports, reason = "the client takes what it needs")
)]
mod wire;

#[cfg(feature = "client")]
pub use client::{Broker, Builder, Client};
#[cfg(all(feature = "client", feature = "protocol"))]
pub use client::{Call, ClientRequest, Part};
#[cfg(feature = "client")]
pub use consumer::{Batch, Consumer, TopicPartition};
pub use error::{Error, Result};
pub use error_code::ErrorCode;
#[cfg(feature = "client")]
pub use producer::{Ack, Delivery, Producer, Record, Transaction, TransactionalProducer};
#[cfg(feature = "client")]
pub use secret::Secret;
pub use wire::ApiKey;

/// The README's examples, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
