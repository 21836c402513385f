//! Rows of the catalogue of faults about how a transaction ends, with a proxy between client and coordinator.

use std::time::{Duration, Instant};

use weir::Record;
use weir::producer::TransactionalProducer;
use weir::{Client, Error};
use weir_kafka_harness::proxy::{End, Fault, Proxies, Proxy, Rule};
use weir_kafka_harness::{Cluster, Listener, unless_skipped};

use super::{LONG, SECOND, committed, create_topic, run};
use crate::broker::VERSIONS;

const ADD_PARTITIONS: i16 = 24;
const END_TXN: i16 = 26;

/// A broker of each version behind a proxy, and a client that does not wait long for silence.
#[allow(clippy::needless_pass_by_value, reason = "it is written where it is called")]
fn each_version(test: impl AsyncFn(&Client, &Proxy, &str)) {
    for version in VERSIONS {
        let proxies = Proxies::for_nodes(1).unwrap();
        let told = proxies.addresses()[0];
        let started = Cluster::builder(version).advertise(move |_, _| Some(told)).start();
        let Some(cluster) = unless_skipped(&format!("a broker {version} behind a proxy"), started) else {
            continue;
        };
        proxies.set_upstreams(cluster.node(1).address(Listener::plain()));
        run(async {
            let builder = Client::builder(&told.to_string()).request_timeout(2 * SECOND);
            let kafka = builder.setup_timeout(2 * SECOND, 4 * SECOND).connect().await.unwrap();
            test(&kafka, proxies.get(0).unwrap(), version).await;
        });
    }
}

fn build(kafka: &Client, id: &str, max_block: Duration) -> TransactionalProducer {
    kafka.producer().max_block(max_block).transactional_id(id).build().unwrap()
}

/// One transaction with one record.
async fn write(producer: &mut TransactionalProducer, topic: &str, value: &str) -> Result<(), Error> {
    let transaction = producer.begin().await?;
    drop(transaction.send(Record::to(topic).value(value)).await?);
    transaction.commit().await
}

/// Row T02: the end was done and its answer lost. It is asked again until the coordinator says so.
#[test]
fn t02_a_lost_answer_to_the_end_is_asked_for_again() {
    each_version(async |kafka, proxy, version| {
        create_topic(kafka, "t02", 1, 1).await;
        let mut producer = build(kafka, "t02", LONG);
        write(&mut producer, "t02", "first").await.unwrap();
        for (api, value) in [(END_TXN, "second"), (ADD_PARTITIONS, "third"), (END_TXN, "fourth")] {
            let cut = proxy.add(Rule::new(Fault::Cut(End::Reset)).responses().api(api).nth(1)).unwrap();
            write(&mut producer, "t02", value)
                .await
                .unwrap_or_else(|error| panic!("{version} {value}: {error:?}"));
            let applies = api == END_TXN || version.starts_with('3');
            assert_eq!(proxy.log().faults(cut), u64::from(applies), "{version} {value}");
            proxy.remove(cut);
        }
        let cut = proxy.add(Rule::new(Fault::Cut(End::Reset)).responses().api(END_TXN).nth(1)).unwrap();
        let transaction = producer.begin().await.unwrap();
        drop(transaction.send(Record::to("t02").value("aborted")).await.unwrap());
        transaction.abort().await.unwrap();
        proxy.remove(cut);
        write(&mut producer, "t02", "fifth").await.unwrap();
        let seen = committed(proxy.address(), "t02").await;
        assert_eq!(seen, ["first", "second", "third", "fourth", "fifth"], "{version}");
    });
}

