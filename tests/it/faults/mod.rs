//! Faults on a real cluster of three brokers under a steady stream of requests through one client.
//!
//! `stream` keeps calling and `record` writes down what callers are told, while `rig` kills brokers, pauses
//! them, cuts their links, moves leaders and coordinators, and replaces all of them. Every call ends in time,
//! with a result or an error of a kind that passes; the stream recovers by itself; there is no storm of
//! connections and no hot loop; and in the end `check` compares the log with what was told.
//!
//! `cargo test` runs one round on the newest version. The long form goes on for as many minutes as
//! `WEIR_FAULT_MINUTES` says, and one round at least, with each broker in turn, on each version.

use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use weir::protocol::metadata::MetadataResponsePartition;
use weir::{ApiKey, Client};
use weir_kafka_harness::unless_skipped;

use crate::broker::VERSIONS;
use crate::seed::{number, say};

/// The judge.
mod check;
/// The calls.
mod job;
/// What became of them.
mod record;
/// Brokers, proxies, faults.
pub(crate) mod rig;
/// Rows of the catalogue of faults that want a real broker.
#[cfg(feature = "ring")]
mod rows;
/// The tasks.
mod stream;

use rig::{Lead, NODES, Rig};
use stream::Stream;

const REQUEST: Duration = Duration::from_secs(2);
const CALL: Duration = Duration::from_secs(8);

/// How much later than its time a call may end on a machine that has other things to do.
const MARGIN: Duration = Duration::from_secs(6);

/// How long a stream may take to work again. Brokers take most of it: elections, loading of coordinators.
const RECOVERY_MAX: Duration = Duration::from_secs(90);

/// Past the request timeout, and past the time after which the others give a silent broker up.
const PAUSED: Duration = Duration::from_secs(6);

/// Past the time of a call, so that some end without an answer.
const CUT: Duration = Duration::from_secs(10);

/// A test in the middle of its faults.
struct Run {
    runtime: Runtime,
    client: Client,
    rig: Rig,
    stream: Stream,
    rounds: u64,
}

#[test]
fn a_stream_of_requests_lives_through_every_fault() {
    let Some(minutes) = number("WEIR_FAULT_MINUTES") else {
        return run(VERSIONS[0], |run| run.round(&[(1, 2, 3)]));
    };
    let time = Duration::from_mins(minutes) / VERSIONS.len() as u32;
    for version in VERSIONS {
        run(version, |run| {
            let began = Instant::now();
            while run.rounds == 0 || began.elapsed() < time {
                run.round(&[(1, 2, 3), (2, 3, 1), (3, 1, 2)]);
            }
        });
    }
}

fn run(version: &str, faults: impl FnOnce(&mut Run)) {
    let what = format!("three brokers of {version}");
    let Some(rig) = unless_skipped(&what, Rig::start(version)) else { return };
    let runtime = Runtime::new().expect("a runtime");
    let builder = Client::builder(&rig.bootstrap())
        .request_timeout(REQUEST)
        .api_timeout(CALL)
        .setup_timeout(REQUEST, REQUEST * 2)
        .close_timeout(CALL);
    let client = runtime.block_on(builder.connect()).expect("the brokers are there");
    runtime.block_on(rig::create_topic(&client)).expect("the brokers are there");
    let stream = Stream::start(&runtime, &client, CALL + MARGIN);
    let mut run = Run { runtime, client, rig, stream, rounds: 0 };
    run.recovers("start");
    faults(&mut run);
    run.end(version);
}

impl Run {
    /// Each kind of fault, on these brokers: killed, paused, cut.
    fn round(&mut self, nodes: &[(i32, i32, i32)]) {
        for (killed, paused, cut) in nodes {
            self.kill(*killed);
            self.pause(*paused);
            self.cut(*cut);
        }
        self.move_leaders("leaders moved", &[job::TOPIC]);
        self.move_leaders("coordinators moved", &["__consumer_offsets", "__transaction_state"]);
        self.replace_all();
        self.rounds += 1;
    }

    /// The others go on without it, and all goes on when it is back.
    fn kill(&mut self, node: i32) {
        self.strikes("broker killed");
        self.rig.cluster.node(node).kill();
        self.calmly(|run| run.recovers("broker killed"));
        self.stream.record().mark("broker started again");
        self.rig.cluster.node(node).start().expect("it starts again");
        self.recovers("broker started again");
    }

    /// The others' leaders change while they wait for it to have what they wrote.
    fn pause(&mut self, node: i32) {
        let partitions = self.spread();
        self.strikes("broker paused");
        self.rig.cluster.node(node).pause().expect("it runs");
        self.calmly(|run| {
            run.runtime.block_on(rig::pass_over(&run.client, &partitions, node));
            run.lasts(PAUSED);
        });
        self.rig.cluster.node(node).resume().expect("it is paused");
        self.recovers("broker resumed");
    }

    /// Only the client is cut off: the brokers see nothing of it, and what is led elsewhere goes on.
    fn cut(&mut self, node: i32) {
        let partitions = self.spread();
        self.strikes("link cut");
        let cut = self.rig.cut(node);
        self.calmly(|run| run.lasts(CUT));
        let elsewhere = partitions.iter().filter(|partition| partition.leader_id != node);
        let elsewhere: Vec<_> = elsewhere.map(|p| job::Job::Produce(p.partition_index).name()).collect();
        let mut record = self.stream.record();
        let elsewhere = |lane: &str| elsewhere.iter().any(|name| name == lane);
        let stuck = record.without_success(elsewhere).join(", ");
        if !stuck.is_empty() {
            record.complain(format!("{stuck}: stuck, though another link was cut"));
        }
        drop(record);
        drop(cut);
        self.recovers("link mended");
    }

