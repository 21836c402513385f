//! Answers as the tests write them, and the tests by subject.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::index::{Indexed, Scope, index};
use super::snapshot::{Snapshot, Topic};
use crate::ErrorCode;
use crate::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::{Ints, Uuid};

mod asking;
mod indexing;
mod model;

const FORGET: Duration = Duration::from_secs(30);

fn id(n: u8) -> Uuid {
    Uuid::from_bytes([n; 16])
}

fn broker(id: i32) -> MetadataResponseBroker {
    let (host, port) = (format!("b{id}").into(), 9092);
    MetadataResponseBroker { node_id: id, host, port, ..MetadataResponseBroker::default() }
}

fn partition(partition_index: i32, leader_id: i32, leader_epoch: i32) -> MetadataResponsePartition {
    let nodes = Ints::from([leader_id]);
    MetadataResponsePartition {
        partition_index,
        leader_id,
        leader_epoch,
        replica_nodes: nodes.clone(),
        isr_nodes: nodes,
        ..MetadataResponsePartition::default()
    }
}

/// A topic with partitions of index, leader and epoch.
fn topic(name: &str, topic_id: Uuid, partitions: &[(i32, i32, i32)]) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(name.into()),
        topic_id,
        partitions: partitions
            .iter()
            .map(|(index, leader, epoch)| partition(*index, *leader, *epoch))
            .collect(),
        ..MetadataResponseTopic::default()
    }
}

fn failed(name: &str, topic_id: Uuid, code: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic { error_code: code.0, ..topic(name, topic_id, &[]) }
}

/// An answer from a cluster of brokers 1 to 3.
fn answer(topics: Vec<MetadataResponseTopic>) -> MetadataResponse {
    MetadataResponse {
        brokers: (1..=3).map(broker).collect(),
        cluster_id: Some("c".into()),
        controller_id: 1,
        topics,
        ..MetadataResponse::default()
    }
}

/// A snapshot that grows answer by answer.
struct Grown {
    snapshot: Snapshot,
    rejected: usize,
    now: Instant,
}

impl Grown {
    fn from(topics: Vec<MetadataResponseTopic>) -> Self {
        let mut grown = Self { snapshot: Snapshot::default(), rejected: 0, now: Instant::now() };
        grown.hear(topics);
        grown
    }

    /// Answers to a request for all topics.
    fn hear(&mut self, topics: Vec<MetadataResponseTopic>) {
        self.hear_all(answer(topics));
    }

    fn hear_all(&mut self, response: MetadataResponse) {
        let indexed = index(&self.snapshot, response, &Scope::All, self.now, FORGET).unwrap();
        let Indexed { snapshot, rejected } = indexed;
        self.snapshot = snapshot;
        self.rejected = rejected;
    }

    fn topic(&self, name: &str) -> &Arc<Topic> {
        self.snapshot.topic(name).unwrap()
    }

    /// The leader and the epoch of a partition.
    fn leads(&self, name: &str, index: i32) -> (Option<i32>, i32) {
        let partition = self.topic(name).partition(index).unwrap();
        (partition.leader, partition.leader_epoch)
    }
}
