//! Record batches and old message sets: any bytes are batches or a typed error, and what is read can be
//! written and read again; what is built reads as what went in.

use arbitrary::Arbitrary;
use bytes::Bytes;
use weir::records::{
    BatchBuilder, Batches, Compression, Compressor, Decompressor, NewRecord, Record, RecordBatch, Records,
    Stamp,
};

const SIZE_MAX: usize = 1 << 20;
const MEMORY_FREE: usize = 8 << 20;

/// Reads the input as batches, with their checksums unchecked so that the fuzzer gets inside.
pub fn check(input: Bytes) {
    let ((), peak) = crate::peak_of(|| walk(&input));
    // Copies that the checks below make count here too.
    assert!(peak <= MEMORY_FREE + 64 * input.len(), "{} bytes took {peak}", input.len());
    let checked = Batches::new(input.clone()).take_while(Result::is_ok).count();
    let all = Batches::new(input).check_crcs(false).take_while(Result::is_ok).count();
    assert!(checked <= all, "a batch with a right checksum is a batch without looking");
}

/// The same for message formats 0 and 1: the magic byte of each message is made one of them.
pub fn check_legacy(input: &[u8]) {
    let mut bytes = input.to_vec();
    let mut at = 0;
    while let Some(magic) = bytes.get_mut(at + 16) {
        *magic &= 1;
        let Some(size) = bytes[at + 8..].first_chunk().map(|size| i32::from_be_bytes(*size)) else { break };
        let Ok(size) = usize::try_from(size) else { break };
        at += 12 + size;
    }
    check(bytes.into());
}

fn walk(input: &Bytes) {
    let mut decompressor = Decompressor::new().max_size(SIZE_MAX);
    let mut batches = Batches::new(input.clone()).check_crcs(false);
    let mut end = 0;
    while let Some(batch) = batches.next() {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                crate::assert_typed(&error);
                assert!(batches.next().is_none() && batches.partial().is_none());
                assert_eq!(batches.position(), end, "it stands in front of the broken one");
                return;
            }
        };
        end += batch.bytes().len();
        assert_eq!(batches.position(), end);
        assert!(batch.base_offset() <= batch.last_offset(), "{batch:?}");
        assert!(batch.last_offset() < batch.next_offset(), "{batch:?}");
        match batch.records(&mut decompressor) {
            Ok(records) => {
                check_records(&batch, &records);
                decompressor.recycle(records.into_bytes());
            }
            Err(error) => crate::assert_typed(&error),
        }
    }
    let held = batches.partial().map_or(0, |partial| partial.held);
    assert_eq!(end + held, input.len(), "nothing is passed over");
}

fn check_records(batch: &RecordBatch, records: &Records) {
    assert!(records.byte_len() <= SIZE_MAX || batch.compression() == Compression::None);
    assert!(records.len() <= records.byte_len() / 7, "{records:?}");
    let mut builder = BatchBuilder::new();
    let (mut before, mut read, mut copied) = (batch.base_offset(), 0, 0);
    for record in records {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                crate::assert_typed(&error);
                assert!(read <= records.len());
                return;
            }
        };
        read += 1;
        assert!(record.offset() >= before || batch.magic() < 2, "{record:?} behind offset {before}");
        before = record.offset();
        let owned = record.to_owned();
        assert_eq!(format!("{owned:?}"), format!("{record:?}"));
        assert_eq!(owned.key_bytes().as_deref(), record.key());
        assert_eq!(owned.value_bytes().as_deref(), record.value());
        // What Java would not write either, such as a negative timestamp, is refused.
        copied += usize::from(builder.append_copy(read as i32 - 1, &record).is_ok());
    }
    assert_eq!(read, records.len());
    if copied == read {
        rebuilt_is_equal(&mut builder, records);
    }
}

fn rebuilt_is_equal(builder: &mut BatchBuilder, records: &Records) {
    let sealed = builder.seal(&Stamp::default(), None).expect("records that were taken");
    let batch = RecordBatch::parse(sealed).expect("what we wrote");
    let again = batch.records(&mut Decompressor::new()).expect("what we wrote");
    assert_eq!(again.len(), records.len());
    for (new, old) in again.iter().zip(records) {
        let (new, old) = (new.expect("what we wrote"), old.expect("read before"));
        assert_eq!(contents(&new), contents(&old));
    }
}

type Contents<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>, Vec<weir::records::Header<'a>>);

fn contents<'a>(record: &Record<'a>) -> Contents<'a> {
    (record.timestamp(), record.key(), record.value(), record.headers().collect())
}

/// A batch to be built.
#[derive(Debug, Arbitrary)]
pub struct Build {
    codec: u8,
    level: Option<i8>,
    producer: (i64, i16, i32),
    base_offset: u32,
    transactional: bool,
    control: bool,
    log_append_time: Option<i64>,
    room: u16,
    records: Vec<BuildRecord>,
}

#[derive(Debug, Arbitrary)]
struct BuildRecord {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Values that the codecs find something in.
    repeat: u8,
}

