//! Numbered records from several producers to a cluster of three, while brokers are restarted in turn, killed,
//! and paused, links are cut, and leaders move. Java reads back: nothing acknowledged is lost, nothing is there
//! twice, each producer's records of a partition are in order, and what was reported as certainly not written
//! is not there.
//!
//! `cargo test` sends a few ten thousand in one round of faults on the newest version. With `WEIR_CHAOS_RECORDS`
//! that many go to each version, a million for instance, in some thousand a second, and the rounds go on until
//! all are sent.
//!
//! `load` sends and writes down what it is told, the rig of `faults` does the harm, `check` judges.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use weir::protocol::create_topics::{CreatableReplicaAssignment, CreatableTopic, CreateTopicsRequest};
use weir::{Client, Delivery, Producer, Record, Result};
use weir_kafka_harness::unless_skipped;

use super::{LONG, SECOND, create, reader_jars};
use crate::broker::VERSIONS;
use crate::broker::java::consume_from;
use crate::faults::rig::{self, Lead, Rig};
use crate::seed::{number, say};

/// The judge, and defects that it catches.
mod check;
/// The producers.
mod load;

use check::{Seen, Told};
use load::{PRODUCERS, Progress};

const TOPIC: &str = "chaos";
const PARTITIONS: i32 = 6;

/// The short form.
const RECORDS: usize = 60_000;
const TIME: Duration = Duration::from_secs(40);

/// The long form, records a second.
const RATE: u64 = 4000;

/// What is done to a broker or its link while nothing is said for so long.
const SILENCE: Duration = Duration::from_secs(5);

/// How long producers may take until something is acknowledged again.
const RECOVERY_MAX: Duration = Duration::from_secs(90);

#[test]
fn acknowledged_records_live_through_every_fault() {
    match number("WEIR_CHAOS_RECORDS") {
        None => chaos(VERSIONS[0], RECORDS, TIME, 1),
        Some(records) => {
            for version in VERSIONS {
                let time = Duration::from_secs(records / RATE);
                chaos(version, records as usize, time, usize::MAX);
            }
        }
    }
}

/// One run on one version.
struct Chaos {
    runtime: Runtime,
    client: Client,
    rig: Rig,
    progress: Arc<Progress>,
    producers: Vec<JoinHandle<Result<Vec<Told>>>>,
    faults: usize,
    slowest: Duration,
}

/// Rounds go on until all is sent, or as many as are wanted are done.
fn chaos(version: &str, records: usize, time: Duration, rounds: usize) {
    let Some(rig) = unless_skipped(&format!("three brokers of {version}"), Rig::start(version)) else {
        return;
    };
    let runtime = Runtime::new().expect("a runtime");
    let request = Duration::from_secs(3);
    let builder =
        Client::builder(&rig.bootstrap()).request_timeout(request).setup_timeout(request, request * 2);
    let client = runtime.block_on(builder.connect()).expect("the brokers are there");
    runtime.block_on(create(&client, TOPIC, PARTITIONS, 3, &[("min.insync.replicas", "2")]));
    let progress = Arc::<Progress>::default();
    let start = |producer| {
        let all = load::send_all(client.clone(), producer, records / PRODUCERS, time, Arc::clone(&progress));
        runtime.spawn(all)
    };
    let producers = (0..PRODUCERS).map(start).collect();
    let mut chaos = Chaos { runtime, client, rig, progress, producers, faults: 0, slowest: Duration::ZERO };
    chaos.recovers("the start");
    let nodes = [(1, 2, 3, 1), (2, 3, 1, 2), (3, 1, 2, 3)];
    for (killed, paused, cut, ended) in nodes.into_iter().cycle().take(rounds) {
        chaos.kill(killed);
        chaos.move_leaders();
        chaos.pause(paused);
        chaos.cut(cut);
        chaos.end_and_start(ended);
        if chaos.producers.iter().all(JoinHandle::is_finished) {
            break;
        }
    }
    chaos.judge(version);
}

impl Chaos {
    /// The others go on; then it comes back. P12: what it alone holds has no leader meanwhile, and waits.
    fn kill(&mut self, node: i32) {
        let (producer, before) = self.runtime.block_on(alone(&self.client, node, self.faults));
        self.rig.cluster.node(node).kill();
        self.recovers("a broker was killed");
        let name = before.topic().to_owned();
        let taken = self.runtime.block_on(producer.enqueue(Record::to(&name).value("waits")));
        let waits = taken.expect("the topic is known");
        self.lasts(SECOND);
        assert!(waits.try_get().is_none(), "nobody leads {name}: {waits:?}");
        self.rig.cluster.node(node).start().expect("it starts again");
        self.recovers("it is back");
        let waited = self.runtime.block_on(async { tokio::time::timeout(LONG, waits).await });
        let waited = waited.expect("it has a leader again").expect("and is written");
        assert_eq!((before.offset(), waited.offset()), (Some(0), Some(1)));
    }

