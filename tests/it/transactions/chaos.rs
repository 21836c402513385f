//! Transactions of several producers, some of which are aborted or dropped, while brokers are killed, paused and
//! restarted, links are cut, and leaders move. Kafka's own consumer reads what is committed: of each transaction all
//! or nothing, as its producer was told, each record once and in order.
//!
//! `cargo test` sends a few ten thousand records in one round of faults on the newest version. With
//! `WEIR_CHAOS_RECORDS` that many go to each version, and the rounds go on until all are sent.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use weir::producer::{Transaction, TransactionalProducer};
use weir::{Client, Record, Result};
use weir_kafka_harness::unless_skipped;

use super::cluster::settle;
use super::{LONG, SECOND, committed, create_topic};
use crate::broker::VERSIONS;
use crate::faults::rig::{self, Lead, Rig};
use crate::seed::{number, say};

const TOPIC: &str = "transactions-chaos";
const PARTITIONS: usize = 6;
const PRODUCERS: usize = 3;

/// The short form.
const RECORDS: usize = 24_000;
const TIME: Duration = Duration::from_secs(30);
/// The long form, records a second.
const RATE: usize = 2000;

/// How long producers may take until something is committed again.
const RECOVERY_MAX: Duration = Duration::from_secs(90);

/// How a transaction was meant to end, or what its producer was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Committed,
    Not,
    /// Nobody knows.
    MayBe,
}

/// The records of each transaction of a producer, and its end.
type Ends = Vec<(Range<usize>, Told)>;

#[test]
fn transactions_live_through_every_fault() {
    match number("WEIR_CHAOS_RECORDS") {
        None => chaos(VERSIONS[0], RECORDS, TIME, 1),
        Some(records) => {
            let records = records as usize;
            let time = Duration::from_secs((records / RATE) as u64);
            for version in VERSIONS {
                chaos(version, records, time, usize::MAX);
            }
        }
    }
}

fn chaos(version: &str, records: usize, time: Duration, rounds: usize) {
    let started = Rig::start(version);
    let Some(rig) = unless_skipped(&format!("three brokers of {version}"), started) else { return };
    let runtime = Runtime::new().expect("a runtime");
    let request = 3 * SECOND;
    let builder =
        Client::builder(&rig.bootstrap()).request_timeout(request).setup_timeout(request, request * 2);
    let kafka = runtime.block_on(builder.connect()).expect("the brokers are there");
    runtime.block_on(create_topic(&kafka, TOPIC, PARTITIONS as i32, 3));
    let done = Arc::<AtomicUsize>::default();
    let start =
        |who| runtime.spawn(produce(kafka.clone(), who, records / PRODUCERS, time, Arc::clone(&done)));
    let producers: Vec<_> = (0..PRODUCERS).map(start).collect();
    let rounds = disturb(&rig, &runtime, &kafka, &producers, &done, rounds);
    let ends: Vec<Ends> = runtime.block_on(async {
        let mut all = Vec::new();
        for producer in producers {
            let ends = tokio::time::timeout(5 * LONG, producer).await;
            all.push(ends.expect("producers come to an end").unwrap());
        }
        settle(&kafka, TOPIC, PARTITIONS as i32).await;
        all
    });
    let seen = runtime.block_on(committed(rig.bootstrap(), TOPIC));
    let count = |told| ends.iter().flatten().filter(|(_, end)| *end == told).count();
    say(&format!(
        "transactions on {version}: {} committed, {} not, {} unknown; {} records read back by Java; {rounds} faults",
        count(Told::Committed),
        count(Told::Not),
        count(Told::MayBe),
        seen.len(),
    ));
    let wrong = judge(&ends, &seen);
    assert!(wrong.is_empty(), "{version}: {wrong:?}");
    assert!(count(Told::Committed) * 2 > count(Told::Not), "most of them come to their end");
}

/// One fault after the other, each until transactions go on.
fn disturb(
    rig: &Rig,
    runtime: &Runtime,
    kafka: &Client,
    producers: &[JoinHandle<Ends>],
    done: &AtomicUsize,
    rounds: usize,
) -> usize {
    let over = || producers.iter().all(JoinHandle::is_finished);
    let goes_on = |after: &str| {
        let (began, before) = (Instant::now(), done.load(Relaxed));
        while done.load(Relaxed) < before + 5 && !over() {
            assert!(began.elapsed() < RECOVERY_MAX, "{after}: nothing is committed any more");
            weir_kafka_harness::wait_a_little();
        }
        let done = done.load(Relaxed);
        say(&format!("transactions: {after}: go on after {:.1?}; {done} committed", began.elapsed()));
    };
    let lasts = |time| runtime.block_on(async { tokio::time::sleep(time).await });
    goes_on("the start");
    let mut faults = 0;
    for id in (1..=rig::NODES).cycle().take(rounds.saturating_mul(rig::NODES as usize)) {
        let node = rig.cluster.node(id);
        node.kill();
        goes_on("a broker was killed");
        node.start().expect("it starts again");
        runtime.block_on(rig::move_leaders(kafka, TOPIC, Lead::Next));
        goes_on("it is back, and leaders moved");
        let next = rig.cluster.node(id % rig::NODES + 1);
        next.pause().expect("it runs");
        lasts(4 * SECOND);
        next.resume().expect("it is paused");
        goes_on("a broker was paused");
        let cut = rig.cut(id);
        lasts(4 * SECOND);
        drop(cut);
        goes_on("a link was cut");
        next.terminate().expect("it runs");
        next.start().expect("it starts again");
        goes_on("a broker was restarted");
        faults += 5;
        if over() {
            break;
        }
    }
    faults
}

