//! A consumer holds what it was given for records and a little more, however many partitions have however much, and
//! whether the application comes back or not.
//!
//! The broker is none, and holds nothing to speak of. Memory is counted over all threads, which is why this is a
//! binary of its own.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::alloc::System;
use std::time::Duration;

use cap::Cap;
use weir::Client;
use weir::consumer::Reset;
use weir::records::{BatchBuilder, Compression, Compressor, NewRecord, Stamp};

#[path = "../examples/support/giver.rs"]
mod giver;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// What a consumer, its client and the broker's session hold for a partition beside records: positions, names, places
/// in tables, and once a request and an answer that name all of them.
const PER_PARTITION: usize = 3 * KIB;
/// And in all: the runtime, tables of the codec, and what a connection keeps of its buffers to use it again, which is
/// not in the consumer's budget.
const FREE: usize = 18 * MIB;

/// Reads for a while, then no more; gives the most that was held above what was there before.
fn most(partitions: i32, memory: usize, compression: Compression) -> usize {
    let mut builder = BatchBuilder::new();
    for number in 0..100_usize {
        let value: Vec<u8> = (0..100).map(|at| (at * number * 31 % 251) as u8).collect();
        builder.append(&NewRecord::new(1_700_000_000_000).value(&value)).unwrap();
    }
    let mut compressor = Compressor::new(compression).unwrap();
    let batch = builder.seal(&Stamp::default(), Some(&mut compressor)).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let broker = giver::serve(partitions, batch, 100).unwrap();
    let most = runtime.block_on(async {
        let before = MEMORY.allocated();
        let kafka = Client::connect(&broker).await.unwrap();
        let settings = kafka.consumer().reset(Reset::Earliest).memory(memory);
        let mut consumer = settings.max_partition_fetch_bytes(memory / 8).build().unwrap();
        consumer.assign((0..partitions).map(|partition| (giver::TOPIC, partition))).unwrap();
        let mut most = 0;
        for _ in 0..3000 {
            let batch = consumer.next().await.unwrap().unwrap();
            assert_eq!(batch.len() % 100, 0);
            most = most.max(MEMORY.allocated());
        }
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            most = most.max(MEMORY.allocated());
        }
        most - before
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    println!("{partitions} partitions, {compression}, {memory} bytes of memory: {most}");
    most
}

#[test]
fn memory_is_what_was_given() {
    // One after the other, since all is counted together.
    for partitions in [4, 10_000] {
        for compression in [Compression::None, Compression::Lz4] {
            let memory = 32 * MIB;
            let most = most(partitions, memory, compression);
            let bound = memory + FREE + PER_PARTITION * partitions as usize;
            assert!(most <= bound, "{partitions} partitions, {compression}: {most} of {bound}");
            assert!(most >= memory / 2, "{partitions} partitions, {compression}: the memory is used: {most}");
        }
    }
}
