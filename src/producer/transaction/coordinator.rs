//! The machine's requests: to which coordinator they go, in which versions, and what the answers say. Each is
//! made once; whatever becomes of it, the machine hears of it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use super::machine::Ask;
use super::machine_work::{Abilities, Answer, Group, Level, Offset, Request};
use crate::cluster::{Options, Routed};
use crate::conn::{Target, Versions};
use crate::messages::add_offsets_to_txn::AddOffsetsToTxnRequest;
use crate::messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTopic};
use crate::messages::end_txn::EndTxnRequest;
use crate::messages::init_producer_id::InitProducerIdRequest;
use crate::messages::txn_offset_commit::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use crate::net::clock;
use crate::observe::Lookup;
use crate::producer::config::Transactional;
use crate::producer::machine_identity::{Identity, passes};
use crate::producer::shared::Shared;
use crate::wire::{ApiKey, Str};
use crate::{Error, ErrorCode, Result};

/// From these versions on an API speaks of transactions in the second way (KIP-890).
const PRODUCE_V2: i16 = 12;
const END_V2: i16 = 5;
const COMMIT_V2: i16 = 5;
/// `AddPartitionsToTxn` up to here is for clients; what is above is for brokers.
const ADD_MAX: i16 = 3;
/// `InitProducerId` takes the identity to be raised from here on (KIP-360).
const BUMPS: i16 = 3;

/// Whose coordinator was asked, and which broker that was.
pub(super) type Asked = (Lookup, Str, i32);

/// The versions of Produce for records of a transaction.
pub(super) fn produce_versions(level: Level) -> RangeInclusive<i16> {
    match level {
        Level::V1 => 0..=PRODUCE_V2 - 1,
        Level::V2 => PRODUCE_V2..=i16::MAX,
    }
}

/// What brokers can do, as one of them says. The second way needs all that it consists of (T16).
fn abilities_of(versions: &Versions) -> Abilities {
    let has = |api, least| versions.usable(api).is_ok_and(|usable| *usable.end() >= least);
    let new = versions.feature("transaction.version") >= 2
        && has(ApiKey::PRODUCE, PRODUCE_V2)
        && has(ApiKey::END_TXN, END_V2)
        && has(ApiKey::TXN_OFFSET_COMMIT, COMMIT_V2);
    let level = if new { Level::V2 } else { Level::V1 };
    Abilities { level, bumps: has(ApiKey::INIT_PRODUCER_ID, BUMPS) }
}

impl Shared {
    /// What brokers can do now, as the coordinator says. Safe to drop.
    ///
    /// # Errors
    /// Why there is no coordinator to be had until the deadline.
    pub(super) async fn abilities(&self, id: &Str, deadline: Instant) -> Result<Abilities> {
        loop {
            let broker = self.cluster.coordinator(Lookup::Transaction, id, deadline).await?;
            let connected = tokio::time::timeout_at(deadline.into(), self.cluster.connection(broker)).await;
            let error = match connected {
                Ok(Ok(connection)) => match connection.versions() {
                    Ok(versions) => return Ok(abilities_of(versions)),
                    Err(error) => error,
                },
                Ok(Err(error)) => error,
                Err(_) => Error::timeout("no connection to the coordinator of the transactional id"),
            };
            let next = clock::now() + self.settings.backoff.first;
            if !passes(&error) || next >= deadline {
                return Err(error);
            }
            self.cluster.lost_coordinator(Lookup::Transaction, id, broker);
            self.cluster.stale();
            clock::sleep_until(next).await;
        }
    }

    /// Makes a request of the machine. The error tells whether it may have arrived.
    pub(super) async fn call_coordinator(
        self: &Arc<Self>,
        settings: &Transactional,
        ask: Ask,
    ) -> Result<Answer> {
        let Ask { ticket, request, find_again } = ask;
        let deadline = clock::now() + self.settings.request_timeout;
        let (lookup, key) = match &request {
            Request::CommitOffsets { group, .. } => (Lookup::Group, group.id.clone()),
            _ => (Lookup::Transaction, settings.id.clone()),
        };
        let asked = self.lock().transactions.as_mut().and_then(|all| all.asked.take());
        if let Some((lookup, key, broker)) = asked.filter(|_| find_again) {
            self.cluster.lost_coordinator(lookup, &key, broker);
        }
        let broker = match self.cluster.coordinator(lookup, &key, deadline).await {
            Ok(broker) => broker,
            Err(error) => return error.code().map(|code| refusal(&request, code)).ok_or(error),
        };
        if let Some(all) = &mut self.lock().transactions {
            all.asked = Some((lookup, key, broker));
            all.machine.handle_sent(ticket, broker);
        }
        let call = Call { shared: self, settings, broker, deadline };
        match request {
            Request::Init { identity } => call.init(identity).await,
            Request::AddPartitions { identity, partitions } => {
                call.add_partitions(identity, &partitions).await
            }
            Request::AddOffsets { identity, group } => call.add_offsets(identity, group).await,
            Request::CommitOffsets { identity, level, group, offsets } => {
                call.commit_offsets(identity, level, group, &offsets).await
            }
            Request::End { identity, level, commit } => call.end(identity, level, commit).await,
        }
    }
}

/// A request about to be made.
struct Call<'a> {
    shared: &'a Shared,
    settings: &'a Transactional,
    broker: i32,
    deadline: Instant,
}

