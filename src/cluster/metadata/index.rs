//! From an answer to the next snapshot. A broker's word is checked entry by entry: what cannot be right
//! is left out and counted, and what was known before stays in its place.
//!
//! Pure, and free of locks, so that a large answer can be read on a thread where waiting is allowed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::snapshot::{Broker, Partition, Snapshot, Topic, TopicKey};
use crate::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::wire::{Str, Uuid};
use crate::{Error, ErrorCode, Result};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Every topic of the cluster. What is not in the answer is gone.
    All,
    /// All that anyone wants. Other topics leave the snapshot.
    Wanted(Vec<TopicKey>),
    /// Some topics that are wanted since lately. The others stay as they are.
    Added(Vec<TopicKey>),
}

/// An answer that was read.
#[derive(Debug)]
pub(crate) struct Indexed {
    /// The next snapshot. Its version is that of its base; it is counted up where it is taken.
    pub(crate) snapshot: Snapshot,
    /// Entries that could not be right.
    pub(crate) rejected: usize,
}

/// Reads an answer to `scope` on top of `base`. A topic that brokers do not know is kept for
/// `forget_after` as it was, since a broker that has just started may not know it yet.
///
/// Fails where the answer as a whole is of no use: an error code at its top (KIP-1102), or no broker.
pub(crate) fn index(
    base: &Snapshot,
    response: MetadataResponse,
    scope: &Scope,
    now: Instant,
    forget_after: Duration,
) -> Result<Indexed> {
    let code = ErrorCode(response.error_code);
    if !code.is_none() {
        return Err(Error::broker_said(code, "no metadata"));
    }
    let mut rejected = 0;
    let brokers = brokers(base, response.brokers, &mut rejected);
    if brokers.is_empty() {
        return Err(Error::malformed("metadata without a broker that could be one"));
    }
    let mut next = Next {
        base,
        brokers: &brokers,
        now,
        forget_after,
        rejected,
        topics: BTreeMap::new(),
        ids: BTreeMap::new(),
    };
    for topic in response.topics {
        next.add(topic);
    }
    next.complete(scope);
    let Next { rejected, topics, ids, .. } = next;
    let controller = Some(response.controller_id).filter(|id| brokers.contains_key(id));
    Ok(Indexed {
        rejected,
        snapshot: Snapshot {
            version: base.version,
            cluster_id: response.cluster_id.or_else(|| base.cluster_id.clone()),
            controller,
            brokers: shared(&base.brokers, brokers),
            topics: shared(&base.topics, topics),
            ids: shared(&base.ids, ids),
        },
    })
}

/// The map that was, if the new one says the same.
fn shared<K: Ord, V: PartialEq>(old: &Arc<BTreeMap<K, V>>, new: BTreeMap<K, V>) -> Arc<BTreeMap<K, V>> {
    if **old == new { Arc::clone(old) } else { Arc::new(new) }
}

fn brokers(
    base: &Snapshot,
    listed: Vec<MetadataResponseBroker>,
    rejected: &mut usize,
) -> BTreeMap<i32, Broker> {
    let mut brokers = BTreeMap::new();
    for listed in listed {
        let id = listed.node_id;
        let broker = Broker::checked(id, &listed.host, listed.port, listed.rack);
        let fresh = id >= 0 && !brokers.contains_key(&id);
        // With an address that cannot be right, the last good one stays.
        let known = broker.clone().or_else(|| base.broker(id).cloned());
        *rejected += usize::from(!fresh || broker.is_none());
        if let Some(known) = known.filter(|_| fresh) {
            brokers.insert(id, known);
        }
    }
    brokers
}

struct Next<'a> {
    base: &'a Snapshot,
    brokers: &'a BTreeMap<i32, Broker>,
    now: Instant,
    forget_after: Duration,
    rejected: usize,
    topics: BTreeMap<Str, Arc<Topic>>,
    ids: BTreeMap<Uuid, Arc<Topic>>,
}

