//! Produces ten records to a broker and reads them back.
//!
//!     cargo run --example quickstart                      # a broker of its own, where Java and Maven are
//!     cargo run --example quickstart -- localhost:9092    # yours
//!
//! Until there is administration, the topic is created by Kafka's own request.

#[path = "support/broker.rs"]
mod broker;

use std::time::Duration;

use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::records::Compression;
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
    create_topic(&kafka).await?;
    let offset = produce(&kafka).await?;
    consume(&kafka, offset).await?;
    kafka.close().await;
    Ok(())
}

/// Creates the topic unless it is there.
async fn create_topic(kafka: &Client) -> Result<()> {
    let topic =
        CreatableTopic { name: TOPIC.into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let answer = kafka.request(CreateTopicsRequest { topics: vec![topic], ..Default::default() }).await?;
    let code = answer.topics.first().map_or(0, |topic| topic.error_code);
    if ErrorCode(code) != ErrorCode::TOPIC_ALREADY_EXISTS {
        check("create topic", code)?;
    }
    Ok(())
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

/// Reads from that offset on, and prints what comes.
async fn consume(kafka: &Client, offset: i64) -> Result<()> {
    let mut consumer = kafka.consumer().build()?;
    consumer.assign([(TOPIC, 0)])?;
    consumer.seek((TOPIC, 0), offset)?;
    let mut left = 10;
    while left > 0 {
        let batch = consumer.next().await?.ok_or("the consumer was closed")?;
        for record in &batch {
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            println!("offset {}: {} = {}", record.offset(), text(record.key()), text(record.value()));
            left -= 1;
        }
    }
    consumer.close(Duration::from_secs(10)).await?;
    Ok(())
}

/// Fails with what a broker said, unless it said that nothing is wrong.
fn check(what: &str, code: i16) -> Result<()> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(format!("{what}: {code}").into()),
    }
}
