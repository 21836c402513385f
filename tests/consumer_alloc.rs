//! Memory: no allocation a record on the way of a record from the socket to the application; and time: what a record
//! costs does not grow with the number of partitions.
//!
//! A binary of its own, since it counts what is allocated: by the thread that runs the client, all of it. The
//! broker, which is none, has threads of its own.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use tokio::runtime::Runtime;
use weir::Client;
use weir::consumer::{Consumer, Reset};
use weir::records::{BatchBuilder, Compression, Compressor, NewRecord, Stamp};

#[path = "../examples/support/giver.rs"]
mod giver;

const RECORDS: usize = 400_000;

async fn read(consumer: &mut Consumer, least: usize) -> usize {
    let mut seen = 0;
    while seen < least {
        let batch = consumer.next().await.unwrap().unwrap();
        assert!(batch.iter().all(|record| record.value().is_some_and(|value| value.len() == 100)));
        seen += batch.len();
    }
    seen
}

fn consumer(runtime: &Runtime, partitions: i32, records: usize, compression: Compression) -> Consumer {
    let mut builder = BatchBuilder::new();
    for _ in 0..records {
        builder.append(&NewRecord::new(1_700_000_000_000).value(&[7; 100])).unwrap();
    }
    let mut compressor = Compressor::new(compression).unwrap();
    let batch = builder.seal(&Stamp::default(), Some(&mut compressor)).unwrap();
    let broker = giver::serve(partitions, batch, records).unwrap();
    runtime.block_on(async {
        let kafka = Client::connect(&broker).await.unwrap();
        let consumer = kafka.consumer().reset(Reset::Earliest).build().unwrap();
        consumer.assign((0..partitions).map(|partition| (giver::TOPIC, partition))).unwrap();
        consumer
    })
}

/// Allocations a record of a warm consumer.
#[allow(clippy::cast_precision_loss, reason = "for people to read")]
fn allocations(runtime: &Runtime, records: usize, compression: Compression) -> f64 {
    let mut consumer = consumer(runtime, 4, records, compression);
    runtime.block_on(read(&mut consumer, RECORDS));
    let mut seen = 0;
    let counted = allocation_counter::measure(|| seen = runtime.block_on(read(&mut consumer, RECORDS)));
    let each = counted.count_total as f64 / seen as f64;
    println!(
        "{compression}, batches of {records}: {} allocations, {} bytes, {each:.5} a record",
        counted.count_total, counted.bytes_total
    );
    each
}

#[test]
fn a_record_costs_no_allocation() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for compression in [Compression::None, Compression::Lz4, Compression::Zstd] {
        let each = allocations(&runtime, 9000, compression);
        assert!(each < 0.01, "{compression}: {each} allocations a record");
        let each = allocations(&runtime, 140, compression);
        assert!(each < 0.1, "{compression}, small batches: {each} allocations a record");
    }
}
