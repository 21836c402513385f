//! Produces ten records to a broker and fetches them back.
//!
//!     cargo run --example quickstart                      # a broker of its own, where Java and Maven are
//!     cargo run --example quickstart -- localhost:9092    # yours
//!
//! Until the client stands on top of it, this is the protocol itself: typed requests in the version
//! that both sides have, and record batches.

#[path = "support/broker.rs"]
mod broker;
#[path = "support/mod.rs"]
mod support;

use std::io::Write;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use support::{Connection, Result, check, name_of};
use weir::protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use weir::protocol::metadata::MetadataResponseTopic;
use weir::protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use weir::records::{BatchBuilder, Batches, Compression, Compressor, Decompressor, NewRecord, Stamp};

fn main() -> ExitCode {
    support::report("quickstart", run())
}

fn run() -> Result<()> {
    let given = std::env::args().nth(1);
    // Lives until the end of main, and takes the broker with it.
    let own = if given.is_none() { Some(broker::Broker::start("4.4.0")?) } else { None };
    let address = given.as_deref().or(own.as_ref().map(broker::Broker::bootstrap)).unwrap_or_default();

    let mut connection = Connection::open(address)?;
    let topic = connection.create_topic("weir-quickstart", 1)?;
    let offset = produce(&mut connection, &topic)?;
    fetch(&mut connection, &topic, offset)
}

/// Sends one batch of ten records, and gives the offset of the first.
fn produce(connection: &mut Connection, topic: &MetadataResponseTopic) -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    let mut batch = BatchBuilder::new();
    for n in 1..=10 {
        let (key, value) = (format!("order-{n}"), format!("{n} pieces"));
        batch.append(&NewRecord::new(now).key(&key).value(&value))?;
    }
    let records = batch.seal(&Stamp::default(), Some(&mut Compressor::new(Compression::Gzip)?))?;
    let data = TopicProduceData {
        name: name_of(topic),
        topic_id: topic.topic_id,
        partition_data: vec![PartitionProduceData { index: 0, records: Some(records), ..Default::default() }],
        ..Default::default()
    };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![data], ..Default::default() };
    let answer = connection.call(&request)?;
    let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
    let partition = partition.ok_or("no answer about the partition")?;
    check("produce", partition.error_code)?;
    println!("produced 10 records from offset {}", partition.base_offset);
    Ok(partition.base_offset)
}

/// Fetches from that offset on, and prints what comes.
fn fetch(connection: &mut Connection, topic: &MetadataResponseTopic, offset: i64) -> Result<()> {
    let partition =
        FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    let wanted = FetchTopic {
        topic: name_of(topic),
        topic_id: topic.topic_id,
        partitions: vec![partition],
        ..Default::default()
    };
    let request =
        FetchRequest { max_wait_ms: 1000, min_bytes: 1, topics: vec![wanted], ..Default::default() };
    let answer = connection.call(&request)?;
    check("fetch", answer.error_code)?;
    let partition = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
    let partition = partition.ok_or("no answer about the partition")?;
    check("fetch", partition.error_code)?;

    let mut out = std::io::stdout().lock();
    let mut decompressor = Decompressor::new();
    for batch in Batches::new(partition.records.unwrap_or_default()) {
        for record in &batch?.records(&mut decompressor)? {
            let record = record?;
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            writeln!(out, "offset {}: {} = {}", record.offset(), text(record.key()), text(record.value()))?;
        }
    }
    Ok(())
}
