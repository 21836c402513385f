//! The command, as scripts use it: what it prints, how it ends, and what it leaves, which is nothing.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use weir_kafka_harness::skip;

use crate::probe::{connect, speaks_kafka};

fn harness(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weir-kafka-harness"));
    command.args(args).stdin(Stdio::null());
    command
}

/// The lines `name=value` of an output.
fn said(output: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8(output.to_vec()).unwrap();
    text.lines().filter_map(|line| line.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}

/// Whether the machine could not, which is then a printed skip. Any other failure fails the test.
fn skipped(what: &str, output: &Output) -> bool {
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.code() == Some(3) {
        skip(what, stderr.lines().last().unwrap_or_default());
        return true;
    }
    assert!(output.status.success(), "{}\n{stderr}", output.status);
    false
}

#[test]
fn what_is_started_is_stopped() {
    let output = harness(&["start", "3.9.2", "--property", "num.partitions=3"]).output().unwrap();
    if skipped("start 3.9.2", &output) {
        return;
    }
    let said = said(&output.stdout);
    assert_eq!(said.keys().collect::<Vec<_>>(), ["bootstrap", "dir", "pid"]);
    let address: SocketAddr = said["bootstrap"].parse().unwrap();
    assert!(speaks_kafka(&mut connect(address)));
    let stopped = harness(&["stop", &said["dir"]]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(!Path::new(&said["dir"]).exists());
    assert!(TcpStream::connect(address).is_err());
    assert_eq!(harness(&["stop", &said["dir"]]).output().unwrap().status.code(), Some(1));
}

/// By the end of the pipe, and by a signal that nobody can catch: in both cases nothing is left.
#[test]
fn brokers_end_with_their_owner() {
    for killed in [false, true] {
        let mut owner = harness(&["run", "4.4.0", "--until-eof"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map_while(Result::ok).take(3);
        let said = said(lines.collect::<Vec<_>>().join("\n").as_bytes());
        let Some(bootstrap) = said.get("bootstrap") else {
            let output = owner.wait_with_output().unwrap();
            assert!(skipped("run 4.4.0", &output), "it said {said:?}");
            return;
        };
        let address: SocketAddr = bootstrap.parse().unwrap();
        assert!(speaks_kafka(&mut connect(address)));
        if killed {
            owner.kill().unwrap();
        } else {
            drop(owner.stdin.take());
        }
        assert_eq!(owner.wait().unwrap().success(), !killed);
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while Path::new(&said["dir"]).exists() || TcpStream::connect(address).is_ok() {
            assert!(killed && std::time::Instant::now() < deadline, "something of it is left");
            weir_kafka_harness::wait_a_little();
        }
    }
}

#[test]
fn wrong_usage_is_told_apart() {
    for args in [
        &[][..],
        &["fetch"],
        &["fetch", "latest"],
        &["start", "4.4.0", "--until-eof"],
        &["run", "4.4.0", "--nodes", "many"],
        &["run", "4.4.0", "--listener", "ssl"],
        &["run", "4.4.0", "--property", "no-value"],
        &["run", "4.4.0", "--port"],
        &["run", "4.4.0", "--frobnicate", "1"],
        &["run", "not-a-version"],
    ] {
        let output = harness(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("Exit codes:"), "{args:?}");
    }
    assert_eq!(harness(&["stop", "no/such/folder"]).output().unwrap().status.code(), Some(1));
}
