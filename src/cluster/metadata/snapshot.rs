//! What is known of the cluster at one moment. Nothing in it changes; whoever holds it looks things up
//! without a lock and without copying. Two snapshots share all topics that did not change between them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use crate::ErrorCode;
use crate::net::Address;
use crate::wire::{Ints, Str, Uuid};

/// A broker as metadata names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    pub(crate) address: Address,
    pub(crate) rack: Option<Str>,
}

impl Broker {
    /// A broker as an answer names it, if its id and its address can be right.
    pub(crate) fn checked(id: i32, host: &str, port: i32, rack: Option<Str>) -> Option<Self> {
        let address = Address::advertised(host, port).ok()?;
        (id >= 0).then_some(Self { id, address, rack })
    }
}

/// A partition, as it was last seen well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) index: i32,
    /// The broker that leads it; none while there is an election, or no replica is left.
    pub(crate) leader: Option<i32>,
    /// The epoch of that leader; -1 if the broker is too old to say.
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Ints,
    pub(crate) isr: Ints,
    pub(crate) offline: Ints,
}

/// A topic: its partitions as they were last seen well, and what was wrong the last time, if anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) name: Str,
    /// Zero where the broker does not know topic ids.
    pub(crate) id: Uuid,
    pub(crate) internal: bool,
    /// By index, which may have gaps.
    pub(crate) partitions: Box<[Partition]>,
    /// What the last answer said of the topic. Partitions beside an error are the last good ones.
    pub(crate) error: ErrorCode,
    /// Since when brokers say that there is no such topic.
    pub(crate) gone: Option<Instant>,
}

impl Topic {
    pub(crate) fn partition(&self, index: i32) -> Option<&Partition> {
        // Mostly there are no gaps, and the place is the index.
        let direct = usize::try_from(index).ok().and_then(|at| self.partitions.get(at));
        if let Some(found) = direct.filter(|partition| partition.index == index) {
            return Some(found);
        }
        let at = self.partitions.binary_search_by_key(&index, |partition| partition.index).ok()?;
        self.partitions.get(at)
    }
}

/// A topic by its name, or by its id (KIP-516).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    Name(Str),
    Id(Uuid),
}

impl TopicKey {
    /// The id if there is one, and the name otherwise.
    pub(crate) fn of(id: Uuid, name: &Str) -> Self {
        if id.is_zero() { Self::Name(name.clone()) } else { Self::Id(id) }
    }
}

impl From<&str> for TopicKey {
    fn from(name: &str) -> Self {
        Self::Name(name.into())
    }
}

impl fmt::Debug for TopicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

/// Who leads a partition, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leader {
    /// That broker, since that epoch (-1 if not known).
    Known { broker: i32, epoch: i32 },
    /// The partition has none at the moment.
    None,
    /// The topic or the partition is not known, or not yet.
    Unknown,
    /// The topic cannot be had: not allowed, not a name.
    Refused(ErrorCode),
}

/// What is known of the cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Rises with every snapshot that differs from the one before it.
    pub(crate) version: u64,
    pub(super) cluster_id: Option<Str>,
    /// Where there is a `KRaft` quorum, this is any broker: it passes on to the controller what is his.
    pub(crate) controller: Option<i32>,
    pub(super) brokers: Arc<BTreeMap<i32, Broker>>,
    pub(super) topics: Arc<BTreeMap<Str, Arc<Topic>>>,
    pub(super) ids: Arc<BTreeMap<Uuid, Arc<Topic>>>,
}

impl Snapshot {
    /// The cluster's id, as far as a broker has told it.
    pub(crate) fn cluster_id(&self) -> Option<&Str> {
        self.cluster_id.as_ref()
    }

    /// Where all brokers are.
    pub(crate) fn addresses(&self) -> BTreeMap<i32, Address> {
        self.brokers().map(|broker| (broker.id, broker.address.clone())).collect()
    }

    /// Whether the brokers are the same as in another.
    pub(crate) fn has_brokers_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.brokers, &other.brokers) && self.cluster_id == other.cluster_id
    }

    pub(crate) fn broker(&self, id: i32) -> Option<&Broker> {
        self.brokers.get(&id)
    }

    /// All brokers, by id.
    pub(crate) fn brokers(&self) -> impl ExactSizeIterator<Item = &Broker> {
        self.brokers.values()
    }

    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub(crate) fn topic_by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.ids.get(&id)
    }

    pub(crate) fn topic_of(&self, key: &TopicKey) -> Option<&Arc<Topic>> {
        match key {
            TopicKey::Name(name) => self.topic(name),
            TopicKey::Id(id) => self.topic_by_id(*id),
        }
    }

    /// All topics that are known, by name.
    pub(crate) fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<Topic>> {
        self.topics.values()
    }

    pub(crate) fn leader(&self, topic: &TopicKey, partition: i32) -> Leader {
        let Some(topic) = self.topic_of(topic) else { return Leader::Unknown };
        // What is wrong for good outweighs what once was good.
        if !topic.error.is_none() && !topic.error.is_retriable() {
            return Leader::Refused(topic.error);
        }
        match topic.partition(partition) {
            Some(Partition { leader: Some(broker), leader_epoch, .. }) => {
                Leader::Known { broker: *broker, epoch: *leader_epoch }
            }
            Some(_) => Leader::None,
            None => Leader::Unknown,
        }
    }
}
