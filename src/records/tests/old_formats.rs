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
            let other = message(1 - magic, 0, 0, 0, None, Some(b"a"));
            let mixed = message(magic, 0, compression.id(), 0, None, Some(&compressed(compression, &other)));
            assert!(fails(mixed).is_corrupt());
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
    assert!(fails(message(1, -5, 0, 0, None, None)).is_corrupt());
    assert!(fails(message(1, 5, 0x10, 0, None, None)).is_unsupported());
    assert!(fails(message(0, 5, 0x08, 0, None, None)).is_unsupported());
    assert!(fails(message(1, 5, 4, 0, None, Some(b""))).is_unsupported(), "zstd came later");
    assert!(fails(message(1, 5, 6, 0, None, Some(b""))).is_unsupported());
    for compression in old_codecs() {
        let wrap = |set: &[u8]| message(1, 9, compression.id(), 0, None, Some(&compressed(compression, set)));
        assert!(fails(message(1, 9, compression.id(), 0, None, None)).is_corrupt(), "null");
        assert!(fails(wrap(&[])).is_corrupt(), "empty");
        let leaf = |offset| message(1, offset, 0, 0, None, None);
        assert!(fails(wrap(&leaf(0)[..20])).is_corrupt(), "cut");
        assert!(fails(wrap(&[leaf(1), leaf(0)].concat())).is_corrupt(), "falling");
        assert!(fails(wrap(&[leaf(1), leaf(1)].concat())).is_corrupt(), "twice");
        assert!(fails(wrap(&leaf(-1))).is_corrupt(), "negative");
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
