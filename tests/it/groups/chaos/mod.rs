//! Three groups, each by another way of sharing, read numbers from a cluster of three while members join, leave, are
//! killed and stand still for longer than their sessions, and brokers are killed and restarted. Each number is read,
//! in order; nothing is committed that was not read; no partition is two members' at once, unless the one has lost it.
//!
//! `cargo test` sends some thousand in one round of faults. With `WEIR_CHAOS_RECORDS` that many are sent, and the rounds
//! go on until all are.
//!
//! `member` lives in a group and writes down what it is told, `check` judges, `chain` copies through three topics in
//! transactions, `migrate` takes groups from one protocol to the other and back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use weir::consumer::assignors::{Assignor, CooperativeSticky, Range};
use weir::consumer::{Builder, GroupProtocol, TopicPartition};
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::{Ack, Client, Record};
use weir_kafka_harness::proxy::Proxies;
use weir_kafka_harness::{Cluster, Listener, unless_skipped};

use super::{LONG, SECOND, connect, number};
use crate::seed::{number as setting, say};

/// Copies through three topics.
mod chain;
/// The judge, and defects that it catches.
mod check;
/// A member that can be killed.
mod member;
/// From one protocol to the other and back.
mod migrate;

use check::Entry;
use member::{Handle, Log, Order};

const TOPIC: &str = "group-chaos";
const PARTITIONS: i32 = 6;
const PLAIN: Listener = Listener::plain();

/// The short form, and numbers a second.
const RECORDS: u64 = 6000;
const RATE: u32 = 200;

/// Members may be silent for so long.
const SESSION: Duration = Duration::from_secs(6);

/// How long a group may take until it reads again.
const RECOVERY_MAX: Duration = Duration::from_secs(90);

/// How a group shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Eager,
    Cooperative,
    Consumer,
}

impl Mode {
    fn group(self) -> String {
        format!("chaos-{self:?}")
    }

    fn member(self, kafka: &Client, group: &str) -> Builder {
        let assignor: Arc<dyn Assignor> = match self {
            Self::Eager => Arc::new(Range),
            Self::Cooperative | Self::Consumer => Arc::new(CooperativeSticky),
        };
        let protocol = if self == Self::Consumer { GroupProtocol::Consumer } else { GroupProtocol::Classic };
        super::member(kafka, group, protocol).session_timeout(SESSION).assignors([assignor])
    }
}

/// Three brokers behind proxies, with sessions as short for KIP-848 as for others.
struct Rig {
    cluster: Cluster,
    proxies: Proxies,
}

impl Rig {
    /// `None` is a skip, already printed.
    fn start(version: &str) -> Option<Self> {
        let proxies = Proxies::for_nodes(3).expect("there are free ports");
        let told = proxies.addresses();
        let builder = Cluster::builder(version)
            .nodes(3)
            .advertise(|id, _| told.get(id as usize - 1).copied())
            .property("replica.lag.time.max.ms", "5000")
            .property("group.initial.rebalance.delay.ms", "500")
            .property("group.consumer.min.session.timeout.ms", "6000")
            .property("group.consumer.session.timeout.ms", "6000")
            .property("group.consumer.min.heartbeat.interval.ms", "1000")
            .property("group.consumer.heartbeat.interval.ms", "1000");
        let cluster = unless_skipped(&format!("three brokers of {version}"), builder.start())?;
        proxies.set_upstreams(cluster.nodes().iter().filter_map(|node| node.address(PLAIN)));
        Some(Self { cluster, proxies })
    }

    fn bootstrap(&self) -> String {
        self.proxies.bootstrap()
    }
}

async fn create(kafka: &Client, name: &str, partitions: i32) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: 3,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    assert_eq!(kafka.request(request).await.unwrap().topics[0].error_code, 0, "{name}");
}

/// Sends numbers as long as there are to be more, each to the partition that is its remainder, and gives where each is.
async fn write_while(kafka: Client, more: impl Fn(u32) -> bool) -> BTreeMap<(i32, i64), u32> {
    let producer = kafka.producer().delivery_timeout(3 * LONG).max_block(3 * LONG).build().unwrap();
    let mut acks: Vec<(u32, Ack)> = Vec::new();
    let began = Instant::now();
    for number in (0..).take_while(|number| more(*number)) {
        let due = Duration::from_secs_f64(f64::from(number) / f64::from(RATE));
        tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
        let value = number.to_string();
        let record = Record::to(TOPIC).partition(number as i32 % PARTITIONS).value(&value);
        acks.push((number, producer.enqueue(record).await.unwrap()));
    }
    let mut written = BTreeMap::new();
    for (number, ack) in acks {
        let at = ack.await.unwrap();
        // The answer about it may be one that the broker has forgotten.
        if let Some(offset) = at.offset() {
            written.insert((at.partition(), offset), number);
        }
    }
    producer.close(LONG).await.unwrap();
    written
}

