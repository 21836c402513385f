//! Produces ten records to a broker and fetches them back.
//!
//!     cargo run --example quickstart                      # a broker of its own, where Java and Maven are
//!     cargo run --example quickstart -- localhost:9092    # yours
//!
//! Until there are a consumer and administration, topics are created and records fetched by Kafka's own
//! requests. The client brings each to the broker that answers it, in the version that both sides have.

#[path = "support/broker.rs"]
mod broker;

use std::time::Duration;

use weir::protocol::Uuid;
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use weir::protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use weir::records::{Batches, Compression, Decompressor};
use weir::{Client, ErrorCode, Record};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const TOPIC: &str = "weir-quickstart";

#[tokio::main]
async fn main() -> std::process::ExitCode {
    match run().await {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("quickstart: {e}");
            std::process::ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let given = std::env::args().nth(1);
    // Lives until the end of this function, and takes the broker with it.
    let own = if given.is_none() { Some(broker::Broker::start("4.4.0")?) } else { None };
    let address = given.as_deref().or(own.as_ref().map(broker::Broker::bootstrap)).unwrap_or_default();

    // Who waits at a terminal would rather hear soon that nobody is there.
    let kafka = Client::builder(address).api_timeout(Duration::from_secs(15)).connect().await?;
    let topic_id = create_topic(&kafka).await?;
    let offset = produce(&kafka).await?;
    fetch(&kafka, topic_id, offset).await?;
    kafka.close().await;
    Ok(())
}

/// Creates the topic unless it is there, and asks for its id, by which newer brokers know it.
async fn create_topic(kafka: &Client) -> Result<Uuid> {
    let topic =
        CreatableTopic { name: TOPIC.into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let answer = kafka.request(CreateTopicsRequest { topics: vec![topic], ..Default::default() }).await?;
    let code = answer.topics.first().map_or(0, |topic| topic.error_code);
    if ErrorCode(code) != ErrorCode::TOPIC_ALREADY_EXISTS {
        check("create topic", code)?;
    }
    let topic = MetadataRequestTopic { name: Some(TOPIC.into()), ..Default::default() };
    let answer = kafka.request(MetadataRequest { topics: Some(vec![topic]), ..Default::default() }).await?;
    Ok(answer.topics.first().ok_or("no answer about the topic")?.topic_id)
}

/// Sends ten records, and gives the offset of the first.
async fn produce(kafka: &Client) -> Result<i64> {
    let producer = kafka.producer().compression(Compression::Gzip).build()?;
    let mut acks = Vec::new();
    for n in 1..=10 {
        let (key, value) = (format!("order-{n}"), format!("{n} pieces"));
        acks.push(producer.enqueue(Record::to(TOPIC).key(&key).value(&value)).await?);
    }
    let mut first = None;
    for ack in acks {
        let at = ack.await?;
        first = first.or(at.offset());
    }
    producer.close(Duration::from_secs(10)).await?;
    let first = first.ok_or("the broker did not say where the records are")?;
    println!("produced 10 records from offset {first}");
    Ok(first)
}

/// Fetches from that offset on, and prints what comes.
async fn fetch(kafka: &Client, topic_id: Uuid, offset: i64) -> Result<()> {
    let partition =
        FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic =
        FetchTopic { topic: TOPIC.into(), topic_id, partitions: vec![partition], ..Default::default() };
    let request = FetchRequest { max_wait_ms: 1000, min_bytes: 1, topics: vec![topic], ..Default::default() };
    let answer = kafka.request(request).await?;
    check("fetch", answer.error_code)?;
    let partition = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    let partition = partition.ok_or("no answer about the partition")?;
    check("fetch", partition.error_code)?;

    let mut decompressor = Decompressor::new();
    for batch in Batches::new(partition.records.unwrap_or_default()) {
        for record in &batch?.records(&mut decompressor)? {
            let record = record?;
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            println!("offset {}: {} = {}", record.offset(), text(record.key()), text(record.value()));
        }
    }
    Ok(())
}

/// Fails with what a broker said, unless it said that nothing is wrong.
fn check(what: &str, code: i16) -> Result<()> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(format!("{what}: {code}").into()),
    }
}
