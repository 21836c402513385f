//! Coordinators and leaders that end while transactions are under way, on three brokers.

use std::time::Instant;

use weir::producer::{GroupMetadata, TransactionalProducer};
use weir::protocol::find_coordinator::FindCoordinatorRequest;
use weir::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use weir::{Client, Record, Result};
use weir_kafka_harness::{Cluster, Listener, unless_skipped};

use super::{LONG, SECOND, committed, create_topic, group_offsets, run};
use crate::broker::VERSIONS;
use crate::seed::say;

const TOPIC: &str = "moving";
const GROUP: &str = "moving-group";

/// The broker that coordinates the transactional id, or the group.
async fn coordinator(kafka: &Client, transaction: bool) -> i32 {
    let key = if transaction { "moving" } else { GROUP };
    let request = FindCoordinatorRequest {
        key_type: i8::from(transaction),
        coordinator_keys: vec![key.into()],
        ..Default::default()
    };
    let answer = kafka.request(request).await.unwrap();
    answer.coordinators.first().map_or(answer.node_id, |found| found.node_id)
}

/// One transaction with records for all partitions, and a position.
async fn copy(producer: &mut TransactionalProducer, number: i64, commit: bool) -> Result<()> {
    let transaction = producer.begin().await?;
    for partition in 0..3 {
        let value = number.to_string();
        drop(transaction.enqueue(Record::to(TOPIC).value(&value).partition(partition)).await?);
    }
    transaction.send_offsets(&GroupMetadata::new(GROUP), [(TOPIC, 0, number)]).await?;
    if commit { transaction.commit().await } else { transaction.abort().await }
}

/// What the producer was told, by the numbers of transactions.
#[derive(Debug, Default)]
struct Told {
    sure: Vec<i64>,
    maybe: Vec<i64>,
}

/// Transactions go on, from this number on, while a broker is killed and comes back, and a little longer.
async fn outlive(
    cluster: &Cluster,
    victim: i32,
    producer: &mut TransactionalProducer,
    first: i64,
    told: &mut Told,
) {
    let killing = async {
        tokio::time::sleep(SECOND / 2).await;
        tokio::task::block_in_place(|| cluster.node(victim).kill());
        tokio::time::sleep(3 * SECOND).await;
        tokio::task::block_in_place(|| cluster.node(victim).start()).unwrap();
    };
    let mut killing = std::pin::pin!(killing);
    let (mut number, mut killed, mut after) = (first, false, 0);
    while after < 20 {
        number += 1;
        let commit = number % 4 != 0;
        let mut work = std::pin::pin!(copy(producer, number, commit));
        let result = tokio::select! {
            result = work.as_mut() => result,
            () = killing.as_mut(), if !killed => {
                killed = true;
                work.await
            }
        };
        after += u32::from(killed);
        match result {
            Ok(()) if commit => told.sure.push(number),
            Err(error) if commit && error.may_have_happened() => told.maybe.push(number),
            Err(error) => assert!(!error.is_fenced(), "{number}: {error:?}"),
            Ok(()) => {}
        }
    }
}

/// Each partition has the same transactions in the same order: all that are sure, and none that nobody knows of.
fn check(seen: &[String], told: &Told) -> i64 {
    let numbers: Vec<i64> = seen.iter().map(|value| value.parse().unwrap()).collect();
    let whole = &numbers[..numbers.len() / 3];
    assert!(numbers.chunks(whole.len()).all(|part| part == whole), "{numbers:?}");
    assert!(whole.is_sorted_by(|a, b| a < b), "{whole:?}");
    let Told { sure, maybe } = told;
    assert!(sure.iter().all(|one| whole.contains(one)), "{sure:?} {whole:?}");
    assert!(whole.iter().all(|one| sure.contains(one) || maybe.contains(one)), "{told:?} {whole:?}");
    assert!(sure.len() >= 20, "{sure:?}");
    *whole.last().unwrap()
}

/// The end of each partition, for those who read all or only what is committed.
async fn ends(kafka: &Client, topic: &str, partitions: i32, isolation_level: i8) -> Vec<i64> {
    let partition =
        |partition_index| ListOffsetsPartition { partition_index, timestamp: -1, ..Default::default() };
    let topic = ListOffsetsTopic {
        name: topic.into(),
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    };
    let request =
        ListOffsetsRequest { replica_id: -1, isolation_level, topics: vec![topic], ..Default::default() };
    let answer = kafka.request(request).await.unwrap();
    answer.topics[0].partitions.iter().map(|partition| partition.offset).collect()
}

/// Waits until brokers have written every transaction's end into the partitions, which they do after they have
/// answered. A transaction that hangs keeps them from it for good.
pub(super) async fn settle(kafka: &Client, topic: &str, partitions: i32) {
    let patience = Instant::now() + LONG;
    loop {
        let all = ends(kafka, topic, partitions, 0).await;
        let committed = ends(kafka, topic, partitions, 1).await;
        if all == committed && all.iter().all(|end| *end > 0) {
            return;
        }
        assert!(Instant::now() < patience, "a transaction hangs: {all:?} {committed:?}");
        tokio::time::sleep(SECOND / 5).await;
    }
}

/// Rows T02, T09, T10 and T12 as they happen: coordinators are killed and come back in the middle of it all.
#[test]
fn t12_coordinators_end_while_transactions_go_on() {
    for version in VERSIONS {
        let started = Cluster::builder(version).nodes(3).start();
        let Some(cluster) = unless_skipped(&format!("three brokers {version}"), started) else { continue };
        let at = cluster.bootstrap_text(Listener::plain());
        run(async {
            let kafka = Client::builder(&at).request_timeout(5 * SECOND).connect().await.unwrap();
            create_topic(&kafka, TOPIC, 3, 3).await;
            let builder = kafka.producer().max_block(20 * SECOND);
            let mut producer = builder.transactional_id("moving").build().unwrap();
            let mut told = Told::default();
            for round in 0..2 {
                let victim = coordinator(&kafka, round == 0).await;
                outlive(&cluster, victim, &mut producer, 10_000 * round, &mut told).await;
            }
            producer.close(LONG).await.unwrap();
            settle(&kafka, TOPIC, 3).await;
            let last = check(&committed(&at, TOPIC).await, &told);
            let offsets = group_offsets(&at, GROUP).await.join("");
            assert_eq!(offsets.trim(), format!("{TOPIC} 0 {last}"), "{version}");
            say(&format!("{version}: {} sure, {} unknown", told.sure.len(), told.maybe.len()));
        });
    }
}
