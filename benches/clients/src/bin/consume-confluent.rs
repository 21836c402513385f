//! confluent-kafka, Confluent's client in Rust: its values as slices of what came, 10,000 records a poll.
//!
//!     consume-confluent MODE BROKER TOPIC COUNT SIZE CODEC [PARTITIONS]

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use confluent_kafka::common::TopicPartition;
use confluent_kafka::common::serialization::{ByteArraySerializer, BytesDeserializer};
use confluent_kafka::consumer::{Consumer as _, ConsumerConfig, KafkaConsumer};
use confluent_kafka::producer::{KafkaProducer, ProducerConfig, ProducerRecord};
use weir_clients::Fail;
use weir_clients::load::{FETCH_MAX, Job, Meter, Mode, PARTITION_MAX, Tally, WARM_UP, pool};

const PATIENCE: Duration = Duration::from_secs(10);

type Consumer = KafkaConsumer<Bytes, Bytes>;

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

fn named(settings: impl IntoIterator<Item = (&'static str, String)>) -> HashMap<String, String> {
    settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

async fn reader(job: &Job) -> Result<Consumer, Fail> {
    let config = ConsumerConfig::new(&named([
        ("bootstrap.servers", job.broker.clone()),
        ("group.protocol", "consumer".to_owned()),
        ("auto.offset.reset", "earliest".to_owned()),
        ("enable.auto.commit", "false".to_owned()),
        ("max.partition.fetch.bytes", PARTITION_MAX.to_string()),
        ("fetch.max.bytes", FETCH_MAX.to_string()),
        ("max.poll.records", "10000".to_owned()),
    ]))?;
    let mut consumer = Consumer::new(config, BytesDeserializer::new(), BytesDeserializer::new())?;
    let topic = job.topic.as_str();
    consumer.assign((0..job.partitions).map(|partition| TopicPartition::new(topic, partition)).collect()).await?;
    Ok(consumer)
}

async fn next(consumer: &mut Consumer, tally: &mut Tally) -> Result<(), Fail> {
    for record in &consumer.poll(PATIENCE).await? {
        tally.add(record.value().map(|value| &value[..]).unwrap_or_default());
    }
    Ok(())
}

async fn consume(job: &Job) -> Result<(), Fail> {
    let mut tally = Tally::default();
    let meter = Meter::start()?;
    let mut consumer = reader(job).await?;
    while tally.count < job.count {
        next(&mut consumer, &mut tally).await?;
    }
    meter.report_read("confluent", job, tally)
}

async fn e2e(job: &Job) -> Result<(), Fail> {
    let pool = pool(job.size);
    let mut values = pool.chunks_exact(job.size).cycle();
    let config = ProducerConfig::new(&named([
        ("bootstrap.servers", job.broker.clone()),
        ("acks", "all".to_owned()),
        ("enable.idempotence", "true".to_owned()),
        ("linger.ms", "0".to_owned()),
        ("compression.type", job.codec.clone()),
    ]))?;
    let producer: KafkaProducer<Vec<u8>, Vec<u8>> =
        KafkaProducer::new(config, ByteArraySerializer::new(), ByteArraySerializer::new())?;
    let mut consumer = reader(job).await?;
    let mut tally = Tally::default();
    let mut trip = async |value| {
        let began = Instant::now();
        let wanted = tally.count + 1;
        let ack = producer.send(ProducerRecord::new(job.topic.clone(), Some(value)), None).await?;
        while tally.count < wanted {
            next(&mut consumer, &mut tally).await?;
        }
        let time = began.elapsed();
        ack.get().await?;
        Ok::<_, Fail>(time)
    };
    for value in values.by_ref().take(WARM_UP) {
        trip(value).await?;
    }
    let mut trips = Vec::with_capacity(job.count);
    let meter = Meter::start()?;
    for value in values.take(job.count) {
        trips.push(trip(value).await?);
    }
    meter.report("confluent", job, trips.len(), trips)
}
