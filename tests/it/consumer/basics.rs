//! Every kind of record from every age of broker, and every kind of position.

use std::time::Duration;

use weir::Record;
use weir::consumer::{Isolation, Reset, TopicPartition};
use weir::records::Compression;

use super::{LONG, SECOND, connect, create_topic, next, nothing, numbers, of, read, run, until, write};
use crate::broker::java::{JavaRecord, produce};
use crate::broker::{VERSIONS, shared};

fn codecs(version: &str) -> Vec<(Compression, &'static str)> {
    let all = [
        (Compression::None, "none"),
        (Compression::Gzip, "gzip"),
        (Compression::Snappy, "snappy"),
        (Compression::Lz4, "lz4"),
        (Compression::Zstd, "zstd"),
    ];
    // 0.11 and 1.1 do not know zstd (KIP-110, 2.1).
    let old = version.starts_with("0.") || version.starts_with("1.");
    all.into_iter().filter(|(codec, _)| !(old && *codec == Compression::Zstd)).collect()
}

/// Null, empty and filled in every place.
fn examples(count: i64) -> Vec<JavaRecord> {
    let blob = |n: i64, text: &str| match n % 3 {
        0 => None,
        1 => Some(Vec::new()),
        _ => Some(format!("{text} {n}").into_bytes()),
    };
    (0..count)
        .map(|n| JavaRecord {
            partition: 0,
            offset: n,
            timestamp: 1_500_000_000_000 + n,
            key: blob(n, "key"),
            value: blob(n / 3, "value"),
            headers: (0..n % 3).map(|i| (format!("é{}", i / 2), blob(n + i, "header"))).collect(),
        })
        .collect()
}

/// Java writes with every codec that the broker has, and weir reads what Java was given.
fn what_java_wrote_is_read(version: &str) {
    let Some(broker) = shared(version) else { return };
    let sent = examples(200);
    let topic = |name: &str| format!("consumer-java-{name}");
    for (_, name) in codecs(version) {
        produce(broker, &topic(name), name, &sent, &["create.partitions=1", "batch.size=1000"]);
    }
    run(async {
        let kafka = connect(broker.bootstrap).await;
        for (_, name) in codecs(version) {
            let mut consumer = kafka.consumer().reset(Reset::Earliest).build().unwrap();
            consumer.assign([(topic(name), 0)]).unwrap();
            let mut seen = Vec::new();
            while seen.len() < sent.len() {
                let batch = tokio::time::timeout(LONG, consumer.next()).await.unwrap().unwrap().unwrap();
                seen.extend(batch.iter().map(|record| {
                    JavaRecord {
                        partition: batch.partition(),
                        offset: record.offset(),
                        timestamp: record.timestamp(),
                        key: record.key().map(<[u8]>::to_vec),
                        value: record.value().map(<[u8]>::to_vec),
                        headers: (record.headers())
                            .map(|header| {
                                (header.key_str().unwrap().to_owned(), header.value.map(<[u8]>::to_vec))
                            })
                            .collect(),
                    }
                }));
            }
            assert_eq!(seen, sent, "{version} {name}");
            assert_eq!(consumer.position((topic(name), 0)), Some(200));
            until("nothing is left", || consumer.lag((topic(name), 0)) == Some(0)).await;
        }
    });
}

#[test]
fn what_java_wrote_is_read_from_0_11() {
    what_java_wrote_is_read("0.11.0.3");
}

#[test]
fn what_java_wrote_is_read_from_1_1() {
    what_java_wrote_is_read("1.1.1");
}

#[test]
fn what_java_wrote_is_read_from_2_8() {
    what_java_wrote_is_read("2.8.2");
}

#[test]
fn what_java_wrote_is_read_from_3_9() {
    what_java_wrote_is_read("3.9.2");
}

#[test]
fn what_java_wrote_is_read_from_4_4() {
    what_java_wrote_is_read("4.4.0");
}

