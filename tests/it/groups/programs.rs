//! The verifiable consumer and the transactional copier say the lines that Kafka's own tests read, and what they say is
//! so. Run within the test, as the programs would run them; one group of the consumer's has a member of Java's.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tokio::sync::oneshot;

use super::*;
use crate::broker::java::{consume, offsets_of};
use crate::broker::{Broker, root};

/// The program that Kafka's own system tests would call.
#[allow(clippy::duplicate_mod, reason = "programs share a file that reads properties")]
#[path = "../../../examples/verifiable_consumer"]
mod reader {
    pub(super) mod flags;
    mod properties;
    pub(super) mod run;
}

/// The other.
#[path = "../../../examples/transactional_copier"]
pub(super) mod copier {
    pub(in crate::groups) mod flags;
    pub(in crate::groups) mod run;
}

/// Standard output.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn lines(&self) -> Vec<Value> {
        let bytes = self.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    fn named(&self, name: &str) -> Vec<Value> {
        self.lines().into_iter().filter(|line| line["name"] == name).collect()
    }

    /// How many records were told of.
    fn consumed(&self) -> u64 {
        self.named("records_consumed").iter().map(|line| line["count"].as_u64().unwrap()).sum()
    }
}

fn words(line: &str) -> impl Iterator<Item = String> {
    line.split_whitespace().map(str::to_owned)
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "{what}");
        tokio::time::sleep(SECOND / 20).await;
    }
}

/// Each line has its fields; what is committed is what Java finds committed, and another member goes on there.
#[test]
fn what_the_reader_says_is_so() {
    let Some(broker) = shared("4.4.0") else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "verifiable-read", 3).await;
        send(&kafka, "verifiable-read", 3, 0..600).await;
        let line = |more: &str| {
            let line = format!(
                "--bootstrap-server {} --topic verifiable-read --group-id verifiable {more}",
                broker.bootstrap
            );
            reader::flags::Job::read(words(&line)).unwrap()
        };
        let never = std::future::pending;
        let out = Output::default();
        let job = line("--verbose --max-messages 250 --session-timeout=6000 --reset-policy earliest");
        reader::run::run(job, out.clone(), never()).await.unwrap();
        let lines = out.lines();
        assert!(lines.iter().all(|line| line["timestamp"].is_i64()));
        assert_eq!(lines.first().unwrap()["name"], "startup_complete");
        assert_eq!(lines.last().unwrap()["name"], "shutdown_complete");
        assert_eq!(out.named("partitions_assigned")[0]["partitions"].as_array().unwrap().len(), 3);
        assert_eq!(out.consumed(), 250);
        let records = out.named("record_data");
        assert_eq!(records.len(), 250);
        for record in &records {
            let (partition, offset) = (&record["partition"], record["offset"].as_u64().unwrap());
            assert_eq!(record["value"], (offset * 3 + partition.as_u64().unwrap()).to_string());
        }
        let mut committed = BTreeMap::new();
        for line in out.named("offsets_committed") {
            assert_eq!(line["success"], true, "{line}");
            let part = &line["offsets"][0];
            committed.insert(part["partition"].as_i64().unwrap(), part["offset"].as_i64().unwrap());
        }
        for line in out.named("records_consumed") {
            let part = &line["partitions"][0];
            let (first, last) = (part["minOffset"].as_i64().unwrap(), part["maxOffset"].as_i64().unwrap());
            assert_eq!(part["count"], last - first + 1);
            assert!(last < committed[&part["partition"].as_i64().unwrap()]);
        }
        assert_eq!(committed.values().sum::<i64>(), 250);
        let told: Vec<String> = committed
            .iter()
            .map(|(partition, offset)| format!("verifiable-read {partition} {offset}"))
            .collect();
        assert_eq!(java_offsets(broker, "verifiable").await, told);

        // The next one goes on there, commits by itself, and ends when it is told to.
        let out = Output::default();
        let (end, ended) = oneshot::channel::<()>();
        let job =
            line("--enable-autocommit --group-protocol CLASSIC --assignment-strategy org.x.StickyAssignor");
        let all = tokio::join!(reader::run::run(job, out.clone(), async { drop(ended.await) }), async {
            until("the rest is read", || out.consumed() == 350).await;
            end.send(()).unwrap();
        });
        all.0.unwrap();
        assert!(out.named("offsets_committed").is_empty());
        let told: Vec<String> = (0..3).map(|partition| format!("verifiable-read {partition} 200")).collect();
        assert_eq!(java_offsets(broker, "verifiable").await, told);
        kafka.close().await;
    });
}

