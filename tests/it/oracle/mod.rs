//! Kafka's own classes as the judge of every byte.
//!
//! Two Java programs, `tests/oracle/Oracle.java` and `Records.java`, run with the jars of one Kafka
//! version. They draw messages and record batches, which weir must read and write back to the same
//! bytes; and they read what weir drew, and must write back the same. They know every message from the
//! specs in the jar, so nothing here lists messages: what the jar has and weir has not is a failure.
//! A third, `Sasl.java`, runs the SASL servers of a broker, and a fourth, `Partitions.java`, a producer's
//! partitioner; a fifth, `Assignors.java`, does what the leader of a group does.
//!
//! Each run has a fresh seed and prints it.
//!
//! - `WEIR_SEED`: repeats a run.
//! - `WEIR_ORACLE_COUNT`: messages for each message and version, in each direction (20); eight times as many groups
//!   for each assignor.
//! - `WEIR_KAFKA_JARS`: a folder with one folder of jars for each version. Without it, or where it
//!   lacks one, the harness knows where they are, and fetches them if need be.
//!
//! A million messages from Java and a million for Java, in a few minutes:
//!
//! ```text
//! WEIR_ORACLE_COUNT=800 cargo test --release --test it oracle::
//! ```

use std::sync::OnceLock;

use crate::seed::{self, number, say};

/// Groups, and who gets what in them.
mod assignors;
/// Batches that weir writes.
mod draw;
/// Finds the jars, compiles the programs, runs them.
mod java;
/// A piece of a log, as Java tells it and as weir reads it.
mod log;
/// Every message of every version, both ways.
mod messages;
/// The checks themselves, checked: defects that they must see.
mod partitions;
mod planted;
/// Record batches of every format, codec and level, both ways.
mod records;
/// SASL mechanisms, before Kafka's own servers.
mod sasl;
/// The format in which messages, logs and answers pass the pipe.
mod stream;

/// The newest Kafka, and the last that still had what 4.0 removed.
const VERSIONS: [&str; 2] = ["4.4.0", "3.9.2"];

/// The seed of this run.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| seed::seed("oracle"))
}

/// How many messages to draw for each message and version.
fn count() -> usize {
    number("WEIR_ORACLE_COUNT").map_or(20, |count| count as usize)
}
