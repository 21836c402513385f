//! Three brokers: leaders that move and end while they are read from, and followers nearby.

use std::time::Duration;

use weir::consumer::Reset;
use weir::{Client, Record};
use weir_kafka_harness::proxy::Proxies;
use weir_kafka_harness::{Cluster, unless_skipped};

use super::{LONG, SECOND, connect, create, next, nothing, of, run};
use crate::broker::VERSIONS;
use crate::producer::PLAIN;

/// Every broker is killed and comes back while records are written and read.
#[test]
fn c14_nothing_is_lost_or_doubled_while_leaders_end() {
    let Some(cluster) = unless_skipped("three brokers", Cluster::builder(VERSIONS[0]).nodes(3).start())
    else {
        return;
    };
    run(async {
        let kafka = connect(cluster.bootstrap_text(PLAIN)).await;
        create(&kafka, "moved", 6, 3, &[("min.insync.replicas", "2")]).await;
        let producer = kafka.producer().build().unwrap();
        let mut consumer = kafka.consumer().reset(Reset::Earliest).build().unwrap();
        consumer.assign((0..6).map(|partition| ("moved", partition))).unwrap();
        let done = std::cell::Cell::new(false);
        let faults = async {
            for node in 1..=3 {
                tokio::time::sleep(SECOND).await;
                tokio::task::block_in_place(|| cluster.node(node).kill());
                tokio::time::sleep(2 * SECOND).await;
                tokio::task::block_in_place(|| cluster.node(node).start()).unwrap();
            }
            done.set(true);
        };
        let writing = async {
            let mut written = [0; 6];
            while !done.get() {
                for (partition, written) in (0..).zip(&mut written) {
                    let value = format!("{written:06}");
                    producer.send(Record::to("moved").value(&value).partition(partition)).await.unwrap();
                    *written += 1;
                }
            }
            written
        };
        let sums = std::cell::Cell::new(None::<usize>);
        let reading = async {
            let mut seen = Vec::new();
            while sums.get().is_none_or(|sum| seen.len() < sum) {
                seen.extend(next(&mut consumer).await);
            }
            seen
        };
        let writing = async {
            let written = writing.await;
            sums.set(Some(written.iter().sum::<usize>() + 1));
            // One more, so that whoever waits looks again.
            producer.send(Record::to("moved").value("end").partition(0)).await.unwrap();
            written
        };
        let ((), written, seen) = tokio::join!(faults, writing, reading);
        println!("written while brokers ended: {written:?}");
        for (partition, count) in (0..).zip(written) {
            let mut wanted = super::numbers(0..count);
            wanted.extend((partition == 0).then(|| "end".to_owned()));
            assert!(count > 10 && of(&seen, partition) == wanted, "partition {partition}");
        }
        nothing(&mut consumer, SECOND).await;
    });
}

/// KIP-392: a consumer reads from the broker in its rack, and from the leader once that broker is gone.
#[test]
fn followers_nearby_are_read_from_until_they_are_gone() {
    let proxies = Proxies::for_nodes(3).unwrap();
    let told = proxies.addresses();
    let builder = Cluster::builder(VERSIONS[1])
        .nodes(3)
        .advertise(move |node, _| usize::try_from(node - 1).ok().and_then(|node| told.get(node).copied()));
    let builder = builder
        .property("replica.selector.class", "org.apache.kafka.common.replica.RackAwareReplicaSelector")
        .property("broker.rack", "rack-{node}");
    let Some(cluster) = unless_skipped("three racks", builder.start()) else { return };
    proxies.set_upstreams((1..=3).filter_map(|node| cluster.node(node).address(PLAIN)));
    run(async {
        let kafka: Client = connect(proxies.bootstrap()).await;
        create(&kafka, "racks", 3, 3, &[]).await;
        let producer = kafka.producer().linger(Duration::ZERO).build().unwrap();
        let mut consumer = kafka.consumer().reset(Reset::Earliest).rack("rack-2").build().unwrap();
        consumer.assign((0..3).map(|partition| ("racks", partition))).unwrap();
        let fetches = |node: usize| proxies.get(node - 1).unwrap().log().requests(1);
        let mut written = 0;
        let mut round = async || {
            for _ in 0..20 {
                for partition in 0..3 {
                    let value = format!("{written:06}");
                    producer.send(Record::to("racks").value(&value).partition(partition)).await.unwrap();
                }
                written += 1;
                let mut seen = 0;
                while seen < 3 {
                    let batch = tokio::time::timeout(LONG, consumer.next()).await.unwrap().unwrap().unwrap();
                    assert!(batch.iter().all(|record| record.offset() == written - 1), "{batch:?}");
                    seen += batch.len();
                }
            }
        };
        round().await;
        let before = [1, 2, 3].map(fetches);
        round().await;
        let after = [1, 2, 3].map(fetches);
        println!("fetches: {before:?}, then {after:?}");
        assert!(after[1] > before[1] + 20, "it reads from its rack");
        assert!(after[0] <= before[0] + 1 && after[2] <= before[2] + 1, "and from nowhere else");
        tokio::task::block_in_place(|| cluster.node(2).kill());
        round().await;
    });
}