/// Row T01: the end of a transaction arrives when the client has long given up, and begun another one. What is told as
/// unknown stays whole, and the other one is neither committed nor aborted by it.
#[test]
fn t01_a_late_end_does_not_touch_the_next_transaction() {
    each_version(async |kafka, proxy, version| {
        create_topic(kafka, "t01", 1, 1).await;
        let mut producer = build(kafka, "t01", 3 * SECOND);
        write(&mut producer, "t01", "first").await.unwrap();
        let mut unknown = Vec::new();
        for round in 0..3 {
            let late = Rule::new(Fault::Delay { ms: 5000, jitter_ms: 0 }).requests().api(END_TXN).times(2);
            let late = proxy.add(late).unwrap();
            let transaction = producer.begin().await.unwrap();
            for part in 0..3 {
                let value = format!("{round} unknown {part}");
                drop(transaction.send(Record::to("t01").value(&value)).await.unwrap());
            }
            let error = transaction.commit().await.unwrap_err();
            assert!(error.is_timeout() && error.may_have_happened(), "{version}: {error:?}");
            unknown.push(format!("{round} unknown"));
            // It is settled before the next begins; how long that takes is the network's affair.
            let next = loop {
                match producer.begin().await {
                    Ok(next) => break next,
                    Err(error) => assert!(error.is_timeout() && !error.is_fenced(), "{version}: {error:?}"),
                }
            };
            drop(next.send(Record::to("t01").value(&format!("{round} next"))).await.unwrap());
            // Time for what is late to do its worst.
            tokio::time::sleep(3 * SECOND).await;
            match round {
                1 => next.abort().await.unwrap(),
                _ => next.commit().await.unwrap(),
            }
            proxy.remove(late);
        }
        let seen = committed(proxy.address(), "t01").await;
        let count = |text: &str| seen.iter().filter(|value| value.starts_with(text)).count();
        assert_eq!([count("0 next"), count("1 next"), count("2 next")], [1, 0, 1], "{version}: {seen:?}");
        for what in unknown {
            assert!([0, 3].contains(&count(&what)), "{version}: {what} is torn: {seen:?}");
        }
    });
}

/// Row T20: with nobody there every call comes to its end in time, and when they are back it goes on.
#[test]
fn t20_brokers_are_silent_in_commit_and_abort() {
    each_version(async |kafka, proxy, version| {
        create_topic(kafka, "t20", 1, 1).await;
        let mut producer = build(kafka, "t20", 3 * SECOND);
        write(&mut producer, "t20", "first").await.unwrap();
        for commit in [true, false] {
            let transaction = producer.begin().await.unwrap();
            drop(transaction.send(Record::to("t20").value("silent")).await.unwrap());
            let silence = proxy.add(Rule::new(Fault::BlackHole { both: true })).unwrap();
            let start = Instant::now();
            let ended = if commit { transaction.commit().await } else { transaction.abort().await };
            let error = ended.unwrap_err();
            assert!(error.is_timeout() && error.may_have_happened() == commit, "{version}: {error:?}");
            let error = producer.begin().await.unwrap_err();
            assert!(error.is_timeout(), "{version}: {error:?}");
            assert!(start.elapsed() < 15 * SECOND, "{version}: {:?}", start.elapsed());
            proxy.remove(silence);
            let again = async {
                while let Err(error) = write(&mut producer, "t20", "again").await {
                    assert!(error.is_timeout(), "{version}: {error:?}");
                }
            };
            tokio::time::timeout(LONG, again).await.expect("it goes on");
        }
        let seen = committed(proxy.address(), "t20").await;
        let count = |text: &str| seen.iter().filter(|value| *value == text).count();
        assert_eq!((count("first"), count("again")), (1, 2), "{version}: {seen:?}");
        assert!(count("silent") <= 1, "{version}: {seen:?}");
    });
}

/// A record that cannot be written in time: the transaction is lost, and says so; the producer goes on.
#[test]
fn a_record_that_is_late_loses_its_transaction_only() {
    each_version(async |kafka, proxy, version| {
        create_topic(kafka, "late", 1, 1).await;
        let builder = kafka.producer().delivery_timeout(SECOND).max_block(20 * SECOND);
        let mut producer = builder.transactional_id("late").build().unwrap();
        write(&mut producer, "late", "first").await.unwrap();
        let transaction = producer.begin().await.unwrap();
        drop(transaction.send(Record::to("late").value("lost")).await.unwrap());
        let silence = proxy.add(Rule::new(Fault::Hold).responses().api(0)).unwrap();
        let error = transaction.send(Record::to("late").value("lost too")).await.unwrap_err();
        assert!(error.is_timeout(), "{version}: {error:?}");
        let refused = transaction.enqueue(Record::to("late").value("lost as well")).await.unwrap_err();
        assert!(!refused.may_have_happened(), "{version}: {refused:?}");
        proxy.remove(silence);
        let error = transaction.commit().await.unwrap_err();
        assert!(!error.may_have_happened(), "{version}: {error:?}");
        write(&mut producer, "late", "second").await.unwrap();
        assert_eq!(committed(proxy.address(), "late").await, ["first", "second"], "{version}");
    });
}