    fn move_leaders(&mut self, what: &'static str, topics: &[&str]) {
        self.strikes(what);
        for topic in topics {
            self.runtime.block_on(rig::move_leaders(&self.client, topic, Lead::Next));
        }
        self.recovers(what);
    }

    /// Each broker leads as many partitions, so that there is something to lose and something to go on.
    fn spread(&self) -> Vec<MetadataResponsePartition> {
        self.runtime.block_on(async {
            rig::move_leaders(&self.client, job::TOPIC, Lead::Even).await;
            rig::partitions(&self.client, job::TOPIC).await.expect("all is well")
        })
    }

    /// Where they were nobody answers any more: the way back is by the address that the client was given.
    fn replace_all(&mut self) {
        let before = self.client.stats().rebootstraps;
        self.strikes("all brokers replaced");
        let began = Instant::now();
        self.calmly_while(|run| run.rig.replace_all().expect("they start elsewhere"));
        say(&format!("faults: the brokers were elsewhere after {:.1?}", began.elapsed()));
        self.recovers("all brokers replaced");
        assert!(self.client.stats().rebootstraps > before, "{:?}", self.client.stats());
        let known: Vec<String> =
            self.client.brokers().iter().map(|broker| broker.address.to_string()).collect();
        let told: Vec<String> = self.rig.told().iter().map(ToString::to_string).collect();
        assert_eq!(known, told);
    }

    /// The fault is that something takes this long, so there is no event to wait for.
    fn lasts(&self, time: Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    fn strikes(&self, fault: &'static str) {
        let mut record = self.stream.record();
        record.faults += 1;
        record.mark(fault);
    }

    fn recovers(&self, from: &'static str) {
        // What counts for it begins now.
        self.stream.record().mark(from);
        let took = self.stream.recovers(RECOVERY_MAX);
        say(&format!("faults: {from}: all lanes work after {took:.1?}"));
    }

    /// Something is away meanwhile, and what is tried to reach it is bounded (M10).
    fn calmly(&self, meanwhile: impl FnOnce(&Self)) {
        let before = Counts::of(self);
        meanwhile(self);
        before.compare(self);
    }

    fn calmly_while(&mut self, meanwhile: impl FnOnce(&mut Self)) {
        let before = Counts::of(self);
        meanwhile(self);
        before.compare(self);
    }

    /// Ends the stream, compares, closes, and sees that nothing is left.
    fn end(self, version: &str) {
        let Self { runtime, client, rig, stream, rounds } = self;
        let mut record = stream.end(&runtime);
        let (log, committed) = runtime.block_on(async {
            let groups: Vec<String> = record.commits.keys().cloned().collect();
            let log = stream::read_log(&client).await.expect("all is well at the end");
            (log, stream::read_commits(&client, &groups).await)
        });
        record.complaints.extend(check::records(&record.told, &log));
        record.complaints.extend(check::commits(&record.commits, &committed));
        let stats = client.stats();
        say(&format!("faults on {version}: {rounds} rounds, {}", record.summary()));
        say(&format!(
            "connections: {} opened, {} failed, {} lost; {} retries, {} metadata refreshes, {} failed, {} rebootstraps",
            stats.connections_opened,
            stats.connections_failed,
            stats.connections_lost,
            stats.retries,
            stats.metadata_refreshes,
            stats.metadata_failures,
            stats.rebootstraps,
        ));
        runtime.block_on(client.close());
        drop(client);
        let until = Instant::now() + MARGIN;
        while runtime.metrics().num_alive_tasks() > 0 && Instant::now() < until {
            weir_kafka_harness::wait_a_little();
        }
        let left = runtime.metrics().num_alive_tasks();
        drop(rig);
        assert_eq!(left, 0, "tasks are left after closing");
        assert!(record.complaints.is_empty(), "{version}:\n{}", record.complaints.join("\n"));
        assert!(!log.is_empty() && record.recoveries.len() as u64 > record.faults, "{}", record.summary());
    }
}

/// What a client that tries too hard would count.
struct Counts {
    at: Instant,
    attempts: u64,
    /// Requests for metadata, those of the stream left out.
    metadata: i64,
    retries: u64,
    calls: u64,
}

impl Counts {
    fn of(run: &Run) -> Self {
        let stats = run.client.stats();
        let metadata = stats.apis.iter().find(|(key, _)| *key == ApiKey::METADATA);
        let metadata = metadata.map_or(0, |(_, api)| api.answered + api.failed) as i64;
        let record = run.stream.record();
        Self {
            at: Instant::now(),
            attempts: stats.connections_opened + stats.connections_failed,
            metadata: metadata - record.calls_of(&job::Job::Metadata.name()) as i64,
            retries: stats.retries,
            calls: record.calls,
        }
    }

    /// Backoff begins at 100 ms and goes up to 1 s, so ten tries a second are the most that any one thing may do:
    /// a connection of a kind to a broker, a refresh of metadata, a call (of which one asks for metadata itself).
    fn compare(&self, run: &Run) {
        let now = Self::of(run);
        let seconds = self.at.elapsed().as_secs() + 1;
        let calls = now.calls - self.calls;
        let counted = [
            ("connections", now.attempts - self.attempts, 10 * 3 * (NODES as u64 + 1)),
            ("metadata requests", u64::try_from(now.metadata - self.metadata).unwrap_or(0), 20),
            ("retries", now.retries - self.retries, 10 * run.stream.record().lanes()),
        ];
        let all: Vec<String> =
            counted.iter().map(|(what, count, _)| format!("{} {what}", count / seconds)).collect();
        say(&format!("faults: a second: {}, {} calls", all.join(", "), calls / seconds));
        for (what, count, most) in counted {
            assert!(count <= most * seconds, "{count} {what} in {seconds} s");
        }
    }
}
