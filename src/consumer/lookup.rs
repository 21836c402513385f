//! What offsets there are: ends, beginnings, and where times are.

use std::collections::{BTreeMap, BTreeSet};

use super::{Consumer, TopicPartition};
use crate::cluster::Options;
use crate::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::wire::Str;
use crate::{Error, ErrorCode, Result};

/// A place in a partition that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetAndTimestamp {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

impl OffsetAndTimestamp {
    /// The offset.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The timestamp of the record there in milliseconds since 1970; -1 where no record is meant.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The epoch of the leader that wrote the record there; -1 if it is not known.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }
}

/// Kafka's numbers for what is no time.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;

impl Consumer {
    /// The first offset of each partition that can be read. They need not be assigned.
    ///
    /// Safe to drop.
    ///
    /// # Errors
    /// What concerns any of the partitions; the time that is over.
    pub async fn beginning_offsets<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.ends(partitions, EARLIEST).await
    }

    /// The offset behind the last record of each partition that can be read: with
    /// [`Isolation::ReadCommitted`](super::Isolation::ReadCommitted) the last stable offset, else the high watermark. They
    /// need not be assigned.
    ///
    /// Safe to drop.
    ///
    /// # Errors
    /// As [`beginning_offsets`](Self::beginning_offsets).
    pub async fn end_offsets<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        self.ends(partitions, LATEST).await
    }

    /// The first record of each partition whose timestamp is the one given with it, in milliseconds since 1970, or later.
    /// Partitions that have none are left out.
    ///
    /// Safe to drop.
    ///
    /// # Errors
    /// As [`beginning_offsets`](Self::beginning_offsets); [invalid](Error::is_invalid): a negative time.
    pub async fn offsets_for_times<T: Into<TopicPartition>>(
        &self,
        times: impl IntoIterator<Item = (T, i64)>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndTimestamp>> {
        let times: BTreeMap<TopicPartition, i64> =
            times.into_iter().map(|(at, time)| (at.into(), time)).collect();
        if let Some((at, time)) = times.iter().find(|(_, time)| **time < 0) {
            return Err(Error::invalid(format!("timestamp {time} for {at}")));
        }
        self.list(times).await
    }

    /// The record of each partition with the largest timestamp (KIP-734). Partitions without records are left out.
    ///
    /// Safe to drop.
    ///
    /// # Errors
    /// As [`beginning_offsets`](Self::beginning_offsets); [unsupported](Error::is_unsupported) by brokers before 3.0.
    pub async fn max_timestamp_offsets<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndTimestamp>> {
        self.list(partitions.into_iter().map(|at| (at.into(), MAX_TIMESTAMP)).collect()).await
    }

    async fn ends<T: Into<TopicPartition>>(
        &self,
        partitions: impl IntoIterator<Item = T>,
        which: i64,
    ) -> Result<BTreeMap<TopicPartition, i64>> {
        let found = self.list(partitions.into_iter().map(|at| (at.into(), which)).collect()).await?;
        Ok(found.into_iter().map(|(at, place)| (at, place.offset)).collect())
    }

    async fn list(
        &self,
        asked: BTreeMap<TopicPartition, i64>,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndTimestamp>> {
        self.shared.check_open()?;
        if asked.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut topics: BTreeMap<Str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (at, timestamp) in &asked {
            topics.entry(at.name().clone()).or_default().push(ListOffsetsPartition {
                partition_index: at.partition(),
                timestamp: *timestamp,
                ..ListOffsetsPartition::default()
            });
        }
        let topics = topics.into_iter();
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.shared.settings.isolation.code(),
            topics: topics
                .map(|(name, partitions)| ListOffsetsTopic {
                    name,
                    partitions,
                    ..ListOffsetsTopic::default()
                })
                .collect(),
            ..ListOffsetsRequest::default()
        };
        let answer = self.shared.cluster.request(request, &Options::default()).await?;
        let mut found = BTreeMap::new();
        let mut told = BTreeSet::new();
        for topic in answer.topics {
            for one in topic.partitions {
                let at = TopicPartition::of(&topic.name, one.partition_index);
                let code = ErrorCode(one.error_code);
                if !code.is_none() {
                    return Err(Error::broker_said(code, format!("the offsets of {at}")));
                }
                let offset = one.old_style_offsets.first().copied().unwrap_or(one.offset);
                // What was not asked, or comes twice, counts for nothing.
                if asked.contains_key(&at) && told.insert(at.clone()) && offset >= 0 {
                    let (timestamp, leader_epoch) = (one.timestamp, one.leader_epoch);
                    found.insert(at, OffsetAndTimestamp { offset, timestamp, leader_epoch });
                }
            }
        }
        match asked.keys().find(|at| !told.contains(*at)) {
            Some(at) => Err(Error::malformed(format!("the answer says nothing of {at}"))),
            None => Ok(found),
        }
    }
}
