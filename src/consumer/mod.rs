//! Reading records.

pub(crate) mod group;
#[allow(dead_code, reason = "the consumer's keeper, which comes next, holds it")]
pub(crate) mod machine_offsets;
mod topic_partition;

pub use topic_partition::TopicPartition;
