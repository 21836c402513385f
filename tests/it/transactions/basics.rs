//! What a transaction is for: all of it is seen, or nothing of it.

use std::time::Duration;

use weir::producer::GroupMetadata;
use weir::{Client, Record};

use super::{LONG, SECOND, committed, connect, create_topic, group_offsets, run};
use crate::broker::{VERSIONS, shared};
use crate::seed::{say, seed};

/// A draw that a seed repeats.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

#[allow(clippy::needless_pass_by_value, reason = "it is written where it is called")]
fn each_version(test: impl AsyncFn(&Client, String, &str)) {
    for version in VERSIONS {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = connect(broker.bootstrap).await;
            test(&kafka, broker.bootstrap.to_string(), version).await;
        });
    }
}

#[test]
fn what_is_committed_is_seen_and_nothing_else() {
    each_version(async |kafka, at, version| {
        let topic = "transactions-seen";
        create_topic(kafka, topic, 3, 1).await;
        let mut producer = kafka.producer().transactional_id("seen").build().unwrap();
        for (round, how) in ["commit", "abort", "drop", "commit", "leak", "commit"].into_iter().enumerate() {
            let transaction = producer.begin().await.unwrap();
            let orders = transaction.topic(topic);
            let mut acks = Vec::new();
            for partition in 0..3 {
                let value = format!("{round} {how} {partition}");
                acks.push(orders.enqueue(Record::new().value(&value).partition(partition)).await.unwrap());
            }
            match how {
                "commit" => {
                    transaction.commit().await.unwrap();
                    for ack in acks {
                        assert!(ack.await.unwrap().offset().is_some(), "{version} {round}");
                    }
                }
                "abort" => {
                    transaction.flush().await.unwrap();
                    transaction.abort().await.unwrap();
                    for ack in acks {
                        assert!(ack.await.unwrap().offset().is_some(), "written, and not seen");
                    }
                }
                "leak" => std::mem::forget(transaction),
                _ => drop(transaction),
            }
        }
        producer.close(LONG).await.unwrap();
        let wanted: Vec<String> =
            (0..3).flat_map(|at| [0, 3, 5].map(|round| format!("{round} commit {at}"))).collect();
        assert_eq!(committed(at, topic).await, wanted, "{version}");
    });
}

#[test]
fn an_empty_transaction_costs_nothing_and_an_aborted_record_says_so() {
    each_version(async |kafka, at, version| {
        let topic = "transactions-unsent";
        create_topic(kafka, topic, 1, 1).await;
        let builder = kafka.producer().linger(LONG).transactional_id("unsent");
        let mut producer = builder.transaction_timeout(10 * SECOND).build().unwrap();
        producer.begin().await.unwrap().commit().await.unwrap();
        producer.begin().await.unwrap().abort().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        let ack = transaction.enqueue(Record::to(topic).value("never")).await.unwrap();
        transaction.abort().await.unwrap();
        let error = ack.await.unwrap_err();
        assert!(error.is_closed() && !error.may_have_happened(), "{version}: {error}");
        assert!(error.to_string().contains("aborted"), "{version}: {error}");
        let transaction = producer.begin().await.unwrap();
        drop(transaction.enqueue(Record::to(topic).value("ever")).await.unwrap());
        transaction.commit().await.unwrap();
        drop(producer);
        assert_eq!(committed(at, topic).await, ["ever"], "{version}");
    });
}

