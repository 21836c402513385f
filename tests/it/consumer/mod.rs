//! The consumer on real brokers: what our producer and Java's wrote is what it gives, from where it was told to read.
//!
//! `basics` reads every kind of record from every age of broker, and from every kind of position; `rows` are the rows
//! of the catalogue of faults that a broker and a proxy can show, `cluster` those that want three brokers.

use std::time::{Duration, Instant};

use weir::Record;
use weir::consumer::Consumer;
use weir::producer::Topic;

use crate::producer::{LONG, SECOND, connect, create, create_topic, proxied, run};

/// Every kind of record, every age of broker, every kind of position.
mod basics;
/// Three brokers.
mod cluster;
/// Rows of the catalogue of faults.
mod rows;

/// A record as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    partition: i32,
    offset: i64,
    value: String,
}

/// Reads until there are so many records.
async fn read(consumer: &mut Consumer, count: usize) -> Vec<Seen> {
    let mut seen = Vec::new();
    while seen.len() < count {
        seen.extend(next(consumer).await);
    }
    assert_eq!(seen.len(), count, "no more than that: {:?}", seen.last());
    seen
}

/// The next batch, which does not take long.
async fn next(consumer: &mut Consumer) -> Vec<Seen> {
    let batch = tokio::time::timeout(LONG, consumer.next()).await.expect("something comes");
    let batch = batch.expect("it can be read").expect("the consumer is open");
    let partition = batch.partition();
    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap_or_default().to_vec()).unwrap();
    let seen: Vec<Seen> = (batch.iter())
        .map(|record| Seen { partition, offset: record.offset(), value: text(record.value()) })
        .collect();
    assert_eq!(seen.len(), batch.len());
    assert!(batch.next_offset() > seen.last().unwrap().offset);
    seen
}

/// Nothing comes in this time.
async fn nothing(consumer: &mut Consumer, time: Duration) {
    if let Ok(given) = tokio::time::timeout(time, consumer.next()).await {
        panic!("{given:?}");
    }
}

/// The values of one partition, in the order in which they came, which is that of their offsets.
fn of(seen: &[Seen], partition: i32) -> Vec<String> {
    let of: Vec<&Seen> = seen.iter().filter(|seen| seen.partition == partition).collect();
    assert!(of.is_sorted_by(|one, next| one.offset < next.offset), "{of:?}");
    of.into_iter().map(|seen| seen.value.clone()).collect()
}

/// Numbered records into one partition, written when this returns.
async fn write(topic: &Topic, partition: i32, numbers: std::ops::Range<usize>) {
    let mut acks = Vec::new();
    for number in numbers {
        let value = format!("{number:06}");
        acks.push(topic.enqueue(Record::new().value(&value).partition(partition)).await.unwrap());
    }
    for ack in acks {
        tokio::time::timeout(LONG, ack).await.expect("an ack comes to its end").unwrap();
    }
}

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|number| format!("{number:06}")).collect()
}

/// Waits until it is so.
async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !is() {
        assert!(Instant::now() < end, "not so in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
