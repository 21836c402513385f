//! Numbers are copied from topic to topic in transactions, three times over, by members that quit early, while all
//! connections are cut every second: at the end each is there once, and in order.
//!
//! The copier is the program beside; each level has two, by other protocols.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use weir_kafka_harness::fetch;
use weir_kafka_harness::proxy::End;

use super::super::programs::copier::{flags, run};
use super::*;
use crate::broker::java::consume_from;

const LEVELS: usize = 3;
const PARTS: i32 = 3;

/// The short form.
const COUNT: u64 = 3000;

#[test]
fn chained_copies_have_each_record_once() {
    let Some(rig) = Rig::start("4.4.0") else { return };
    for (protocol, name) in [("classic", "one"), ("consumer", "two")] {
        chain(&rig, protocol, name);
    }
}

fn chain(rig: &Rig, protocol: &'static str, name: &'static str) {
    let count = setting("WEIR_CHAOS_RECORDS").unwrap_or(COUNT);
    let runtime = Runtime::new().unwrap();
    let bootstrap = rig.bootstrap();
    let done = Arc::new(AtomicBool::new(false));
    let (lives, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = runtime.block_on(async {
        let kafka = connect(&bootstrap).await;
        for level in 0..=LEVELS {
            create(&kafka, &format!("{name}-{level}"), PARTS).await;
        }
        super::super::send(&kafka, &format!("{name}-0"), PARTS, 0..count as u32).await;
        let workers: Vec<JoinHandle<()>> = (0..LEVELS * 2)
            .map(|worker| {
                let line = format!(
                    "--bootstrap-server {bootstrap} --transactional-id {name}-{worker} --group-mode \
                     --consumer-group {name}-{level} --input-topic {name}-{level} --output-topic {name}-{next} \
                     --transaction-size 100 --use-group-metadata --follow --group-protocol {protocol}",
                    level = worker / 2,
                    next = worker / 2 + 1,
                );
                let counts = (Arc::clone(&lives), Arc::clone(&failures));
                tokio::spawn(work(line, worker, Arc::clone(&done), counts))
            })
            .collect();
        let last = format!("{name}-{LEVELS}");
        let seen = tokio::time::timeout(
            Duration::from_secs(120 + count / 200),
            wait_for_all(rig, &kafka, &last, count as usize),
        )
        .await;
        done.store(true, Ordering::Relaxed);
        for worker in workers {
            worker.await.unwrap();
        }
        kafka.close().await;
        seen
    });
    let (lives, failures) = (lives.load(Ordering::Relaxed), failures.load(Ordering::Relaxed));
    say(&format!(
        "chain of {protocol}: {count} records, {lives} lives of copiers, {failures} ended by an error"
    ));
    assert!(seen.is_ok(), "{protocol}: all come to the end");
    for level in 1..=LEVELS {
        check(&bootstrap, &format!("{name}-{level}"), count as u32);
    }
}

/// One copier after another, until all is done: told to end at once, after a while, or dropped in the midst of it.
async fn work(
    line: String,
    worker: usize,
    done: Arc<AtomicBool>,
    (lives, failures): (Arc<AtomicUsize>, Arc<AtomicUsize>),
) {
    let mut turn = worker;
    while !done.load(Ordering::Relaxed) {
        turn += 1;
        lives.fetch_add(1, Ordering::Relaxed);
        let job = flags::Job::read(line.split_whitespace().map(str::to_owned)).unwrap();
        let until = Arc::clone(&done);
        let time = SECOND * [0, 3, 7, 12][turn % 4];
        let ended = async move {
            let began = Instant::now();
            while began.elapsed() < time && !until.load(Ordering::Relaxed) {
                tokio::time::sleep(SECOND / 10).await;
            }
        };
        let copy = run::run(job, std::io::sink(), ended);
        // Every fifth is dropped wherever it is.
        let patience = if turn.is_multiple_of(5) { 4 * SECOND } else { 2 * LONG };
        if let Ok(Err(error)) = tokio::time::timeout(patience, copy).await {
            failures.fetch_add(1, Ordering::Relaxed);
            say(&format!("chain: copier {worker}: {error}"));
        }
        tokio::time::sleep(SECOND / 5).await;
    }
}

/// Cuts all connections every second until so many different numbers have arrived.
async fn wait_for_all(rig: &Rig, kafka: &Client, topic: &str, count: usize) {
    let reader = kafka.consumer().isolation(weir::consumer::Isolation::ReadCommitted);
    let mut reader = reader.reset(weir::consumer::Reset::Earliest).build().unwrap();
    reader.assign((0..PARTS).map(|partition| (topic, partition))).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    let mut beat = tokio::time::interval(SECOND);
    while seen.len() < count {
        tokio::select! {
            _ = beat.tick() => rig.proxies.iter().for_each(|proxy| proxy.cut_links(End::Reset)),
            batch = reader.next() => match batch {
                Ok(batch) => {
                    let batch = batch.expect("it is not closed");
                    seen.extend(batch.iter().map(|record| number(record.value())));
                }
                Err(error) => say(&format!("chain: the reader: {error}")),
            },
        }
    }
}

/// Java finds each number once, in the order of its partition.
fn check(bootstrap: &str, topic: &str, count: u32) {
    let jars = fetch(&"4.4.0".parse().unwrap()).expect("a broker runs from such jars");
    let seen = consume_from(&jars, bootstrap, topic, &["isolation.level=read_committed"]);
    for partition in 0..PARTS {
        let mine = seen.iter().filter(|record| record.partition == partition);
        let numbers: Vec<u32> = mine.map(|record| number(record.value.as_deref())).collect();
        let wanted: Vec<u32> = (0..count).filter(|number| *number as i32 % PARTS == partition).collect();
        let same = numbers.iter().zip(&wanted).take_while(|(one, other)| one == other).count();
        let rest = numbers.get(same..).unwrap_or_default().iter().take(5).collect::<Vec<_>>();
        assert!(
            numbers == wanted,
            "{topic} {partition}: {} of {}, wrong at {same}: {rest:?}",
            numbers.len(),
            wanted.len()
        );
    }
}