/// Builds a batch and reads it back.
pub fn check_build(plan: &mut Build) {
    for record in &mut plan.records {
        if let Some(value) = &mut record.value {
            *value = value.repeat(usize::from(record.repeat % 8));
        }
    }
    let compression = Compression::ALL[usize::from(plan.codec) % 5];
    let compressor = match plan.level {
        Some(level) => Compressor::with_level(compression, i32::from(level)),
        None => Compressor::new(compression),
    };
    let Ok(mut compressor) = compressor else { return };
    let mut builder = BatchBuilder::new();
    let mut taken = Vec::new();
    for record in &plan.records {
        let new = NewRecord::new(record.timestamp)
            .key_value(record.key.as_deref(), record.value.as_deref())
            .headers(&record.headers);
        let (size, growth) = (builder.size(), builder.size_of(&new));
        match builder.append_within(&new, usize::from(plan.room) * 4) {
            Ok(Some(at)) => {
                assert_eq!((at as usize, builder.size()), (taken.len(), size + growth));
                taken.push(record);
            }
            Ok(None) => assert_eq!(builder.size(), size, "nothing has changed"),
            Err(error) => assert!(error.is_invalid() && builder.size() == size, "{error:?}"),
        }
    }
    let (id, epoch, sequence) = plan.producer;
    let mut stamp = Stamp::default()
        .producer(id, epoch, sequence)
        .base_offset(i64::from(plan.base_offset), 3)
        .transactional(plan.transactional)
        .control(plan.control);
    if let Some(time) = plan.log_append_time {
        stamp = stamp.log_append_time(time);
    }
    let sealed = builder.seal(&stamp, Some(&mut compressor)).expect("records that were taken");
    let batch = RecordBatch::parse(sealed).expect("what we wrote");
    assert_eq!((batch.producer_id(), batch.producer_epoch(), batch.base_sequence()), plan.producer);
    assert_eq!((batch.is_transactional(), batch.is_control()), (plan.transactional, plan.control));
    let records = batch.records(&mut Decompressor::new()).expect("what we wrote");
    assert_eq!(records.len(), taken.len());
    for (n, (read, record)) in records.iter().zip(&taken).enumerate() {
        let read = read.expect("what we wrote");
        assert_eq!(read.offset(), i64::from(plan.base_offset) + n as i64);
        assert_eq!(read.timestamp(), plan.log_append_time.unwrap_or(record.timestamp));
        assert_eq!((read.key(), read.value()), (record.key.as_deref(), record.value.as_deref()));
        let headers: Vec<_> =
            read.headers().map(|header| (header.key.to_vec(), header.value.map(Vec::from))).collect();
        assert_eq!(headers, record.headers);
    }
}

/// Inputs for [`check`]: batches with each codec, one alone and several in a row.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for compression in Compression::ALL {
        let mut compressor = Compressor::new(compression).expect("it is built in");
        let mut row = Vec::new();
        for count in [0_u32, 1, 3, 40] {
            let mut builder = BatchBuilder::new();
            for n in 0..count {
                let key = n.to_be_bytes();
                let record =
                    NewRecord::new(1_700_000_000_000 + i64::from(n)).key(&key).value(b"a value, a value");
                let headers = [(&b"trace"[..], Some(&b"1"[..])), (b"null", None)];
                builder.append(&record.headers(&headers[..n as usize % 3])).expect("a record");
            }
            let stamp = Stamp::default().producer(7, 1, 0).transactional(count == 3).base_offset(40, 2);
            let sealed = builder.seal(&stamp, Some(&mut compressor)).expect("a batch");
            row.extend_from_slice(&sealed);
            found.push((format!("{compression}-{count}"), sealed.to_vec()));
        }
        found.push((format!("{compression}-row"), row));
    }
    found
}

/// Inputs for [`check_legacy`]: plain sets of both formats, and sets wrapped by each codec.
pub fn seeds_legacy() -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for magic in [0, 1] {
        let set: Vec<u8> =
            (0..3).flat_map(|n| message(n, magic, 0, Some(b"key"), b"an old value, an old value")).collect();
        found.push((format!("plain-{magic}"), set.clone()));
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
            let mut value = Vec::new();
            Compressor::new(compression)
                .expect("it is built in")
                .compress(&set, &mut value)
                .expect("any bytes");
            let wrapper = message(42, magic, compression.id(), None, &value);
            found.push((format!("{compression}-{magic}"), wrapper.clone()));
            found.push((format!("{compression}-{magic}-behind"), [&set[..], &wrapper].concat()));
        }
    }
    found
}

/// A message of format 0 or 1, its checksum left zero.
fn message(offset: i64, magic: u8, attributes: u8, key: Option<&[u8]>, value: &[u8]) -> Vec<u8> {
    let mut body = vec![0, 0, 0, 0, magic, attributes];
    if magic == 1 {
        body.extend_from_slice(&1_400_000_000_000_i64.to_be_bytes());
    }
    body.extend_from_slice(&key.map_or(-1, |key| key.len() as i32).to_be_bytes());
    body.extend_from_slice(key.unwrap_or_default());
    body.extend_from_slice(&(value.len() as i32).to_be_bytes());
    body.extend_from_slice(value);
    [&offset.to_be_bytes()[..], &(body.len() as i32).to_be_bytes(), &body].concat()
}
