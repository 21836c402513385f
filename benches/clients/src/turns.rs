//! What the commands `produce` and `consume` share: their options, the programs that they build and run, the broker,
//! and the table that they print.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use weir::ErrorCode;
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::protocol::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use weir::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};

use crate::{Fail, median};

const CLIENTS: [&str; 5] = ["floor", "weir", "rdkafka", "confluent", "krafka"];
/// The broker's Java: the heap of the measurements in the design, and the compiler that servers use.
const JVM: &str = "-Xmx1g -XX:+UseG1GC";

/// One column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    pub mode: &'static str,
    pub count: usize,
    pub size: usize,
    pub codec: &'static str,
    pub partitions: i32,
}

/// What the command line says.
#[derive(Debug)]
pub struct Options {
    pub rounds: usize,
    pub quick: bool,
    pub clients: Vec<&'static str>,
    kafka: String,
    broker: Option<String>,
}

/// What one round said, by client and column.
pub type Round = BTreeMap<(&'static str, Column), Value>;

/// A client's name and its program.
pub type Program = (&'static str, PathBuf);

impl Options {
    /// As the arguments say.
    pub fn from_args() -> Result<Self, Fail> {
        let mut options = Self {
            rounds: 5,
            quick: false,
            clients: CLIENTS.to_vec(),
            kafka: "4.4.0".to_owned(),
            broker: None,
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            if name == "--quick" {
                options.quick = true;
                continue;
            }
            let value = args.next().ok_or_else(|| format!("{name}: not understood, or without a value"))?;
            match &name[..] {
                "--rounds" => options.rounds = value.parse()?,
                "--kafka" => options.kafka = value,
                "--broker" => options.broker = Some(value),
                "--clients" => {
                    let known = |wanted: &str| CLIENTS.into_iter().find(|client| *client == wanted);
                    let all: Option<_> = value.split(',').map(known).collect();
                    options.clients = all.ok_or_else(|| format!("clients are {}", CLIENTS.join(", ")))?;
                }
                _ => return Err(format!("no option {name}").into()),
            }
        }
        Ok(options)
    }

    /// The broker's address, and the broker if it is ours.
    pub fn broker(&self) -> Result<(String, Option<Broker>), Fail> {
        if let Some(address) = &self.broker {
            return Ok((address.clone(), None));
        }
        let own = Broker::start(&self.kafka)?;
        Ok((own.address.clone(), Some(own)))
    }
}

// --- the programs ------------------------------------------------------------------------------------------

/// Builds weir's program and this crate's of that kind, into the folder that this one is in.
pub fn build(kind: &str, clients: &[&'static str]) -> Result<Vec<Program>, Fail> {
    let own = std::env::current_exe()?;
    let folder = own.parent().ok_or("no folder")?;
    let target = folder.parent().ok_or("no target folder")?;
    let cargo = |place: &str| {
        let mut cargo = Command::new("cargo");
        cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(place));
        cargo.args(["build", "--release", "--target-dir"]).arg(target);
        cargo
    };
    // In one go, so that what they share is built once.
    let mut peers = cargo(".");
    let mut programs = Vec::new();
    for client in clients {
        let name = format!("{kind}-{client}");
        if *client == "weir" {
            if !cargo("../..").args(["--example", "bench"]).status()?.success() {
                return Err("examples/bench does not build".into());
            }
            programs.push((*client, folder.join("examples/bench")));
            continue;
        }
        peers.args(["--bin", &name]);
        if ["rdkafka", "confluent"].contains(client) {
            peers.args(["--features", client]);
        }
        programs.push((*client, folder.join(&name)));
    }
    if programs.iter().any(|(client, _)| *client != "weir") && !peers.status()?.success() {
        return Err("the peers do not build".into());
    }
    Ok(programs)
}

/// Runs a program, and gives what it says.
pub fn run(program: &Path, broker: &str, topic: &str, column: Column) -> Result<Value, Fail> {
    let Column { mode, count, size, codec, partitions } = column;
    let mut command = Command::new(program);
    command.args([mode, broker, topic, &count.to_string(), &size.to_string(), codec]);
    command.arg(partitions.to_string());
    let output = command.stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

// --- the broker --------------------------------------------------------------------------------------------

/// A broker of the harness, which lives no longer than its standard input.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    stdin: Option<ChildStdin>,
    address: String,
}

impl Broker {
    fn start(version: &str) -> Result<Self, Fail> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/kafka");
        let mut command = Command::new(script);
        command.args(["run", version, "--until-eof", "--property", "log.segment.delete.delay.ms=100"]);
        if std::env::var_os("WEIR_KAFKA_JVM").is_none() {
            command.env("WEIR_KAFKA_JVM", JVM);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
        let said = lines.map_while(Result::ok).find_map(|line| {
            line.split_whitespace().find_map(|word| word.strip_prefix("bootstrap=").map(str::to_owned))
        });
        match said {
            Some(address) => Ok(Self { child, stdin, address }),
            None => Err(format!("Kafka {version} does not start").into()),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stdin.take());
        drop(self.child.wait());
    }
}

/// The cluster, and what is asked of it between runs.
#[derive(Debug)]
pub struct Kafka {
    client: weir::Client,
    pub address: String,
}

impl Kafka {
    pub async fn connect(address: String) -> Result<Self, Fail> {
        Ok(Self { client: weir::Client::connect(&address).await?, address })
    }

    /// Makes a topic that nobody had, and waits until its leader serves it.
    pub async fn create(&self, partitions: i32) -> Result<String, Fail> {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        let name = format!("bench-{}", since.as_nanos());
        let topic = CreatableTopic {
            name: name.as_str().into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
        let answer = self.client.request(request).await?;
        if let Some(topic) = answer.topics.iter().find(|topic| topic.error_code != 0) {
            return Err(format!("{name}: {}", ErrorCode(topic.error_code)).into());
        }
        // A topic is there a moment after it was made; the client asks again until then.
        let empty = self.records(&name, partitions).await?;
        if empty == 0 { Ok(name) } else { Err(format!("{name} has {empty} records").into()) }
    }

    /// The sum of the offsets at the ends of the partitions.
    pub async fn records(&self, topic: &str, partitions: i32) -> Result<i64, Fail> {
        let latest = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: -1,
            ..ListOffsetsPartition::default()
        };
        let asked = ListOffsetsTopic {
            name: topic.into(),
            partitions: (0..partitions).map(latest).collect(),
            ..ListOffsetsTopic::default()
        };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![asked], ..Default::default() };
        let answer = self.client.request(request).await?;
        let mut sum = 0;
        for partition in answer.topics.iter().flat_map(|topic| &topic.partitions) {
            if partition.error_code != 0 {
                return Err(format!("{topic}: {}", ErrorCode(partition.error_code)).into());
            }
            sum += partition.offset;
        }
        Ok(sum)
    }

    pub async fn delete(&self, topic: &str) -> Result<(), Fail> {
        let state = DeleteTopicState { name: Some(topic.into()), ..DeleteTopicState::default() };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            topic_names: vec![topic.into()],
            timeout_ms: 30_000,
            ..Default::default()
        };
        self.client.request(request).await?;
        // The broker gives the disk back on its own time; the next run should not see it.
        tokio::time::sleep(Duration::from_millis(150)).await;
        Ok(())
    }
}

