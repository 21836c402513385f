//! Draws batches that weir writes for Java to read: every field of a batch's header, records with
//! nulls, edges and headers, and compacted ones.

use bytes::Bytes;
use weir::records::{
    BatchBuilder, Compression, Compressor, ControlType, Decompressor, NewRecord, RecordBatch, Stamp,
};

use super::log::{Batch, Log, Record};

/// A codec at a level; `None` is the default.
pub(super) type Shape = (Compression, Option<i32>);

/// All that Kafka has.
pub(super) fn shapes() -> Vec<Shape> {
    let mut shapes = Vec::new();
    for codec in Compression::ALL {
        shapes.push((codec, None));
        let levels = match codec {
            Compression::Gzip => 1..=9,
            Compression::Lz4 => 1..=17,
            Compression::Zstd => -7..=22,
            Compression::None | Compression::Snappy => continue,
        };
        shapes.extend(levels.map(|level| (codec, Some(level))));
    }
    shapes.extend([(Compression::Zstd, Some(-100)), (Compression::Zstd, Some(-131_072))]);
    shapes
}

pub(super) fn compressor((codec, level): Shape) -> weir::Result<Option<Compressor>> {
    match level {
        _ if codec == Compression::None => Ok(None),
        None => Compressor::new(codec).map(Some),
        Some(level) => Compressor::with_level(codec, level).map(Some),
    }
}

/// The generator `SplitMix64`: small, and the same everywhere.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn chance(&mut self, out_of: u64) -> bool {
        self.below(out_of) == 0
    }
}

/// What the batch must hold, and the bytes that weir writes for it.
pub(super) fn batch(
    random: &mut Random,
    codec: Compression,
    compressor: Option<&mut Compressor>,
) -> weir::Result<(Log, Bytes)> {
    let mut builder = BatchBuilder::new();
    let control = random.chance(12);
    let mut meant = header(random, codec, control);
    if let Some(horizon) = meant.delete_horizon {
        builder.set_delete_horizon(horizon)?;
    }
    let stamp = stamp(&meant);
    let count = match random.below(16) {
        0 => 100 + random.below(4000),
        1 => 0,
        2..=4 => 1 + random.below(3),
        _ => 1 + random.below(40),
    };
    for index in 0..count {
        meant.records.push(record(random, meant.first_offset + index as i64, count));
    }
    if control {
        for record in &mut meant.records {
            record.key = Some(ControlType::COMMIT.to_key().to_vec());
        }
    }
    for record in &meant.records {
        let new = NewRecord::new(record.timestamp).key_value(record.key.as_deref(), record.value.as_deref());
        builder.append(&new.headers(&record.headers))?;
    }
    let gaps = count > 0 && random.chance(4);
    let bytes = if gaps {
        let whole = builder.seal(&stamp, None)?;
        compacted(random, &mut meant, whole, stamp, compressor)?
    } else {
        meant.last_offset = meant.first_offset + (count as i64 - 1).max(0);
        builder.seal(&stamp, compressor)?
    };
    settle_timestamps(&mut meant);
    // What is empty goes without a codec: some versions of Java fail on nothing that is compressed.
    if meant.records.is_empty() {
        meant.codec = Compression::None.id() as i8;
    }
    Ok((Log { left_over: 0, batches: vec![meant] }, bytes))
}

/// Everything that a batch's header says, but for what depends on its records.
fn header(random: &mut Random, codec: Compression, control: bool) -> Batch {
    let producer = control || random.chance(2);
    let log_append_time = random.chance(4);
    let horizon = (!log_append_time && random.chance(6)).then(|| timestamp(random));
    let sequence =
        if random.chance(4) { i32::MAX - random.below(3) as i32 } else { random.below(1 << 31) as i32 };
    Batch {
        format: 2,
        codec: codec.id() as i8,
        log_append_time,
        transactional: control || producer && random.chance(2),
        control,
        first_offset: if random.chance(4) { 0 } else { random.below(1 << 62) as i64 },
        last_offset: 0,
        max_timestamp: if log_append_time { timestamp(random) } else { -1 },
        delete_horizon: horizon,
        producer_id: if producer { random.below(1 << 63) as i64 } else { -1 },
        producer_epoch: if producer { random.below(1 << 15) as i16 } else { -1 },
        first_sequence: if producer && !control { sequence } else { -1 },
        leader_epoch: if random.chance(2) { -1 } else { random.below(1 << 31) as i32 },
        records: Vec::new(),
    }
}

