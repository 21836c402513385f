//! kafka-protocol 0.18: the messages built with it, and the work done with it.
//!
//! The frames that everyone reads come from here, so that weir is never measured on bytes of its
//! own making.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::{ApiVersion, ApiVersionsResponse};
use kafka_protocol::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::metadata_response::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use kafka_protocol::records::{
    Compression, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, Record,
    RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions, RecordSet, TimestampType,
};
use uuid::Uuid;

use crate::data::{BASE_TIMESTAMP, BATCHES};
use crate::floor::Seen;

/// Versions that the messages are written in.
pub const METADATA: i16 = 12;
pub const FETCH: i16 = 16;
pub const API_VERSIONS: i16 = 4;
pub const PRODUCE: i16 = 9;

const OPTIONS: RecordEncodeOptions = RecordEncodeOptions { version: 2, compression: Compression::None };

/// A cluster of three brokers with 100 topics of 10 partitions.
pub fn metadata() -> MetadataResponse {
    let nodes = || (1..=3).map(BrokerId).collect::<Vec<_>>();
    let partition = |i| {
        MetadataResponsePartition::default()
            .with_partition_index(i)
            .with_leader_id(BrokerId(i % 3 + 1))
            .with_leader_epoch(7)
            .with_replica_nodes(nodes())
            .with_isr_nodes(nodes())
    };
    let topic = |i| {
        MetadataResponseTopic::default()
            .with_name(Some(TopicName(string(format!("orders.eu-west.service-{i:03}")))))
            .with_topic_id(Uuid::from_u64_pair(0x5eed, i))
            .with_partitions((0..10).map(partition).collect())
    };
    let broker = |i| {
        MetadataResponseBroker::default()
            .with_node_id(BrokerId(i))
            .with_host(string(format!("broker-{i}.kafka.internal")))
            .with_port(9092)
            .with_rack(Some(string(format!("rack-{i}"))))
    };
    MetadataResponse::default()
        .with_brokers((1..=3).map(broker).collect())
        .with_cluster_id(Some(string("5L6g3nShT-eMCtK--X86sw".into())))
        .with_controller_id(BrokerId(1))
        .with_topics((0..100).map(topic).collect())
}

/// What a broker announces: 70 APIs.
pub fn api_versions() -> ApiVersionsResponse {
    let api = |key| ApiVersion::default().with_api_key(key).with_min_version(0).with_max_version(key % 18);
    ApiVersionsResponse::default().with_api_keys((0..70).map(api).collect())
}

/// A produce request for ten partitions of one topic, with `batch` for each.
pub fn produce(batch: &Bytes) -> ProduceRequest {
    let partition = |i| PartitionProduceData::default().with_index(i).with_records(Some(batch.clone()));
    let topic = TopicProduceData::default()
        .with_name(TopicName(StrBytes::from_static_str("orders")))
        .with_partition_data((0..10).map(partition).collect());
    ProduceRequest::default().with_acks(-1).with_timeout_ms(30_000).with_topic_data(vec![topic])
}

fn string(text: String) -> StrBytes {
    StrBytes::from_string(text)
}

/// The batch of `values`, a millisecond apart, from offset zero.
pub fn batch(values: &[Bytes]) -> Bytes {
    let mut out = BytesMut::new();
    encode_batch(&mut out, &records(values));
    out.freeze()
}

/// A fetch response body: ten partitions of one topic, each with the batch of `values`.
pub fn fetch_frame(values: &[Bytes]) -> Bytes {
    let batch = batch(values);
    let partition = |i| {
        PartitionData::default()
            .with_partition_index(i)
            .with_high_watermark(values.len() as i64)
            .with_last_stable_offset(values.len() as i64)
            .with_log_start_offset(0)
            .with_records(Some(batch.clone()))
    };
    let topic = FetchableTopicResponse::default()
        .with_topic_id(Uuid::from_u64_pair(0x5eed, 1))
        .with_partitions((0..BATCHES as i32).map(partition).collect());
    encoded(&FetchResponse::default().with_session_id(7).with_responses(vec![topic]), FETCH)
}

/// A message's bytes.
pub fn encoded(message: &impl Encodable, version: i16) -> Bytes {
    let mut out = BytesMut::new();
    encode(&mut out, message, version);
    out.freeze()
}

/// Writes a message into `out`, which it empties first.
pub fn encode(out: &mut BytesMut, message: &impl Encodable, version: i16) {
    out.clear();
    message.encode(out, version).expect("a message of ours encodes");
}

/// Reads a message that fills `frame`.
pub fn decode<M: Decodable>(frame: &Bytes, version: i16) -> M {
    let mut frame = frame.clone();
    let message = M::decode(&mut frame, version).expect("a frame of ours decodes");
    assert!(frame.is_empty());
    message
}

/// Its records for these values.
pub fn records(values: &[Bytes]) -> Vec<Record> {
    let record = |(i, value): (usize, &Bytes)| Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: NO_PARTITION_LEADER_EPOCH,
        producer_id: NO_PRODUCER_ID,
        producer_epoch: NO_PRODUCER_EPOCH,
        timestamp_type: TimestampType::Creation,
        offset: i as i64,
        // Counted from "no sequence": a batch ends for it where offset and sequence part ways.
        sequence: NO_SEQUENCE.wrapping_add(i as i32),
        timestamp: BASE_TIMESTAMP + i as i64,
        key: None,
        value: Some(value.clone()),
        headers: kafka_protocol::indexmap::IndexMap::default(),
    };
    values.iter().enumerate().map(record).collect()
}

/// Writes a batch into `out`, which it empties first.
pub fn encode_batch(out: &mut BytesMut, records: &[Record]) {
    out.clear();
    RecordBatchEncoder::encode(out, records, &OPTIONS).expect("records of ours encode");
}

/// Decodes a fetch response with all its records, then looks at each: what a client does that
/// hands the response on as records.
pub fn walk_fetch(frame: &Bytes) -> Seen {
    let response: FetchResponse = decode(frame, FETCH);
    let mut sets = Vec::new();
    for mut batches in response.responses.into_iter().flat_map(partitions) {
        sets.extend(RecordBatchDecoder::decode_all(&mut batches).expect("batches of ours decode"));
    }
    let mut seen = Seen::default();
    for set in &sets {
        see(&mut seen, set);
    }
    seen
}

/// The same with one batch decoded at a time, and dropped before the next: fewer cache misses and
/// no memory that the allocator gives back to the system in between.
pub fn walk_fetch_by_batch(frame: &Bytes) -> Seen {
    let response: FetchResponse = decode(frame, FETCH);
    let mut seen = Seen::default();
    for mut batches in response.responses.into_iter().flat_map(partitions) {
        while !batches.is_empty() {
            see(&mut seen, &RecordBatchDecoder::decode(&mut batches).expect("a batch of ours decodes"));
        }
    }
    seen
}

fn partitions(topic: FetchableTopicResponse) -> impl Iterator<Item = Bytes> {
    topic.partitions.into_iter().filter_map(|partition| partition.records)
}

fn see(seen: &mut Seen, set: &RecordSet) {
    for record in &set.records {
        seen.see(record.offset, record.timestamp, record.key.as_deref(), record.value.as_deref());
    }
}
