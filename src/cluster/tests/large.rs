//! Ten thousand topics with ten partitions each.

use std::time::{Duration, Instant};

use super::fake::Fake;
use super::*;
use crate::cluster::metadata::{Leader, TopicKey};

const TOPICS: usize = 10_000;

fn name(n: usize) -> String {
    format!("orders-of-region-{n}")
}

/// The longest time for which a task that always wants to run does not.
async fn longest_stall(stop: std::sync::Arc<std::sync::atomic::AtomicBool>) -> Duration {
    let mut longest = Duration::ZERO;
    let mut last = Instant::now();
    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
        tokio::task::yield_now().await;
        let now = Instant::now();
        longest = longest.max(now - last);
        last = now;
    }
    longest
}

/// On a runtime with one thread, a task that always wants to run measures for how long it cannot, and that
/// is little of the time that the refresh takes. The machine that this runs on may be busy, so the best of
/// some attempts counts; how long it is in milliseconds is for a bench to say.
#[tokio::test]
async fn ten_thousand_topics_do_not_stall_the_executor() {
    let fake = Fake::new();
    {
        let mut world = fake.world();
        world.topics =
            (0..TOPICS).map(|n| (name(n), (0..10).map(|p| ((p + n as i32) % 3 + 1, 0)).collect())).collect();
    }
    let cluster = cluster(&fake);
    cluster.want_all();
    let mut best = f64::MAX;
    for round in 0..8 {
        // Each time all leaders have moved, so that nothing can be kept.
        for partitions in fake.world().topics.values_mut() {
            for (leader, epoch) in partitions {
                (*leader, *epoch) = (*leader % 3 + 1, round + 1);
            }
        }
        fake.world().prepare_metadata();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stalls = tokio::spawn(longest_stall(std::sync::Arc::clone(&stop)));
        let began = Instant::now();
        let snapshot = cluster.refresh(clock::now() + 30 * SECOND).await.unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let whole = began.elapsed();
        best = best.min(stalls.await.unwrap().as_secs_f64() / whole.as_secs_f64());
        assert_eq!(snapshot.topics().len(), TOPICS);
        let leader = snapshot.leader(&TopicKey::from(name(7).as_str()), 3);
        assert_eq!(leader, Leader::Known { broker: (3 + 7 + round + 1) % 3 + 1, epoch: round + 1 });
    }
    assert!(best < 0.5, "the executor stood still for {best:.2} of a refresh");
}
