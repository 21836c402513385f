//! What goes in comes out; what is broken is refused.

mod closed;
mod codecs;
mod hostile;
mod old_formats;

use super::*;
use crate::Error;
use bytes::Bytes;

/// A record with everything in it copied, for comparisons.
type Plain = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn plain(record: &Record<'_>) -> Plain {
    let headers = record.headers().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
    let bytes = |b: Option<&[u8]>| b.map(<[u8]>::to_vec);
    (record.offset(), record.timestamp(), bytes(record.key()), bytes(record.value()), headers)
}

fn read(bytes: &Bytes) -> Result<Vec<Plain>, Error> {
    let mut decompressor = Decompressor::new();
    let mut all = Vec::new();
    for batch in Batches::new(bytes.clone()) {
        let records = batch?.records(&mut decompressor)?;
        for record in &records {
            all.push(plain(&record?));
        }
    }
    Ok(all)
}

/// Small numbers from a seed.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn bytes(&mut self, max: u64) -> Vec<u8> {
        let len = if self.below(20) == 0 { self.below(max * 50) } else { self.below(max) };
        let letters = 1 + self.below(255);
        (0..len).map(|_| self.below(letters) as u8).collect()
    }

    fn nullable(&mut self, max: u64) -> Option<Vec<u8>> {
        (self.below(5) != 0).then(|| self.bytes(max))
    }

    fn record(&mut self, offset: i64) -> Plain {
        let timestamp = match self.below(4) {
            0 => NO_TIMESTAMP,
            1 => 1_700_000_000_000 + self.below(100) as i64,
            2 => self.next() as i64,
            _ => 0,
        };
        let headers = if self.below(2) == 0 { 0 } else { self.below(5) };
        let headers = (0..headers).map(|_| (self.bytes(9), self.nullable(20))).collect();
        (offset, timestamp, self.nullable(20), self.nullable(200), headers)
    }
}

fn available() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|compression| compression.is_available())
}

#[test]
fn seeded_batches_go_both_ways_with_every_codec() {
    let mut seeded = Seeded(0x5eed);
    for round in 0..60 {
        for compression in available() {
            let mut builder = BatchBuilder::new();
            let count = 1 + seeded.below(40);
            let records: Vec<_> = (0..count as i64).map(|offset| seeded.record(offset)).collect();
            for (_, timestamp, key, value, headers) in &records {
                let record =
                    NewRecord::new(*timestamp).key_value(key.as_deref(), value.as_deref()).headers(headers);
                let (before, foretold) = (builder.size(), builder.size_of(&record));
                builder.append(&record).unwrap();
                assert_eq!(builder.size(), before + foretold);
            }
            let mut compressor = Compressor::new(compression).unwrap();
            let bytes = builder.seal(&Stamp::default(), Some(&mut compressor)).unwrap();
            assert_eq!(read(&bytes).unwrap(), records, "round {round}, {compression}");
        }
    }
}

#[test]
fn every_field_of_the_header_comes_back() {
    let mut builder = BatchBuilder::new();
    builder.set_delete_horizon(5_000).unwrap();
    builder.append(&NewRecord::new(7_000).key(&ControlType::COMMIT.to_key())).unwrap();
    builder.append(&NewRecord::new(6_000).key(&ControlType::ABORT.to_key())).unwrap();
    let stamp = Stamp::default()
        .producer(77, 3, 900)
        .transactional(true)
        .control(true)
        .base_offset(1000, 12)
        .last_offset_delta(9);
    let bytes = builder.seal(&stamp, None).unwrap();
    let batch = RecordBatch::parse(bytes.clone()).unwrap();
    assert_eq!((batch.magic(), batch.compression(), batch.count()), (2, Compression::None, Some(2)));
    assert_eq!((batch.base_offset(), batch.last_offset(), batch.next_offset()), (1000, 1009, 1010));
    assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), (77, 3, 900));
    assert_eq!((batch.partition_leader_epoch(), batch.delete_horizon()), (12, Some(5_000)));
    assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (5_000, 7_000));
    assert!(batch.is_transactional() && batch.is_control());
    assert_eq!(batch.timestamp_type(), TimestampType::CreateTime);
    let records = batch.records(&mut Decompressor::new()).unwrap();
    let types: Vec<_> = records.iter().map(|r| ControlType::from_key(r.unwrap().key()).unwrap()).collect();
    assert_eq!(types, [ControlType::COMMIT, ControlType::ABORT]);
    let times: Vec<_> = records.iter().map(|record| record.unwrap().timestamp()).collect();
    assert_eq!(times, [7_000, 6_000]);
    assert_eq!(batch.bytes(), &bytes);
}

