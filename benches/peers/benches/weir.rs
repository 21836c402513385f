//! weir alone, for looking at a change: `cargo bench`. What is claimed against others comes from the
//! programs in `src/bin`, whose contestants alternate within one run.

#![allow(missing_docs)]

use divan::counter::{BytesCount, ItemsCount};
use divan::{Bencher, black_box};
use weir::protocol::metadata::MetadataResponse;
use weir::protocol::{AnyMessage, MessageType, messages};
use weir::records::{BatchBuilder, Compression, Compressor, Decompressor};
use weir_peers::{data, ours, peer};

fn main() {
    divan::main();
}

#[divan::bench]
fn metadata_decode(bencher: Bencher<'_, '_>) {
    let frame = peer::encoded(&peer::metadata(), peer::METADATA);
    bencher.bench(|| ours::decode::<MetadataResponse>(black_box(&frame), peer::METADATA));
}

#[divan::bench]
fn metadata_encode(bencher: Bencher<'_, '_>) {
    let frame = peer::encoded(&peer::metadata(), peer::METADATA);
    let message: MetadataResponse = ours::decode(&frame, peer::METADATA);
    bencher.bench(|| ours::encode(black_box(&message), peer::METADATA, frame.len()));
}

#[divan::bench]
fn fetch_decode_and_walk(bencher: Bencher<'_, '_>) {
    let frame = peer::fetch_frame(&data::values());
    let mut decompressor = Decompressor::new();
    bencher.counter(BytesCount::new(frame.len())).bench_local(|| {
        ours::walk_fetch(black_box(&frame), &mut decompressor, true);
    });
}

#[divan::bench]
fn batch_encode(bencher: Bencher<'_, '_>) {
    let values = data::values();
    let mut builder = BatchBuilder::new();
    bencher.counter(ItemsCount::new(values.len())).bench_local(|| {
        let batch = ours::encode_batch(&mut builder, black_box(&values));
        builder.recycle(batch);
    });
}

#[divan::bench(args = Compression::ALL)]
fn compress(bencher: Bencher<'_, '_>, codec: Compression) {
    let input = data::half_compressible(1 << 20);
    let mut compressor = Compressor::new(codec).expect("the codec is built in");
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        let mut out = Vec::with_capacity(input.len());
        compressor.compress(black_box(&input), &mut out).expect("it compresses");
        out
    });
}

#[divan::bench(args = Compression::ALL)]
fn decompress(bencher: Bencher<'_, '_>, codec: Compression) {
    let input = data::half_compressible(1 << 20);
    let mut packed = Vec::new();
    let mut compressor = Compressor::new(codec).expect("the codec is built in");
    compressor.compress(&input, &mut packed).expect("it compresses");
    let mut decompressor = Decompressor::new();
    let mut out = Vec::with_capacity(input.len());
    bencher.counter(BytesCount::new(input.len())).bench_local(|| {
        out.clear();
        decompressor.decompress(codec, black_box(&packed), &mut out).expect("it decompresses");
    });
}

/// Every message type at its defaults, in its newest version: the cost of the tables themselves.
#[divan::bench]
fn defaults_of_every_message_encode(bencher: Bencher<'_, '_>) {
    let newest = |found: &MessageType| (found.default_message(), *found.versions().end());
    let all: Vec<(Box<dyn AnyMessage>, i16)> = messages().iter().map(newest).collect();
    bencher.counter(ItemsCount::new(all.len())).bench(|| {
        let mut writer = weir::protocol::Writer::default();
        for (message, version) in &all {
            message.encode_any(&mut writer, *version).expect("defaults encode");
        }
        writer.finish().into_bytes()
    });
}
