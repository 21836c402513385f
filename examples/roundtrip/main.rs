//! A real broker, every codec, and Java on the other side.
//!
//!     cargo run --release --example roundtrip -- --bootstrap localhost:9092 --records 1000000
//!     cargo run --release --example roundtrip -- --kafka 3.9.2        # a broker of its own
//!
//! For each codec: weir writes lines of text to a topic, asks for its end offsets, fetches all of it
//! and compares. Where the jars of a Kafka version are known (`--kafka`, or `WEIR_KAFKA_VERSION`),
//! Java's consumer reads what weir wrote, and weir reads what Java's producer wrote.
//!
//! The text is this package's own source, line by line, as often as it takes.

#[path = "../support/broker.rs"]
mod broker;
mod consume;
mod java;
mod produce;
#[path = "../support/mod.rs"]
mod support;
mod text;
mod trip;

use std::process::ExitCode;

use support::{Connection, Result};
use text::Text;
use weir::records::Compression;

/// Partitions of each topic. Line `n` goes to partition `n % PARTITIONS`.
pub(crate) const PARTITIONS: usize = 3;

fn main() -> ExitCode {
    support::report("roundtrip", run())
}

fn run() -> Result<()> {
    let options = Options::parse()?;
    let own = match &options.bootstrap {
        Some(_) => None,
        None => Some(broker::Broker::start(options.kafka.as_deref().unwrap_or("4.4.0"))?),
    };
    let bootstrap = match (&options.bootstrap, &own) {
        (Some(given), _) => given.clone(),
        (None, Some(own)) => own.bootstrap().to_owned(),
        (None, None) => return Err("no broker".into()),
    };
    let java = java::Java::find(options.kafka.as_deref(), &bootstrap)?;
    if java.is_none() {
        println!("skipped: Java's side, no jars: say which with --kafka VERSION");
    }
    let mut connection = Connection::open(&bootstrap)?;
    let text = Text::of_this_package(options.records / Compression::ALL.len())?;
    let run = std::process::id();
    for codec in Compression::ALL {
        trip::round_trip(&mut connection, java.as_ref(), &text, codec, run)?;
    }
    println!(
        "{} records went round with {} codecs, all equal",
        text.len() * Compression::ALL.len(),
        Compression::ALL.len()
    );
    Ok(())
}

struct Options {
    bootstrap: Option<String>,
    records: usize,
    kafka: Option<String>,
}

impl Options {
    fn parse() -> Result<Self> {
        let version = std::env::var("WEIR_KAFKA_VERSION").ok();
        let mut options = Self { bootstrap: None, records: 100_000, kafka: version };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().ok_or(format!("{name} wants a value"))?;
            match name.as_str() {
                "--bootstrap" => options.bootstrap = Some(value),
                "--records" => options.records = value.parse()?,
                "--kafka" => options.kafka = Some(value),
                _ => {
                    return Err(
                        format!("unknown option {name}: there are --bootstrap, --records, --kafka").into()
                    );
                }
            }
        }
        Ok(options)
    }
}
