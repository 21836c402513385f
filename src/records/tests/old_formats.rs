//! Message formats 0 and 1, row B30 of the fault list among them.

use super::TimestampType::{CreateTime, LogAppendTime, NoTimestamp};
use super::*;

fn message(
    magic: i8,
    offset: i64,
    attributes: u8,
    timestamp: i64,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Vec<u8> {
    let mut body = vec![magic as u8, attributes];
    if magic == 1 {
        body.extend(timestamp.to_be_bytes());
    }
    for part in [key, value] {
        body.extend(part.map_or(-1, |part| part.len() as i32).to_be_bytes());
        body.extend(part.unwrap_or_default());
    }
    let mut bytes = offset.to_be_bytes().to_vec();
    bytes.extend((body.len() as i32 + 4).to_be_bytes());
    bytes.extend(crc32fast::hash(&body).to_be_bytes());
    bytes.extend(body);
    bytes
}

fn compressed(compression: Compression, set: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Compressor::new(compression).unwrap().compress(set, &mut out).unwrap();
    out
}

/// The codecs that the old formats have.
fn old_codecs() -> impl Iterator<Item = Compression> {
    available().filter(|compression| !matches!(compression, Compression::None | Compression::Zstd))
}

fn fails(bytes: Vec<u8>) -> Error {
    read(&Bytes::from(bytes)).expect_err("it is broken")
}

#[test]
fn plain_messages_of_all_formats_mix() {
    let mut set = message(0, 5, 0, 0, Some(b"k"), None);
    set.extend(message(1, 7, 0, 123, None, Some(b"")));
    set.extend(message(1, 8, 8, 456, None, Some(b"v")));
    let mut builder = BatchBuilder::new();
    builder.append(&NewRecord::new(9).value(b"new")).unwrap();
    set.extend(builder.seal(&Stamp::default().base_offset(9, 0), None).unwrap());
    let bytes = Bytes::from(set);
    let expected = [
        (5, NO_TIMESTAMP, Some(b"k".to_vec()), None, vec![]),
        (7, 123, None, Some(vec![]), vec![]),
        (8, 456, None, Some(b"v".to_vec()), vec![]),
        (9, 9, None, Some(b"new".to_vec()), vec![]),
    ];
    assert_eq!(read(&bytes).unwrap(), expected);
    let batches: Vec<_> = Batches::new(bytes).map(Result::unwrap).collect();
    let types: Vec<_> = batches.iter().map(RecordBatch::timestamp_type).collect();
    assert_eq!(types, [NoTimestamp, CreateTime, LogAppendTime, CreateTime]);
    assert_eq!((batches[1].magic(), batches[1].next_offset(), batches[1].producer_id()), (1, 8, -1));
}

#[test]
fn wrapped_messages_of_format_0_have_absolute_offsets() {
    let set = [message(0, 40, 0, 0, None, Some(b"a")), message(0, 43, 0, 0, None, Some(b"b"))].concat();
    for compression in old_codecs() {
        let bytes = message(0, 43, compression.id(), 0, None, Some(&compressed(compression, &set)));
        let records = read(&Bytes::from(bytes)).unwrap();
        let seen: Vec<_> = records.iter().map(|record| (record.0, record.1)).collect();
        assert_eq!(seen, [(40, NO_TIMESTAMP), (43, NO_TIMESTAMP)], "{compression}");
    }
}

#[test]
fn wrapped_messages_of_format_1_have_relative_offsets_and_may_take_the_wrappers_time() {
    let set = [message(1, 0, 0, 10, None, Some(b"a")), message(1, 3, 0, 11, None, Some(b"b"))].concat();
    for compression in old_codecs() {
        let value = compressed(compression, &set);
        let read = |attributes, timestamp| {
            let bytes = message(1, 103, attributes, timestamp, None, Some(&value));
            let records = read(&Bytes::from(bytes)).unwrap();
            records.iter().map(|record| (record.0, record.1)).collect::<Vec<_>>()
        };
        assert_eq!(read(compression.id(), 11), [(100, 10), (103, 11)], "{compression}");
        assert_eq!(read(compression.id() | 8, 77), [(100, 77), (103, 77)], "{compression}");
    }
}

#[test]
fn b30_a_wrapper_in_a_wrapper_is_refused() {
    for compression in old_codecs() {
        for magic in [0, 1] {
            let leaf = message(magic, 0, 0, 0, None, Some(b"a"));
            let inner = message(magic, 0, compression.id(), 0, None, Some(&compressed(compression, &leaf)));
            let outer = message(magic, 0, compression.id(), 0, None, Some(&compressed(compression, &inner)));
            assert!(fails(outer).to_string().contains("inside a compressed message"));
            let mut builder = BatchBuilder::new();
            builder.append(&NewRecord::new(0).value(b"v")).unwrap();
            let new = builder.seal(&Stamp::default(), None).unwrap();
            let newer = message(magic, 0, compression.id(), 0, None, Some(&compressed(compression, &new)));
            assert!(fails(newer).is_corrupt());
        }
    }
}

#[test]
fn broken_messages_are_refused() {
    let good = message(1, 5, 0, 0, Some(b"key"), Some(b"value"));
    for at in 12..good.len() {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        let error = fails(bytes);
        assert!(error.is_corrupt() || error.is_unsupported(), "{at}: {error}");
    }
    for cut in 0..good.len() {
        let mut batches = Batches::new(Bytes::copy_from_slice(&good[..cut]));
        assert!(batches.next().is_none(), "{cut}");
        assert_eq!(batches.partial().is_some(), cut > 0);
    }
    assert!(fails(message(1, i64::MAX, 0, 0, None, None)).is_corrupt(), "nothing can come next");
    assert!(fails(message(1, 5, 4, 0, None, Some(b""))).is_unsupported(), "zstd came later");
    assert!(fails(message(1, 5, 6, 0, None, Some(b""))).is_unsupported());
    for compression in old_codecs() {
        let wrap = |set: &[u8]| message(1, 9, compression.id(), 0, None, Some(&compressed(compression, set)));
        assert!(fails(message(1, 9, compression.id(), 0, None, None)).is_corrupt(), "null");
        assert!(fails(wrap(&[])).is_corrupt(), "empty");
        let leaf = |offset| message(1, offset, 0, 0, None, None);
        assert!(fails(wrap(&leaf(0)[..20])).is_corrupt(), "cut");
        let mut small = [leaf(0), leaf(1)].concat();
        small.truncate(leaf(0).len() + 12);
        for size in [-1_i32, 0, 13] {
            small.splice(leaf(0).len() + 8.., size.to_be_bytes());
            assert!(fails(wrap(&small)).is_corrupt(), "size {size} of one that is cut");
        }
        let far = message(1, 9, compression.id(), 0, None, Some(&compressed(compression, &leaf(i64::MIN))));
        assert!(fails(far).to_string().contains("overflow"), "a base beyond the largest number");
        let over = [leaf(i64::MAX), leaf(0)].concat();
        assert!(fails(wrap(&over)).to_string().contains("overflow"), "an offset beyond it");
        let codec = [leaf(0), message(1, 1, 5, 0, None, None)].concat();
        assert!(fails(wrap(&codec)).is_corrupt(), "a codec inside that is none");
    }
}

/// Offsets and timestamps of what a wrapper holds.
fn unwrapped(magic: i8, offset: i64, set: &[u8]) -> Vec<Result<Vec<(i64, i64)>, Error>> {
    let one = |compression: Compression| {
        let value = compressed(compression, set);
        let bytes = message(magic, offset, compression.id(), 11, None, Some(&value));
        let records = read(&Bytes::from(bytes))?;
        Ok(records.iter().map(|record| (record.0, record.1)).collect())
    };
    old_codecs().map(one).collect()
}

fn pair(magic: i8, offsets: [i64; 2]) -> Vec<u8> {
    let [a, b] = offsets;
    [message(magic, a, 0, 10, None, Some(b"a")), message(magic, b, 0, 11, None, Some(b"b"))].concat()
}

#[test]
fn wrappers_whose_offset_old_clients_left_at_zero_count_from_zero() {
    for result in unwrapped(1, 0, &pair(1, [0, 1])) {
        assert_eq!(result.unwrap(), [(0, 10), (1, 11)], "not -1 and 0");
    }
    for wrapper in [3, 4, -1] {
        for result in unwrapped(1, wrapper, &pair(1, [0, 5])) {
            let error = result.unwrap_err();
            assert!(error.is_corrupt() && error.to_string().contains("below the last in it"), "{error}");
        }
    }
    for result in unwrapped(1, 5, &pair(1, [0, 5])) {
        assert_eq!(result.unwrap(), [(0, 10), (5, 11)]);
    }
}

/// Old producers write zeros only; the last one gives the base, whatever came before it.
#[test]
fn wrapped_offsets_need_not_rise() {
    let cases: [(i64, [i64; 2], [i64; 2]); 4] =
        [(0, [0, 0], [0, 0]), (9, [0, 0], [9, 9]), (9, [1, 0], [10, 9]), (9, [0, -1], [10, 9])];
    for (wrapper, offsets, expected) in cases {
        for result in unwrapped(1, wrapper, &pair(1, offsets)) {
            assert_eq!(result.unwrap(), [(expected[0], 10), (expected[1], 11)], "{wrapper} {offsets:?}");
        }
        for result in unwrapped(0, wrapper, &pair(0, offsets)) {
            let [a, b] = offsets;
            assert_eq!(result.unwrap(), [(a, NO_TIMESTAMP), (b, NO_TIMESTAMP)], "format 0: as they are");
        }
    }
}

/// Timestamps go by the message's own format, offsets by the wrapper's.
#[test]
fn wrapped_messages_may_be_of_the_other_format() {
    for result in unwrapped(1, 9, &pair(0, [8, 9])) {
        assert_eq!(result.unwrap(), [(8, NO_TIMESTAMP), (9, NO_TIMESTAMP)]);
    }
    for result in unwrapped(0, 9, &pair(1, [0, 1])) {
        assert_eq!(result.unwrap(), [(0, 10), (1, 11)]);
    }
    for compression in old_codecs() {
        let set = [message(0, 0, 0, 0, None, None), message(1, 1, 0, 5, None, None)].concat();
        let value = compressed(compression, &set);
        let bytes = message(1, 9, compression.id() | 8, 77, None, Some(&value));
        let records = read(&Bytes::from(bytes)).unwrap();
        let seen: Vec<_> = records.iter().map(|record| (record.0, record.1)).collect();
        assert_eq!(seen, [(8, NO_TIMESTAMP), (9, 77)], "format 0 has no place for the broker's time");
    }
}

#[test]
fn a_wrapped_message_that_is_cut_short_ends_the_set() {
    let whole = pair(1, [0, 1]);
    let third = message(1, 2, 0, 12, None, Some(b"c"));
    for cut in 0..third.len() {
        for result in unwrapped(1, 9, &[&whole[..], &third[..cut]].concat()) {
            assert_eq!(result.unwrap(), [(8, 10), (9, 11)], "{cut}");
        }
    }
    let mut decompressor = Decompressor::new();
    for compression in old_codecs() {
        let value = compressed(compression, &[&whole[..], &third[..20]].concat());
        let bytes = Bytes::from(message(1, 9, compression.id(), 0, None, Some(&value)));
        let records = RecordBatch::parse(bytes).unwrap().records(&mut decompressor).unwrap();
        assert_eq!((records.len(), records.byte_len()), (2, whole.len()));
    }
}

#[test]
fn attributes_without_a_meaning_and_offsets_below_zero_are_read() {
    for (magic, bits) in [(0, [0x08, 0x10, 0xf8]), (1, [0x10, 0x20, 0xf0])] {
        for attributes in bits {
            let bytes = Bytes::from(message(magic, 9, attributes, 11, None, Some(b"a")));
            let batch = RecordBatch::parse(bytes.clone()).unwrap();
            assert_eq!(batch.attributes(), i16::from(attributes));
            assert!(!batch.is_transactional() && !batch.is_control(), "{magic} {attributes:#x}");
            assert_eq!((batch.delete_horizon(), batch.max_timestamp()), (None, batch.base_timestamp()));
            let time = if magic == 0 { NO_TIMESTAMP } else { 11 };
            let expected = if magic == 0 { NoTimestamp } else { CreateTime };
            assert_eq!((batch.timestamp_type(), batch.max_timestamp()), (expected, time));
            assert_eq!(read(&bytes).unwrap(), [(9, time, None, Some(b"a".to_vec()), vec![])]);
        }
        let below = Bytes::from(message(magic, -5, 0, 0, None, None));
        assert_eq!(read(&below).unwrap()[0].0, -5);
        assert_eq!(RecordBatch::parse(below).unwrap().next_offset(), -4);
    }
}

/// B29: before format 2, Kafka's header checksum of LZ4 frames covered the magic number too.
#[cfg(feature = "lz4")]
#[test]
fn b29_the_old_lz4_header_checksum_is_read_in_old_formats_only() {
    let old = |set: &[u8]| {
        let mut frame = compressed(Compression::Lz4, set);
        frame[6] = (twox_hash::XxHash32::oneshot(0, &frame[..6]) >> 8) as u8;
        frame
    };
    for magic in [0, 1] {
        let frame = old(&message(magic, 0, 0, 0, None, Some(b"a")));
        let bytes = message(magic, 0, 3, 0, None, Some(&frame));
        assert_eq!(read(&Bytes::from(bytes)).unwrap().len(), 1, "format {magic}");
    }
    let mut out = Vec::new();
    let error = Decompressor::new().decompress(Compression::Lz4, &old(b"abc"), &mut out).unwrap_err();
    assert!(error.to_string().contains("checksum"), "{error}");
}