/// Rows T08 and T07: partitions come one by one, and all of them are added and ended.
#[test]
fn t08_fifty_partitions_that_come_slowly() {
    each_version(async |kafka, at, version| {
        let topic = "transactions-trickle";
        create_topic(kafka, topic, 50, 1).await;
        let mut producer = kafka.producer().transactional_id("trickle").build().unwrap();
        for end in ["abort", "commit"] {
            let transaction = producer.begin().await.unwrap();
            for partition in 0..50 {
                let value = format!("{end} {partition}");
                let record = Record::to(topic).value(&value).partition(partition);
                // Some are waited for, so that they are written before the next is wanted.
                match partition % 5 {
                    0 => drop(transaction.send(record).await.unwrap()),
                    _ => drop(transaction.enqueue(record).await.unwrap()),
                }
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            match end {
                "commit" => transaction.commit().await.unwrap(),
                _ => transaction.abort().await.unwrap(),
            }
        }
        let wanted: Vec<String> = (0..50).map(|partition| format!("commit {partition}")).collect();
        assert_eq!(committed(at, topic).await, wanted, "{version}");
    });
}

/// Row T15: the older of two with one id learns at its next call that it is fenced, and nothing of it is seen.
#[test]
fn t15_the_older_of_two_is_fenced() {
    each_version(async |kafka, at, version| {
        let topic = "transactions-fenced";
        create_topic(kafka, topic, 1, 1).await;
        let build = || kafka.producer().transactional_id("one").build().unwrap();
        let (mut old, mut new) = (build(), build());
        let transaction = old.begin().await.unwrap();
        transaction.send(Record::to(topic).value("old")).await.unwrap();
        let newer = new.begin().await.unwrap();
        newer.send(Record::to(topic).value("new")).await.unwrap();
        let error = transaction.commit().await.unwrap_err();
        assert!(error.is_fenced() && !error.may_have_happened(), "{version}: {error:?}");
        newer.commit().await.unwrap();
        let error = old.begin().await.unwrap_err();
        assert!(error.is_fenced(), "{version}: {error:?}");
        // While idle, too.
        let mut newest = build();
        newest.begin().await.unwrap().abort().await.unwrap();
        let idle = new.begin().await;
        let error = match idle {
            Ok(transaction) => {
                drop(transaction.enqueue(Record::to(topic).value("late")).await);
                transaction.commit().await.unwrap_err()
            }
            Err(error) => error,
        };
        assert!(error.is_fenced() && !error.may_have_happened(), "{version}: {error:?}");
        assert_eq!(committed(at, topic).await, ["new"], "{version}");
    });
}

/// KIP-447: positions of a group are committed with the records, or not at all.
#[test]
fn offsets_are_committed_with_the_transaction() {
    each_version(async |kafka, at, version| {
        let topic = "transactions-offsets";
        create_topic(kafka, topic, 2, 1).await;
        let mut producer = kafka.producer().transactional_id("offsets").build().unwrap();
        let group = GroupMetadata::new("transactions-group");
        let transaction = producer.begin().await.unwrap();
        transaction.send(Record::to(topic).value("copied")).await.unwrap();
        transaction.send_offsets(&group, [(topic, 0, 7)]).await.unwrap();
        transaction.send_offsets(&group, [(topic, 1, 9), (topic, 0, 8)]).await.unwrap();
        transaction.commit().await.unwrap();
        let transaction = producer.begin().await.unwrap();
        transaction.send_offsets(&group, [(topic, 0, 100)]).await.unwrap();
        transaction.abort().await.unwrap();
        let seen = group_offsets(&at, "transactions-group").await;
        assert_eq!(seen.join("|").trim(), format!("{topic} 0 8 |{topic} 1 9"), "{version}");
        // A member that nobody knows has lost its place: the transaction is lost, the producer is not.
        let transaction = producer.begin().await.unwrap();
        let zombie = group.clone().member(5, "nobody");
        let error = transaction.send_offsets(&zombie, [(topic, 0, 200)]).await.unwrap_err();
        assert!(error.code().is_some() && !error.is_fenced(), "{version}: {error:?}");
        let refused = transaction.enqueue(Record::to(topic).value("no")).await.unwrap_err();
        assert_eq!(refused.code(), error.code(), "{version}: {refused:?}");
        let error = transaction.commit().await.unwrap_err();
        assert!(!error.may_have_happened(), "{version}: {error:?}");
        let transaction = producer.begin().await.unwrap();
        transaction.send_offsets(&group, [(topic, 1, 10)]).await.unwrap();
        transaction.commit().await.unwrap();
        let seen = group_offsets(&at, "transactions-group").await;
        assert_eq!(seen.join("|").trim(), format!("{topic} 0 8 |{topic} 1 10"), "{version}");
    });
}

/// Hundreds of short ones, ended in every way, futures of commits dropped after some polls among them.
#[test]
fn hundreds_of_short_transactions() {
    let seed = seed("transactions::hundreds_of_short_transactions") | 1;
    each_version(async |kafka, at, version| {
        let topic = "transactions-many";
        create_topic(kafka, topic, 4, 1).await;
        let mut producer = kafka.producer().linger(Duration::ZERO).transactional_id("many").build().unwrap();
        let mut sure = Vec::new();
        let mut maybe = Vec::new();
        let mut draw = Draw(seed);
        let start = std::time::Instant::now();
        for number in 0..300 {
            let transaction = producer.begin().await.unwrap();
            let values: Vec<String> = (0..draw.below(6)).map(|n| format!("{number:03} {n}")).collect();
            for value in &values {
                let record = Record::to(topic).value(value).partition(draw.below(4) as i32);
                drop(transaction.enqueue(record).await.unwrap());
            }
            match draw.below(5) {
                0 => drop(transaction),
                1 => transaction.abort().await.unwrap(),
                2 => {
                    let mut commit = std::pin::pin!(transaction.commit());
                    let polls = draw.below(4);
                    for _ in 0..polls {
                        if tokio::time::timeout(Duration::from_micros(300), commit.as_mut()).await.is_ok() {
                            break;
                        }
                    }
                    if polls > 0 {
                        maybe.extend(values);
                    }
                }
                _ => {
                    transaction.commit().await.unwrap();
                    sure.extend(values);
                }
            }
        }
        producer.close(LONG).await.unwrap();
        let took = start.elapsed();
        let mut read = committed(at, topic).await;
        read.sort();
        let count = read.len();
        read.dedup();
        assert_eq!(read.len(), count, "{version}: something is there twice");
        // A commit that was begun and not waited for is done all the same.
        sure.extend(maybe);
        sure.sort();
        assert_eq!(read, sure, "{version}");
        say(&format!("{version}: 300 transactions in {took:?}"));
    });
}
