//! Coordinators and leaders that end while transactions are under way, on three brokers.

use weir::producer::{GroupMetadata, TransactionalProducer};
use weir::protocol::find_coordinator::FindCoordinatorRequest;
use weir::{Client, Record, Result};
use weir_kafka_harness::{Cluster, Listener, unless_skipped};

use super::{LONG, SECOND, committed, create_topic, group_offsets, run};
use crate::broker::VERSIONS;

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
        let value = format!("{number:04}");
        drop(transaction.enqueue(Record::to(TOPIC).value(&value).partition(partition)).await?);
    }
    transaction.send_offsets(&GroupMetadata::new(GROUP), [("source", 0, number)]).await?;
    match commit {
        true => transaction.commit().await,
        false => transaction.abort().await,
    }
}

/// Rows T02, T09, T10, T12 and P06 as they happen: brokers are killed and come back in the middle of it all.
#[test]
fn t12_coordinators_end_while_transactions_go_on() {
    for version in VERSIONS {
        let Some(cluster) =
            unless_skipped(&format!("three brokers {version}"), Cluster::builder(version).nodes(3).start())
        else {
            continue;
        };
        let at = cluster.bootstrap_text(Listener::plain());
        run(async {
            let builder = Client::builder(&at).request_timeout(5 * SECOND);
            let kafka = builder.connect().await.unwrap();
            create_topic(&kafka, TOPIC, 3, 3).await;
            let mut producer = kafka.producer().transactional_id("moving").build().unwrap();
            let (mut sure, mut maybe) = (Vec::new(), Vec::new());
            for round in 0..3_i64 {
                let victim = coordinator(&kafka, round != 1).await;
                let killing = async {
                    tokio::time::sleep(SECOND / 2).await;
                    tokio::task::block_in_place(|| cluster.node(victim).kill());
                    tokio::time::sleep(3 * SECOND).await;
                    tokio::task::block_in_place(|| cluster.node(victim).start()).unwrap();
                };
                let mut number = 1000 * round;
                let mut killing = std::pin::pin!(killing);
                let mut killed = false;
                let end = number + 1000;
                let mut after = 0;
                while after < 10 && number < end {
                    number += 1;
                    let commit = number % 4 != 0;
                    let work = copy(&mut producer, number, commit);
                    let result = match killed {
                        true => work.await,
                        false => {
                            let mut work = std::pin::pin!(work);
                            tokio::select! {
                                result = work.as_mut() => result,
                                () = killing.as_mut() => {
                                    killed = true;
                                    work.await
                                }
                            }
                        }
                    };
                    after += u32::from(killed);
                    match result {
                        Ok(()) if commit => sure.push(number),
                        Err(error) if commit && error.may_have_happened() => maybe.push(number),
                        Err(error) => assert!(!error.is_fenced(), "{version} {number}: {error:?}"),
                        Ok(()) => {}
                    }
                }
                assert!(killed, "{version}: too many were done before");
            }
            producer.close(LONG).await.unwrap();
            let seen = committed(&at, TOPIC).await;
            let mut numbers: Vec<i64> = seen.iter().map(|value| value.parse().unwrap()).collect();
            let whole = numbers.len() / 3;
            // Each partition has the same transactions in the same order.
            assert!(numbers.chunks(whole).all(|part| part == &numbers[..whole]), "{version}: {seen:?}");
            numbers.truncate(whole);
            assert!(numbers.is_sorted_by(|a, b| a < b), "{version}: {numbers:?}");
            assert!(sure.iter().all(|one| numbers.contains(one)), "{version}: {sure:?} {numbers:?}");
            let known = |one: &i64| sure.contains(one) || maybe.contains(one);
            assert!(numbers.iter().all(known), "{version}: {numbers:?}");
            assert!(sure.len() > 20, "{version}: {sure:?}");
            let last = numbers.last().unwrap();
            assert_eq!(
                group_offsets(&at, GROUP).await.join("").trim(),
                format!("source 0 {last}"),
                "{version}"
            );
            crate::seed::say(&format!("{version}: {} sure, {} unknown", sure.len(), maybe.len()));
        });
    }
}
