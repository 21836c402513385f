//! Memory: no allocation a record on the way of a record from `enqueue` to its acknowledgement.
//!
//! A binary of its own, since it counts what is allocated: by the thread that runs the client, all of it. The
//! broker, which is none, has threads of its own.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::time::Duration;

use tokio::runtime::Runtime;
use weir::producer::Topic;
use weir::{Ack, Client};

#[path = "../examples/support/acker.rs"]
mod acker;

const PARTITIONS: i32 = 4;
const RECORDS: usize = 200_000;

async fn send_all(producer: &weir::Producer, topic: &Topic, keyed: bool, acks: &mut Vec<Ack>) {
    for number in 0..RECORDS {
        let (record, key) = (weir::Record::new().value(&[7; 100]), number.to_be_bytes());
        let record = if keyed { record.key(&key) } else { record };
        acks.push(topic.enqueue(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    for ack in acks.drain(..) {
        ack.await.unwrap();
    }
}

/// Allocations a record of a warm producer.
#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn allocations(runtime: &Runtime, keyed: bool, batch_size: usize) -> f64 {
    let broker = acker::serve(PARTITIONS).unwrap();
    let producer = runtime.block_on(async {
        let kafka = Client::connect(&broker).await.unwrap();
        let settings = kafka.producer().batch_size(batch_size).linger(Duration::from_millis(5));
        settings.buffer_memory(64 << 20).build().unwrap()
    });
    let topic = producer.topic("orders");
    let mut acks = Vec::with_capacity(RECORDS);
    runtime.block_on(send_all(&producer, &topic, keyed, &mut acks));
    let counted =
        allocation_counter::measure(|| runtime.block_on(send_all(&producer, &topic, keyed, &mut acks)));
    let each = counted.count_total as f64 / RECORDS as f64;
    println!(
        "batches of {batch_size}, keys {keyed}: {} allocations, {each:.5} a record",
        counted.count_total
    );
    each
}

#[test]
fn a_record_costs_no_allocation() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for keyed in [false, true] {
        let each = allocations(&runtime, keyed, 1_000_000);
        assert!(each < 0.01, "keys {keyed}: {each} allocations a record");
        // With small batches it is what a batch costs, shared by 140 records.
        let each = allocations(&runtime, keyed, 16_384);
        assert!(each < 0.1, "keys {keyed}, small batches: {each} allocations a record");
    }
}