/// A group: its members, and what they have written down.
struct Group {
    name: String,
    mode: Mode,
    members: Vec<Handle>,
    log: Log,
    joined: usize,
}

impl Group {
    fn new(mode: Mode, bootstrap: &str) -> Self {
        let name = mode.group();
        let mut group = Self { name, mode, members: Vec::new(), log: Log::default(), joined: 0 };
        (0..3).for_each(|_| group.join(bootstrap));
        group
    }

    /// By the mode that it has now.
    fn join(&mut self, bootstrap: &str) {
        self.members.push(Handle::join(bootstrap, &self.name, self.mode, self.joined, &self.log));
        self.joined += 1;
    }

    /// The one that has been here for longest goes.
    fn lose_one(&mut self, order: Order) {
        self.members.remove(0).end(order);
    }

    /// How many records were read, some more than once.
    fn read(&self) -> usize {
        let count = |entry: &Entry| if let Entry::Read(_, _, records) = entry { records.len() } else { 0 };
        self.log.lock().unwrap().iter().map(count).sum()
    }
}

struct Chaos {
    runtime: Runtime,
    kafka: Client,
    rig: Rig,
    groups: Vec<Group>,
    writing: JoinHandle<BTreeMap<(i32, i64), u32>>,
}

#[test]
fn groups_live_through_every_fault_on_4_4() {
    chaos("4.4.0", &[Mode::Eager, Mode::Cooperative, Mode::Consumer]);
}

#[test]
fn groups_live_through_every_fault_on_3_9() {
    chaos("3.9.2", &[Mode::Eager, Mode::Cooperative]);
}

fn chaos(version: &str, modes: &[Mode]) {
    let (records, rounds) = setting("WEIR_CHAOS_RECORDS").map_or((RECORDS, 1), |count| (count, usize::MAX));
    let Some(rig) = Rig::start(version) else { return };
    let runtime = Runtime::new().unwrap();
    let bootstrap = rig.bootstrap();
    let kafka = runtime.block_on(connect(&bootstrap));
    runtime.block_on(create(&kafka, TOPIC, PARTITIONS));
    let writing = runtime.spawn(write_while(kafka.clone(), move |number| u64::from(number) < records));
    let groups: Vec<Group> = modes.iter().map(|mode| Group::new(*mode, &bootstrap)).collect();
    let watched: Vec<(String, Log)> =
        groups.iter().map(|group| (group.name.clone(), Arc::clone(&group.log))).collect();
    let over = Arc::new(AtomicBool::new(false));
    let watching = runtime.spawn(watch(kafka.clone(), watched, Arc::clone(&over)));
    let mut chaos = Chaos { runtime, kafka, rig, groups, writing };
    chaos.recovers("the start");
    for node in [1, 2, 3].into_iter().cycle().take(rounds) {
        chaos.round(node);
        if chaos.writing.is_finished() {
            break;
        }
    }
    chaos.judge(version, &over, watching);
}

impl Chaos {
    fn round(&mut self, node: i32) {
        let bootstrap = self.rig.bootstrap();
        self.rig.cluster.node(node).kill();
        for group in &mut self.groups {
            group.join(&bootstrap);
            group.lose_one(Order::Die);
        }
        self.recovers("a broker and members were killed");
        self.rig.cluster.node(node).start().expect("it starts again");
        for group in &self.groups {
            group.members[0].order(Order::Freeze(SESSION + 2 * SECOND));
        }
        // The fault is that it takes this long.
        self.runtime.block_on(async { tokio::time::sleep(SESSION + SECOND).await });
        self.recovers("members stood still");
        for group in &mut self.groups {
            // Not the one that stands still.
            group.members.rotate_left(1);
            group.lose_one(Order::Leave);
            group.join(&bootstrap);
        }
        self.recovers("members left, and others came");
        self.rig.cluster.node(node % 3 + 1).restart().expect("it starts again");
        self.recovers("a broker was restarted");
    }

    fn recovers(&self, from: &str) {
        recovers(&self.groups, || self.writing.is_finished(), from);
    }

    /// Waits until all is read, ends everything, and compares.
    fn judge(self, version: &str, over: &AtomicBool, watching: JoinHandle<()>) {
        let Self { runtime, kafka, rig, groups, writing } = self;
        let written = runtime.block_on(async { tokio::time::timeout(3 * LONG, writing).await });
        let written = written.expect("it comes to an end").unwrap();
        conclude(version, &runtime, &kafka, groups, &written);
        over.store(true, Ordering::Relaxed);
        runtime.block_on(watching).unwrap();
        runtime.block_on(kafka.close());
        drop(rig);
    }
}

