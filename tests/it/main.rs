//! All tests that see the crate from outside, in one binary: it links once and shares its brokers.
//!
//! A test that needs something this machine lacks calls [`skip::skip`], which prints and counts it.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

/// Tests against real Kafka brokers, and the harness that starts and ends them.
mod broker;
/// The client against clusters of real brokers.
mod cluster;
/// The consumer on real brokers.
mod consumer;
/// Messages by name and by API key.
mod dispatch;
/// Generated code against what it is generated from.
mod drift;
/// Faults on a real cluster under a stream of requests.
mod faults;
/// Members of groups on real brokers.
mod groups;
/// Kerberos against a real KDC.
#[cfg(feature = "gssapi")]
mod gssapi;
/// Messages broken in every way, and what must be refused.
mod hostile;
/// Tokens from an identity provider.
#[cfg(all(feature = "oidc", feature = "ring"))]
mod oidc;
/// Kafka's own classes as the judge of every byte.
mod oracle;
/// The producer on real brokers, read back by Java.
mod producer;
/// TLS and SASL with real brokers.
#[cfg(all(feature = "gssapi", feature = "oidc", feature = "ring"))]
mod secure;
/// The seed of a test that draws, and lines that are seen.
#[path = "../support/seed.rs"]
mod seed;
/// What is printed and counted when a test cannot run here.
mod skip;
/// Checks of the repository's own text: layers, lengths, documents, banned calls.
mod tidy;
/// Transactions on real brokers, read back by Java.
mod transactions;