#[test]
fn positions_are_where_they_were_told_on_every_age_of_broker() {
    for version in ["0.11.0.3", "2.8.2", "3.9.2", "4.4.0"] {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = connect(broker.bootstrap).await;
            let at: TopicPartition = ("consumer-positions", 0).into();
            create_topic(&kafka, at.topic(), 1, &[]).await;
            let producer = kafka.producer().linger(Duration::ZERO).build().unwrap();
            for n in 0..10_i64 {
                let value = format!("{n:06}");
                let record = Record::to(at.topic()).value(&value).timestamp(1_000_000 + 1000 * n);
                producer.send(record).await.unwrap();
            }
            let mut consumer = kafka.consumer().reset(Reset::Earliest).build().unwrap();
            consumer.assign([at.clone()]).unwrap();
            assert_eq!(of(&read(&mut consumer, 10).await, 0), numbers(0..10), "{version}");
            for (to, first) in [(7, 7), (0, 0), (9, 9)] {
                consumer.seek(at.clone(), to).unwrap();
                assert_eq!(consumer.position(at.clone()), Some(to));
                assert_eq!(of(&read(&mut consumer, 10 - first).await, 0), numbers(first..10), "{version}");
            }
            consumer.seek_to_beginning(at.clone()).unwrap();
            assert_eq!(read(&mut consumer, 10).await.len(), 10);
            // Between two of them, so the later one.
            consumer.seek_to_time(at.clone(), 1_003_500).unwrap();
            assert_eq!(of(&read(&mut consumer, 6).await, 0), numbers(4..10), "{version}");
            consumer.seek_to_time(at.clone(), 9_999_999).unwrap();
            until("younger than all is the end", || consumer.position(at.clone()) == Some(10)).await;
            consumer.seek(at.clone(), 3).unwrap();
            consumer.seek_to_end(at.clone()).unwrap();
            until("the end", || consumer.position(at.clone()) == Some(10)).await;
            nothing(&mut consumer, SECOND / 2).await;
            producer.send(Record::to(at.topic()).value("000010")).await.unwrap();
            assert_eq!(of(&read(&mut consumer, 1).await, 0), numbers(10..11), "{version}");
            // What is not there at all: the policy says where.
            consumer.seek(at.clone(), 1000).unwrap();
            assert_eq!(of(&read(&mut consumer, 11).await, 0), numbers(0..11), "{version}");
        });
    }
}

#[test]
fn reset_policies_begin_where_they_say() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        let at: TopicPartition = ("consumer-reset", 0).into();
        create_topic(&kafka, at.topic(), 1, &[]).await;
        let producer = kafka.producer().linger(Duration::ZERO).build().unwrap();
        let hour_ago = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let hour_ago = i64::try_from(hour_ago.as_millis()).unwrap() - 3_600_000;
        producer.send(Record::to(at.topic()).value("000000").timestamp(hour_ago)).await.unwrap();
        producer.send(Record::to(at.topic()).value("000001")).await.unwrap();
        let consumer = |reset| {
            let consumer = kafka.consumer().reset(reset).build().unwrap();
            consumer.assign([at.clone()]).unwrap();
            consumer
        };
        let mut earliest = consumer(Reset::Earliest);
        assert_eq!(of(&read(&mut earliest, 2).await, 0), numbers(0..2));
        let mut since = consumer(Reset::Since(Duration::from_mins(10)));
        assert_eq!(of(&read(&mut since, 1).await, 0), numbers(1..2));
        let mut latest = consumer(Reset::Latest);
        until("the end", || latest.position(at.clone()) == Some(2)).await;
        let mut none = consumer(Reset::None);
        let error = none.next().await.unwrap_err();
        assert!(error.to_string().contains("consumer-reset"), "{error}");
        none.seek(at.clone(), 1).unwrap();
        assert_eq!(of(&read(&mut none, 1).await, 0), numbers(1..2));
        none.seek(at.clone(), 77).unwrap();
        let error = tokio::time::timeout(LONG, none.next()).await.unwrap().unwrap_err();
        assert_eq!(error.code(), Some(weir::ErrorCode::OFFSET_OUT_OF_RANGE), "{error}");
        assert_eq!(none.position(at.clone()), Some(77), "nobody moves it");
        producer.send(Record::to(at.topic()).value("000002")).await.unwrap();
        assert_eq!(of(&read(&mut latest, 1).await, 0), numbers(2..3));
    });
}

#[test]
fn c19_a_paused_partition_waits_and_goes_on_where_it_was() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        let topic = "consumer-pause";
        create_topic(&kafka, topic, 2, &[]).await;
        let producer = kafka.producer().batch_size(200).build().unwrap();
        for partition in 0..2 {
            write(&producer.topic(topic), partition, 0..1000).await;
        }
        let builder = kafka.consumer().reset(Reset::Earliest).batch_size(1);
        let mut consumer = builder.build().unwrap();
        consumer.assign([(topic, 0), (topic, 1)]).unwrap();
        let mut seen = Vec::new();
        for round in 0..20 {
            seen.extend(next(&mut consumer).await);
            consumer.pause((topic, round % 2)).unwrap();
            consumer.pause((topic, round % 2)).unwrap();
            let other = next(&mut consumer).await;
            assert!(other.iter().all(|seen| seen.partition == 1 - round % 2), "{other:?}");
            seen.extend(other);
            consumer.resume((topic, round % 2)).unwrap();
        }
        seen.extend(read(&mut consumer, 2000 - seen.len()).await);
        for partition in 0..2 {
            assert_eq!(of(&seen, partition), numbers(0..1000));
        }
        consumer.pause((topic, 0)).unwrap();
        write(&producer.topic(topic), 0, 1000..1001).await;
        nothing(&mut consumer, SECOND).await;
        consumer.resume((topic, 0)).unwrap();
        assert_eq!(of(&read(&mut consumer, 1).await, 0), numbers(1000..1001));
        assert!(consumer.pause((topic, 7)).unwrap_err().is_invalid());
    });
}

