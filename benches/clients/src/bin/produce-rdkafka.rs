//! rdkafka (librdkafka): `ThreadedProducer` with a callback that counts; `FutureProducer` for latency.
//!
//!     produce-rdkafka MODE BROKER TOPIC COUNT SIZE CODEC

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{
    BaseRecord, FutureProducer, FutureRecord, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::{ClientConfig, config::FromClientConfigAndContext as _};
use weir_clients::Fail;
use weir_clients::load::{BATCH_SIZE, BUFFER_MEMORY, Job, Meter, Mode, WARM_UP, pool, tell};

const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::main]
async fn main() -> Result<(), Fail> {
    let job = Job::from_args()?;
    match job.mode {
        Mode::Produce => produce(&job),
        Mode::Latency => tokio::spawn(async move { latency(&job).await }).await?,
        mode => Err(mode.elsewhere()),
    }
}

fn config(job: &Job) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &job.broker).set("acks", "all").set("enable.idempotence", "true");
    config.set("linger.ms", job.linger().as_millis().to_string()).set("compression.type", &job.codec);
    config.set("batch.size", BATCH_SIZE.to_string()).set("batch.num.messages", "1000000");
    // No limit but that of memory.
    config.set("queue.buffering.max.kbytes", (BUFFER_MEMORY >> 10).to_string());
    config.set("queue.buffering.max.messages", "0");
    config
}

/// Counts what arrived.
#[derive(Clone, Default)]
struct Counter(Arc<AtomicUsize>);

impl ClientContext for Counter {}

impl ProducerContext for Counter {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => _ = self.0.fetch_add(1, Ordering::Relaxed),
            Err((error, _)) => tell(error),
        }
    }
}

fn produce(job: &Job) -> Result<(), Fail> {
    let pool = pool(job.size);
    let meter = Meter::start()?;
    let counter = Counter::default();
    let producer = ThreadedProducer::from_config_and_context(&config(job), counter.clone())?;
    for value in pool.chunks_exact(job.size).cycle().take(job.count) {
        let mut record = BaseRecord::<(), [u8]>::to(&job.topic).payload(value);
        while let Err((error, back)) = producer.send(record) {
            if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                return Err(error.into());
            }
            record = back;
            producer.poll(Duration::from_millis(1));
        }
    }
    producer.flush(PATIENCE)?;
    meter.report("rdkafka", job, counter.0.load(Ordering::Relaxed), Vec::new())
}

async fn latency(job: &Job) -> Result<(), Fail> {
    let pool = pool(job.size);
    let mut values = pool.chunks_exact(job.size).cycle();
    let producer: FutureProducer = config(job).create()?;
    let send =
        async |value| producer.send(FutureRecord::<(), [u8]>::to(&job.topic).payload(value), PATIENCE).await;
    for value in values.by_ref().take(WARM_UP) {
        send(value).await.map_err(|(error, _)| error)?;
    }
    let (mut trips, mut acked) = (Vec::with_capacity(job.count), 0);
    let meter = Meter::start()?;
    for value in values.take(job.count) {
        let began = Instant::now();
        acked += usize::from(send(value).await.inspect_err(|(error, _)| tell(error)).is_ok());
        trips.push(began.elapsed());
    }
    meter.report("rdkafka", job, acked, trips)
}
