//! Every release of Kafka that weir speaks to: one broker, and the client alone against it.
//!
//! Those of `broker::VERSIONS` always; with `WEIR_MATRIX=all` every one that the harness knows, one at a time.

use std::collections::BTreeMap;
use std::time::Instant;

use weir::observe::Event;
use weir::protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use weir::protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use weir::protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use weir::protocol::{ApiKey, Str, Uuid};
use weir::records::{Batches, Decompressor};
use weir::{Client, ErrorCode};
use weir_kafka_harness::{Cluster, Listener, SEEN_TO_WORK, unless_skipped};

use super::{Record, a_little, batch, create_topic, list, run};
use crate::broker::{VERSIONS, shared};
use crate::seed::say;

const TOPIC: &str = "matrix";

/// What a client needs first.
const BASICS: [ApiKey; 5] =
    [ApiKey::PRODUCE, ApiKey::FETCH, ApiKey::METADATA, ApiKey::LIST_OFFSETS, ApiKey::CREATE_TOPICS];

#[test]
fn each_release_serves_the_client() {
    let all = std::env::var_os("WEIR_MATRIX").is_some_and(|value| value == "all");
    let mut served = 0;
    for version in SEEN_TO_WORK {
        let always = VERSIONS.contains(&version);
        if always && !all {
            let Some(broker) = shared(version) else { continue };
            run(serves(version, &broker.bootstrap.to_string()));
        } else if all {
            let started = Cluster::builder(version).start();
            let Some(cluster) = unless_skipped(&format!("broker {version}"), started) else { continue };
            run(serves(version, &list(&cluster.bootstrap(Listener::plain()))));
        } else {
            continue;
        }
        served += 1;
    }
    let expected = if all { SEEN_TO_WORK.len() } else { VERSIONS.len() };
    // Fewer only where each that lacks was told as a skip, which CI denies.
    assert!(served == expected || std::env::var_os("WEIR_SKIPS").is_none(), "{served} of {expected}");
}

/// Connects, negotiates, creates, produces in both ways, fetches and compares.
async fn serves(version: &str, bootstrap: &str) {
    let began = Instant::now();
    let record = Record::default();
    let kafka = Client::builder(bootstrap)
        .client_id("weir-matrix")
        .on_event(record.listener())
        .connect()
        .await
        .unwrap();
    let brokers = kafka.brokers();
    assert_eq!(brokers.len(), 1, "{version}: {brokers:?}");
    assert!(kafka.cluster_id().is_some_and(|id| !id.is_empty()), "{version} tells its cluster's id");
    let versions = kafka.versions(brokers[0].id).await.unwrap();
    for api in BASICS {
        versions.usable(api).unwrap_or_else(|error| panic!("{version}: {error}"));
    }

    let id = create_topic(&kafka, TOPIC, 1, 1).await;
    let values: Vec<Str> = (0..20).map(|n| format!("value {n} for {version}").into()).collect();
    let answer = kafka.request(produce(id, -1, &values[..10])).await.unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    assert_eq!(ErrorCode(partition.error_code), ErrorCode::NONE, "{version}");
    assert_eq!(partition.base_offset, 0, "{version}");
    // Nobody answers to this one; that it was done, the fetch tells.
    kafka.request(produce(id, 0, &values[10..])).await.unwrap();
    let found = fetch(&kafka, id, values.len()).await;
    let sent: Vec<_> = values.iter().map(|value| (format!("key of {value}"), value.to_string())).collect();
    assert_eq!(found, sent, "{version}");

    let wanted = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![wanted]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let metadata = kafka.request(request).await.unwrap();
    assert_eq!(metadata.topics[0].partitions[0].leader_id, brokers[0].id, "{version}");
    assert_eq!(metadata.topics[0].topic_id, id, "{version}");
    kafka.close().await;
    let used = used(&record.take());
    assert!(BASICS.iter().filter(|api| **api != ApiKey::LIST_OFFSETS).all(|api| used.contains_key(api)));
    let used: Vec<_> = used.iter().map(|(api, version)| format!("{api} {version}")).collect();
    say(&format!(
        "matrix: {version}: {}; 20 records there and back; {:.1?}",
        used.join(", "),
        began.elapsed()
    ));
}

/// The version in which each API was answered last.
fn used(events: &[Event]) -> BTreeMap<ApiKey, i16> {
    let answered = events.iter().filter_map(|event| match event {
        Event::Answered { api, version, .. } => Some((*api, *version)),
        _ => None,
    });
    answered.collect()
}

fn produce(topic_id: Uuid, acks: i16, values: &[Str]) -> ProduceRequest {
    let partition = PartitionProduceData { index: 0, records: Some(batch(values)), ..Default::default() };
    let topic = TopicProduceData {
        name: TOPIC.into(),
        topic_id,
        partition_data: vec![partition],
        ..Default::default()
    };
    ProduceRequest { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

/// Keys and values from the start of the topic, once so many are there.
async fn fetch(kafka: &Client, topic_id: Uuid, count: usize) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for _ in 0..100 {
        let partition = FetchPartition {
            fetch_offset: found.len() as i64,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic =
            FetchTopic { topic: TOPIC.into(), topic_id, partitions: vec![partition], ..Default::default() };
        let request =
            FetchRequest { max_wait_ms: 500, min_bytes: 1, topics: vec![topic], ..Default::default() };
        let answer = kafka.request(request).await.unwrap();
        assert_eq!(answer.error_code, 0);
        for partition in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            assert_eq!(ErrorCode(partition.error_code), ErrorCode::NONE);
            for batch in Batches::new(partition.records.unwrap_or_default()) {
                for record in &batch.unwrap().records(&mut Decompressor::new()).unwrap() {
                    let record = record.unwrap();
                    let text = |part: Option<&[u8]>| String::from_utf8(part.unwrap().to_vec()).unwrap();
                    // A batch is given whole, also when only its end was asked for.
                    if record.offset() == found.len() as i64 {
                        found.push((text(record.key()), text(record.value())));
                    }
                }
            }
        }
        if found.len() >= count {
            break;
        }
        a_little().await;
    }
    found
}
