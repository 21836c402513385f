//! A real broker for the length of a program, by way of `scripts/kafka`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// Nothing here is worth more than a sentence for a person.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How to get a broker, for whoever has none.
const ADVICE: &str = "give the address of a broker, as in
    cargo run --example quickstart -- localhost:9092
or install Java 17 and Maven, with which this program starts one of its own";

/// A one-node broker. It ends when this is dropped, and even if this program is killed: it lives
/// no longer than its standard input.
pub(crate) struct Broker {
    child: Child,
    stdin: Option<ChildStdin>,
    bootstrap: String,
}

impl Broker {
    /// Fetches that version of Kafka, if it is not there, and starts it.
    pub(crate) fn start(version: &str) -> Result<Self> {
        eprintln!(
            "no address was given: starting Kafka {version} (the first time, 90 MB of jars are fetched)"
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
        let mut child = Command::new(script)
            .args(["run", version, "--until-eof"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("scripts/kafka: {e}\n{ADVICE}"))?;
        let stdin = child.stdin.take();
        let lines = BufReader::new(child.stdout.take().ok_or("no output to read")?).lines();
        let found = lines.map_while(std::result::Result::ok).find_map(|line| {
            line.split_whitespace().find_map(|word| word.strip_prefix("bootstrap=").map(str::to_owned))
        });
        match found {
            Some(bootstrap) => Ok(Self { child, stdin, bootstrap }),
            None => Err(format!("no broker could be started; {ADVICE}").into()),
        }
    }

    /// Its address.
    pub(crate) fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        drop(self.stdin.take());
        let _ = self.child.wait();
    }
}
