//! Record batches: fetching and walking them, building and encoding them.
//!
//! `cargo run --release --bin records -- [--gate] [fetch] [batch]`

use std::process::ExitCode;

use bytes::BytesMut;
use weir::records::{BatchBuilder, Decompressor};
use weir_peers::contest::Contest;
use weir_peers::data::{self, BASE_TIMESTAMP, BATCHES, RECORDS};
use weir_peers::floor::{self, Seen};
use weir_peers::report::Report;
use weir_peers::{ours, peer};

/// How many times the floor weir may take.
const OVER_FLOOR: f64 = 1.3;

/// The checksum that weir uses, so that the ratio says nothing about checksums.
const CRC: fn(&[u8]) -> u32 = crc_fast::crc32_iscsi;

fn main() -> ExitCode {
    let mut report = match Report::from_args() {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    fetch(&mut report);
    batch(&mut report);
    report.finish()
}

/// A fetch response, version 16, 10 x 1000 records of 100 bytes: decode it and look at each record.
fn fetch(report: &mut Report) {
    let name = "fetch v16, decode and walk";
    if !report.wants(name) {
        return;
    }
    let frame = peer::fetch_frame(&data::values());
    let seen = peer::walk_fetch(&frame);
    let walk = |crc| {
        let same = move |got: Option<Seen>| assert_eq!(got, Some(seen));
        same(floor::walk_fetch(&frame, crc));
        let frame = frame.clone();
        move || floor::walk_fetch(&frame, crc)
    };
    let (mut checked, mut unchecked) = (Decompressor::new(), Decompressor::new());
    assert_eq!(ours::walk_fetch(&frame, &mut checked, true), seen);
    let contest = Contest::new(name, RECORDS * BATCHES, frame.len())
        .entrant("floor", walk(Some(CRC)))
        .entrant("floor, crc32c crate", walk(Some(crc32c::crc32c)))
        .entrant("floor, no crc", walk(None))
        .entrant("weir", || ours::walk_fetch(&frame, &mut checked, true))
        .entrant("weir, no crc", || ours::walk_fetch(&frame, &mut unchecked, false))
        .entrant("kafka-protocol", || peer::walk_fetch(&frame))
        .entrant("kafka-protocol, by batch", || peer::walk_fetch_by_batch(&frame));
    let outcome = report.run(contest);
    report.at_most(&outcome, "weir", "floor", OVER_FLOOR);
}

/// One batch of 1000 records of 100 bytes, from values to bytes that can be sent.
fn batch(report: &mut Report) {
    let name = "batch, encode";
    if !report.wants(name) {
        return;
    }
    let values = data::values();
    let expected = peer::batch(&values);
    let encode = |push: floor::Push, crc: Option<fn(&[u8]) -> u32>| {
        let values = values.clone();
        let mut out = Vec::new();
        move || {
            floor::encode_batch(&mut out, BASE_TIMESTAMP, &values, push, crc);
            out.len()
        }
    };
    let (mut recycled, mut fresh) = (BatchBuilder::new(), BatchBuilder::new());
    assert!(ours::encode_batch(&mut fresh, &values) == expected, "weir wrote other bytes");
    let prebuilt = peer::records(&values);
    let (mut first, mut second) = (BytesMut::new(), BytesMut::new());
    let contest = Contest::new(name, RECORDS, expected.len())
        .entrant("floor", encode(floor::byte_by_byte, Some(CRC)))
        .entrant("floor, crc32c crate", encode(floor::byte_by_byte, Some(crc32c::crc32c)))
        .entrant("floor, no crc", encode(floor::byte_by_byte, None))
        .entrant("floor, in registers", encode(floor::in_registers, Some(CRC)))
        .entrant("weir", || {
            let batch = ours::encode_batch(&mut recycled, &values);
            recycled.recycle(batch);
        })
        .entrant("weir, buffer grows", || ours::encode_batch(&mut fresh, &values))
        .entrant("kafka-protocol, records prebuilt", || {
            peer::encode_batch(&mut first, &prebuilt);
            first.len()
        })
        .entrant("kafka-protocol, records built", || {
            peer::encode_batch(&mut second, &peer::records(&values));
            second.len()
        });
    let outcome = report.run(contest);
    report.at_most(&outcome, "weir", "floor", OVER_FLOOR);
}