/// Each group reads more.
fn recovers(groups: &[Group], all_is_written: impl Fn() -> bool, from: &str) {
    let began = Instant::now();
    for group in groups {
        let before = group.read();
        while group.read() < before + 100 && !all_is_written() {
            assert!(began.elapsed() < RECOVERY_MAX, "{from}: {} reads no more", group.name);
            weir_kafka_harness::wait_a_little();
        }
    }
    say(&format!("group chaos: {from}: goes on after {:.1?}", began.elapsed()));
}

/// Waits until each group has read all, ends its members, and compares.
fn conclude(
    version: &str,
    runtime: &Runtime,
    kafka: &Client,
    groups: Vec<Group>,
    written: &BTreeMap<(i32, i64), u32>,
) {
    let ends: BTreeMap<i32, i64> =
        written.keys().map(|(partition, offset)| (*partition, offset + 1)).collect();
    let began = Instant::now();
    for group in groups {
        let has_all = |log: &[Entry]| {
            let reads = log.iter().filter_map(|entry| match entry {
                Entry::Read(_, partition, records) => Some((*partition, records.last()?.0 + 1)),
                _ => None,
            });
            let mut read = BTreeMap::new();
            for (at, next) in reads {
                let end: &mut i64 = read.entry(at).or_default();
                *end = next.max(*end);
            }
            ends.iter().all(|(at, end)| read.get(at).is_some_and(|next| next >= end))
        };
        while !has_all(&group.log.lock().unwrap()) && began.elapsed() < RECOVERY_MAX {
            weir_kafka_harness::wait_a_little();
        }
        for member in group.members {
            say(&format!("group chaos: {:?}: member {} leaves", group.mode, member.id));
            member.end(Order::Leave);
            // Amid a rebalance the next one's last commit may be refused, and nobody would read that again.
            while !is_settled(&group.log.lock().unwrap()) && began.elapsed() < RECOVERY_MAX {
                weir_kafka_harness::wait_a_little();
            }
        }
        let committed = runtime.block_on(committed(kafka, &group.name)).unwrap();
        let mut log = group.log.lock().unwrap().clone();
        log.extend(committed.iter().map(|(partition, offset)| Entry::Committed(*partition, *offset)));
        let wrong = check::judge(written, &log);
        let read: usize =
            log.iter().map(|e| if let Entry::Read(_, _, all) = e { all.len() } else { 0 }).sum();
        let count = |wanted: fn(&Entry) -> bool| log.iter().filter(|entry| wanted(entry)).count();
        say(&format!(
            "group chaos on {version}: {:?}: {} written, {read} read by {} members; {} hand-overs, {} losses",
            group.mode,
            written.len(),
            group.joined,
            count(|entry| matches!(entry, Entry::Handed(_, all) if !all.is_empty())),
            count(|entry| matches!(entry, Entry::Lost(..))),
        ));
        assert!(wrong.is_empty(), "{version} {:?}:\n{}", group.mode, wrong.join("\n"));
        assert_eq!(committed, ends, "{version} {:?}: all that was read is committed", group.mode);
    }
}

/// Whether those who are left have all partitions, or nobody is left.
fn is_settled(log: &[Entry]) -> bool {
    let mut owned: BTreeMap<usize, BTreeSet<i32>> = BTreeMap::new();
    let mut dead = BTreeSet::new();
    for entry in log {
        match entry {
            Entry::Assigned(member, partitions) => owned.entry(*member).or_default().extend(partitions),
            Entry::Handed(member, partitions) | Entry::Lost(member, partitions) => {
                let of = owned.entry(*member).or_default();
                of.retain(|partition| !partitions.contains(partition));
            }
            Entry::Dead(member) => dead.extend([*member]),
            Entry::Read(..) | Entry::Committed(..) => {}
        }
    }
    owned.retain(|member, _| !dead.contains(member));
    let all: BTreeSet<i32> = owned.values().flatten().copied().collect();
    owned.is_empty() || (0..PARTITIONS).all(|partition| all.contains(&partition))
}

/// What a group has committed.
async fn committed(kafka: &Client, group: &str) -> weir::Result<BTreeMap<i32, i64>> {
    let onlooker = kafka.consumer().group(group).auto_commit(None).build()?;
    let found = onlooker.committed((0..PARTITIONS).map(|partition| (TOPIC, partition))).await?;
    Ok(found.iter().map(|(at, one)| (TopicPartition::partition(at), one.offset())).collect())
}

/// Writes down what groups have committed, again and again.
async fn watch(kafka: Client, groups: Vec<(String, Log)>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        for (name, log) in &groups {
            if let Ok(found) = committed(&kafka, name).await {
                let entries =
                    found.into_iter().map(|(partition, offset)| Entry::Committed(partition, offset));
                log.lock().unwrap().extend(entries);
            }
        }
        tokio::time::sleep(SECOND / 2).await;
    }
}
