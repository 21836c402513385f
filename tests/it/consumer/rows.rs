//! Rows of the catalogue of faults that a real broker and a proxy can show.

use std::time::{Duration, Instant};

use weir::consumer::{Reset, TopicPartition};
use weir::protocol::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use weir::protocol::delete_topics::DeleteTopicsRequest;
use weir::{Client, Record};
use weir_kafka_harness::Cluster;
use weir_kafka_harness::proxy::{End, Fault, Rule};
use weir_kafka_harness::{Listener, unless_skipped};

use super::{
    LONG, SECOND, connect, create_topic, next, nothing, numbers, of, proxied, read, run, until, write,
};
use crate::broker::{VERSIONS, shared};

const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;

/// A batch of the log is larger than all that a fetch may have, and one small one lies behind it.
#[test]
fn c07_a_batch_larger_than_a_fetch_is_given() {
    for version in ["0.11.0.3", VERSIONS[0]] {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = connect(broker.bootstrap).await;
            create_topic(&kafka, "c07", 2, &[]).await;
            let producer = kafka.producer().build().unwrap();
            let large = "x".repeat(600_000);
            for partition in 0..2 {
                for value in ["small", large.as_str(), "small"] {
                    producer.send(Record::to("c07").value(value).partition(partition)).await.unwrap();
                }
            }
            let builder = kafka.consumer().reset(Reset::Earliest);
            let mut consumer =
                builder.max_partition_fetch_bytes(1000).fetch_max_bytes(2000).memory(10_000).build().unwrap();
            consumer.assign([("c07", 0), ("c07", 1)]).unwrap();
            let seen = read(&mut consumer, 6).await;
            for partition in 0..2 {
                let sizes: Vec<usize> = of(&seen, partition).iter().map(String::len).collect();
                assert_eq!(sizes, [5, 600_000, 5], "{version}");
            }
        });
    }
}

/// What was asked for before a seek comes behind it, and is not given.
#[test]
fn c10_an_answer_from_before_a_seek_is_not_given() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = connect(proxied.at()).await;
        create_topic(&kafka, "c10", 1, &[]).await;
        let producer = kafka.producer().batch_size(100).build().unwrap();
        write(&producer.topic("c10"), 0, 0..500).await;
        let builder = kafka.consumer().reset(Reset::Earliest).max_partition_fetch_bytes(2000);
        let mut consumer = builder.batch_size(1).build().unwrap();
        consumer.assign([("c10", 0)]).unwrap();
        next(&mut consumer).await;
        let late = Fault::Delay { ms: 30, jitter_ms: 20 };
        proxied.proxy().add(Rule::new(late).responses().api(FETCH)).unwrap();
        for round in 0..20 {
            let to = (round * 37) % 480;
            consumer.seek(("c10", 0), to as i64).unwrap();
            let seen = next(&mut consumer).await;
            assert_eq!(seen[0].value, format!("{to:06}"), "round {round}");
            assert_eq!(of(&seen, 0), numbers(to..to + seen.len()));
        }
    });
}

/// Leaders do not answer where the log begins: nothing is made up meanwhile.
#[test]
fn c15_no_position_is_made_up_while_leaders_are_silent() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = proxied.hasty().await;
        create_topic(&kafka, "c15", 1, &[]).await;
        let producer = kafka.producer().build().unwrap();
        write(&producer.topic("c15"), 0, 0..10).await;
        let cut =
            proxied.proxy().add(Rule::new(Fault::Cut(End::Reset)).requests().api(LIST_OFFSETS)).unwrap();
        let mut consumer = kafka.consumer().reset(Reset::Earliest).build().unwrap();
        consumer.assign([("c15", 0)]).unwrap();
        nothing(&mut consumer, 3 * SECOND).await;
        assert_eq!(consumer.position(("c15", 0)), None);
        let tries = proxied.proxy().log().faults(cut);
        assert!((2..60).contains(&tries), "M10: asked {tries} times in three seconds");
        proxied.proxy().clear();
        assert_eq!(of(&read(&mut consumer, 10).await, 0), numbers(0..10));
    });
}