#[test]
fn log_append_time_goes_for_all_records() {
    let mut builder = BatchBuilder::new();
    builder.append(&NewRecord::new(1).value(b"a")).unwrap();
    builder.append(&NewRecord::new(2).value(b"b")).unwrap();
    let bytes = builder.seal(&Stamp::default().log_append_time(99), None).unwrap();
    assert_eq!(RecordBatch::parse(bytes.clone()).unwrap().timestamp_type(), TimestampType::LogAppendTime);
    assert!(read(&bytes).unwrap().iter().all(|record| record.1 == 99));
}

/// The greatest, wherever it is, and of this batch alone.
#[test]
fn the_max_timestamp_is_the_greatest_of_the_batch() {
    let mut builder = BatchBuilder::new();
    let mut seal = |timestamps: &[i64], stamp: Stamp| {
        for timestamp in timestamps {
            builder.append(&NewRecord::new(*timestamp)).unwrap();
        }
        RecordBatch::parse(builder.seal(&stamp, None).unwrap()).unwrap().max_timestamp()
    };
    let cases: [(&[i64], i64); 5] =
        [(&[9, 3], 9), (&[3, 9, 5], 9), (&[4], 4), (&[NO_TIMESTAMP; 2], NO_TIMESTAMP), (&[], NO_TIMESTAMP)];
    for (timestamps, expected) in cases {
        assert_eq!(seal(timestamps, Stamp::default()), expected, "{timestamps:?}");
        assert_eq!(seal(timestamps, Stamp::default().log_append_time(6)), 6, "{timestamps:?}");
    }
}

/// The bit says what the base timestamp means.
#[test]
fn there_is_a_delete_horizon_only_where_the_bit_says_so() {
    let mut builder = BatchBuilder::new();
    for horizon in [Some(0), None, Some(5_000), None] {
        if let Some(horizon) = horizon {
            builder.set_delete_horizon(horizon).unwrap();
        }
        builder.append(&NewRecord::new(7_000)).unwrap();
        let batch = RecordBatch::parse(builder.seal(&Stamp::default(), None).unwrap()).unwrap();
        assert_eq!(batch.delete_horizon(), horizon);
        assert_eq!(batch.base_timestamp(), horizon.unwrap_or(7_000));
        assert_eq!(batch.attributes(), if horizon.is_some() { 0x40 } else { 0 });
    }
}

/// Java fails on an empty batch that says it is compressed.
#[test]
fn an_empty_batch_has_no_codec() {
    for compression in available() {
        let mut compressor = Compressor::new(compression).unwrap();
        let mut builder = BatchBuilder::new();
        let stamp = Stamp::default().base_offset(5, 0).last_offset_delta(4);
        let empty = builder.seal(&stamp, Some(&mut compressor)).unwrap();
        let batch = RecordBatch::parse(empty.clone()).unwrap();
        assert_eq!((batch.compression(), batch.attributes()), (Compression::None, 0), "{compression}");
        assert_eq!((empty.len(), batch.count(), batch.next_offset()), (61, Some(0), 10));
        assert_eq!(read(&empty).unwrap(), []);
        builder.append(&NewRecord::new(1)).unwrap();
        let next = builder.seal(&stamp, Some(&mut compressor)).unwrap();
        assert_eq!(RecordBatch::parse(next).unwrap().compression(), compression, "the next one has it");
    }
}

/// Many like records are honest, and zstd makes next to nothing of them.
#[test]
fn a_large_batch_of_zeros_is_read_with_every_codec() {
    let zeros = vec![0; 8 << 20];
    for compression in available() {
        let mut builder = BatchBuilder::new();
        builder.append(&NewRecord::new(1).value(&zeros)).unwrap();
        let mut compressor = Compressor::new(compression).unwrap();
        let bytes = builder.seal(&Stamp::default(), Some(&mut compressor)).unwrap();
        let records = RecordBatch::parse(bytes).unwrap().records(&mut Decompressor::new()).unwrap();
        let record = records.iter().next().unwrap().unwrap();
        assert!(record.value() == Some(&zeros[..]), "{compression}");
    }
}

