//! Reading records.

pub(crate) mod group;
mod topic_partition;

pub use topic_partition::TopicPartition;
