//! krafka, driven as its documentation says: records enqueued, their handles awaited in order.
//!
//!     produce-krafka MODE BROKER TOPIC COUNT SIZE CODEC

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use krafka::producer::{Acks, Producer};

use krafka::{Compression, Kafka, Record};
use weir_clients::Fail;
use weir_clients::load::{BATCH_SIZE, BUFFER_MEMORY, Job, Meter, Mode, WARM_UP, WINDOW, pool, tell};

#[tokio::main]
async fn main() -> Result<(), Fail> {
    let job = Job::from_args()?;
    tokio::spawn(async move {
        match job.mode {
            Mode::Produce => produce(&job).await,
            Mode::Latency => latency(&job).await,
            mode => Err(mode.elsewhere()),
        }
    })
    .await?
}

async fn connect(job: &Job) -> Result<(Kafka, Producer), Fail> {
    let compression = match &job.codec[..] {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::None,
    };
    let kafka = Kafka::builder(job.broker.clone()).connect().await?;
    let settings = kafka.producer().acks(Acks::All).idempotent(true).linger(job.linger());
    let settings = settings.batch_size(BATCH_SIZE).buffer_memory(BUFFER_MEMORY).compression(compression);
    let producer = settings.build().await?;
    Ok((kafka, producer))
}

async fn produce(job: &Job) -> Result<(), Fail> {
    // Slices of one allocation, so that no value is copied on its way in.
    let pool = Bytes::from(pool(job.size));
    let (mut handles, mut acked) = (VecDeque::with_capacity(WINDOW), 0);
    let meter = Meter::start()?;
    let (_kafka, producer) = connect(job).await?;
    for value in pool.chunks_exact(job.size).cycle().take(job.count) {
        if handles.len() == WINDOW
            && let Some(handle) = handles.pop_front()
        {
            acked += usize::from(arrived(handle.await));
        }
        handles.push_back(producer.enqueue(Record::new(job.topic.as_str(), pool.slice_ref(value))).await?);
    }
    producer.flush().await?;
    for handle in handles {
        acked += usize::from(arrived(handle.await));
    }
    meter.report("krafka", job, acked, Vec::new())
}

/// Whether a record arrived.
fn arrived<T>(result: krafka::Result<T>) -> bool {
    result.inspect_err(tell).is_ok()
}

async fn latency(job: &Job) -> Result<(), Fail> {
    let pool = Bytes::from(pool(job.size));
    let mut values =
        pool.chunks_exact(job.size).cycle().map(|value| Record::new(&job.topic, pool.slice_ref(value)));
    let (_kafka, producer) = connect(job).await?;
    for record in values.by_ref().take(WARM_UP) {
        let _at = producer.send(record).await?;
    }
    let (mut trips, mut acked) = (Vec::with_capacity(job.count), 0);
    let meter = Meter::start()?;
    for record in values.take(job.count) {
        let began = Instant::now();
        acked += usize::from(arrived(producer.send(record).await));
        trips.push(began.elapsed());
    }
    meter.report("krafka", job, acked, trips)
}
