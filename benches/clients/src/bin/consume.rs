//! Weir's consumer beside the floor and the other clients, on one broker, in one run.
//!
//!     cargo run --release --all-features --bin consume -- [--rounds N] [--quick] [--clients weir,floor,...] [--kafka VERSION]
//!     cargo run --release --all-features --bin consume -- --broker HOST:PORT ...
//!
//! It builds the programs, starts a broker (or takes yours), fills a topic for each column by weir's producer in
//! batches of a megabyte, and lets the clients take turns, round after round: six columns of CPU and rate, the time
//! from produce to receive (each on a fresh topic), and the time to the first record. All consumers have all
//! partitions assigned and read from the beginning; the first byte and the length of every value are summed, and a
//! run whose sum is another ends everything.
//!
//! Printed are medians, the ratio of each client to the floor in the same round (median over the rounds), and weir's
//! to the best of the peers.

use std::collections::BTreeMap;

use weir_clients::Fail;
use weir_clients::turns::{self, Column, Kafka, Options, Program, Round};

const PARTITIONS: i32 = 4;

#[tokio::main]
async fn main() -> Result<(), Fail> {
    let options = Options::from_args()?;
    let programs = turns::build("consume", &options.clients)?;
    let filler = turns::build("produce", &["weir"])?.pop().ok_or("no program to fill topics with")?;
    let (address, _own) = options.broker()?;
    let kafka = Kafka::connect(address).await?;
    let columns = columns(options.quick);
    let mut topics = BTreeMap::new();
    for column in columns.iter().filter(|column| column.mode == "consume") {
        let topic = kafka.create(PARTITIONS).await?;
        turns::run(&filler.1, &kafka.address, &topic, Column { mode: "produce", ..*column })?;
        topics.insert(*column, topic);
    }
    let mut rounds = Vec::new();
    for number in 0..=options.rounds {
        let round = round(&kafka, &programs, &columns, &topics).await?;
        // The first round warms up: the broker's compiler, and the pages of its logs.
        if number > 0 {
            rounds.push(round);
        }
        eprintln!("round {number} of {} done", options.rounds);
    }
    turns::print(&options.clients, &columns, &rounds);
    for topic in topics.values() {
        kafka.delete(topic).await?;
    }
    Ok(())
}

fn columns(quick: bool) -> Vec<Column> {
    let less = if quick { 10 } else { 1 };
    let mut columns = Vec::new();
    for (size, count) in [(100, 2_000_000), (1000, 400_000)] {
        for codec in ["none", "lz4", "zstd"] {
            let count = count / less;
            columns.push(Column { mode: "consume", count, size, codec, partitions: PARTITIONS });
        }
    }
    let e2e = Column { mode: "e2e", count: 5000 / less, size: 100, codec: "none", partitions: PARTITIONS };
    // From the making of a client to the first record: a topic of one.
    let cold = Column { mode: "consume", count: 1, ..e2e };
    columns.extend([e2e, cold]);
    columns
}

/// Each client once in each column.
async fn round(
    kafka: &Kafka,
    programs: &[Program],
    columns: &[Column],
    topics: &BTreeMap<Column, String>,
) -> Result<Round, Fail> {
    let mut round = Round::new();
    for column in columns {
        let mut sum = None;
        for (client, program) in programs {
            let said = match topics.get(column) {
                Some(topic) => turns::run(program, &kafka.address, topic, *column)?,
                None => {
                    let topic = kafka.create(PARTITIONS).await?;
                    let said = turns::run(program, &kafka.address, &topic, *column)?;
                    kafka.delete(&topic).await?;
                    said
                }
            };
            let (found, first) = (said["sum"].as_u64(), *sum.get_or_insert(said["sum"].as_u64()));
            if found != first {
                return Err(format!("{client} read a sum of {found:?}, the one before it {first:?}").into());
            }
            round.insert((*client, *column), said);
        }
    }
    Ok(round)
}
