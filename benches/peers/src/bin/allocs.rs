//! Allocations a record, counted: walking a fetch response, and encoding a batch.
//!
//! `cargo run --release --bin allocs -- [--gate]`

use std::alloc::System;
use std::hint::black_box;
use std::process::ExitCode;

use bytes::BytesMut;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use weir::records::{BatchBuilder, Decompressor};
use weir_peers::data::{self, BATCHES, RECORDS};
use weir_peers::report::Report;
use weir_peers::{ours, peer};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// None a record; some a batch, of a thousand records.
const FEW: f64 = 0.02;

fn main() -> ExitCode {
    let mut report = match Report::from_args() {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    println!("| | allocations | a record | bytes a record |\n|---|--:|--:|--:|");
    let values = data::values();
    let frame = peer::fetch_frame(&values);
    let mut decompressor = Decompressor::new();
    let walk = count("weir, fetch and walk", RECORDS * BATCHES, || {
        ours::walk_fetch(&frame, &mut decompressor, true)
    });
    let mut builder = BatchBuilder::new();
    let recycled = count("weir, batch, buffer recycled", RECORDS, || {
        let batch = ours::encode_batch(&mut builder, &values);
        builder.recycle(batch);
    });
    let mut builder = BatchBuilder::new();
    let grown = count("weir, batch, buffer grows", RECORDS, || ours::encode_batch(&mut builder, &values));
    count("kafka-protocol, fetch and walk", RECORDS * BATCHES, || peer::walk_fetch(&frame));
    let prebuilt = peer::records(&values);
    let mut out = BytesMut::new();
    count("kafka-protocol, batch, records prebuilt", RECORDS, || peer::encode_batch(&mut out, &prebuilt));
    count("kafka-protocol, batch, records built", RECORDS, || {
        peer::encode_batch(&mut out, &peer::records(&values));
    });
    println!();
    // What a response, a batch and its buffer take is no allocation a record: it stays the same
    // however many records there are.
    report.count_at_most("allocations a record, walking", walk, FEW);
    report.count_at_most("allocations a record, building", recycled.max(grown), FEW);
    report.finish()
}

/// Prints what the work allocates the second time it is done, and returns how often a record.
fn count<T>(what: &str, records: usize, mut work: impl FnMut() -> T) -> f64 {
    drop(black_box(work()));
    let region = Region::new(COUNTED);
    drop(black_box(work()));
    let Stats { allocations, reallocations, bytes_allocated, .. } = region.change();
    let times = allocations + reallocations;
    let each = |n: usize| n as f64 / records as f64;
    println!("| {what} | {times} | {:.3} | {:.1} |", each(times), each(bytes_allocated));
    each(times)
}
