//! The harness tested on itself, with real brokers where the machine has Java.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "these are tests"
)]

/// Clusters that start, are hurt, come back and leave nothing.
mod clusters;
/// The command, as scripts use it.
mod command;
/// Tokens and who gives them.
mod issuer;
/// Kafka's own client.
mod java;
/// Tickets.
mod kerberos;
/// Questions to brokers, written by hand.
mod probe;
/// Certificates and passwords.
mod secured;