async fn java_offsets(broker: &'static Broker, group: &str) -> Vec<String> {
    let group = group.to_owned();
    let read = move || offsets_of(&broker.jars(), &broker.bootstrap.to_string(), &group);
    let told = tokio::task::spawn_blocking(read).await.unwrap();
    told.iter().map(|line| line.trim().to_owned()).collect()
}

/// Kafka's own consumer as a member, ended with its standard input.
struct Java {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Java {
    fn join(broker: &Broker, topic: &str, group: &str, properties: &[&str]) -> Self {
        let mut child = Command::new("java")
            .args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(broker.jars().join("*"))
            .arg(root().join("tests/oracle/JavaMember.java"))
            .args([&broker.bootstrap.to_string(), topic, group])
            .args(properties)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the broker runs on this Java");
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (heard, said) = (Arc::clone(&lines), child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                heard.lock().unwrap().push(line);
            }
        });
        Self { child, lines }
    }

    /// The partitions that it was last assigned, and the numbers that it has read.
    fn heard(&self) -> (Vec<String>, Vec<u32>) {
        let lines = self.lines.lock().unwrap();
        let last = lines.iter().rev().find_map(|line| line.strip_prefix("assigned"));
        let assigned = last.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let read =
            lines.iter().filter_map(|line| line.strip_prefix("record ")?.rsplit(' ').next()?.parse().ok());
        (assigned, read.collect())
    }

    fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Java {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Java's properties for a member by the classic protocol.
const CLASSIC: &[&str] =
    &["partition.assignment.strategy=org.apache.kafka.clients.consumer.CooperativeStickyAssignor"];
/// And for one by KIP-848.
const CONSUMER: &[&str] = &["group.protocol=consumer"];

#[test]
fn a_group_is_shared_with_java_by_the_classic_protocol() {
    share_with_java("shared-classic", "classic", CLASSIC);
}

#[test]
fn a_group_is_shared_with_java_by_kip_848() {
    share_with_java("shared-consumer", "consumer", CONSUMER);
}

/// The group goes over when Java's member comes, and back when it leaves.
#[test]
fn a_classic_group_is_shared_with_java_by_kip_848() {
    share_with_java("shared-goes-over", "classic", CONSUMER);
}

#[test]
fn a_group_of_kip_848_is_shared_with_java_by_the_classic_protocol() {
    share_with_java("shared-takes-classic", "consumer", CLASSIC);
}

/// Ours is there first, Java's takes half, and gives it back when it leaves: all is read, and once, since both commit
/// before they hand over.
fn share_with_java(topic: &str, protocol: &str, properties: &[&str]) {
    let Some(broker) = shared("4.4.0") else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, topic, 4).await;
        send(&kafka, topic, 4, 0..400).await;
        let line = format!(
            "--bootstrap-server {} --topic {topic} --group-id {topic} --verbose --group-protocol {protocol} \
             --assignment-strategy cooperative-sticky --session-timeout 6000",
            broker.bootstrap
        );
        let out = Output::default();
        let (end, ended) = oneshot::channel::<()>();
        let job = reader::flags::Job::read(words(&line)).unwrap();
        let ours = reader::run::run(job, out.clone(), async { drop(ended.await) });
        let rest = async {
            until("ours reads", || out.consumed() == 400).await;
            let java = Java::join(broker, topic, topic, properties);
            until("Java has half", || java.heard().0.len() == 2).await;
            send(&kafka, topic, 4, 400..800).await;
            until("half is Java's", || java.heard().1.len() == 200 && out.consumed() == 600).await;
            let (_, mut all) = java.heard();
            tokio::task::block_in_place(|| java.end());
            send(&kafka, topic, 4, 800..1200).await;
            until("all is ours again", || out.consumed() == 1000).await;
            let number = |line: &Value| line["value"].as_str().unwrap().parse::<u32>().unwrap();
            all.extend(out.named("record_data").iter().map(number));
            all.sort_unstable();
            assert_eq!(all, (0..1200).collect::<Vec<_>>());
            end.send(()).unwrap();
        };
        tokio::join!(ours, rest).0.unwrap();
        kafka.close().await;
    });
}

