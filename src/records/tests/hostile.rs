//! Rows B20 to B24, B28 and B31 of the fault list: format 2 from a peer that is broken or worse.

use super::*;
use crate::records::batch::crc32c;

/// A batch around `payload`, whatever that is, with a right checksum.
fn batch(attributes: i16, base_offset: i64, last_delta: i32, count: i32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = base_offset.to_be_bytes().to_vec();
    bytes.extend((49 + payload.len() as i32).to_be_bytes());
    bytes.extend((-1_i32).to_be_bytes());
    bytes.push(2);
    bytes.extend([0; 4]);
    bytes.extend(attributes.to_be_bytes());
    bytes.extend(last_delta.to_be_bytes());
    bytes.extend(1000_i64.to_be_bytes());
    bytes.extend(1000_i64.to_be_bytes());
    bytes.extend((-1_i64).to_be_bytes());
    bytes.extend((-1_i16).to_be_bytes());
    bytes.extend((-1_i32).to_be_bytes());
    bytes.extend(count.to_be_bytes());
    bytes.extend(payload);
    fix_crc(&mut bytes);
    bytes
}

fn fix_crc(bytes: &mut [u8]) {
    let crc = crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A null key and a null value, at this offset.
fn record(delta: u8) -> [u8; 7] {
    [12, 0, 0, delta * 2, 1, 1, 0]
}

fn fails(bytes: Vec<u8>) -> Error {
    read(&Bytes::from(bytes)).expect_err("it is broken")
}

fn offsets(bytes: &Bytes) -> Result<Vec<i64>, Error> {
    Ok(read(bytes)?.iter().map(|record| record.0).collect())
}

fn good() -> Bytes {
    let mut builder = BatchBuilder::new();
    for n in 0..3_i64 {
        let headers = [Header::new("trace", "abc")];
        builder.append(&NewRecord::new(n).key(b"key").value(&[7; 90]).headers(&headers)).unwrap();
    }
    builder.seal(&Stamp::default(), None).unwrap()
}

#[test]
fn b20_batch_length_negative_small_or_over_the_rest() {
    for length in [i32::MIN, -1, 0, 13] {
        let mut bytes = good().to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert!(fails(bytes).is_corrupt(), "{length}");
    }
    for length in [14_i32, 48] {
        let mut bytes = good().to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        assert!(fails(bytes).is_corrupt(), "{length}");
    }
    let mut bytes = good().to_vec();
    bytes[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    let held = bytes.len();
    let mut batches = Batches::new(Bytes::from(bytes.clone()));
    assert!(batches.next().is_none());
    let partial = batches.partial().unwrap();
    assert_eq!((partial.held, partial.claimed), (held, Some(i32::MAX as usize + 12)));
    assert!(RecordBatch::parse(Bytes::from(bytes)).unwrap_err().is_corrupt());
    let mut two = good().to_vec();
    two.extend(good());
    assert!(RecordBatch::parse(Bytes::from(two)).unwrap_err().is_corrupt());
}

#[test]
fn every_cut_of_the_last_batch_is_partial_and_no_error() {
    let (first, second) = (good(), good());
    for cut in 0..second.len() {
        let mut bytes = first.to_vec();
        bytes.extend(&second[..cut]);
        let mut batches = Batches::new(Bytes::from(bytes));
        assert!(batches.next().unwrap().is_ok());
        assert!(batches.next().is_none(), "{cut}");
        assert_eq!(batches.position(), first.len());
        assert_eq!(batches.partial().map(|partial| partial.held), (cut > 0).then_some(cut));
        let alone = second.slice(..cut);
        assert!(RecordBatch::parse(alone).unwrap_err().is_corrupt());
    }
}

#[test]
fn every_cut_of_the_records_is_an_error() {
    let whole = good();
    for cut in 61..whole.len() {
        let mut bytes = whole[..cut].to_vec();
        bytes[8..12].copy_from_slice(&(cut as i32 - 12).to_be_bytes());
        fix_crc(&mut bytes);
        assert!(fails(bytes).is_corrupt(), "{cut}");
    }
}

#[test]
fn b21_magic_codec_and_checksum() {
    let with_magic = |magic: i8| {
        let mut bytes = good().to_vec();
        bytes[16] = magic as u8;
        fails(bytes)
    };
    assert!(with_magic(3).is_unsupported());
    assert!(with_magic(-1).is_corrupt());
    for codec in 5..=7 {
        assert!(fails(batch(codec, 0, 0, 1, &record(0))).is_unsupported(), "{codec}");
    }
    for at in 17..good().len() {
        let mut bytes = good().to_vec();
        bytes[at] ^= 0x10;
        let error = fails(bytes);
        assert!(error.is_corrupt() || error.is_unsupported(), "{at}");
    }
    let mut bytes = good().to_vec();
    bytes[100] ^= 1;
    let mut batches = Batches::new(Bytes::from(bytes.clone()));
    assert!(batches.next().unwrap().unwrap_err().to_string().contains("checksum"));
    assert!(batches.next().is_none(), "nothing is skipped");
    assert_eq!((batches.position(), batches.partial()), (0, None));
    assert!(Batches::new(Bytes::from(bytes)).check_crcs(false).next().unwrap().is_ok());
}

/// Against row B21: the delete horizon came without a new format, and so may the next bit.
#[test]
fn b21_bits_without_a_meaning_are_kept_and_ignored() {
    for bit in 7..16 {
        let attributes = 1 << bit | 0x10;
        let bytes = Bytes::from(batch(attributes, 5, 1, 2, &[record(0), record(1)].concat()));
        let parsed = RecordBatch::parse(bytes.clone()).unwrap();
        assert_eq!(parsed.attributes(), attributes, "{bit}");
        assert_eq!((parsed.is_transactional(), parsed.is_control()), (true, false), "{bit}");
        assert_eq!((parsed.compression(), parsed.delete_horizon()), (Compression::None, None), "{bit}");
        assert_eq!(offsets(&bytes).unwrap(), [5, 6], "{bit}");
        assert!(fails(batch(1 << bit | 5, 0, 0, 1, &record(0))).is_unsupported(), "{bit}: codec 5");
    }
}

#[test]
fn b22_record_count_negative_or_huge() {
    for count in [-1, i32::MIN, 2, 3, 1_000_000, i32::MAX] {
        assert!(fails(batch(0, 0, i32::MAX - 1, count, &record(0))).is_corrupt(), "{count}");
    }
    for compression in available().skip(1) {
        let mut payload = Vec::new();
        Compressor::new(compression).unwrap().compress(&record(0), &mut payload).unwrap();
        let attributes = i16::from(compression.id());
        assert_eq!(read(&Bytes::from(batch(attributes, 0, 0, 1, &payload))).unwrap().len(), 1);
        for count in [-1, 2, 1_000_000, i32::MAX] {
            let error = fails(batch(attributes, 0, i32::MAX - 1, count, &payload));
            assert!(error.is_corrupt(), "{compression} {count}");
        }
    }
}

#[test]
fn b23_offsets_and_timestamps_that_overflow_or_fall() {
    assert!(fails(batch(0, i64::MAX, 0, 1, &record(0))).is_corrupt());
    assert!(fails(batch(0, 0, -1, 0, &[])).is_corrupt());
    assert!(fails(batch(0, 0, i32::MIN, 1, &record(0))).is_corrupt());
    assert_eq!(read(&Bytes::from(batch(0, i64::MAX - 1, 0, 1, &record(0)))).unwrap()[0].0, i64::MAX - 1);
    // Beyond the largest number, falling, below the first.
    let beyond = batch(0, i64::MAX - 1, 0, 2, &[record(1), record(2)].concat());
    assert!(fails(beyond).to_string().contains("its offset overflows"));
    let falling = fails(batch(0, 0, 5, 2, &[record(2), record(1)].concat()));
    assert!(falling.is_corrupt() && falling.to_string().contains("below the one before"), "{falling}");
    let negative = fails(batch(0, 7, 5, 1, &[12, 0, 0, 1, 1, 1, 0]));
    assert!(negative.is_corrupt() && negative.to_string().contains("below the first"), "{negative}");
    // A timestamp delta of the largest number.
    let mut far = vec![30, 0];
    far.extend([0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
    far.extend([0, 1, 1, 0]);
    assert!(fails(batch(0, 0, 0, 1, &far)).to_string().contains("timestamp"));
}

/// What sarama wrote once, and brokers of 0.11 and 1.0 stored: the last offset delta always 0, and at
/// times the records' too.
#[test]
fn offsets_that_come_twice_or_lie_behind_the_last_are_read() {
    let cases: [(i32, [u8; 2], [i64; 2]); 4] =
        [(0, [0, 1], [5, 6]), (0, [0, 0], [5, 5]), (1, [0, 0], [5, 5]), (1, [3, 3], [8, 8])];
    for (last_delta, deltas, expected) in cases {
        let bytes = Bytes::from(batch(0, 5, last_delta, 2, &deltas.map(record).concat()));
        assert_eq!(offsets(&bytes).unwrap(), expected, "{last_delta} {deltas:?}");
        let parsed = RecordBatch::parse(bytes).unwrap();
        let last = 5 + i64::from(last_delta);
        assert_eq!((parsed.last_offset(), parsed.next_offset()), (last, last + 1), "as the header has it");
    }
}

#[test]
fn a_first_offset_below_zero_is_read_as_java_reads_it() {
    for base in [-1, i64::MIN] {
        let bytes = Bytes::from(batch(0, base, 1, 2, &[record(0), record(1)].concat()));
        assert_eq!(offsets(&bytes).unwrap(), [base, base + 1]);
        assert_eq!(RecordBatch::parse(bytes).unwrap().next_offset(), base + 2);
    }
}

#[test]
fn b24_lengths_null_header_keys_and_bytes_left_over() {
    let broken: &[(&str, &[u8])] = &[
        ("record length -1", &[1, 0, 0, 0, 1, 1, 0]),
        ("record length 0", &[0, 0, 0, 0, 1, 1, 0]),
        ("record length over the rest", &[14, 0, 0, 0, 1, 1, 0]),
        ("record length huge", &[0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0]),
        ("varint over long", &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0]),
        ("key length -2", &[12, 0, 0, 0, 3, 1, 0]),
        ("key length over the rest", &[12, 0, 0, 0, 8, 1, 0]),
        ("value length -2", &[12, 0, 0, 0, 1, 3, 0]),
        ("value length over the rest", &[12, 0, 0, 0, 1, 8, 0]),
        ("header count -1", &[12, 0, 0, 0, 1, 1, 1]),
        ("header count over the rest", &[12, 0, 0, 0, 1, 1, 2]),
        ("header count huge", &[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]),
        ("header key null", &[16, 0, 0, 0, 1, 1, 2, 1, 1]),
        ("header key over the rest", &[16, 0, 0, 0, 1, 1, 2, 8, 1]),
        ("header value -2", &[16, 0, 0, 0, 1, 1, 2, 0, 3]),
        ("header value over the rest", &[16, 0, 0, 0, 1, 1, 2, 0, 8]),
        ("bytes left over behind headers", &[18, 0, 0, 0, 1, 1, 2, 0, 1, 0]),
        ("bytes left over in the record", &[14, 0, 0, 0, 1, 1, 0, 0]),
        ("bytes left over behind the record", &[12, 0, 0, 0, 1, 1, 0, 0]),
    ];
    for (what, payload) in broken {
        let bytes = Bytes::from(batch(0, 0, 0, 1, payload));
        let error = read(&bytes).expect_err(what);
        assert!(error.is_corrupt() && error.offset().is_some(), "{what}: {error}");
        let parsed = RecordBatch::parse(bytes).unwrap();
        let records = parsed.records(&mut Decompressor::new()).unwrap();
        let mut iter = records.iter();
        assert_eq!(iter.by_ref().filter(Result::is_err).count(), 1, "{what}: one error");
        assert!(iter.next().is_none(), "{what}: and then nothing");
    }
}

#[test]
fn b28_codec_bit_against_payload() {
    for compression in available().skip(1) {
        let attributes = i16::from(compression.id());
        let error = fails(batch(attributes, 0, 0, 1, &record(0)));
        assert!(error.is_corrupt(), "{compression} over plain records: {error}");
        let mut payload = Vec::new();
        Compressor::new(compression).unwrap().compress(&[record(0); 9].concat(), &mut payload).unwrap();
        let error = fails(batch(0, 0, 0, 1, &payload));
        assert!(error.is_corrupt(), "plain over {compression}: {error}");
        assert!(fails(batch(attributes, 0, 0, 1, &[])).is_corrupt(), "{compression} of nothing");
        assert_eq!(read(&Bytes::from(batch(attributes, 0, 0, 0, &[]))).unwrap(), []);
    }
}

#[test]
fn b31_right_checksum_over_garbage() {
    let mut seeded = Seeded(31);
    for compression in available().skip(1) {
        for _ in 0..200 {
            let mut payload = seeded.bytes(300);
            // Half of them begin like the real thing.
            if seeded.below(2) == 0 {
                let mut front = Vec::new();
                Compressor::new(compression).unwrap().compress(&payload, &mut front).unwrap();
                front.truncate(1 + seeded.below(front.len() as u64) as usize);
                payload.splice(0..0, front);
            }
            let bytes = Bytes::from(batch(i16::from(compression.id()), 70, 9, 3, &payload));
            let parsed = Batches::new(bytes).next().unwrap().unwrap();
            let decoded = parsed.records(&mut Decompressor::new());
            let error = decoded.and_then(|records| records.iter().try_for_each(|r| r.map(drop)));
            let error = error.expect_err("garbage");
            assert!(error.is_corrupt() || error.is_limit() || error.is_unsupported(), "{error}");
            assert!(error.to_string().contains("at offset 70"), "{error}");
        }
    }
}

#[test]
fn no_flipped_or_random_byte_panics() {
    let mut seeded = Seeded(99);
    let whole = good();
    for _ in 0..20_000 {
        let mut bytes = whole.to_vec();
        for _ in 0..=seeded.below(4) {
            let at = seeded.below(bytes.len() as u64) as usize;
            bytes[at] = seeded.next() as u8;
        }
        fix_crc(&mut bytes);
        // Either is right; it must come to an end, and say why if it fails.
        if let Err(error) = read(&Bytes::from(bytes)) {
            assert!(error.is_corrupt() || error.is_unsupported() || error.is_limit(), "{error}");
        }
    }
}
