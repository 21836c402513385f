//! Weir's producer beside the floor and the other clients, on one broker, in one run.
//!
//!     cargo run --release --all-features --bin produce -- [--rounds N] [--quick] [--clients weir,floor,...] [--kafka VERSION]
//!     cargo run --release --all-features --bin produce -- --broker HOST:PORT ...
//!
//! It builds the programs, starts a broker (or takes yours), and lets the clients take turns, round after round:
//! six columns of CPU and rate, latency, and cold start (from nothing to the first acknowledgement, on a topic
//! that is there). Each run has a fresh topic of four partitions, which is deleted after it; that the topic has
//! as many records as were to be sent is looked up there, and a run that lost one ends everything.
//!
//! Printed are medians, the ratio of each client to the floor in the same round (median over the rounds), and
//! weir's to the best of the peers. librdkafka waits half a second before its first idempotent batch: that is in
//! its rate, as it would be in yours, and takes no CPU.

use weir_clients::Fail;
use weir_clients::turns::{self, Column, Kafka, Options, Program, Round};

const PARTITIONS: i32 = 4;

#[tokio::main]
async fn main() -> Result<(), Fail> {
    let options = Options::from_args()?;
    let programs = turns::build("produce", &options.clients)?;
    let (address, _own) = options.broker()?;
    let kafka = Kafka::connect(address).await?;
    let columns = columns(options.quick);
    let mut rounds = Vec::new();
    for number in 0..=options.rounds {
        let round = round(&kafka, &programs, &columns, number == 0).await?;
        // The first round warms up, the broker's compiler above all.
        if number > 0 {
            rounds.push(round);
        }
        eprintln!("round {number} of {} done", options.rounds);
    }
    turns::print(&options.clients, &columns, &rounds);
    Ok(())
}

fn columns(quick: bool) -> Vec<Column> {
    let less = if quick { 10 } else { 1 };
    let mut columns = Vec::new();
    for (size, count) in [(100, 2_000_000), (1000, 400_000)] {
        for codec in ["none", "lz4", "zstd"] {
            columns.push(Column {
                mode: "produce",
                count: count / less,
                size,
                codec,
                partitions: PARTITIONS,
            });
        }
    }
    columns.push(Column {
        mode: "latency",
        count: 10_000 / less,
        size: 100,
        codec: "none",
        partitions: PARTITIONS,
    });
    // From the making of a client to the first acknowledgement: a run of one record.
    columns.push(Column { mode: "produce", count: 1, size: 100, codec: "none", partitions: PARTITIONS });
    columns
}

/// Each client once in each column, on topics of their own.
async fn round(
    kafka: &Kafka,
    programs: &[Program],
    columns: &[Column],
    warming: bool,
) -> Result<Round, Fail> {
    let mut round = Round::new();
    for column in columns {
        for (client, program) in programs {
            let mut column = *column;
            if warming {
                column.count = column.count.div_ceil(10);
            }
            let topic = kafka.create(PARTITIONS).await?;
            let said = turns::run(program, &kafka.address, &topic, column)?;
            let sent = kafka.records(&topic, PARTITIONS).await?;
            if column.mode == "produce" && sent != column.count as i64 {
                return Err(format!("{client}: {sent} records are there instead of {}", column.count).into());
            }
            kafka.delete(&topic).await?;
            round.insert((*client, column), said);
        }
    }
    Ok(round)
}
