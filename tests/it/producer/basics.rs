//! Every kind of record to every kind of broker: what Java reads is what was sent, and where the producer says
//! it is.

use std::collections::BTreeMap;

use weir::producer::Acks;
use weir::records::Compression;
use weir::{Client, Delivery, Record};

use super::{connect, create_topic, read_back, resolve, run, values};
use crate::broker::java::{JavaRecord, produce};
use crate::broker::{VERSIONS, shared};

/// The oldest that is spoken to, some between, the newest.
const AGES: [&str; 4] = ["0.11.0.3", "2.8.2", "3.9.2", "4.4.0"];

#[test]
fn records_reach_0_11() {
    reach(AGES[0]);
}

#[test]
fn records_reach_2_8() {
    reach(AGES[1]);
}

#[test]
fn records_reach_3_9() {
    reach(AGES[2]);
}

#[test]
fn records_reach_4_4() {
    reach(AGES[3]);
}

/// Each codec that the broker has, each way in; then Java says what is there.
fn reach(version: &str) {
    let Some(broker) = shared(version) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        let topic = "producer-reach";
        create_topic(&kafka, topic, 3, &[]).await;
        let mut sent = Vec::new();
        for codec in codecs(version) {
            sent.extend(send_some(&kafka, topic, codec).await);
        }
        kafka.close().await;
        let mut seen = read_back(broker.bootstrap, topic).await;
        seen.sort_by_key(|record| (record.partition, record.offset));
        sent.sort_by_key(|record| (record.partition, record.offset));
        assert_eq!(seen, sent, "{version}");
    });
}

/// 0.11 and 1.1 do not know zstd (KIP-110, 2.1).
fn codecs(version: &str) -> Vec<Compression> {
    let all =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
    let known = |codec: &Compression| *codec != Compression::Zstd || !version.starts_with("0.");
    all.into_iter().filter(known).collect()
}

/// Null, empty and filled in every place; what Java has to read.
async fn send_some(kafka: &Client, topic: &str, codec: Compression) -> Vec<JavaRecord> {
    let producer = kafka.producer().compression(codec).build().unwrap();
    let topic = producer.topic(topic);
    let examples: Vec<JavaRecord> = (0..90).map(example).collect();
    let mut acks = Vec::new();
    for (n, example) in examples.iter().enumerate() {
        let record = Record::new()
            .key_value(example.key.as_deref(), example.value.as_deref())
            .headers(&example.headers)
            .partition(example.partition)
            .timestamp(example.timestamp);
        acks.push(match n % 2 {
            0 => topic.enqueue(record).await.unwrap(),
            _ => topic.try_enqueue(record).unwrap(),
        });
    }
    producer.flush().await.unwrap();
    let at: Vec<Delivery> = acks.iter().map(|ack| ack.try_get().expect("flushed").unwrap()).collect();
    producer.close(super::LONG).await.unwrap();
    let mut all = Vec::new();
    for (mut example, at) in examples.into_iter().zip(at) {
        assert_eq!((at.topic(), at.partition()), (topic.name(), example.partition));
        example.offset = at.offset().expect("acks from all tell the offset");
        assert_eq!(at.timestamp(), None, "the timestamps are ours");
        all.push(example);
    }
    all
}

fn example(n: i64) -> JavaRecord {
    let blob = |n: i64, text: &str| match n % 3 {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some(format!("{text} {n}").into_bytes()),
    };
    JavaRecord {
        partition: (n % 3) as i32,
        offset: 0,
        timestamp: 1_700_000_000_000 + n,
        key: blob(n / 3, "key"),
        value: blob(n / 9, "value"),
        // The same name twice is two headers.
        headers: (0..n % 4).map(|i| (format!("é{}", i / 2), blob(n + i, "header"))).collect(),
    }
}

/// P20: a null value is a tombstone, an empty one is not; the same of keys and header values.
#[test]
fn p20_null_and_empty_stay_apart() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "producer-null", 1, &[]).await;
        let producer = kafka.producer().build().unwrap();
        let to = || Record::to("producer-null");
        producer.send(to()).await.unwrap();
        producer.send(to().key("").value("")).await.unwrap();
        let headers = [("null", None), ("empty", Some(""))];
        producer.send(to().key("k").headers(&headers)).await.unwrap();
        let seen = read_back(broker.bootstrap, "producer-null").await;
        let empty = || Some(Vec::new());
        let pairs: Vec<_> = seen.iter().map(|record| (record.key.clone(), record.value.clone())).collect();
        assert_eq!(pairs, [(None, None), (empty(), empty()), (Some(b"k".to_vec()), None)]);
        let headers: Vec<_> = seen.iter().map(|record| record.headers.clone()).collect();
        let wanted = vec![("null".to_owned(), None), ("empty".to_owned(), empty())];
        assert_eq!(headers, [vec![], vec![], wanted]);
    });
}