// --- the table ---------------------------------------------------------------------------------------------

/// Prints medians, and ratios of rounds.
pub fn print(clients: &[&'static str], columns: &[Column], rounds: &[Round]) {
    let figures = |client: &'static str, column: Column, key: &str| -> Vec<f64> {
        let said = rounds.iter().filter_map(|round| round.get(&(client, column)));
        said.filter_map(|said| said[key].as_f64()).collect()
    };
    let middle = |client, column, key: &str| median(&mut figures(client, column, key));
    let ratio = |client, base, column, key: &str| {
        let pairs = figures(client, column, key).into_iter().zip(figures(base, column, key));
        median(&mut pairs.map(|(ours, theirs)| ours / theirs).collect::<Vec<_>>())
    };
    println!("CPU ns a message / thousand messages a second; medians of {} rounds\n", rounds.len());
    line("", columns.iter().map(|column| title(*column)));
    line("---", columns.iter().map(|_| "---".to_owned()));
    for client in clients {
        line(
            client,
            columns.iter().map(|column| match main_figure(*column) {
                "p50_us" => {
                    let [p50, p99] = ["p50_us", "p99_us"].map(|key| middle(client, *column, key));
                    format!("{p50:.0} / {p99:.0}")
                }
                "wall_s" => format!("{:.1}", middle(client, *column, "wall_s") * 1e3),
                key => {
                    let [cpu, rate] = [key, "msgs_per_s"].map(|key| middle(client, *column, key));
                    format!("{cpu:.0} / {:.0}", rate / 1e3)
                }
            }),
        );
    }
    for client in clients.iter().filter(|client| **client != "floor" && clients.contains(&"floor")) {
        let ratios = columns.iter().map(|column| ratio(client, "floor", *column, main_figure(*column)));
        line(&format!("{client} : floor"), ratios.map(|ratio| format!("{ratio:.2}")));
    }
    if !clients.contains(&"weir") {
        return;
    }
    // Weir's figures to those of the peer that is best in that column.
    let beside = |key: fn(Column) -> Option<&'static str>, better: fn(&f64, &f64) -> bool| {
        columns.iter().map(move |column| {
            let peers = clients.iter().copied().filter(|client| !["weir", "floor"].contains(client));
            let Some(key) = key(*column) else { return String::new() };
            let best = peers.reduce(|a, b| {
                let [ours, theirs] = [b, a].map(|client| middle(client, *column, key));
                if better(&ours, &theirs) { b } else { a }
            });
            best.map_or_else(String::new, |peer| format!("{:.2} ({peer})", ratio("weir", peer, *column, key)))
        })
    };
    line("weir : best peer", beside(|column| Some(main_figure(column)), f64::lt));
    let rate = |column| (main_figure(column) == "cpu_ns_per_msg").then_some("msgs_per_s");
    line("rate, weir : best peer", beside(rate, f64::gt));
}

/// What a column is about.
fn main_figure(column: Column) -> &'static str {
    match column {
        Column { mode: "latency" | "e2e", .. } => "p50_us",
        Column { count: 1, .. } => "wall_s",
        _ => "cpu_ns_per_msg",
    }
}

fn title(column: Column) -> String {
    match column {
        Column { mode: "latency", .. } => "ack p50 / p99 us".to_owned(),
        Column { mode: "e2e", .. } => "produce to receive p50 / p99 us".to_owned(),
        Column { count: 1, .. } => "cold start ms".to_owned(),
        Column { size, codec, partitions: 4, .. } => format!("{size} B {codec}"),
        Column { size, codec, partitions, .. } => format!("{size} B {codec}, {partitions} partitions"),
    }
}

fn line(name: &str, cells: impl Iterator<Item = String>) {
    println!("| {name} | {} |", cells.collect::<Vec<_>>().join(" | "));
}