/// Connections are cut in front of answers and behind them, all the time.
#[test]
fn c09_cut_fetches_lose_and_double_nothing() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = proxied.hasty().await;
        create_topic(&kafka, "c09", 4, &[]).await;
        let producer = kafka.producer().batch_size(300).build().unwrap();
        for partition in 0..4 {
            write(&producer.topic("c09"), partition, 0..1000).await;
        }
        let cut = Rule::new(Fault::Cut(End::Reset)).api(FETCH).chance(0.2).times(40);
        let cut = proxied.proxy().add(cut).unwrap();
        let builder = kafka.consumer().reset(Reset::Earliest).max_partition_fetch_bytes(1500);
        let mut consumer = builder.fetch_max_bytes(3000).build().unwrap();
        consumer.assign((0..4).map(|partition| ("c09", partition))).unwrap();
        let seen = read(&mut consumer, 4000).await;
        for partition in 0..4 {
            assert_eq!(of(&seen, partition), numbers(0..1000));
        }
        let cuts = proxied.proxy().log().faults(cut);
        assert!(cuts >= 5, "only {cuts} cuts");
        nothing(&mut consumer, SECOND).await;
    });
}

/// A broker with room for one session, and three consumers.
#[test]
fn c09_sessions_that_are_evicted_are_begun_again() {
    let builder = Cluster::builder(VERSIONS[0]).property("max.incremental.fetch.session.cache.slots", "1");
    let Some(cluster) = unless_skipped("a broker with one session", builder.start()) else { return };
    run(async {
        let kafka = connect(cluster.bootstrap(Listener::plain())[0]).await;
        create_topic(&kafka, "evicted", 2, &[]).await;
        let producer = kafka.producer().build().unwrap();
        let mut consumers: Vec<_> = (0..3)
            .map(|_| {
                let consumer = kafka.consumer().reset(Reset::Earliest).build().unwrap();
                consumer.assign([("evicted", 0), ("evicted", 1)]).unwrap();
                consumer
            })
            .collect();
        for round in 0..20 {
            for partition in 0..2 {
                write(&producer.topic("evicted"), partition, round * 10..round * 10 + 10).await;
            }
            for consumer in &mut consumers {
                let seen = read(consumer, 20).await;
                for partition in 0..2 {
                    assert_eq!(of(&seen, partition), numbers(round * 10..round * 10 + 10));
                }
            }
        }
    });
}

/// Every wait for a batch is given up again and again, and nothing is lost.
#[test]
fn c22_a_dropped_next_loses_nothing() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "c22", 1, &[]).await;
        let producer = kafka.producer().linger(Duration::ZERO).build().unwrap();
        let topic = producer.topic("c22");
        let builder = kafka.consumer().reset(Reset::Earliest).max_partition_fetch_bytes(500);
        let mut consumer = builder.batch_size(1).build().unwrap();
        consumer.assign([("c22", 0)]).unwrap();
        // While there is nothing, all are dropped; how many later is chance.
        for _ in 0..10 {
            let nothing = tokio::time::timeout(Duration::from_millis(5), consumer.next()).await;
            assert!(nothing.is_err(), "{nothing:?}");
        }
        let writer = write(&topic, 0, 0..500);
        let reader = async {
            let mut seen = Vec::new();
            let end = Instant::now() + LONG;
            while seen.len() < 500 && Instant::now() < end {
                let mut polls = 0;
                let most = seen.len() % 3;
                let mut next = std::pin::pin!(consumer.next());
                // It is polled so often, and dropped.
                let given = std::future::poll_fn(|cx| match next.as_mut().poll(cx) {
                    std::task::Poll::Ready(given) => std::task::Poll::Ready(Some(given)),
                    std::task::Poll::Pending if polls >= most => std::task::Poll::Ready(None),
                    std::task::Poll::Pending => {
                        polls += 1;
                        cx.waker().wake_by_ref();
                        std::task::Poll::Pending
                    }
                })
                .await;
                if let Some(batch) = given {
                    seen.extend(batch.unwrap().unwrap().iter().map(|one| one.offset()));
                } else {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            seen
        };
        let ((), seen) = tokio::join!(writer, reader);
        assert_eq!(seen, (0..500).collect::<Vec<i64>>());
    });
}

