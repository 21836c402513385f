//! Groups that are taken from the classic protocol to that of KIP-848 and back, member by member, while numbers are
//! written and read. Halfway one member by each protocol is killed.

use weir::protocol::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};

use super::*;

/// With how many members a group goes over.
const MEMBERS: usize = 3;

#[test]
fn groups_go_over_and_back_on_4_4() {
    migrate("4.4.0");
}

/// Where KIP-848 is young and has to be asked for.
#[test]
fn groups_go_over_and_back_on_3_9() {
    migrate("3.9.2");
}

fn broker(version: &str) -> Option<Cluster> {
    let builder = Cluster::builder(version)
        .property("group.coordinator.rebalance.protocols", "classic,consumer")
        .property("group.consumer.migration.policy", "bidirectional")
        .property("group.initial.rebalance.delay.ms", "500")
        .property("group.consumer.min.session.timeout.ms", "6000")
        .property("group.consumer.session.timeout.ms", "6000")
        .property("group.consumer.min.heartbeat.interval.ms", "1000")
        .property("group.consumer.heartbeat.interval.ms", "1000");
    unless_skipped(&format!("a broker of {version}"), builder.start())
}

struct Migration {
    runtime: Runtime,
    kafka: Client,
    bootstrap: String,
    groups: Vec<Group>,
    writing: JoinHandle<BTreeMap<(i32, i64), u32>>,
}

fn migrate(version: &str) {
    let Some(cluster) = broker(version) else { return };
    let runtime = Runtime::new().unwrap();
    let bootstrap = cluster.bootstrap(PLAIN)[0].to_string();
    let kafka = runtime.block_on(connect(&bootstrap));
    runtime.block_on(super::super::create_topic(&kafka, TOPIC, PARTITIONS));
    let written = Arc::new(AtomicBool::new(false));
    let enough = Arc::clone(&written);
    let writing = runtime.spawn(write_while(kafka.clone(), move |_| !enough.load(Ordering::Relaxed)));
    // From what they come, and to it they go back.
    let modes = [Mode::Cooperative, Mode::Eager];
    let groups: Vec<Group> = modes.iter().map(|mode| Group::new(*mode, &bootstrap)).collect();
    let watched: Vec<(String, Log)> =
        groups.iter().map(|group| (group.name.clone(), Arc::clone(&group.log))).collect();
    let over = Arc::new(AtomicBool::new(false));
    let watching = runtime.spawn(watch(kafka.clone(), watched, Arc::clone(&over)));
    let mut migration = Migration { runtime, kafka, bootstrap, groups, writing };
    migration.recovers("the start");
    migration.are("classic");
    migration.roll(&[Mode::Consumer; 2]);
    migration.are("consumer");
    migration.roll(&modes);
    migration.are("classic");

    written.store(true, Ordering::Relaxed);
    let Migration { runtime, kafka, groups, writing, .. } = migration;
    let written = runtime.block_on(async { tokio::time::timeout(LONG, writing).await });
    conclude(version, &runtime, &kafka, groups, &written.expect("it comes to an end").unwrap());
    over.store(true, Ordering::Relaxed);
    runtime.block_on(watching).unwrap();
    runtime.block_on(kafka.close());
}

impl Migration {
    /// One by one new members come in those modes, and the old ones go.
    fn roll(&mut self, modes: &[Mode]) {
        for group in &mut self.groups {
            assert_eq!(group.members.len(), MEMBERS, "{}", group.name);
        }
        for step in 0..MEMBERS {
            for (group, mode) in self.groups.iter_mut().zip(modes) {
                group.mode = *mode;
                group.join(&self.bootstrap);
            }
            self.share();
            self.are("consumer");
            // Halfway the last of the old and the first of the new are killed, and one comes for the latter.
            let halfway = step == 1;
            for group in &mut self.groups {
                if halfway {
                    group.members.remove(MEMBERS - step).end(Order::Die);
                    group.join(&self.bootstrap);
                }
                group.lose_one(if halfway { Order::Die } else { Order::Leave });
            }
            self.recovers("an old member went");
        }
    }

    /// Each member reads, by whichever protocol it has come.
    fn share(&self) {
        let began = Instant::now();
        for group in &self.groups {
            let before = group.log.lock().unwrap().len();
            let reads = |member: &Handle| {
                let of = |entry: &Entry| matches!(entry, Entry::Read(id, ..) if *id == member.id);
                group.log.lock().unwrap()[before..].iter().any(of)
            };
            while let Some(idle) = group.members.iter().find(|member| !reads(member)) {
                assert!(began.elapsed() < RECOVERY_MAX, "{}: member {} reads nothing", group.name, idle.id);
                weir_kafka_harness::wait_a_little();
            }
        }
        say(&format!("group migration: all members read after {:.1?}", began.elapsed()));
    }

    fn recovers(&self, from: &str) {
        recovers(&self.groups, || self.writing.is_finished(), from);
    }

    fn list(&self) -> weir::Result<ListGroupsResponse> {
        self.runtime.block_on(async { self.kafka.request(ListGroupsRequest::default()).await })
    }

    /// By which protocol the coordinator thinks the groups are. A group in which both are spoken is of the newer kind.
    fn are(&self, kind: &str) {
        let began = Instant::now();
        loop {
            let answer = self.list().unwrap();
            let is = |group: &Group| {
                let of = |it: &&ListedGroup| it.group_id == group.name.as_str();
                answer.groups.iter().find(of).is_some_and(|it| it.group_type.eq_ignore_ascii_case(kind))
            };
            if self.groups.iter().all(is) {
                return say(&format!("group migration: the groups are of the kind {kind}"));
            }
            assert!(began.elapsed() < RECOVERY_MAX, "{kind}: {:?}", answer.groups);
            weir_kafka_harness::wait_a_little();
        }
    }
}
