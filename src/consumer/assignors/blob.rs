//! The bytes that members and their leader send each other: Kafka's `ConsumerProtocol`, subscriptions and assignments.
//!
//! Each begins with its version. What is newer than we know is read as the newest that we know, since later versions
//! only add at the end (KIP-429); so bytes may be left over. Written is always the newest, as Java does.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::java;
use crate::messages::consumer_protocol_assignment as assignment;
use crate::messages::consumer_protocol_assignment::ConsumerProtocolAssignment;
use crate::messages::consumer_protocol_subscription as subscription;
use crate::messages::consumer_protocol_subscription::ConsumerProtocolSubscription;
use crate::wire::{Decode, Encode, Ints, Message, Reader, Str};
use crate::{Error, Result};

/// Some partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicPartitions {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partitions' numbers.
    pub partitions: Vec<i32>,
}

impl TopicPartitions {
    /// These partitions of a topic.
    pub fn new(topic: impl Into<Arc<str>>, partitions: impl IntoIterator<Item = i32>) -> Self {
        Self { topic: topic.into(), partitions: partitions.into_iter().collect() }
    }
}

/// What a member tells the leader of its group: what it wants, and what it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Subscription {
    /// The topics that it wants.
    pub topics: Vec<Arc<str>>,
    /// What its assignor says to the leader's.
    pub user_data: Option<Bytes>,
    /// The partitions that it has and keeps until it is told otherwise; none if it is eager (KIP-429).
    pub owned: Vec<TopicPartitions>,
    /// The generation in which it was given these (KIP-792). Clients before 3.5 do not say it.
    pub generation: Option<i32>,
    /// Where it is (KIP-881). Clients before 3.5 do not say it.
    pub rack: Option<Arc<str>>,
}

impl Subscription {
    /// Wants these topics and has nothing.
    pub fn to<T: Into<Arc<str>>>(topics: impl IntoIterator<Item = T>) -> Self {
        Self { topics: topics.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// As it is sent in `JoinGroup`: in the newest version, sorted by topic and partition.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid): a name is too long for the protocol.
    pub fn to_bytes(&self) -> Result<Bytes> {
        let mut topics: Vec<&Arc<str>> = self.topics.iter().collect();
        topics.sort_by(|a, b| java::compare(a, b));
        let mut owned: Vec<(&str, i32)> = Vec::new();
        for of in &self.owned {
            owned.extend(of.partitions.iter().map(|partition| (&*of.topic, *partition)));
        }
        owned.sort_by(|a, b| java::compare(a.0, b.0).then(a.1.cmp(&b.1)));
        let group = |run: &[(&str, i32)]| subscription::TopicPartition {
            topic: run.first().map_or("", |first| first.0).into(),
            partitions: run.iter().map(|one| one.1).collect(),
            ..Default::default()
        };
        write(&ConsumerProtocolSubscription {
            topics: topics.into_iter().map(|topic| Str::from(&**topic)).collect(),
            user_data: self.user_data.clone(),
            owned_partitions: owned.chunk_by(|a, b| a.0 == b.0).map(group).collect(),
            generation_id: self.generation.unwrap_or(-1),
            rack_id: self.rack.as_deref().map(Str::from),
            ..Default::default()
        })
    }

    /// Reads what a member sent, in any version; what is newer than version 3 is read as that.
    ///
    /// # Errors
    /// [`is_malformed`](Error::is_malformed): it is cut short, has lengths that cannot be, negative partitions or
    /// a negative version.
    pub fn from_bytes(blob: &Bytes) -> Result<Self> {
        let read: ConsumerProtocolSubscription = read(blob)?;
        let owned = read.owned_partitions.iter().map(|of| partitions(&of.topic, &of.partitions));
        Ok(Self {
            owned: owned.collect::<Result<_>>()?,
            topics: read.topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
            user_data: read.user_data,
            generation: Some(read.generation_id).filter(|generation| *generation >= 0),
            rack: read.rack_id.filter(|rack| !rack.is_empty()).map(|rack| Arc::from(rack.as_str())),
        })
    }
}

/// What a member is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Assignment {
    /// The partitions, by topic.
    pub partitions: Vec<TopicPartitions>,
    /// What the leader's assignor says to the member's.
    pub user_data: Option<Bytes>,
}

impl Assignment {
    /// These partitions and no user data.
    pub fn of(partitions: Vec<TopicPartitions>) -> Self {
        Self { partitions, user_data: None }
    }

    /// As it is sent in `SyncGroup`: in the newest version, each topic once, where it first stands.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid): a name is too long for the protocol.
    pub fn to_bytes(&self) -> Result<Bytes> {
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        let mut assigned: Vec<assignment::TopicPartition> = Vec::new();
        for of in self.partitions.iter().filter(|of| !of.partitions.is_empty()) {
            let place = *places.entry(&of.topic).or_insert(assigned.len());
            match assigned.get_mut(place) {
                Some(before) => before.partitions.extend(of.partitions.iter().copied()),
                None => assigned.push(assignment::TopicPartition {
                    topic: (&*of.topic).into(),
                    partitions: of.partitions.iter().copied().collect(),
                    ..Default::default()
                }),
            }
        }
        write(&ConsumerProtocolAssignment {
            assigned_partitions: assigned,
            user_data: self.user_data.clone(),
            ..Default::default()
        })
    }

    /// Reads what a leader sent, in any version; what is newer than version 3 is read as that. No bytes at all are
    /// nothing: what the coordinator gives a member that its leader has left out.
    ///
    /// # Errors
    /// [`is_malformed`](Error::is_malformed): it is cut short, has lengths that cannot be, negative partitions or
    /// a negative version.
    pub fn from_bytes(blob: &Bytes) -> Result<Self> {
        if blob.is_empty() {
            return Ok(Self::default());
        }
        let read: ConsumerProtocolAssignment = read(blob)?;
        let assigned = read.assigned_partitions.iter().map(|of| partitions(&of.topic, &of.partitions));
        Ok(Self { partitions: assigned.collect::<Result<_>>()?, user_data: read.user_data })
    }
}

fn partitions(topic: &Str, partitions: &Ints) -> Result<TopicPartitions> {
    if let Some(negative) = partitions.iter().find(|partition| **partition < 0) {
        return Err(Error::malformed(format!("partition {negative}")));
    }
    Ok(TopicPartitions::new(topic.as_str(), partitions.iter().copied()))
}

/// The newest version, behind its number.
fn write<M: Message + Encode>(message: &M) -> Result<Bytes> {
    let version = *M::VERSIONS.end();
    let mut writer = crate::wire::Writer::default();
    writer.put_array(version.to_be_bytes());
    message.encode(&mut writer, version)?;
    Ok(writer.finish().into_bytes())
}

fn read<M: Message + Decode>(blob: &Bytes) -> Result<M> {
    let mut reader = Reader::new(blob);
    let version = i16::from_be_bytes(reader.array().map_err(|error| error.within(M::NAME))?);
    if version < *M::VERSIONS.start() {
        return Err(Error::malformed(format!("version {version}")).within(M::NAME));
    }
    M::decode(&mut reader, version.min(*M::VERSIONS.end()))
}
