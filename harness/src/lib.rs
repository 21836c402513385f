//! Real Kafka brokers for tests: no container engine, only Java, and Maven Central for the jars.
//!
//! A test asks [`Cluster::builder`] for a version, a number of nodes and the listeners that it wants, and gets
//! a [`Cluster`] that answers. Its nodes can be killed, paused, resumed, ended and started again, on the same
//! ports or on others. Everything here blocks; from async code, call it on a thread that may.
//!
//! ```no_run
//! use weir_kafka_harness::{Cluster, Listener, Mechanism, unless_skipped};
//!
//! let scram = Listener::sasl(Mechanism::ScramSha512).over_tls();
//! let builder = Cluster::builder("4.4.0").nodes(3).listener(Listener::plain()).listener(scram);
//! let Some(cluster) = unless_skipped("three nodes", builder.start()) else { return };
//! let bootstrap = cluster.bootstrap(scram);
//! cluster.node(1).kill();
//! // What happens to a client of `bootstrap` now?
//! cluster.node(1).start().unwrap();
//! ```
//!
//! How a cluster comes to be: `version` knows what a release needs, `jars` fetches it, `run_dir` makes a folder
//! that disappears with its owner, `ports` picks the ports, `cluster/properties` writes what a node is told,
//! `process` starts Java, `ready` asks until the broker answers. The command (`main.rs`) is the same for people
//! and scripts.
//!
//! [`proxy`] stands between a client and a broker and does harm on request. Nothing here knows the library
//! that it tests.
//!
//! A machine without Java or without a way to the jars is a [`Failure::NotHere`], which tests count as a skip;
//! everything else that goes wrong is [`Failure::Broken`].

#![forbid(unsafe_code)]

/// Certificates, good and bad.
mod certs;
/// A cluster, its builder and its nodes.
mod cluster;
/// Why there is no broker.
mod failure;
/// The jars of a release, from Maven Central.
mod jars;
pub mod kdc;
/// The ways into a broker.
mod listener;
pub mod oidc;
/// Free ports.
mod ports;
/// Child processes with a log and a number that outlives us.
mod process;
pub mod proxy;
/// Whether a broker answers.
mod ready;
pub mod run_dir;
/// Skips that are seen.
mod skip;
/// What is true of which release.
mod version;

pub use certs::{Certificates, Identity, KEY_PASSWORD};
pub use cluster::{Builder, Cluster, Node, PASSWORD, USER};
pub use failure::Failure;
pub use jars::fetch;
pub use listener::{Listener, Mechanism, Transport};
pub use process::wait_a_little;
pub use skip::{skip, unless_skipped};
pub use version::{SEEN_TO_WORK, Version};
