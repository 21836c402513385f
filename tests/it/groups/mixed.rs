//! One group, both protocols: what a coordinator allows, and what it does not.

use std::sync::Arc;

use weir_kafka_harness::{Cluster, Listener, unless_skipped};

use super::*;

fn sticky() -> Arc<dyn Assignor> {
    Arc::new(CooperativeSticky)
}

/// Reads whatever there is for a moment.
async fn look(consumer: &mut Consumer, seen: &mut BTreeSet<u32>) {
    if let Ok(Ok(Some(batch))) = tokio::time::timeout(SECOND / 10, consumer.next()).await {
        seen.extend(batch.iter().map(|record| number(record.value())));
    }
}

/// A coordinator that converts no groups refuses who comes by KIP-848 to a classic group; the member takes the classic
/// protocol then.
#[test]
fn a_group_that_may_not_go_over_is_joined_by_the_classic_protocol() {
    let builder = Cluster::builder("4.4.0").property("group.consumer.migration.policy", "disabled");
    let Some(cluster) = unless_skipped("a broker that converts no groups", builder.start()) else { return };
    run(async {
        let kafka = connect(cluster.bootstrap_text(Listener::plain())).await;
        create_topic(&kafka, "mixed-never", 4).await;
        send(&kafka, "mixed-never", 4, 0..400).await;
        let join = |protocol| {
            let settings = member(&kafka, "mixed-never", protocol).assignors([sticky()]);
            settings.topics(["mixed-never"]).build().unwrap()
        };
        let mut first = join(GroupProtocol::Classic);
        assert_eq!(read(&mut first, 400).await.len(), 400);
        let mut second = join(GroupProtocol::Consumer);
        let (mut seen, began) = (BTreeSet::new(), Instant::now());
        while first.assignment().len() != 2 || second.assignment().len() != 2 {
            assert!(began.elapsed() < LONG, "{:?} and {:?}", first.assignment(), second.assignment());
            look(&mut first, &mut seen).await;
            look(&mut second, &mut seen).await;
        }
        send(&kafka, "mixed-never", 4, 400..800).await;
        let (one, other) = tokio::join!(read(&mut first, 200), read(&mut second, 200));
        let all: BTreeSet<u32> = one.into_keys().chain(other.into_keys()).collect();
        assert_eq!(all, (400..800).collect());
        second.close(LONG).await.unwrap();
        first.close(LONG).await.unwrap();
        kafka.close().await;
    });
}

/// A static member that comes back by the other protocol takes its own place.
#[test]
fn a_static_member_comes_back_by_the_other_protocol() {
    let Some(broker) = shared("4.4.0") else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "mixed-static", 4).await;
        let protocols = [GroupProtocol::Classic, GroupProtocol::Consumer, GroupProtocol::Classic];
        let mut other = member(&kafka, "mixed-static", GroupProtocol::Classic)
            .assignors([sticky()])
            .topics(["mixed-static"])
            .build()
            .unwrap();
        let (mut seen, mut sent) = (BTreeSet::new(), 0);
        for protocol in protocols {
            let mut comes = member(&kafka, "mixed-static", protocol)
                .assignors([sticky()])
                .group_instance("one")
                .topics(["mixed-static"])
                .build()
                .unwrap();
            send(&kafka, "mixed-static", 4, sent..sent + 400).await;
            sent += 400;
            let began = Instant::now();
            while seen.len() < sent as usize || comes.assignment().len() != 2 || other.assignment().len() != 2
            {
                let has = (seen.len(), comes.assignment().len(), other.assignment().len());
                assert!(began.elapsed() < LONG, "{protocol:?}: {has:?}");
                look(&mut other, &mut seen).await;
                look(&mut comes, &mut seen).await;
            }
            comes.commit_all().await.unwrap();
            comes.close(LONG).await.unwrap();
        }
        assert_eq!(seen, (0..sent).collect());
        other.close(LONG).await.unwrap();
        kafka.close().await;
    });
}
