//! What an assignor may know of the cluster: topics, how many partitions they have, and in which racks those are.

use std::collections::BTreeMap;
use std::sync::Arc;

/// Topics with their partitions, and the racks of each partition's replicas (KIP-881).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    topics: BTreeMap<Arc<str>, Vec<Vec<Arc<str>>>>,
}

impl ClusterView {
    /// Knows nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a topic: for each partition, from 0 on, the racks that its replicas are in, as far as brokers say them.
    /// Replicas that are away count too, since they will come back.
    pub fn insert(&mut self, topic: impl Into<Arc<str>>, racks_of_partitions: Vec<Vec<Arc<str>>>) {
        self.topics.insert(topic.into(), racks_of_partitions);
    }

    /// Every topic with its number of partitions, by name.
    pub fn topics(&self) -> impl Iterator<Item = (&Arc<str>, usize)> {
        self.topics.iter().map(|(topic, partitions)| (topic, partitions.len()))
    }

    /// How many partitions the topic has; 0 if it is not known.
    pub fn partition_count(&self, topic: &str) -> usize {
        self.partitions(topic).len()
    }

    /// The racks of a partition's replicas. Empty if the partition is not known.
    pub fn racks(&self, topic: &str, partition: usize) -> &[Arc<str>] {
        self.partitions(topic).get(partition).map_or(&[], Vec::as_slice)
    }

    pub(super) fn partitions(&self, topic: &str) -> &[Vec<Arc<str>>] {
        self.topics.get(topic).map_or(&[], Vec::as_slice)
    }
}
