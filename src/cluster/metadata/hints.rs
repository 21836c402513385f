//! Leaders that came with an error (KIP-951): a broker that no longer leads a partition says who does,
//! so that nobody has to wait for metadata.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::snapshot::{Broker, Snapshot, Topic, TopicKey};
use crate::wire::Str;

/// What one answer told of leaders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) leaders: Vec<Hint>,
    /// Where the brokers among them are.
    pub(crate) brokers: Vec<Broker>,
}

/// One partition has another leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hint {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
    pub(crate) leader: i32,
    pub(crate) epoch: i32,
}

impl Hints {
    /// Adds a leader, unless the broker says -1, which means that it does not know.
    pub(crate) fn leader(&mut self, topic: TopicKey, partition: i32, leader: i32, epoch: i32) {
        if leader >= 0 && epoch >= 0 {
            self.leaders.push(Hint { topic, partition, leader, epoch });
        }
    }

    /// Adds a broker, if its address can be right.
    pub(crate) fn broker(&mut self, id: i32, host: &str, port: i32, rack: Option<Str>) {
        self.brokers.extend(Broker::checked(id, host, port, rack));
    }
}

/// The next snapshot, and how many partitions have another leader or epoch in it. Only a higher epoch
/// counts, so that the same hints may be taken twice; and only a leader whose address is known.
pub(super) fn apply(base: &Snapshot, hints: &Hints) -> Option<(Snapshot, usize)> {
    let endpoints: BTreeMap<i32, &Broker> = hints.brokers.iter().map(|broker| (broker.id, broker)).collect();
    let mut topics: BTreeMap<Str, Topic> = BTreeMap::new();
    let mut brokers = BTreeMap::new();
    let mut moved = 0;
    for hint in &hints.leaders {
        let Some(known) = base.topic_of(&hint.topic) else { continue };
        let Ok(at) = known.partitions.binary_search_by_key(&hint.partition, |partition| partition.index)
        else {
            continue;
        };
        let endpoint = endpoints.get(&hint.leader).copied();
        if endpoint.is_none() && base.broker(hint.leader).is_none() {
            continue;
        }
        let newest = topics.get(&known.name).unwrap_or(known).partitions.get(at);
        if newest.is_none_or(|partition| partition.leader_epoch >= hint.epoch) {
            continue;
        }
        let topic = topics.entry(known.name.clone()).or_insert_with(|| Topic::clone(known));
        if let Some(partition) = topic.partitions.get_mut(at) {
            (partition.leader, partition.leader_epoch) = (Some(hint.leader), hint.epoch);
            moved += 1;
        }
        brokers.extend(endpoint.map(|endpoint| (hint.leader, endpoint.clone())));
    }
    if moved == 0 {
        return None;
    }
    let mut next = base.clone();
    for (name, topic) in topics {
        let topic = Arc::new(topic);
        if !topic.id.is_zero() {
            Arc::make_mut(&mut next.ids).insert(topic.id, Arc::clone(&topic));
        }
        Arc::make_mut(&mut next.topics).insert(name, topic);
    }
    let news = brokers.iter().any(|(id, broker)| base.broker(*id) != Some(broker));
    if news {
        Arc::make_mut(&mut next.brokers).extend(brokers);
    }
    Some((next, moved))
}