fn stamp(batch: &Batch) -> Stamp {
    let stamp = Stamp::default()
        .producer(batch.producer_id, batch.producer_epoch, batch.first_sequence)
        .transactional(batch.transactional)
        .control(batch.control)
        .base_offset(batch.first_offset, batch.leader_epoch);
    if batch.log_append_time { stamp.log_append_time(batch.max_timestamp) } else { stamp }
}

/// The same batch as compaction leaves it: some records gone, the last offset kept.
fn compacted(
    random: &mut Random,
    meant: &mut Batch,
    whole: Bytes,
    stamp: Stamp,
    compressor: Option<&mut Compressor>,
) -> weir::Result<Bytes> {
    let last_delta = meant.records.len() as i32 - 1;
    let mut builder = BatchBuilder::new();
    let records = RecordBatch::parse(whole)?.records(&mut Decompressor::new())?;
    if let Some(horizon) = meant.delete_horizon {
        builder.set_delete_horizon(horizon)?;
    }
    let mut kept = Vec::new();
    for (delta, record) in records.iter().enumerate() {
        if random.chance(2) {
            kept.push(meant.records[delta].clone());
            builder.append_copy(delta as i32, &record?)?;
        }
    }
    meant.records = kept;
    meant.last_offset = meant.first_offset + i64::from(last_delta);
    builder.seal(&stamp.last_offset_delta(last_delta), compressor)
}

/// With `LogAppendTime` the records' own timestamps do not count; else the greatest is the batch's.
fn settle_timestamps(meant: &mut Batch) {
    if meant.log_append_time {
        for record in &mut meant.records {
            record.timestamp = meant.max_timestamp;
        }
    } else {
        meant.max_timestamp = meant.records.iter().map(|record| record.timestamp).max().unwrap_or(-1);
    }
}

fn record(random: &mut Random, offset: i64, count: u64) -> Record {
    let longest = match count {
        0..=3 if random.chance(3) => 300_000,
        0..=50 => 600,
        _ => 60,
    };
    let mut headers = Vec::new();
    if random.chance(3) {
        let keys: [&[u8]; 5] = [b"", b"trace", b"trace", "ключ🔑".as_bytes(), &[b'k'; 130]];
        for _ in 0..random.below(5) {
            headers.push((keys[random.below(5) as usize].to_vec(), nullable(random, 80)));
        }
    }
    Record {
        offset,
        timestamp: timestamp(random),
        key: nullable(random, 40),
        value: nullable(random, longest),
        headers,
    }
}

fn timestamp(random: &mut Random) -> i64 {
    match random.below(12) {
        0 => 0,
        1 => i64::MAX - 1,
        2 => -1,
        _ => 1_700_000_000_000 + (random.next() >> (32 + random.below(31))) as i64,
    }
}

/// Bytes that half compress, of lengths where a varint grows, at times.
fn nullable(random: &mut Random, longest: u64) -> Option<Vec<u8>> {
    let length = match random.below(24) {
        0..=2 => return None,
        3..=5 => 0,
        6 => 62 + random.below(4),
        _ => random.below(longest + 1),
    };
    let noise = random.chance(4);
    let mut word = vec![0; 1 + random.below(12) as usize];
    let mut bytes = Vec::with_capacity(length as usize + word.len());
    while bytes.len() < length as usize {
        if noise || random.chance(4) {
            word.fill_with(|| random.next() as u8);
        }
        bytes.extend_from_slice(&word);
    }
    bytes.truncate(length as usize);
    Some(bytes)
}
