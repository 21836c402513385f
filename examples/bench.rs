//! What a record costs: produced or consumed all at once, acknowledged or received one at a time. It prints one line of
//! JSON, and fails unless each record has arrived.
//!
//!     cargo build --release --example bench
//!     target/release/examples/bench produce localhost:9092 TOPIC 2000000 100 lz4
//!     target/release/examples/bench latency localhost:9092 TOPIC 5000 100 none
//!     target/release/examples/bench consume localhost:9092 TOPIC 2000000 100 lz4
//!     target/release/examples/bench e2e localhost:9092 EMPTY-TOPIC 5000 100 none
//!
//! Idempotent, acknowledged by all replicas, without keys; one acknowledgement is observed for each record. Consumers
//! have all partitions assigned, and look at each value.
//! Programs of the same form for other clients, and one command for all of them, are in `benches/clients`.

use std::collections::VecDeque;
use std::time::Instant;

use weir::consumer::{Batch, Consumer, Reset};
use weir::records::Compression;
use weir::{Client, Producer, Record};

#[path = "support/load.rs"]
#[allow(dead_code, unreachable_pub, reason = "the programs of other clients take their part of it")]
mod load;

use load::{
    BATCH_SIZE, BUFFER_MEMORY, CODECS, FETCH_MAX, Fail, Job, Meter, Mode, PARTITION_MAX, Tally, WARM_UP,
    WINDOW, pool, tell,
};

#[tokio::main]
async fn main() -> Result<(), Fail> {
    let job = Job::from_args()?;
    // In a task of its own, as in a service.
    tokio::spawn(async move {
        match job.mode {
            Mode::Produce => produce(&job).await,
            Mode::Latency => latency(&job).await,
            Mode::Consume => consume(&job).await,
            Mode::E2e => e2e(&job).await,
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

/// Reads all partitions from the beginning.
async fn reader(job: &Job) -> Result<Consumer, Fail> {
    let kafka = Client::connect(&job.broker).await?;
    let settings = kafka.consumer().reset(Reset::Earliest);
    let settings = settings.max_partition_fetch_bytes(PARTITION_MAX).fetch_max_bytes(FETCH_MAX);
    let consumer = settings.build()?;
    consumer.assign((0..job.partitions).map(|partition| (&job.topic, partition)))?;
    Ok(consumer)
}

async fn next(consumer: &mut Consumer) -> Result<Batch, Fail> {
    Ok(consumer.next().await?.ok_or("the consumer was closed")?)
}

async fn consume(job: &Job) -> Result<(), Fail> {
    let mut tally = Tally::default();
    let meter = Meter::start()?;
    let mut consumer = reader(job).await?;
    while tally.count < job.count {
        for record in &next(&mut consumer).await? {
            tally.add(record.value().unwrap_or_default());
        }
    }
    meter.report_read("weir", job, tally)
}

async fn e2e(job: &Job) -> Result<(), Fail> {
    let pool = pool(job.size);
    let mut values = pool.chunks_exact(job.size).cycle();
    let (producer, mut consumer) = (connect(job).await?, reader(job).await?);
    let topic = producer.topic(&job.topic);
    let mut trip = async |value| {
        let began = Instant::now();
        let ack = topic.enqueue(Record::new().value(value)).await?;
        let (records, time) = (next(&mut consumer).await?.len(), began.elapsed());
        ack.await?;
        if records == 1 { Ok::<_, Fail>(time) } else { Err(format!("{records} records came for one").into()) }
    };
    for value in values.by_ref().take(WARM_UP) {
        trip(value).await?;
    }
    let mut trips = Vec::with_capacity(job.count);
    let meter = Meter::start()?;
    for value in values.take(job.count) {
        trips.push(trip(value).await?);
    }
    meter.report("weir", job, trips.len(), trips)
}