#[test]
fn c23_committed_readers_see_what_is_committed_and_lag_behind_that_alone() {
    for version in ["0.11.0.3", "2.8.2", "3.9.2", "4.4.0"] {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = connect(broker.bootstrap).await;
            let at: TopicPartition = ("consumer-committed", 0).into();
            create_topic(&kafka, at.topic(), 1, &[]).await;
            let mut one = kafka.producer().transactional_id("consumer-one").build().unwrap();
            let mut two = kafka.producer().transactional_id("consumer-two").build().unwrap();
            let mut wanted = Vec::new();
            for round in 0..6 {
                // They lie among each other in the log.
                let first = one.begin().await.unwrap();
                let second = two.begin().await.unwrap();
                for n in 0..3 {
                    for (who, transaction) in [(1, &first), (2, &second)] {
                        let value = format!("{round} {who} {n}");
                        transaction.send(Record::to(at.topic()).value(&value)).await.unwrap();
                        if (who == 1) == (round % 2 == 0) || round == 5 {
                            wanted.push(value);
                        }
                    }
                }
                if round == 5 {
                    first.commit().await.unwrap();
                    second.commit().await.unwrap();
                } else if round % 2 == 0 {
                    second.abort().await.unwrap();
                    first.commit().await.unwrap();
                } else {
                    first.abort().await.unwrap();
                    second.commit().await.unwrap();
                }
            }
            let builder = kafka.consumer().reset(Reset::Earliest).isolation(Isolation::ReadCommitted);
            let mut committed = builder.build().unwrap();
            committed.assign([at.clone()]).unwrap();
            assert_eq!(of(&read(&mut committed, wanted.len()).await, 0), wanted, "{version}");
            until("behind the last marker", || committed.position(at.clone()) == Some(48)).await;
            assert_eq!(committed.lag(at.clone()), Some(0));
            // An open transaction is behind the end that counts.
            let open = one.begin().await.unwrap();
            open.send(Record::to(at.topic()).value("open")).await.unwrap();
            nothing(&mut committed, SECOND).await;
            assert_eq!(committed.lag(at.clone()), Some(0), "{version}");
            let mut all = kafka.consumer().build().unwrap();
            all.assign([at.clone()]).unwrap();
            all.seek(at.clone(), 48).unwrap();
            assert_eq!(of(&read(&mut all, 1).await, 0), ["open"], "{version}");
            committed.seek_to_end(at.clone()).unwrap();
            until("the stable end", || committed.position(at.clone()) == Some(48)).await;
            open.commit().await.unwrap();
            assert_eq!(of(&read(&mut committed, 1).await, 0), ["open"], "{version}");
        });
    }
}

#[test]
fn what_is_assigned_anew_goes_on_and_what_is_not_is_not_given() {
    let Some(broker) = shared(VERSIONS[1]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        let topic = "consumer-assign";
        create_topic(&kafka, topic, 3, &[]).await;
        let producer = kafka.producer().build().unwrap();
        for partition in 0..3 {
            write(&producer.topic(topic), partition, 0..100).await;
        }
        let mut consumer = kafka.consumer().reset(Reset::Earliest).build().unwrap();
        assert!(consumer.assign([(topic, -1)]).unwrap_err().is_invalid());
        consumer.assign([(topic, 0), (topic, 1)]).unwrap();
        read(&mut consumer, 200).await;
        consumer.assign([(topic, 1), (topic, 2)]).unwrap();
        assert_eq!(of(&read(&mut consumer, 100).await, 2), numbers(0..100));
        assert_eq!((consumer.position((topic, 0)), consumer.position((topic, 1))), (None, Some(100)));
        for partition in 0..3 {
            write(&producer.topic(topic), partition, 100..110).await;
        }
        let seen = read(&mut consumer, 20).await;
        assert_eq!((of(&seen, 1), of(&seen, 2)), (numbers(100..110), numbers(100..110)));
        consumer.assign([(topic, 0)]).unwrap();
        assert_eq!(of(&read(&mut consumer, 110).await, 0), numbers(0..110), "it has no position any more");
        drop(consumer);
    });
}
