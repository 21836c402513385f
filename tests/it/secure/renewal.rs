//! Sessions that end (KIP-368): every mechanism authenticates again, in time, on the same connection, while
//! requests of many tasks are under way, and none of them sees it. Row M08 with a real broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use weir::observe::Event;
use weir::{Client, Result};
use weir_kafka_harness::Listener;

use super::{SESSION, metadata, site, ways, who};
use crate::broker::VERSIONS;

const TASKS: usize = 4;
const AT_ONCE: usize = 5;

/// One client at work.
struct Working {
    listener: Listener,
    client: Client,
    renewed: Arc<AtomicUsize>,
    lost: Arc<AtomicUsize>,
}

impl Working {
    async fn connect(site: &super::Site, listener: Listener) -> Self {
        let (renewed, lost) = <(Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let (renewals, ends) = (Arc::clone(&renewed), Arc::clone(&lost));
        let builder = site.builder(listener).on_event(move |event| match event {
            Event::Authenticated { again: true, .. } => {
                renewals.fetch_add(1, Relaxed);
            }
            Event::Lost { .. } | Event::Failed { .. } | Event::Retried { .. } => {
                ends.fetch_add(1, Relaxed);
            }
            _ => {}
        });
        let client = builder.connect().await.unwrap();
        Self { listener, client, renewed, lost }
    }

    /// Several requests at once, again and again until then; how many were answered.
    async fn work(client: Client, until: Instant) -> Result<usize> {
        let mut answered = 0;
        while Instant::now() < until {
            let all: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    tokio::spawn({
                        let client = client.clone();
                        async move { metadata(&client).await }
                    })
                })
                .collect();
            for one in all {
                one.await.expect("no panic")?;
                answered += 1;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(answered)
    }
}

#[tokio::test]
async fn m08_sessions_are_renewed_under_requests_and_nobody_sees_it() {
    let Some(site) = site(VERSIONS[0]) else { return };
    let mut all = Vec::new();
    for listener in ways() {
        all.push(Working::connect(site, listener).await);
    }
    // The first connection was to a bootstrap address; the one that stays is opened with the first request.
    for one in &all {
        metadata(&one.client).await.unwrap();
    }
    let opened: Vec<_> = all.iter().map(|one| one.client.stats().connections_opened).collect();
    let lost: Vec<_> = all.iter().map(|one| one.lost.load(Relaxed)).collect();
    let until = Instant::now() + 2 * SESSION + Duration::from_secs(2);
    let tasks: Vec<_> = all
        .iter()
        .flat_map(|one| {
            (0..TASKS).map(|_| (one.listener, tokio::spawn(Working::work(one.client.clone(), until))))
        })
        .collect();
    for (listener, task) in tasks {
        let answered = task.await.unwrap().unwrap_or_else(|error| panic!("{listener}: {error}"));
        assert!(answered > 20, "{listener}: {answered}");
    }
    for ((one, opened), lost) in all.iter().zip(opened).zip(lost) {
        let (listener, stats) = (one.listener, one.client.stats());
        assert!(one.renewed.load(Relaxed) >= 2, "{listener}: {} renewals", one.renewed.load(Relaxed));
        assert_eq!(
            one.lost.load(Relaxed),
            lost,
            "{listener}: connections were lost, requests failed or retried"
        );
        assert_eq!(stats.connections_opened, opened, "{listener}: no new connection");
        // Still the same user.
        assert_eq!(who(&one.client).await.unwrap(), super::user(listener));
        one.client.close().await;
    }
}