/// What is copied, aborts or not, is there once and in order, as Java reads it; the position is committed with it.
#[test]
fn the_copier_copies_each_record_once() {
    let Some(broker) = shared("4.4.0") else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "copied-from", 2).await;
        create_topic(&kafka, "copied-to", 2).await;
        send(&kafka, "copied-from", 2, 0..2000).await;
        let job = |more: &str| {
            let line = format!(
                "--broker-list {} --transactional-id copier-{} --consumer-group copiers --input-topic copied-from \
                 --output-topic copied-to --transaction-size 70 --enable-random-aborts {more}",
                broker.bootstrap,
                more.len()
            );
            copier::flags::Job::read(words(&line)).unwrap()
        };
        let never = std::future::pending;
        // Some by hand, the rest by two members that share it.
        let out = Output::default();
        let by_hand = job("--input-partition 1 --max-messages 300");
        copier::run::run(by_hand, out.clone(), never()).await.unwrap();
        let last = out.lines().pop().unwrap();
        assert!(last["shutdown_complete"].as_str().unwrap().starts_with("copier-"));
        assert_eq!((&last["totalProcessed"], &last["remaining"]), (&300.into(), &0.into()));
        let (one, other) = (Output::default(), Output::default());
        let group = job("--group-mode --use-group-metadata");
        let second = job("--group-mode --use-group-metadata --max-messages -1");
        let both = tokio::join!(
            copier::run::run(group, one.clone(), never()),
            copier::run::run(second, other.clone(), never())
        );
        both.0.unwrap();
        both.1.unwrap();
        let total = |out: &Output| {
            let last = out.lines().pop().unwrap();
            assert_eq!(last["remaining"], 0);
            last["totalProcessed"].as_u64().unwrap()
        };
        assert_eq!(total(&one) + total(&other), 1700);
        assert!(one.lines().iter().any(|line| line["stage"] == "RebalanceComplete"));
        let read = || consume(broker, "copied-to", &["isolation.level=read_committed"]);
        let seen = tokio::task::spawn_blocking(read).await.unwrap();
        for partition in 0..2 {
            let mine = seen.iter().filter(|record| record.partition == partition);
            let numbers: Vec<u32> = mine.map(|record| number(record.value.as_deref())).collect();
            let wanted: Vec<u32> = (0..1000).map(|n| n * 2 + partition as u32).collect();
            assert_eq!(numbers, wanted, "partition {partition}");
        }
        assert_eq!(java_offsets(broker, "copiers").await, ["copied-from 0 1000", "copied-from 1 1000"]);
        kafka.close().await;
    });
}

#[test]
fn wrong_flags_are_named() {
    let reader = |line: &str| reader::flags::Job::read(words(line)).unwrap_err();
    assert!(reader("--topic t --bootstrap-server b").contains("--group-id"));
    assert!(reader("--bad x").contains("--bad is not known"));
    assert!(reader("--max-messages many").contains("no whole number"));
    assert!(reader::flags::USAGE.contains("--group-instance-id"));
    let copier = |line: &str| copier::flags::Job::read(words(line)).unwrap_err();
    assert!(copier("--input-topic t").contains("missing"));
    assert!(copier("--transaction-size few").contains("no such number"));
    assert!(copier::flags::USAGE.contains("--group-mode"));
}
