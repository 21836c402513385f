//! Members of groups on real brokers, by both protocols: who reads what, what is committed, who takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use weir::consumer::assignors::{Assignor, CooperativeSticky, Range, RoundRobin, Sticky};
use weir::consumer::{Builder, Consumer, Event, GroupProtocol, Reset};
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::{Client, ErrorCode, Record};

use crate::broker::shared;

/// Members and brokers that come and go, all at once.
mod chaos;
/// One group, both protocols.
mod mixed;
/// Programs that Kafka's own system tests would call.
mod programs;
/// Members that a coordinator refuses for a while.
mod refusals;
/// Sharing, handing over, taking over.
mod sharing;

const SECOND: Duration = Duration::from_secs(1);
/// How long anything may take that comes to an end by itself.
const LONG: Duration = Duration::from_mins(1);

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(test)
}

async fn connect(bootstrap: impl ToString) -> Client {
    Client::connect(&bootstrap.to_string()).await.expect("the broker is there")
}

async fn create_topic(kafka: &Client, name: &str, partitions: i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let answer = kafka.request(request).await.unwrap();
    let code = ErrorCode(answer.topics[0].error_code);
    assert!(code.is_none(), "{name}: {code}");
}

/// Sends these numbers, each to the partition that is its remainder.
async fn send(kafka: &Client, topic: &str, partitions: i32, numbers: std::ops::Range<u32>) {
    let producer = kafka.producer().build().unwrap();
    for number in numbers {
        let partition = number as i32 % partitions;
        let value = number.to_string();
        drop(producer.enqueue(Record::to(topic).partition(partition).value(&value)).await.unwrap());
    }
    producer.flush().await.unwrap();
    producer.close(LONG).await.unwrap();
}

fn number(value: Option<&[u8]>) -> u32 {
    std::str::from_utf8(value.expect("a value")).unwrap().parse().unwrap()
}

fn member(kafka: &Client, group: &str, protocol: GroupProtocol) -> Builder {
    kafka
        .consumer()
        .group(group)
        .group_protocol(protocol)
        .reset(Reset::Earliest)
        .session_timeout(6 * SECOND)
        .heartbeat_interval(SECOND)
}

/// Reads until so many different numbers were seen; tells how often each was.
async fn read(consumer: &mut Consumer, count: usize) -> BTreeMap<u32, u32> {
    let mut seen = BTreeMap::new();
    let all = async {
        while seen.len() < count {
            let batch = consumer.next().await.unwrap().expect("it is not closed");
            for record in &batch {
                *seen.entry(number(record.value())).or_default() += 1;
            }
        }
    };
    let timed = tokio::time::timeout(LONG, all).await;
    assert!(timed.is_ok(), "{} of {count}", seen.len());
    seen
}
