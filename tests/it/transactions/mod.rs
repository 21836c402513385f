//! Transactions on real brokers of both ways of speaking of them (KIP-890), read back by Kafka's own consumer
//! that sees what is committed.
//!
//! `basics` commits, aborts, drops and fences, with positions of consumer groups among it; `faults` are the rows of
//! the catalogue of faults that a broker and a proxy can show, `cluster` those that want three brokers, `groups` those of
//! consumer groups. `chaos` is many transactions under every fault.

use std::path::PathBuf;
use std::time::Duration;

use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use weir::{Client, ErrorCode};
use weir_kafka_harness::fetch;

use crate::broker::VERSIONS;
use crate::broker::java::{consume_from, offsets_of};

/// Commit, abort, drop, fence.
mod basics;
/// Many transactions of several producers while brokers fail.
mod chaos;
/// Three brokers.
mod cluster;
/// One broker behind a proxy.
mod faults;
/// Positions of groups whose members lose their places.
mod groups;

const SECOND: Duration = Duration::from_secs(1);
/// How long anything may take that comes to an end by itself.
const LONG: Duration = Duration::from_mins(1);

/// Runs a test's future, which must not hang.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(5 * LONG, test).await.expect("a test comes to its end") })
}

async fn connect(bootstrap: impl ToString) -> Client {
    Client::connect(&bootstrap.to_string()).await.expect("the broker is there")
}

/// Creates a topic and waits until each partition has a leader.
async fn create_topic(kafka: &Client, name: &str, partitions: i32, copies: i16) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: copies,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let answer = kafka.request(request).await.unwrap();
    assert_eq!(ErrorCode(answer.topics[0].error_code), ErrorCode::NONE, "{name}");
    let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let led = async {
        loop {
            let found = kafka.request(request.clone()).await.unwrap().topics.remove(0);
            if found.partitions.iter().filter(|one| one.error_code == 0).count() == partitions as usize {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, led).await.expect("the partitions have leaders soon");
}

fn jars() -> PathBuf {
    fetch(&VERSIONS[0].parse().unwrap()).expect("a broker runs from such jars")
}

/// The values that are committed, in the order of partitions and offsets, as Java sees them. That it comes to its
/// end also shows that no transaction is left open: the reader would wait for it.
async fn committed(bootstrap: impl ToString, topic: &str) -> Vec<String> {
    let (bootstrap, topic) = (bootstrap.to_string(), topic.to_owned());
    let read = move || consume_from(&jars(), &bootstrap, &topic, &["isolation.level=read_committed"]);
    let mut records = tokio::task::spawn_blocking(read).await.unwrap();
    records.sort_by_key(|record| (record.partition, record.offset));
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.expect("a value")).unwrap();
    records.into_iter().map(|record| text(record.value)).collect()
}

/// What a group has committed, as Java's admin client sees it.
async fn group_offsets(bootstrap: impl ToString, group: &str) -> Vec<String> {
    let (bootstrap, group) = (bootstrap.to_string(), group.to_owned());
    tokio::task::spawn_blocking(move || offsets_of(&jars(), &bootstrap, &group)).await.unwrap()
}