/// Memory is full of what is paused, and others are still read; then all of it is there.
#[test]
fn c24_paused_partitions_hold_back_no_other_however_short_memory_is() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "c24", 8, &[]).await;
        let producer = kafka.producer().batch_size(2000).build().unwrap();
        for partition in 0..8 {
            write(&producer.topic("c24"), partition, 0..2000).await;
        }
        let builder =
            kafka.consumer().reset(Reset::Earliest).memory(40_000).max_partition_fetch_bytes(10_000);
        let mut consumer = builder.batch_size(1).build().unwrap();
        consumer.assign((0..8).map(|partition| ("c24", partition))).unwrap();
        let mut seen = Vec::new();
        while (0..7).any(|partition| !seen.iter().any(|one: &super::Seen| one.partition == partition)) {
            seen.extend(next(&mut consumer).await);
        }
        tokio::time::sleep(SECOND / 2).await;
        for partition in 0..7 {
            consumer.pause(("c24", partition)).unwrap();
        }
        while of(&seen, 7).len() < 2000 {
            let more = next(&mut consumer).await;
            assert!(more.iter().all(|one| one.partition == 7), "{more:?}");
            seen.extend(more);
        }
        for partition in 0..7 {
            consumer.resume(("c24", partition)).unwrap();
        }
        while seen.len() < 16_000 {
            seen.extend(next(&mut consumer).await);
        }
        for partition in 0..8 {
            assert_eq!(of(&seen, partition), numbers(0..2000));
        }
    });
}

/// What the log does not have any more is passed over by the policy, and what was compacted away is no obstacle.
#[test]
fn c04_c05_deleted_records_move_the_beginning() {
    let Some(broker) = shared(VERSIONS[1]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "c04", 1, &[]).await;
        let producer = kafka.producer().batch_size(200).build().unwrap();
        write(&producer.topic("c04"), 0, 0..100).await;
        let partition = DeleteRecordsPartition { partition_index: 0, offset: 57, ..Default::default() };
        let topic =
            DeleteRecordsTopic { name: "c04".into(), partitions: vec![partition], ..Default::default() };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        kafka.request(request).await.unwrap();
        let mut consumer = kafka.consumer().reset(Reset::Earliest).build().unwrap();
        consumer.assign([("c04", 0)]).unwrap();
        // In the middle of a batch.
        assert_eq!(of(&read(&mut consumer, 43).await, 0), numbers(57..100));
        consumer.seek(("c04", 0), 3).unwrap();
        assert_eq!(of(&read(&mut consumer, 43).await, 0), numbers(57..100));
    });
}

/// A topic is deleted and made anew under its reader, which begins in the new one.
#[test]
fn a_topic_made_anew_is_read_from_its_beginning() {
    // Where fetches name topics by their names, the old position is gone on with until metadata tells.
    for version in [VERSIONS[1], VERSIONS[0]] {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = Client::builder(&broker.bootstrap.to_string());
            let kafka = kafka.metadata_max_age(SECOND).connect().await.unwrap();
            let at: TopicPartition = ("consumer-anew", 0).into();
            create_topic(&kafka, at.topic(), 1, &[]).await;
            write(&kafka.producer().build().unwrap().topic(at.topic()), 0, 0..100).await;
            let mut consumer = kafka.consumer().reset(Reset::Earliest).build().unwrap();
            consumer.assign([at.clone()]).unwrap();
            read(&mut consumer, 100).await;
            let name = vec![at.topic().into()];
            let old = DeleteTopicsRequest { topic_names: name, timeout_ms: 30_000, ..Default::default() };
            // Later versions name topics in another field.
            kafka.request(old).versions(1..=5).await.unwrap();
            tokio::time::sleep(2 * SECOND).await;
            create_topic(&kafka, at.topic(), 1, &[]).await;
            let other = connect(broker.bootstrap).await;
            write(&other.producer().build().unwrap().topic(at.topic()), 0, 500..700).await;
            let mut seen = Vec::new();
            while seen.len() < 200 {
                match tokio::time::timeout(LONG, consumer.next()).await.expect("it goes on") {
                    Ok(batch) => {
                        let batch = batch.unwrap();
                        seen.extend(batch.iter().map(|record| record.offset()));
                    }
                    Err(error) => assert!(error.code().is_some(), "{error}"),
                }
            }
            assert_eq!(seen, (0..200).collect::<Vec<i64>>(), "{version}");
            until("all is read", || consumer.position(at.clone()) == Some(200)).await;
        });
    }
}
