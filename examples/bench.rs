//! What a record costs: all at once, or one at a time. It prints one line of JSON, and fails unless each record
//! was acknowledged.
//!
//!     cargo build --release --example bench
//!     target/release/examples/bench produce localhost:9092 TOPIC 2000000 100 lz4
//!     target/release/examples/bench latency localhost:9092 TOPIC 5000 100 none
//!
//! Idempotent, acknowledged by all replicas, without keys; one acknowledgement is observed for each record.
//! Programs of the same form for other clients, and one command for all of them, are in `benches/clients`.

use std::collections::VecDeque;
use std::time::Instant;

use weir::records::Compression;
use weir::{Client, Producer, Record};

#[path = "support/load.rs"]
#[allow(dead_code, unreachable_pub, reason = "the programs of other clients take their part of it")]
mod load;

use load::{BATCH_SIZE, BUFFER_MEMORY, CODECS, Fail, Job, Meter, Mode, WARM_UP, WINDOW, pool, tell};

#[tokio::main]
async fn main() -> Result<(), Fail> {
    let job = Job::from_args()?;
    // In a task of its own, as in a service.
    tokio::spawn(async move {
        match job.mode {
            Mode::Produce => produce(&job).await,
            Mode::Latency => latency(&job).await,
        }
    })
    .await?
}

async fn connect(job: &Job) -> Result<Producer, Fail> {
    let kafka = Client::connect(&job.broker).await?;
    let codec = CODECS.iter().position(|codec| *codec == job.codec);
    let codec = codec.and_then(|id| Compression::from_id(id as u8)).ok_or("no such codec")?;
    let settings = kafka.producer().linger(job.linger()).batch_size(BATCH_SIZE);
    Ok(settings.buffer_memory(BUFFER_MEMORY).compression(codec).build()?)
}

async fn produce(job: &Job) -> Result<(), Fail> {
    let pool = pool(job.size);
    let (mut acks, mut acked) = (VecDeque::with_capacity(WINDOW), 0);
    let meter = Meter::start()?;
    let producer = connect(job).await?;
    let topic = producer.topic(&job.topic);
    for value in pool.chunks_exact(job.size).cycle().take(job.count) {
        if acks.len() == WINDOW
            && let Some(ack) = acks.pop_front()
        {
            acked += usize::from(arrived(ack.await));
        }
        acks.push_back(topic.enqueue(Record::new().value(value)).await?);
    }
    producer.flush().await?;
    for ack in acks {
        acked += usize::from(arrived(ack.await));
    }
    meter.report("weir", job, acked, Vec::new())
}

/// Whether a record arrived.
fn arrived<T>(result: weir::Result<T>) -> bool {
    result.inspect_err(tell).is_ok()
}

async fn latency(job: &Job) -> Result<(), Fail> {
    let pool = pool(job.size);
    let mut values = pool.chunks_exact(job.size).cycle();
    let producer = connect(job).await?;
    for value in values.by_ref().take(WARM_UP) {
        producer.send(Record::to(&job.topic).value(value)).await?;
    }
    let (mut trips, mut acked) = (Vec::with_capacity(job.count), 0);
    let meter = Meter::start()?;
    for value in values.take(job.count) {
        let began = Instant::now();
        acked += usize::from(arrived(producer.send(Record::to(&job.topic).value(value)).await));
        trips.push(began.elapsed());
    }
    meter.report("weir", job, acked, trips)
}
