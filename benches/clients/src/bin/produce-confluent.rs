//! confluent-kafka, Confluent's client in Rust: byte slices, and a callback without a size that counts.
//!
//!     produce-confluent MODE BROKER TOPIC COUNT SIZE CODEC

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use confluent_kafka::common::Error;
use confluent_kafka::common::serialization::ByteArraySerializer;
use confluent_kafka::producer::{
    Callback, KafkaProducer, Producer as _, ProducerConfig, ProducerRecord, RecordMetadata,
};
use weir_clients::Fail;
use weir_clients::load::{BATCH_SIZE, BUFFER_MEMORY, Job, Meter, Mode, WARM_UP, pool, tell};

type Producer = KafkaProducer<Vec<u8>, Vec<u8>>;

static ACKED: AtomicUsize = AtomicUsize::new(0);

/// Its box takes no memory.
struct Counter;

impl Callback for Counter {
    fn on_completion(self: Box<Self>, _at: Option<&RecordMetadata>, error: Option<&Error>) {
        match error {
            None => _ = ACKED.fetch_add(1, Ordering::Relaxed),
            Some(error) => tell(error),
        }
    }
}

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

fn connect(job: &Job) -> Result<Producer, Fail> {
    let settings = [
        ("bootstrap.servers", job.broker.clone()),
        ("acks", "all".to_owned()),
        ("enable.idempotence", "true".to_owned()),
        ("linger.ms", job.linger().as_millis().to_string()),
        ("batch.size", BATCH_SIZE.to_string()),
        ("buffer.memory", BUFFER_MEMORY.to_string()),
        ("compression.type", job.codec.clone()),
    ];
    let settings: HashMap<_, _> =
        settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let config = ProducerConfig::new(&settings)?;
    Ok(Producer::new(config, ByteArraySerializer::new(), ByteArraySerializer::new())?)
}

async fn produce(job: &Job) -> Result<(), Fail> {
    let pool = pool(job.size);
    let meter = Meter::start()?;
    let producer = connect(job)?;
    for value in pool.chunks_exact(job.size).cycle().take(job.count) {
        let record = ProducerRecord::new(job.topic.clone(), Some(value));
        drop(producer.send(record, Some(Box::new(Counter))).await?);
    }
    producer.flush().await?;
    meter.report("confluent", job, ACKED.load(Ordering::Relaxed), Vec::new())
}

async fn latency(job: &Job) -> Result<(), Fail> {
    let pool = pool(job.size);
    let mut values = pool.chunks_exact(job.size).cycle();
    let producer = connect(job)?;
    let send = async |value| {
        let record = ProducerRecord::new(job.topic.clone(), Some(value));
        producer.send(record, None).await?.get().await
    };
    for value in values.by_ref().take(WARM_UP) {
        send(value).await?;
    }
    let (mut trips, mut acked) = (Vec::with_capacity(job.count), 0);
    let meter = Meter::start()?;
    for value in values.take(job.count) {
        let began = Instant::now();
        acked += usize::from(send(value).await.inspect_err(tell).is_ok());
        trips.push(began.elapsed());
    }
    meter.report("confluent", job, acked, trips)
}