/// The same key goes where Java's producer puts it.
#[test]
fn keys_land_where_java_puts_them() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    let keys: Vec<String> = (0..300).map(|n| format!("{}{n}", "key ".repeat(n % 5))).collect();
    let record = |key: &String| JavaRecord {
        partition: -1,
        offset: 0,
        timestamp: 1_700_000_000_000,
        key: Some(key.clone().into_bytes()),
        value: Some(b"v".to_vec()),
        headers: Vec::new(),
    };
    let records: Vec<JavaRecord> = keys.iter().map(record).collect();
    produce(broker, "producer-keys-java", "none", &records, &["create.partitions=7"]);
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "producer-keys", 7, &[]).await;
        let producer = kafka.producer().build().unwrap();
        let topic = producer.topic("producer-keys");
        let mut acks = Vec::new();
        for key in &keys {
            acks.push(topic.enqueue(Record::new().key(key).value("v")).await.unwrap());
        }
        let ours: BTreeMap<Vec<u8>, i32> = (keys.iter().zip(resolve(acks).await))
            .map(|(key, at)| (key.clone().into_bytes(), at.unwrap().partition()))
            .collect();
        let seen = read_back(broker.bootstrap, "producer-keys-java").await;
        let java: BTreeMap<Vec<u8>, i32> =
            seen.into_iter().map(|record| (record.key.unwrap(), record.partition)).collect();
        assert_eq!(java.len(), keys.len());
        assert_eq!(ours, java);
    });
}

/// Without a key, large loads are spread over all partitions.
#[test]
fn records_without_a_key_reach_all_partitions() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "producer-spread", 4, &[]).await;
        let producer = kafka.producer().build().unwrap();
        let mut acks = Vec::new();
        for n in 0..20_000 {
            let value = format!("{n:0100}");
            acks.push(producer.enqueue(Record::to("producer-spread").value(&value)).await.unwrap());
        }
        let mut counts = BTreeMap::new();
        for at in resolve(acks).await {
            *counts.entry(at.unwrap().partition()).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), 4, "{counts:?}");
        assert!(counts.values().all(|count| *count >= 1000), "{counts:?}");
    });
}

/// What the producer is told when the topic's timestamps are the broker's.
#[test]
fn the_broker_tells_its_own_timestamps() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        let name = "producer-log-append-time";
        create_topic(&kafka, name, 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        let producer = kafka.producer().build().unwrap();
        let at = producer.send(Record::to(name).value("v").timestamp(5)).await.unwrap();
        let seen = read_back(broker.bootstrap, name).await;
        assert!(seen[0].timestamp > 1_700_000_000_000, "{seen:?}");
        assert_eq!(at.timestamp(), Some(seen[0].timestamp));
    });
}

#[test]
fn one_ack_or_none_without_idempotence() {
    for version in [AGES[0], AGES[3]] {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = connect(broker.bootstrap).await;
            for (name, acks, known) in
                [("producer-acks-1", Acks::Leader, true), ("producer-acks-0", Acks::None, false)]
            {
                create_topic(&kafka, name, 1, &[]).await;
                let producer =
                    kafka.producer().acks(acks).idempotence(false).max_in_flight(1).build().unwrap();
                let topic = producer.topic(name);
                let mut waiting = Vec::new();
                for n in 0..200 {
                    let value = n.to_string();
                    waiting.push(topic.enqueue(Record::new().value(&value)).await.unwrap());
                }
                for (n, at) in resolve(waiting).await.into_iter().enumerate() {
                    assert_eq!(at.unwrap().offset(), known.then_some(n as i64), "{version} {name}");
                }
                producer.close(super::LONG).await.unwrap();
                // Nobody tells when a broker has taken what nobody asked about.
                let wanted: Vec<String> = (0..200).map(|n| n.to_string()).collect();
                let mut seen = Vec::new();
                for _ in 0..10 {
                    seen = values(&read_back(broker.bootstrap, name).await);
                    if seen.len() >= wanted.len() {
                        break;
                    }
                }
                assert_eq!(seen, wanted, "{version} {name}");
            }
        });
    }
}

#[test]
fn what_cannot_be_is_said_at_once() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "producer-known", 2, &[]).await;
        let builder = kafka.producer().max_block(super::SECOND);
        let producer = builder.build().unwrap();
        let unknown = producer.send(Record::to("producer-unknown").value("v")).await.unwrap_err();
        assert!(unknown.is_timeout() && !unknown.may_have_happened(), "{unknown}");
        let nowhere = producer.enqueue(Record::new().value("v")).await.unwrap_err();
        assert!(nowhere.is_invalid(), "{nowhere}");
        let known = || Record::to("producer-known").value("v");
        for partition in [-1, 2, i32::MAX] {
            let error = producer.enqueue(known().partition(partition)).await.unwrap_err();
            assert!(error.is_invalid(), "{partition}: {error}");
        }
        let bad = producer.enqueue(Record::to("not a topic!").value("v")).await.unwrap_err();
        assert!(!bad.may_have_happened(), "{bad}");
        let other = producer.topic("producer-known").enqueue(Record::to("producer-other")).await.unwrap_err();
        assert!(other.is_invalid(), "{other}");
        assert_eq!(producer.send(known().partition(1)).await.unwrap().offset(), Some(0));
    });
}
