//! krafka, without a group: 10,000 records a poll, 100,000 buffered.
//!
//!     consume-krafka MODE BROKER TOPIC COUNT SIZE CODEC [PARTITIONS]

use std::time::{Duration, Instant};

use bytes::Bytes;
use krafka::consumer::{AutoOffsetReset, Consumer};
use krafka::producer::Acks;
use krafka::{Kafka, Record};
use weir_clients::Fail;
use weir_clients::load::{FETCH_MAX, Job, Meter, Mode, PARTITION_MAX, Tally, WARM_UP, pool};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> Result<(), Fail> {
    let job = Job::from_args()?;
    tokio::spawn(async move {
        match job.mode {
            Mode::Consume => consume(&job).await,
            Mode::E2e => e2e(&job).await,
            mode => Err(mode.elsewhere()),
        }
    })
    .await?
}

async fn reader(job: &Job, kafka: &Kafka) -> Result<Consumer, Fail> {
    let settings = kafka.consumer_without_group().auto_offset_reset(AutoOffsetReset::Earliest);
    let settings = settings.enable_auto_commit(false).max_poll_records(10_000).max_buffered_records(100_000);
    let settings = settings.max_partition_fetch_bytes(PARTITION_MAX as i32).fetch_max_bytes(FETCH_MAX as i32);
    let consumer = settings.build().await?;
    consumer.assign(&job.topic, (0..job.partitions).collect()).await?;
    Ok(consumer)
}

async fn next(consumer: &Consumer, tally: &mut Tally) -> Result<(), Fail> {
    for record in &consumer.poll(PATIENCE).await? {
        tally.add(record.value.as_deref().unwrap_or_default());
    }
    Ok(())
}

async fn consume(job: &Job) -> Result<(), Fail> {
    let mut tally = Tally::default();
    let meter = Meter::start()?;
    let kafka = Kafka::builder(job.broker.clone()).connect().await?;
    let consumer = reader(job, &kafka).await?;
    while tally.count < job.count {
        next(&consumer, &mut tally).await?;
    }
    meter.report_read("krafka", job, tally)
}

async fn e2e(job: &Job) -> Result<(), Fail> {
    let pool = Bytes::from(pool(job.size));
    let mut values =
        pool.chunks_exact(job.size).cycle().map(|value| Record::new(&job.topic, pool.slice_ref(value)));
    let kafka = Kafka::builder(job.broker.clone()).connect().await?;
    let settings = kafka.producer().acks(Acks::All).idempotent(true).linger(Duration::ZERO);
    let producer = settings.build().await?;
    let consumer = reader(job, &kafka).await?;
    let mut tally = Tally::default();
    let mut trip = async |record| {
        let began = Instant::now();
        let wanted = tally.count + 1;
        let handle = producer.enqueue(record).await?;
        while tally.count < wanted {
            next(&consumer, &mut tally).await?;
        }
        let time = began.elapsed();
        let _at = handle.await?;
        Ok::<_, Fail>(time)
    };
    for record in values.by_ref().take(WARM_UP) {
        trip(record).await?;
    }
    let mut trips = Vec::with_capacity(job.count);
    let meter = Meter::start()?;
    for record in values.take(job.count) {
        trips.push(trip(record).await?);
    }
    meter.report("krafka", job, trips.len(), trips)
}
