//! The producer: what stands so far decides, and knows nothing of sockets or time.
//!
//! [`partitioner`] chooses the partitions of records. Behind it, `machine_identity` gets an idempotent
//! producer its id and epoch; `transaction` does so for a transactional one, and leads each of its
//! transactions to an end.

mod machine_identity;
pub mod partitioner;
mod transaction;
