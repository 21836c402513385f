//! What one transaction consists of: the partitions and offsets that it has, and how they are added.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::producer::machine_identity::Identity;
use crate::wire::Str;
use crate::{ErrorCode, Result};

/// How transactions are spoken of with brokers (the feature `transaction.version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Partitions and groups are added before they are written to; `EndTxn` and `TxnOffsetCommit` go up to
    /// version 4.
    V1,
    /// Brokers add what is written to; each end raises the epoch (KIP-890). `EndTxn` from version 5.
    V2,
}

/// What the brokers can do now. Read again before each transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Abilities {
    pub(crate) level: Level,
    /// Whether `InitProducerId` takes the id and epoch that are to be raised: from version 3 (KIP-360).
    pub(crate) bumps: bool,
}

/// Who commits offsets: a consumer group, and its member if one is to be checked (KIP-447).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) id: Str,
    /// -1 where there is no member.
    pub(crate) generation: i32,
    pub(crate) member: Str,
    pub(crate) instance: Option<Str>,
}

/// A position in a consumed partition.
#[allow(clippy::struct_field_names, reason = "Kafka's names")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offset {
    pub(crate) topic: Str,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// -1 if it is not known.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Option<Str>,
}

/// What is to be sent to a coordinator. All but `CommitOffsets`, which goes to that of the group, go to that of
/// the transactional id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// With the identity whose epoch is to be raised, or without for a new start.
    Init {
        identity: Option<Identity>,
    },
    AddPartitions {
        identity: Identity,
        partitions: Vec<(Str, i32)>,
    },
    AddOffsets {
        identity: Identity,
        group: Str,
    },
    CommitOffsets {
        identity: Identity,
        level: Level,
        group: Group,
        offsets: Vec<Offset>,
    },
    End {
        identity: Identity,
        level: Level,
        commit: bool,
    },
}

/// What a coordinator answered; of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Init {
        code: ErrorCode,
        id: i64,
        epoch: i16,
    },
    AddPartitions(Vec<(Str, i32, ErrorCode)>),
    AddOffsets(ErrorCode),
    CommitOffsets(Vec<(Str, i32, ErrorCode)>),
    /// Before version 5 both are -1.
    End {
        code: ErrorCode,
        id: i64,
        epoch: i16,
    },
}

/// A partition is wanted, then asked for, then a member, and stays one until the end (T07).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Membership {
    Wanted,
    Added,
}

/// Offsets that one call gave, until the last of them is committed.
#[derive(Debug)]
pub(super) struct Offsets {
    pub(super) call: u64,
    pub(super) group: Group,
    pub(super) pending: Vec<Offset>,
}

/// One transaction.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) id: u64,
    pub(super) level: Level,
    members: BTreeMap<Str, BTreeMap<i32, Membership>>,
    wanted: usize,
    groups: BTreeSet<Str>,
    pub(super) offsets: VecDeque<Offsets>,
    /// The coordinator may have a transaction of this epoch, which then must be ended.
    pub(super) open: bool,
}

impl Work {
    pub(super) fn new(id: u64, level: Level) -> Self {
        Self {
            id,
            level,
            members: BTreeMap::new(),
            wanted: 0,
            groups: BTreeSet::new(),
            offsets: VecDeque::new(),
            open: false,
        }
    }

    /// Whether batches may be sent to the partition now. If not, it is added before long.
    pub(super) fn want(&mut self, topic: &str, partition: i32) -> bool {
        if let Some(known) = self.members.get(topic).and_then(|partitions| partitions.get(&partition)) {
            return *known == Membership::Added;
        }
        let membership = match self.level {
            Level::V1 => Membership::Wanted,
            Level::V2 => Membership::Added,
        };
        self.members.entry(topic.into()).or_default().insert(partition, membership);
        match self.level {
            Level::V1 => self.wanted += 1,
            // The leader adds it when the batch comes.
            Level::V2 => self.open = true,
        }
        self.level == Level::V2
    }

    /// Whether no partition has become a member.
    pub(super) fn is_first(&self) -> bool {
        !self.members.values().flat_map(BTreeMap::values).any(|member| *member == Membership::Added)
    }

    /// All that waits to be added, in one request (T08).
    fn wanted(&self) -> Vec<(Str, i32)> {
        if self.wanted == 0 {
            return Vec::new();
        }
        let all = self
            .members
            .iter()
            .flat_map(|(topic, all)| all.iter().map(move |(at, member)| (topic, at, member)));
        all.filter(|(_, _, member)| **member == Membership::Wanted)
            .map(|(topic, partition, _)| (topic.clone(), *partition))
            .collect()
    }

    pub(super) fn added(&mut self, topic: &str, partition: i32) {
        let member = self.members.get_mut(topic).and_then(|partitions| partitions.get_mut(&partition));
        if let Some(member) = member.filter(|member| **member == Membership::Wanted) {
            *member = Membership::Added;
            self.wanted -= 1;
            self.open = true;
        }
    }

    /// What is to be added next, in Java's order.
    pub(super) fn next_request(&self, identity: Identity) -> Option<Request> {
        let partitions = self.wanted();
        if partitions.is_empty() {
            return self.offsets_request(identity);
        }
        Some(Request::AddPartitions { identity, partitions })
    }

    /// Whether all that was wanted is added and committed.
    pub(super) fn is_complete(&self) -> bool {
        self.wanted == 0 && self.offsets.is_empty()
    }

    fn offsets_request(&self, identity: Identity) -> Option<Request> {
        let Offsets { group, pending, .. } = self.offsets.front()?;
        if self.level == Level::V1 && !self.groups.contains(&group.id) {
            return Some(Request::AddOffsets { identity, group: group.id.clone() });
        }
        Some(Request::CommitOffsets {
            identity,
            level: self.level,
            group: group.clone(),
            offsets: pending.clone(),
        })
    }

    /// The group belongs to the transaction.
    pub(super) fn group_added(&mut self, group: Str) {
        self.groups.insert(group);
        self.open = true;
    }

    /// An offset of those in front is committed.
    pub(super) fn offset_done(&mut self, topic: &str, partition: i32) {
        if let Some(offsets) = self.offsets.front_mut() {
            offsets.pending.retain(|offset| offset.topic != *topic || offset.partition != partition);
        }
    }

    /// The call whose offsets are all committed, if there is one in front.
    pub(super) fn offsets_done(&mut self) -> Option<u64> {
        let call = self.offsets.front().filter(|offsets| offsets.pending.is_empty())?.call;
        self.offsets.pop_front();
        Some(call)
    }
}

/// What went wrong, of an answer that lists several things: the gravest verdict, and its code.
pub(super) fn gravest<V: Ord + Copy>(
    answered: &[(Str, i32, ErrorCode)],
    verdict: impl Fn(ErrorCode) -> V,
) -> Option<(V, ErrorCode)> {
    answered.iter().map(|(_, _, code)| (verdict(*code), *code)).max_by_key(|(verdict, _)| *verdict)
}

/// Whether all that was asked is answered, and each thing once.
pub(super) fn answers_all(asked: &[(Str, i32)], answered: &[(Str, i32, ErrorCode)]) -> Result<()> {
    let given: BTreeSet<(&str, i32)> = answered.iter().map(|(topic, at, _)| (topic.as_str(), *at)).collect();
    match asked.iter().find(|(topic, partition)| !given.contains(&(topic.as_str(), *partition))) {
        None => Ok(()),
        Some((topic, partition)) => {
            Err(crate::Error::malformed(format!("no answer about {topic} partition {partition}")))
        }
    }
}
