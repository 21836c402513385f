//! Real Kafka brokers for tests.
//!
//! [`shared`] starts one broker of a version, at most once in this process, and hands it to every test
//! that asks. `scripts/kafka` does the work; this file only owns the pipe. The broker's life hangs on
//! that pipe: when this process ends, in whatever way, the pipe closes and the script kills the broker
//! and removes its data.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use crate::skip::skip;

/// The harness itself: brokers that answer, end with their owner, and leave nothing.
mod harness;
/// Kafka's own producer and consumer, as helpers and as the first to meet a broker.
pub(crate) mod java;
/// What weir writes and reads, with Java on the other side.
mod roundtrip;

/// The versions that every broker test runs against: the newest, and the last that speaks the old ones.
pub(crate) const VERSIONS: [&str; 2] = ["4.4.0", "3.9.2"];

/// The script's exit code for "this machine cannot": no Java, no Maven, no jars.
const NOT_AVAILABLE: i32 = 3;

/// A running broker, and the end of the pipe that keeps it alive.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) version: String,
    pub(crate) bootstrap: SocketAddr,
    dir: PathBuf,
    script: Child,
    lifeline: ChildStdin,
}

/// The broker of this version that all tests share. `None` is a skip, already printed.
///
/// Fails the test when the broker could have started and did not.
pub(crate) fn shared(version: &str) -> Option<&'static Broker> {
    static ALL: Mutex<BTreeMap<String, &'static OnceLock<Result<Broker, Failure>>>> =
        Mutex::new(BTreeMap::new());
    let slot = *ALL
        .lock()
        .expect("nothing in this lock panics")
        .entry(version.to_owned())
        .or_insert_with(|| Box::leak(Box::default()));
    let started = slot.get_or_init(|| Broker::start(version, &[]));
    unless_skipped(version, started.as_ref().map_err(Failure::clone))
}

/// Turns what the script said into a broker, a skip or a failed test.
fn unless_skipped<B>(version: &str, started: Result<B, Failure>) -> Option<B> {
    match started {
        Ok(broker) => Some(broker),
        Err(Failure::NotHere(why)) => {
            skip(&format!("broker {version}"), &why);
            None
        }
        Err(Failure::Broken(why)) => panic!("broker {version}: {why}"),
    }
}

/// Why there is no broker.
#[derive(Debug, Clone)]
enum Failure {
    /// The machine lacks something; the test cannot say anything.
    NotHere(String),
    /// It should have worked.
    Broken(String),
}

impl Broker {
    /// Starts a broker of its own, with lines for its `server.properties` as `key=value`.
    fn start(version: &str, properties: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new(root().join("scripts/kafka"));
        command.args(["run", version, "--until-eof"]);
        for property in properties {
            command.args(["--property", property]);
        }
        let mut script = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| Failure::NotHere(format!("scripts/kafka: {error}")))?;
        let lifeline = script.stdin.take().expect("it was asked for");
        let stdout = script.stdout.take().expect("it was asked for");
        let said = gather(script.stderr.take().expect("it was asked for"));
        let Some((bootstrap, dir)) = read_answer(stdout) else {
            drop(lifeline);
            let status = script.wait().expect("it is our child");
            let said = said.join().expect("the reader does not panic");
            return Err(match status.code() {
                Some(NOT_AVAILABLE) => Failure::NotHere(last_line(&said)),
                _ => Failure::Broken(format!("{status}\n{said}")),
            });
        };
        Ok(Self { version: version.to_owned(), bootstrap, dir, script, lifeline })
    }

    /// A connection that gives up rather than hang the tests.
    pub(crate) fn connect(&self) -> TcpStream {
        let patience = Duration::from_secs(30);
        let stream = TcpStream::connect_timeout(&self.bootstrap, patience).expect("the broker listens");
        stream.set_read_timeout(Some(patience)).expect("a timeout above zero");
        stream.set_write_timeout(Some(patience)).expect("a timeout above zero");
        stream
    }

    /// The folder with the jars that it runs from; Java's own clients of that version are among them.
    pub(crate) fn jars(&self) -> PathBuf {
        // The script has fetched them, so this only asks where they are.
        let fetch = Command::new(root().join("scripts/kafka"))
            .args(["fetch", &self.version])
            .stdin(Stdio::null())
            .output()
            .expect("the script runs");
        assert!(fetch.status.success(), "{}", String::from_utf8_lossy(&fetch.stderr));
        PathBuf::from(String::from_utf8_lossy(&fetch.stdout).trim_end())
    }

    /// Ends a broker that is not shared, and waits until nothing of it is left.
    fn end(self) -> Ended {
        let Self { bootstrap, dir, mut script, lifeline, .. } = self;
        drop(lifeline);
        let status = script.wait().expect("it is our child");
        Ended { status, bootstrap, dir }
    }
}

/// What there was, so that a test can look whether it is gone.
struct Ended {
    status: std::process::ExitStatus,
    bootstrap: SocketAddr,
    dir: PathBuf,
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads `bootstrap=`, `pid=` and `dir=`, which the script prints once the broker answers. `None` when
/// it ends without them.
fn read_answer(stdout: ChildStdout) -> Option<(SocketAddr, PathBuf)> {
    let mut said = BTreeMap::new();
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if let Some((name, value)) = line.split_once('=') {
            said.insert(name.to_owned(), value.to_owned());
        }
        if let (Some(bootstrap), Some(dir)) = (said.get("bootstrap"), said.get("dir")) {
            return Some((bootstrap.parse().ok()?, dir.into()));
        }
    }
    None
}

/// Drains the script's standard error on a thread, so that it can never fill the pipe and stop.
fn gather(mut stderr: ChildStderr) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut said = Vec::new();
        drop(stderr.read_to_end(&mut said));
        String::from_utf8_lossy(&said).into_owned()
    })
}

fn last_line(said: &str) -> String {
    said.trim_end().lines().last().unwrap_or("no reason given").trim_start_matches("kafka: ").to_owned()
}
