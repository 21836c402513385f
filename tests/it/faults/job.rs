//! The requests of the stream: each job is one kind of call to one place, made again and again.

use weir::protocol::describe_cluster::DescribeClusterRequest;
use weir::protocol::find_coordinator::FindCoordinatorRequest;
use weir::protocol::init_producer_id::InitProducerIdRequest;
use weir::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use weir::protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use weir::protocol::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir::protocol::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use weir::protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use weir::records::{BatchBuilder, NewRecord, Stamp};
use weir::{Client, ErrorCode, Result};

use super::check::Fate;
use super::record::End;

pub(super) const TOPIC: &str = "faults";
pub(super) const PARTITIONS: i32 = 12;
const GROUPS: i32 = 8;
const TRANSACTIONS: i32 = 4;

/// Less than the request timeout, so that a leader that waits for its followers says so itself.
const PRODUCE_MS: i32 = 1500;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Job {
    /// One record to that partition, with acks=all, never repeated if it may have happened.
    Produce(i32),
    /// The ends of all partitions, from all leaders.
    ListOffsets,
    /// An offset of that group, committed and read back.
    Offsets(i32),
    /// The coordinators of all groups.
    FindCoordinator,
    /// A producer id from any broker.
    ProducerId,
    /// The next epoch of that transactional id, from its coordinator.
    Transaction(i32),
    Metadata,
    DescribeCluster,
}

impl Job {
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::ListOffsets,
            Self::FindCoordinator,
            Self::ProducerId,
            Self::Metadata,
            Self::DescribeCluster,
        ];
        all.extend((0..PARTITIONS).map(Self::Produce));
        all.extend((0..GROUPS).map(Self::Offsets));
        all.extend((0..TRANSACTIONS).map(Self::Transaction));
        all
    }

    pub(super) fn name(self) -> String {
        match self {
            Self::Produce(partition) => format!("produce {partition}"),
            Self::Offsets(group) => format!("offsets {}", group_name(group)),
            Self::Transaction(id) => format!("transaction {id}"),
            other => format!("{other:?}"),
        }
    }

    /// One call of those that only have to be answered.
    pub(super) async fn ask(self, client: &Client) -> End {
        let code = match self {
            Self::ListOffsets => client.request(list_offsets(-1)).await.map(|answer| {
                let all = answer.topics.iter().flat_map(|topic| &topic.partitions);
                first_error(all.map(|partition| partition.error_code))
            }),
            Self::FindCoordinator => find_coordinators(client).await,
            Self::ProducerId => client.request(producer_id(None)).await.map(|a| ErrorCode(a.error_code)),
            Self::Transaction(id) => {
                let request = producer_id(Some(&format!("transaction-{id}")));
                client.request(request).await.map(|a| ErrorCode(a.error_code))
            }
            Self::Metadata => client
                .request(metadata(TOPIC))
                .await
                .map(|answer| first_error(answer.topics.iter().map(|topic| topic.error_code))),
            Self::DescribeCluster => {
                let answer = client.request(DescribeClusterRequest::default()).await;
                answer.map(|answer| ErrorCode(answer.error_code))
            }
            Self::Produce(_) | Self::Offsets(_) => unreachable!("they have calls of their own"),
        };
        end(code)
    }
}

pub(super) fn group_name(group: i32) -> String {
    format!("group-{group}")
}

pub(super) fn end(code: Result<ErrorCode>) -> End {
    match code {
        Ok(ErrorCode::NONE) => End::Good,
        Ok(code) => End::Refused(code),
        Err(error) => End::Failed(error),
    }
}

pub(super) fn first_error(codes: impl IntoIterator<Item = i16>) -> ErrorCode {
    ErrorCode(codes.into_iter().find(|code| *code != 0).unwrap_or_default())
}

/// Sends one record. An answer with an error and an offset means that the leader wrote it before it failed.
pub(super) async fn produce(client: &Client, partition: i32, value: &str) -> (End, Fate) {
    let mut builder = BatchBuilder::new();
    builder.append(&NewRecord::new(0).value(value.as_bytes())).unwrap();
    let records = Some(builder.seal(&Stamp::default(), None).unwrap());
    let data = PartitionProduceData { index: partition, records, ..Default::default() };
    let topic = TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
    let request =
        ProduceRequest { acks: -1, timeout_ms: PRODUCE_MS, topic_data: vec![topic], ..Default::default() };
    match client.request(request).await {
        Err(error) => {
            let fate = if error.may_have_happened() { Fate::Maybe } else { Fate::Not };
            (End::Failed(error), fate)
        }
        Ok(answer) => {
            let said = &answer.responses[0].partition_responses[0];
            let code = ErrorCode(said.error_code);
            let fate = match code {
                ErrorCode::NONE => Fate::Acked((partition, said.base_offset)),
                _ if said.base_offset >= 0 => Fate::Maybe,
                _ => Fate::Not,
            };
            (end(Ok(code)), fate)
        }
    }
}

/// Commits an offset without being a member.
pub(super) async fn commit(client: &Client, group: &str, offset: i64) -> End {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic =
        OffsetCommitRequestTopic { name: TOPIC.into(), partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest { group_id: group.into(), topics: vec![topic], ..Default::default() };
    end(client.request(request).await.map(|answer| {
        first_error(answer.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.error_code))
    }))
}

/// The offset that is committed.
pub(super) async fn committed(client: &Client, group: &str) -> Result<i64, End> {
    let topic =
        OffsetFetchRequestTopics { name: TOPIC.into(), partition_indexes: [0].into(), ..Default::default() };
    let asked =
        OffsetFetchRequestGroup { group_id: group.into(), topics: Some(vec![topic]), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![asked], ..Default::default() };
    let answer = client.request(request).await.map_err(End::Failed)?;
    let said = &answer.groups[0];
    let partitions: Vec<_> = said.topics.iter().flat_map(|topic| &topic.partitions).collect();
    match first_error(std::iter::once(said.error_code).chain(partitions.iter().map(|p| p.error_code))) {
        ErrorCode::NONE => Ok(partitions[0].committed_offset),
        code => Err(End::Refused(code)),
    }
}

async fn find_coordinators(client: &Client) -> Result<ErrorCode> {
    let coordinator_keys = (0..GROUPS).map(|group| group_name(group).into()).collect();
    let answer = client.request(FindCoordinatorRequest { coordinator_keys, ..Default::default() }).await?;
    Ok(first_error(answer.coordinators.iter().map(|coordinator| coordinator.error_code)))
}

fn producer_id(transactional_id: Option<&str>) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: transactional_id.map(Into::into),
        transaction_timeout_ms: 10_000,
        ..Default::default()
    }
}

pub(super) fn metadata(topic: &str) -> MetadataRequest {
    let topic = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
    MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..Default::default() }
}

/// Offsets of all partitions: -1 for their ends.
pub(super) fn list_offsets(timestamp: i64) -> ListOffsetsRequest {
    let partition =
        |partition_index| ListOffsetsPartition { partition_index, timestamp, ..Default::default() };
    let partitions = (0..PARTITIONS).map(partition).collect();
    let topic = ListOffsetsTopic { name: TOPIC.into(), partitions, ..Default::default() };
    ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() }
}