fn build(kafka: &Client, who: usize) -> TransactionalProducer {
    let builder = kafka.producer().max_block(LONG).delivery_timeout(LONG);
    let builder = builder.transactional_id(&format!("chaos-{who}")).transaction_timeout(10 * LONG);
    builder.build().unwrap()
}

/// Numbered records in transactions of different sizes, over at least that time.
async fn produce(kafka: Client, who: usize, count: usize, time: Duration, done: Arc<AtomicUsize>) -> Ends {
    let mut producer = build(&kafka, who);
    let mut ends = Ends::new();
    let (began, mut first) = (Instant::now(), 0);
    while first < count {
        while began.elapsed() * (count as u32) < time * (first as u32) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let records = first..(first + 1 + (ends.len() * 37 + who) % 120).min(count);
        first = records.end;
        let told = one(&mut producer, who, records.clone(), ends.len()).await;
        let told = told.unwrap_or_else(|error| {
            // A coordinator that moved may take the second request for an end for that of an older producer. It is
            // said aloud, since it should not be so, and what the producer was told has to be true all the same.
            say(&format!("transactions: producer {who}, {}: FENCED BY NOBODY: {error:?}", ends.len()));
            producer = build(&kafka, who);
            Told::Not
        });
        done.fetch_add(usize::from(told == Told::Committed), Relaxed);
        ends.push((records, told));
    }
    producer.close(LONG).await.expect("the last one has ended");
    ends
}

/// One transaction; every fourth is aborted in one way or the other. The error says that the producer is fenced.
async fn one(
    producer: &mut TransactionalProducer,
    who: usize,
    records: Range<usize>,
    number: usize,
) -> Result<Told> {
    let transaction = match producer.begin().await {
        Ok(transaction) => transaction,
        Err(error) if error.is_fenced() => return Err(error),
        Err(error) => {
            assert!(error.is_timeout(), "{who} {number}: {error:?}");
            return Ok(Told::Not);
        }
    };
    if fill(&transaction, who, records).await.is_err() || number % 8 == 3 {
        drop(transaction);
        return Ok(Told::Not);
    }
    let commits = number % 8 != 7;
    let ended = if commits { transaction.commit().await } else { transaction.abort().await };
    match ended {
        Ok(()) if commits => Ok(Told::Committed),
        Ok(()) => Ok(Told::Not),
        Err(error) if commits && error.may_have_happened() => Ok(Told::MayBe),
        Err(error) if error.is_fenced() => Err(error),
        Err(error) => {
            assert!(commits || error.is_timeout(), "{who} {number}: {error:?}");
            Ok(Told::Not)
        }
    }
}

async fn fill(transaction: &Transaction<'_>, who: usize, records: Range<usize>) -> Result<()> {
    let topic = transaction.topic(TOPIC);
    for number in records {
        let value = format!("{who} {number}");
        let record = Record::new().value(&value).partition((number % PARTITIONS) as i32);
        drop(topic.enqueue(record).await?);
    }
    Ok(())
}

/// What is wrong. `seen` is in the order of partitions and offsets.
fn judge(ends: &[Ends], seen: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut found: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut last: BTreeMap<(usize, usize), usize> = BTreeMap::new();
    for value in seen {
        let (who, number) = value.split_once(' ').expect("two numbers");
        let (who, number): (usize, usize) = (who.parse().expect("one"), number.parse().expect("another"));
        if !found.insert((who, number)) {
            wrong.push(format!("{value}: twice"));
        }
        let before = last.insert((who, number % PARTITIONS), number);
        if before.is_some_and(|before| before > number) {
            wrong.push(format!("{value}: behind {before:?}"));
        }
    }
    for (who, ends) in ends.iter().enumerate() {
        for (records, told) in ends {
            let there = records.clone().filter(|number| found.contains(&(who, *number))).count();
            let right = match told {
                Told::Committed => there == records.len(),
                Told::Not => there == 0,
                Told::MayBe => there == 0 || there == records.len(),
            };
            if !right {
                wrong.push(format!("{who} {records:?}: {told:?}, and {there} are there"));
            }
        }
    }
    wrong.truncate(20);
    wrong
}

#[test]
fn the_judge_sees_what_is_wrong() {
    let ends = vec![vec![(0..4, Told::Committed), (4..8, Told::Not), (8..12, Told::MayBe)]];
    let values = |numbers: &[usize]| numbers.iter().map(|n| format!("0 {n}")).collect::<Vec<_>>();
    assert_eq!(judge(&ends, &values(&[0, 1, 2, 3])), [""; 0]);
    assert_eq!(judge(&ends, &values(&[0, 1, 2, 3, 8, 9, 10, 11])), [""; 0]);
    for (seen, what) in [
        (&[0, 1, 2][..], "Committed, and 3 are there"),
        (&[0, 1, 2, 3, 3], "0 3: twice"),
        (&[0, 1, 2, 3, 5], "Not, and 1 are there"),
        (&[0, 1, 2, 3, 8], "MayBe, and 1 are there"),
        (&[0, 1, 2, 3, 8, 9, 11, 10], ""),
        (&[8, 9, 10, 11, 0, 1, 2, 3], "0 2: behind Some(8)"),
    ] {
        let wrong = judge(&ends, &values(seen)).join("; ");
        assert!(wrong.contains(what) && wrong.is_empty() == what.is_empty(), "{seen:?}: {wrong}");
    }
}