impl Next<'_> {
    fn add(&mut self, listed: MetadataResponseTopic) {
        let (id, code) = (listed.topic_id, ErrorCode(listed.error_code));
        // Asked by id, a broker that does not know it cannot say a name.
        let name = match listed.name.filter(|name| !name.is_empty()) {
            Some(name) => name,
            None => match self.base.topic_by_id(id) {
                Some(known) if !code.is_none() => known.name.clone(),
                _ => {
                    // An unknown id that never had a name is an honest answer.
                    self.rejected += usize::from(code.is_none());
                    return;
                }
            },
        };
        if self.topics.contains_key(&name) || self.ids.contains_key(&id) {
            self.rejected += 1;
            return;
        }
        let known = self.base.topic(&name).cloned();
        let topic = match code {
            ErrorCode::NONE if listed.partitions.is_empty() => {
                self.troubled(known.as_ref(), name, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
            }
            ErrorCode::NONE => {
                let before = known.as_deref().filter(|known| same(known.id, id));
                let id = if id.is_zero() { before.map_or(id, |before| before.id) } else { id };
                let partitions = self.partitions(before, id, listed.partitions);
                let internal = listed.is_internal;
                Topic { name, id, internal, partitions, error: ErrorCode::NONE, gone: None }
            }
            code => self.troubled(known.as_ref(), name, code),
        };
        self.insert(known, topic);
    }

    fn insert(&mut self, known: Option<Arc<Topic>>, topic: Topic) {
        let topic = match known {
            Some(known) if *known == topic => known,
            _ => Arc::new(topic),
        };
        if !topic.id.is_zero() {
            self.ids.insert(topic.id, Arc::clone(&topic));
        }
        self.topics.insert(topic.name.clone(), topic);
    }

    /// A topic that an error was said of: as it was last good, with the error beside it.
    fn troubled(&self, known: Option<&Arc<Topic>>, name: Str, error: ErrorCode) -> Topic {
        let absent = matches!(error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::UNKNOWN_TOPIC_ID);
        let gone = absent.then(|| known.and_then(|known| known.gone).unwrap_or(self.now));
        let forgotten =
            gone.is_some_and(|since| self.now.saturating_duration_since(since) >= self.forget_after);
        match known {
            Some(known) if !forgotten => Topic { error, gone, ..Topic::clone(known) },
            _ => Topic { name, id: Uuid::ZERO, internal: false, partitions: Box::default(), error, gone },
        }
    }

    /// Adds what the answer does not tell of but the snapshot goes on to know.
    fn complete(&mut self, scope: &Scope) {
        let base = self.base;
        let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        match scope {
            Scope::Added(_) => {
                for known in base.topics() {
                    self.keep(known, known.error);
                }
            }
            Scope::Wanted(wanted) => {
                for known in wanted.iter().filter_map(|key| base.topic_of(key)) {
                    self.keep(known, unknown);
                }
            }
            Scope::All => {
                for known in base.topics() {
                    self.keep(known, unknown);
                }
                let empty = |topic: &Arc<Topic>| topic.partitions.is_empty() && topic.error == unknown;
                self.topics.retain(|_, topic| !empty(topic));
            }
        }
    }

    fn keep(&mut self, known: &Arc<Topic>, error: ErrorCode) {
        if self.topics.contains_key(&known.name) || self.ids.contains_key(&known.id) {
            return;
        }
        // Most are as they were, and must cost no more than a count.
        if error == known.error && known.gone.is_none() {
            if !known.id.is_zero() {
                self.ids.insert(known.id, Arc::clone(known));
            }
            self.topics.insert(known.name.clone(), Arc::clone(known));
            return;
        }
        let topic = self.troubled(Some(known), known.name.clone(), error);
        self.insert(Some(Arc::clone(known)), topic);
    }

    fn partitions(
        &mut self,
        before: Option<&Topic>,
        id: Uuid,
        listed: Vec<MetadataResponsePartition>,
    ) -> Box<[Partition]> {
        let mut partitions = BTreeMap::new();
        for listed in listed {
            let index = listed.partition_index;
            if index < 0 || partitions.contains_key(&index) {
                self.rejected += 1;
                continue;
            }
            let known = before.and_then(|topic| topic.partition(index));
            partitions.insert(index, self.partition(known, listed));
        }
        // Partitions are never taken from a topic: one that is missing is not known to that broker yet.
        // Without an id it may be another topic of the same name, though.
        if let Some(before) = before.filter(|_| !id.is_zero()) {
            for known in &before.partitions {
                partitions.entry(known.index).or_insert_with(|| known.clone());
            }
        }
        partitions.into_values().collect()
    }

    /// One partition. Leader epochs only rise, within one topic id: an answer with a lower one comes
    /// from a broker that lags behind.
    fn partition(&mut self, known: Option<&Partition>, listed: MetadataResponsePartition) -> Partition {
        let leader = Some(listed.leader_id).filter(|id| *id >= 0);
        let unlisted = leader.is_some_and(|leader| !self.brokers.contains_key(&leader));
        self.rejected += usize::from(unlisted);
        let heard = listed.leader_epoch;
        if let Some(known) = known {
            let lags = (0..known.leader_epoch).contains(&heard);
            if lags || unlisted {
                return known.clone();
            }
        }
        Partition {
            index: listed.partition_index,
            leader: leader.filter(|_| !unlisted),
            // "Not known" never takes the place of what is known: fencing would be off.
            leader_epoch: heard.max(known.map_or(-1, |known| known.leader_epoch)).max(-1),
            replicas: listed.replica_nodes,
            isr: listed.isr_nodes,
            offline: listed.offline_replicas,
        }
    }
}

/// Whether two ids of one name may be the same topic. A broker too old for ids says zero.
fn same(a: Uuid, b: Uuid) -> bool {
    a == b || a.is_zero() || b.is_zero()
}
