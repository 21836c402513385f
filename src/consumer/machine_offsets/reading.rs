//! Requests about offsets as they are written, and answers as they are read and checked against what was asked.

use std::collections::{BTreeMap, BTreeSet};

use super::CommitOffset;
use crate::consumer::TopicPartition;
use crate::consumer::group::Membership;
use crate::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use crate::wire::{Ints, Str};
use crate::{Error, ErrorCode, Result};

/// A request to the group's coordinator. Topics go by their names.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Commit(OffsetCommitRequest),
    Fetch(OffsetFetchRequest),
}

#[derive(Debug, Clone)]
pub(crate) enum Response {
    Commit(OffsetCommitResponse),
    Fetch(OffsetFetchResponse),
}

/// What is said of each partition that was asked for.
pub(super) type Said = BTreeMap<TopicPartition, Result<Option<CommitOffset>>>;

pub(super) fn commit(by: &Membership, offsets: &BTreeMap<TopicPartition, CommitOffset>) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&Str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for (at, offset) in offsets {
        topics.entry(at.name()).or_default().push(OffsetCommitRequestPartition {
            partition_index: at.partition(),
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            committed_metadata: Some(offset.metadata.clone()),
            ..OffsetCommitRequestPartition::default()
        });
    }
    let topics = topics.into_iter().map(|(name, partitions)| OffsetCommitRequestTopic {
        name: name.clone(),
        partitions,
        ..OffsetCommitRequestTopic::default()
    });
    OffsetCommitRequest {
        group_id: by.group.clone(),
        generation_id_or_member_epoch: by.generation,
        member_id: by.member.clone(),
        group_instance_id: by.instance.clone(),
        topics: topics.collect(),
        ..OffsetCommitRequest::default()
    }
}

/// The code of each partition; the first, where one comes twice.
pub(super) fn committed(response: OffsetCommitResponse) -> BTreeMap<TopicPartition, ErrorCode> {
    let mut codes = BTreeMap::new();
    for topic in response.topics {
        for one in topic.partitions {
            let at = TopicPartition::of(&topic.name, one.partition_index);
            codes.entry(at).or_insert(ErrorCode(one.error_code));
        }
    }
    codes
}

/// Offsets of transactions that are not over yet are waited for (KIP-447): what is told otherwise may be too old.
pub(super) fn fetch(by: &Membership, partitions: &BTreeSet<TopicPartition>) -> OffsetFetchRequest {
    let mut topics: BTreeMap<&Str, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        topics.entry(at.name()).or_default().push(at.partition());
    }
    let topics = topics.into_iter().map(|(name, indexes)| OffsetFetchRequestTopics {
        name: name.clone(),
        partition_indexes: indexes.into_iter().collect::<Ints>(),
        ..OffsetFetchRequestTopics::default()
    });
    let group = OffsetFetchRequestGroup {
        group_id: by.group.clone(),
        member_id: (!by.member.is_empty()).then(|| by.member.clone()),
        member_epoch: by.generation,
        topics: Some(topics.collect()),
        ..OffsetFetchRequestGroup::default()
    };
    OffsetFetchRequest { groups: vec![group], require_stable: true, ..OffsetFetchRequest::default() }
}

/// Reads what was committed. What was not asked for is passed over; what is missing, comes twice or cannot be right is
/// an error, and no reason to begin elsewhere (G12).
pub(super) fn fetched(response: OffsetFetchResponse, asked: &BTreeSet<TopicPartition>) -> Result<Said> {
    let mut said = Said::new();
    let mut add = |name: &Str, index: i32, code: i16, offset: i64, epoch: i32, metadata: Option<Str>| {
        let at = TopicPartition::of(name, index);
        if !asked.contains(&at) {
            return;
        }
        let one = match ErrorCode(code) {
            ErrorCode::NONE if offset == -1 => Ok(None),
            ErrorCode::NONE if offset < 0 => Err(Error::malformed(format!("{at} is committed at {offset}"))),
            ErrorCode::NONE => Ok(Some(CommitOffset {
                offset,
                leader_epoch: epoch,
                metadata: metadata.unwrap_or_default(),
            })),
            code => Err(Error::broker_said(code, format!("the committed offset of {at}"))),
        };
        if let Some(before) = said.get(&at)
            && before.as_ref().ok() != one.as_ref().ok()
        {
            said.insert(at, Err(Error::malformed("a committed offset comes twice and differs")));
            return;
        }
        said.insert(at, one);
    };
    let top = response.groups.first().map_or(response.error_code, |group| group.error_code);
    if !ErrorCode(top).is_none() {
        return Err(Error::broker_said(ErrorCode(top), "the group's offsets"));
    }
    for topic in response.topics {
        for one in topic.partitions {
            let (offset, epoch) = (one.committed_offset, one.committed_leader_epoch);
            add(&topic.name, one.partition_index, one.error_code, offset, epoch, one.metadata);
        }
    }
    for topic in response.groups.into_iter().flat_map(|group| group.topics) {
        for one in topic.partitions {
            let (offset, epoch) = (one.committed_offset, one.committed_leader_epoch);
            add(&topic.name, one.partition_index, one.error_code, offset, epoch, one.metadata);
        }
    }
    for at in asked {
        let missing = || Err(Error::malformed(format!("the answer says nothing of {at}")));
        said.entry(at.clone()).or_insert_with(missing);
    }
    Ok(said)
}
