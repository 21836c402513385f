//! The harness tested on itself, with real brokers where the machine has Java.

/// Clusters that start, are hurt, come back and leave nothing.
mod clusters;
/// The command, as scripts use it.
mod command;
/// Questions to brokers, written by hand.
mod probe;