    /// In order, as an operator does: it hands its partitions over, and comes back with the same data.
    fn end_and_start(&mut self, node: i32) {
        self.rig.cluster.node(node).terminate().expect("it runs");
        self.recovers("a broker was ended");
        self.rig.cluster.node(node).start().expect("it starts again");
        self.recovers("it was restarted");
    }

    fn pause(&mut self, node: i32) {
        self.rig.cluster.node(node).pause().expect("it runs");
        self.lasts(SILENCE);
        self.rig.cluster.node(node).resume().expect("it is paused");
        self.recovers("a broker was paused");
    }

    fn cut(&mut self, node: i32) {
        let cut = self.rig.cut(node);
        self.lasts(SILENCE);
        drop(cut);
        self.recovers("a link was cut");
    }

    fn move_leaders(&mut self) {
        self.runtime.block_on(rig::move_leaders(&self.client, TOPIC, Lead::Next));
        self.recovers("leaders moved");
    }

    /// The fault is that something takes this long, so there is no event to wait for.
    fn lasts(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// More is acknowledged, unless all is.
    fn recovers(&mut self, from: &str) {
        let (began, before) = (Instant::now(), self.progress.acked.load(Relaxed));
        let goes_on = || self.progress.acked.load(Relaxed) > before + 100;
        while !goes_on() && !self.producers.iter().all(JoinHandle::is_finished) {
            assert!(began.elapsed() < RECOVERY_MAX, "{from}: nothing is acknowledged any more");
            weir_kafka_harness::wait_a_little();
        }
        self.faults += 1;
        self.slowest = self.slowest.max(began.elapsed());
        let (sent, acked) = (self.progress.sent.load(Relaxed), self.progress.acked.load(Relaxed));
        say(&format!("chaos: {from}: goes on after {:.1?}; {sent} sent, {acked} acked", began.elapsed()));
    }

    /// Waits for the producers, has Java read everything, and compares.
    fn judge(self, version: &str) {
        let Self { runtime, client, rig, progress, producers, faults, slowest } = self;
        let told: Vec<Vec<Told>> = runtime.block_on(async {
            let mut all = Vec::new();
            for producer in producers {
                let told = tokio::time::timeout(Duration::from_mins(5), producer).await;
                all.push(told.expect("producers come to an end").unwrap().expect("and it is a good one"));
            }
            all
        });
        let seen = read(&rig);
        runtime.block_on(client.close());
        let count = |wanted: fn(&Told) -> bool| told.iter().flatten().filter(|told| wanted(told)).count();
        let acked = count(|told| matches!(told, Told::Acked { .. }));
        say(&format!(
            "chaos on {version}: {} records, {acked} acked, {} failed for certain, {} perhaps written; {} read \
             back by Java; {faults} events, the longest stall {slowest:.1?}",
            told.iter().map(Vec::len).sum::<usize>(),
            count(|told| *told == Told::Failed),
            count(|told| *told == Told::MayBe),
            seen.len(),
        ));
        for ((producer, words), (count, first)) in progress.errors.lock().unwrap().iter() {
            say(&format!("chaos: producer {producer}: {count} times, first of record {first}: {words}"));
        }
        let wrong = check::judge(&told, &seen);
        assert!(wrong.is_empty(), "{version}:\n{}", wrong.join("\n"));
        assert!(acked * 10 >= told.iter().map(Vec::len).sum::<usize>() * 7, "most of it arrives");
    }
}

/// A topic with its only copy on one node, and a producer that has written to it.
async fn alone(client: &Client, node: i32, number: usize) -> (Producer, Delivery) {
    let name = format!("alone-{number}");
    let only = CreatableReplicaAssignment {
        partition_index: 0,
        broker_ids: vec![node].into(),
        ..Default::default()
    };
    let topic = CreatableTopic {
        name: name.as_str().into(),
        // The assignment says it.
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![only],
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let answer = client.request(request).await.expect("there is a controller");
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    let producer = client.producer().build().unwrap();
    let before = producer.send(Record::to(&name).value("before")).await.expect("its leader is there");
    (producer, before)
}

/// The whole log as Java reads it.
fn read(rig: &Rig) -> Vec<Seen> {
    let records = consume_from(&reader_jars(), &rig.bootstrap(), TOPIC, &[]);
    let seen = |record: crate::broker::java::JavaRecord| {
        let value = String::from_utf8(record.value.expect("a value")).expect("text");
        let (producer, number) = value.split_once(' ').expect("two numbers");
        let (producer, number) = (producer.parse().expect("a number"), number.parse().expect("a number"));
        Seen { partition: record.partition, offset: record.offset, producer, number }
    };
    records.into_iter().map(seen).collect()
}
