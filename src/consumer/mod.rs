//! Reading records. So far what is pure of it: who gets which partition in the classic group protocol, and the
//! membership in a group.

pub mod assignors;
pub(crate) mod group;
mod topic_partition;

pub use topic_partition::TopicPartition;
