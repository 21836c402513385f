//! Metadata: who is there, which topics there are, who leads their partitions.
//!
//! A [`Snapshot`] is what is known; the [`Machine`](machine::Machine) decides when to ask whom for what
//! (KIP-526, KIP-899, KIP-1102), and [`index`] turns an answer and the snapshot before it into the next
//! one, taking nothing from the answer that cannot be right.

/// Leaders that an error told of.
pub(crate) mod hints;
/// From an answer to the next snapshot.
pub(crate) mod index;
/// When to ask whom.
pub(crate) mod machine;
/// The request, as each version says it.
pub(crate) mod request;
mod snapshot;

pub(crate) use snapshot::{Broker, Leader, Snapshot, TopicKey};

#[cfg(test)]
mod tests;