impl Call<'_> {
    async fn request<R: Routed>(
        &self,
        request: R,
        versions: Option<RangeInclusive<i16>>,
    ) -> Result<R::Response> {
        let options = Options {
            target: Some(Target::Broker(self.broker)),
            deadline: Some(self.deadline),
            versions,
            once: true,
            ..Options::default()
        };
        self.shared.cluster.request(request, &options).await
    }

    fn id(&self) -> Str {
        self.settings.id.clone()
    }

    async fn init(&self, raised: Option<Identity>) -> Result<Answer> {
        let fresh = InitProducerIdRequest {
            transactional_id: Some(self.id()),
            transaction_timeout_ms: self.settings.timeout_ms(),
            ..InitProducerIdRequest::default()
        };
        let request = match raised {
            Some(Identity { id, epoch }) => {
                InitProducerIdRequest { producer_id: id, producer_epoch: epoch, ..fresh }
            }
            None => fresh,
        };
        let said = self.request(request, None).await?;
        Ok(Answer::Init {
            code: ErrorCode(said.error_code),
            id: said.producer_id,
            epoch: said.producer_epoch,
        })
    }

    async fn add_partitions(&self, identity: Identity, partitions: &[(Str, i32)]) -> Result<Answer> {
        let topics = by_topic(partitions.iter().map(|(topic, partition)| (topic, *partition)));
        let topic = |(name, partitions): (Str, Vec<i32>)| AddPartitionsToTxnTopic {
            name,
            partitions: partitions.into(),
            ..AddPartitionsToTxnTopic::default()
        };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id(),
            v3_and_below_producer_id: identity.id,
            v3_and_below_producer_epoch: identity.epoch,
            v3_and_below_topics: topics.into_iter().map(topic).collect(),
            ..AddPartitionsToTxnRequest::default()
        };
        let said = self.request(request, Some(0..=ADD_MAX)).await?;
        let results = said.results_by_topic_v3_and_below.iter().flat_map(|topic| {
            let all = topic.results_by_partition.iter();
            all.map(|one| (topic.name.clone(), one.partition_index, ErrorCode(one.partition_error_code)))
        });
        Ok(Answer::AddPartitions(results.collect()))
    }

    async fn add_offsets(&self, identity: Identity, group: Str) -> Result<Answer> {
        let request = AddOffsetsToTxnRequest {
            transactional_id: self.id(),
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            group_id: group,
            ..AddOffsetsToTxnRequest::default()
        };
        let said = self.request(request, None).await?;
        Ok(Answer::AddOffsets(ErrorCode(said.error_code)))
    }

    async fn commit_offsets(
        &self,
        identity: Identity,
        level: Level,
        group: Group,
        offsets: &[Offset],
    ) -> Result<Answer> {
        let topics = by_topic(offsets.iter().map(|offset| (&offset.topic, offset)));
        let partition = |offset: &Offset| TxnOffsetCommitRequestPartition {
            partition_index: offset.partition,
            committed_offset: offset.offset,
            committed_leader_epoch: offset.leader_epoch,
            committed_metadata: offset.metadata.clone(),
            ..TxnOffsetCommitRequestPartition::default()
        };
        let topic = |(name, offsets): (Str, Vec<&Offset>)| TxnOffsetCommitRequestTopic {
            name,
            partitions: offsets.into_iter().map(partition).collect(),
            ..TxnOffsetCommitRequestTopic::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: self.id(),
            group_id: group.id,
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            generation_id_or_member_epoch: group.generation,
            member_id: group.member,
            group_instance_id: group.instance,
            topics: topics.into_iter().map(topic).collect(),
            ..TxnOffsetCommitRequest::default()
        };
        // What is above names topics by their ids.
        let versions = if level == Level::V2 { COMMIT_V2..=COMMIT_V2 } else { 0..=COMMIT_V2 - 1 };
        let said = self.request(request, Some(versions)).await?;
        let results = said.topics.iter().flat_map(|topic| {
            let all = topic.partitions.iter();
            all.map(|one| (topic.name.clone(), one.partition_index, ErrorCode(one.error_code)))
        });
        Ok(Answer::CommitOffsets(results.collect()))
    }

    async fn end(&self, identity: Identity, level: Level, commit: bool) -> Result<Answer> {
        let request = EndTxnRequest {
            transactional_id: self.id(),
            producer_id: identity.id,
            producer_epoch: identity.epoch,
            committed: commit,
            ..EndTxnRequest::default()
        };
        let versions = if level == Level::V2 { END_V2..=END_V2 } else { 0..=END_V2 - 1 };
        let said = self.request(request, Some(versions)).await?;
        Ok(Answer::End { code: ErrorCode(said.error_code), id: said.producer_id, epoch: said.producer_epoch })
    }
}

/// The answer of a cluster that refuses to say who coordinates.
fn refusal(request: &Request, code: ErrorCode) -> Answer {
    match request {
        Request::Init { .. } => Answer::Init { code, id: -1, epoch: -1 },
        Request::AddPartitions { partitions, .. } => {
            Answer::AddPartitions(partitions.iter().map(|(topic, at)| (topic.clone(), *at, code)).collect())
        }
        Request::AddOffsets { .. } => Answer::AddOffsets(code),
        Request::CommitOffsets { offsets, .. } => {
            Answer::CommitOffsets(offsets.iter().map(|o| (o.topic.clone(), o.partition, code)).collect())
        }
        Request::End { .. } => Answer::End { code, id: -1, epoch: -1 },
    }
}

fn by_topic<'a, T>(all: impl Iterator<Item = (&'a Str, T)>) -> BTreeMap<Str, Vec<T>> {
    let mut topics: BTreeMap<Str, Vec<T>> = BTreeMap::new();
    for (topic, one) in all {
        topics.entry(topic.clone()).or_default().push(one);
    }
    topics
}
