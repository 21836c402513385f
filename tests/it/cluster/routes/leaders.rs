//! What goes to the leaders of partitions.

use weir::Client;
use weir::protocol::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use weir::protocol::describe_producers::{DescribeProducersRequest, TopicRequest};
use weir::protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use weir::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use weir::protocol::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use weir::protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use weir::protocol::write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest};

use super::super::batch;
use super::control::metadata;
use super::tour::{Ground, Tour};

/// Some partitions of each broker.
const ALL: [i32; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

pub(super) async fn ask(tour: &mut Tour<'_>) {
    tour.ask(produce(tour), &[]).await;
    tour.ask(fetch(tour), &[]).await;
    tour.ask(list_offsets(&ALL), &[]).await;

    let partition = |partition| OffsetForLeaderPartition { partition, leader_epoch: 0, ..Default::default() };
    let topic = OffsetForLeaderTopic {
        topic: Ground::TOPIC.into(),
        partitions: ALL.map(partition).to_vec(),
        ..Default::default()
    };
    tour.ask(OffsetForLeaderEpochRequest { replica_id: -1, topics: vec![topic], ..Default::default() }, &[])
        .await;

    let partition =
        |partition_index| DeleteRecordsPartition { partition_index, offset: 0, ..Default::default() };
    let topic = DeleteRecordsTopic {
        name: Ground::TOPIC.into(),
        partitions: ALL.map(partition).to_vec(),
        ..Default::default()
    };
    tour.ask(DeleteRecordsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() }, &[])
        .await;

    let topic =
        TopicRequest { name: Ground::TOPIC.into(), partition_indexes: ALL.into(), ..Default::default() };
    tour.ask(DescribeProducersRequest { topics: vec![topic], ..Default::default() }, &[]).await;

    // The end of a transaction that nobody began: it ends nothing.
    let topic = WritableTxnMarkerTopic {
        name: Ground::TOPIC.into(),
        partition_indexes: ALL.into(),
        ..Default::default()
    };
    let marker = WritableTxnMarker { producer_id: 4_000_000, topics: vec![topic], ..Default::default() };
    tour.ask(WriteTxnMarkersRequest { markers: vec![marker], ..Default::default() }, &[]).await;
}

fn produce(tour: &Tour<'_>) -> ProduceRequest {
    let partition = |index| PartitionProduceData {
        index,
        records: Some(batch(&["routed".into()])),
        ..Default::default()
    };
    let topic = TopicProduceData {
        name: Ground::TOPIC.into(),
        topic_id: tour.ground.topic_id,
        partition_data: ALL.map(partition).to_vec(),
        ..Default::default()
    };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

fn fetch(tour: &Tour<'_>) -> FetchRequest {
    let partition =
        |partition| FetchPartition { partition, partition_max_bytes: 1 << 16, ..Default::default() };
    let topic = FetchTopic {
        topic: Ground::TOPIC.into(),
        topic_id: tour.ground.topic_id,
        partitions: ALL.map(partition).to_vec(),
        ..Default::default()
    };
    FetchRequest { max_wait_ms: 500, min_bytes: 1, topics: vec![topic], ..Default::default() }
}

/// The end of each of these partitions.
pub(super) fn list_offsets(partitions: &[i32]) -> ListOffsetsRequest {
    let partition =
        |index: &i32| ListOffsetsPartition { partition_index: *index, timestamp: -1, ..Default::default() };
    let topic = ListOffsetsTopic {
        name: Ground::TOPIC.into(),
        partitions: partitions.iter().map(partition).collect(),
        ..Default::default()
    };
    ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() }
}

/// Who leads a partition, as a broker says.
pub(super) async fn leader_of(kafka: &Client, partition: i32) -> i32 {
    let answer = kafka.request(metadata(Some(vec![Ground::TOPIC]))).await.unwrap();
    let found = answer.topics[0].partitions.iter().find(|found| found.partition_index == partition);
    found.unwrap().leader_id
}