#[test]
fn compacted_gaps_survive_a_copy_and_empty_batches_move_on() {
    let mut builder = BatchBuilder::new();
    for n in 0..10_u8 {
        builder.append(&NewRecord::new(i64::from(n)).key(&[n])).unwrap();
    }
    let bytes = builder.seal(&Stamp::default(), None).unwrap();
    let records = RecordBatch::parse(bytes).unwrap().records(&mut Decompressor::new()).unwrap();
    for record in records.iter().map(Result::unwrap).filter(|record| record.offset() % 3 == 1) {
        builder.append_copy(record.offset() as i32, &record).unwrap();
    }
    assert!(builder.append_copy(7, &records.iter().next().unwrap().unwrap()).unwrap_err().is_invalid());
    let stamp = Stamp::default().base_offset(50, 0).last_offset_delta(9);
    let bytes = builder.seal(&stamp, None).unwrap();
    assert_eq!(RecordBatch::parse(bytes.clone()).unwrap().next_offset(), 60);
    assert_eq!(read(&bytes).unwrap().iter().map(|r| r.0).collect::<Vec<_>>(), [51, 54, 57]);

    let empty = builder.seal(&stamp, None).unwrap();
    let batch = RecordBatch::parse(empty.clone()).unwrap();
    assert_eq!((batch.count(), batch.next_offset(), empty.len()), (Some(0), 60, 61));
    assert!(batch.records(&mut Decompressor::new()).unwrap().is_empty());
    assert_eq!(read(&empty).unwrap(), []);
}

#[test]
fn headers_keep_their_order_duplicates_nulls_and_bytes() {
    let headers = [
        Header::new("k", "1"),
        Header { key: b"", value: None },
        Header::new(&[0xff, 0xfe], ""),
        Header { key: b"k", value: None },
    ];
    let mut builder = BatchBuilder::new();
    builder.append(&NewRecord::new(0).headers(&headers)).unwrap();
    let bytes = builder.seal(&Stamp::default(), None).unwrap();
    let records = RecordBatch::parse(bytes).unwrap().records(&mut Decompressor::new()).unwrap();
    let owned = records.iter().next().unwrap().unwrap().to_owned();
    drop(records);
    assert_eq!(owned.headers().collect::<Vec<_>>(), headers);
    assert_eq!((owned.key(), owned.value()), (None, None));
    assert_eq!(owned.headers().last_value("k"), Some(None));
    assert_eq!(owned.headers().last_value("none"), None);
    assert_eq!(headers[2].key_str(), None);
}

#[test]
fn an_owned_record_shares_the_batch() {
    let mut builder = BatchBuilder::new();
    builder.append(&NewRecord::new(3).key(b"").value(b"value")).unwrap();
    let bytes = builder.seal(&Stamp::default(), None).unwrap();
    let batch = RecordBatch::parse(bytes.clone()).unwrap();
    let owned = batch.records(&mut Decompressor::new()).unwrap().iter().next().unwrap().unwrap().to_owned();
    assert_eq!((owned.key_bytes(), owned.value_bytes()), (Some(Bytes::new()), Some(Bytes::from("value"))));
    let inside = bytes.as_ptr() as usize..bytes.as_ptr() as usize + bytes.len();
    assert!(inside.contains(&(owned.value().unwrap().as_ptr() as usize)), "no copy");
    assert_eq!(plain(&owned.as_record()), (0, 3, Some(vec![]), Some(b"value".to_vec()), vec![]));
}

#[test]
fn a_record_over_the_size_changes_nothing() {
    let mut builder = BatchBuilder::new();
    let record = NewRecord::new(0).value(b"0123456789");
    assert_eq!(builder.append_within(&record, 77).unwrap(), None);
    assert_eq!(builder.append_within(&record, 78).unwrap(), Some(0));
    assert_eq!((builder.size(), builder.append_within(&record, 94).unwrap()), (78, None));
    assert_eq!(builder.append_within(&record, 95).unwrap(), Some(1));
    assert_eq!(builder.seal(&Stamp::default(), None).unwrap().len(), 95);
    assert!(builder.is_empty());
}

#[test]
fn timestamps_that_java_refuses_are_refused() {
    let mut builder = BatchBuilder::new();
    assert!(builder.append(&NewRecord::new(-2)).unwrap_err().is_invalid());
    builder.append(&NewRecord::new(NO_TIMESTAMP)).unwrap();
    assert!(builder.append(&NewRecord::new(i64::MAX)).unwrap_err().is_invalid());
    builder.append(&NewRecord::new(i64::MAX - 1)).unwrap();
    assert_eq!(read(&builder.seal(&Stamp::default(), None).unwrap()).unwrap()[1].1, i64::MAX - 1);
}
