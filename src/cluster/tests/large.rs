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

/// On a runtime with one thread, a task that always wants to run measures for how long it cannot. The
/// machine that this runs on may be busy, so the best of some attempts counts.
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
    let mut best = Duration::MAX;
    for round in 0..5 {
        // Each time all leaders have moved, so that nothing can be kept.
        for partitions in fake.world().topics.values_mut() {
            for (leader, epoch) in partitions {
                (*leader, *epoch) = (*leader % 3 + 1, round + 1);
            }
        }
        fake.world().prepare_metadata();
        let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stalls = tokio::spawn(longest_stall(std::sync::Arc::clone(&stop)));
        let snapshot = cluster.refresh(clock::now() + 30 * SECOND).await.unwrap();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        best = best.min(stalls.await.unwrap());
        assert_eq!(snapshot.topics().len(), TOPICS);
        let leader = snapshot.leader(&TopicKey::from(name(7).as_str()), 3);
        assert_eq!(leader, Leader::Known { broker: (3 + 7 + round + 1) % 3 + 1, epoch: round + 1 });
    }
    // Without optimization everything takes many times as long.
    let most = if cfg!(debug_assertions) { Duration::from_millis(100) } else { Duration::from_millis(10) };
    assert!(best < most, "a stall of {best:?}");
}
