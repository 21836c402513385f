//! rdkafka (librdkafka): `BaseConsumer::poll`; `ThreadedProducer` where records are to be sent.
//!
//!     consume-rdkafka MODE BROKER TOPIC COUNT SIZE CODEC [PARTITIONS]

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, Message as _, Offset, TopicPartitionList};
use weir_clients::Fail;
use weir_clients::load::{FETCH_MAX, Job, Meter, Mode, PARTITION_MAX, Tally, WARM_UP, pool};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Fail> {
    let job = Job::from_args()?;
    match job.mode {
        Mode::Consume => consume(&job),
        Mode::E2e => e2e(&job),
        mode => Err(mode.elsewhere()),
    }
}

fn reader(job: &Job) -> Result<BaseConsumer, Fail> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &job.broker).set("group.id", "bench").set("enable.auto.commit", "false");
    config.set("max.partition.fetch.bytes", PARTITION_MAX.to_string());
    // It does not check them unless told.
    config.set("fetch.max.bytes", FETCH_MAX.to_string()).set("check.crcs", "true");
    let consumer: BaseConsumer = config.create()?;
    let mut list = TopicPartitionList::new();
    for partition in 0..job.partitions {
        list.add_partition_offset(&job.topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&list)?;
    Ok(consumer)
}

fn next(consumer: &BaseConsumer, tally: &mut Tally) -> Result<(), Fail> {
    let message = consumer.poll(PATIENCE).ok_or("nothing came")??;
    tally.add(message.payload().unwrap_or_default());
    Ok(())
}

fn consume(job: &Job) -> Result<(), Fail> {
    let mut tally = Tally::default();
    let meter = Meter::start()?;
    let consumer = reader(job)?;
    while tally.count < job.count {
        next(&consumer, &mut tally)?;
    }
    meter.report_read("rdkafka", job, tally)
}

fn e2e(job: &Job) -> Result<(), Fail> {
    let pool = pool(job.size);
    let mut values = pool.chunks_exact(job.size).cycle();
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &job.broker).set("acks", "all").set("enable.idempotence", "true");
    config.set("linger.ms", "0").set("compression.type", &job.codec);
    let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
    let consumer = reader(job)?;
    let mut tally = Tally::default();
    let mut trip = |value: &[u8]| {
        let began = Instant::now();
        let record = BaseRecord::<(), [u8]>::to(&job.topic).payload(value);
        producer.send(record).map_err(|(error, _)| error)?;
        next(&consumer, &mut tally)?;
        let time = began.elapsed();
        producer.flush(PATIENCE)?;
        Ok::<_, Fail>(time)
    };
    for value in values.by_ref().take(WARM_UP) {
        trip(value)?;
    }
    let mut trips = Vec::with_capacity(job.count);
    let meter = Meter::start()?;
    for value in values.take(job.count) {
        trips.push(trip(value)?);
    }
    meter.report("rdkafka", job, trips.len(), trips)
}
