//! Memory: no allocation a record on building and walking, and none by what a hostile batch claims.
//!
//! A binary of its own, since it counts what is allocated.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use weir::records::{
    BatchBuilder, Batches, Compression, Compressor, Decompressor, Header, NewRecord, RecordBatch, Stamp,
};

/// How often `work` allocates, and what it holds at most beyond what was held before.
fn measure<T>(work: impl FnOnce() -> T) -> (T, usize, usize) {
    let mut result = None;
    let counted = allocation_counter::measure(|| result = Some(work()));
    (result.unwrap(), counted.count_total as usize, counted.bytes_max as usize)
}

fn available() -> impl Iterator<Item = Compression> {
    Compression::ALL.into_iter().filter(|compression| compression.is_available())
}

const RECORDS: usize = 10_000;

fn append_all(builder: &mut BatchBuilder) {
    let headers = [Header::new("trace", "0123456789"), Header { key: b"null", value: None }];
    for n in 0..RECORDS {
        let key = n.to_be_bytes();
        let record = NewRecord::new(1_700_000_000_000 + n as i64).key(&key).value(&[7; 100]);
        builder.append_within(&record.headers(&headers), usize::MAX).unwrap();
    }
}

fn building_and_walking_allocate_nothing_a_record() {
    let mut builder = BatchBuilder::with_capacity(4 << 20);
    let ((), calls, _) = measure(|| append_all(&mut builder));
    assert_eq!(calls, 0, "append");
    let batch = builder.seal(&Stamp::default(), None).unwrap();

    let parsed = RecordBatch::parse(batch.clone()).unwrap();
    let records = parsed.records(&mut Decompressor::new()).unwrap();
    let (seen, calls, _) = measure(|| {
        let mut seen = 0;
        for record in &records {
            let record = record.unwrap();
            seen += record.headers().count() + record.value().unwrap().len();
            let owned = record.to_owned();
            assert!(owned.value().unwrap().as_ptr() == record.value().unwrap().as_ptr());
        }
        seen
    });
    assert_eq!((seen, calls), (RECORDS * 102, 0), "walk, each record made owned as well");

    drop((records, parsed));
    builder.recycle(batch);
    let ((), calls, _) = measure(|| append_all(&mut builder));
    assert_eq!(calls, 0, "append into a buffer that came back");
}

fn warm_codecs_take_few_allocations_a_batch() {
    for compression in available() {
        let mut builder = BatchBuilder::with_capacity(4 << 20);
        let mut compressor = Compressor::new(compression).unwrap();
        let mut decompressor = Decompressor::new();
        let mut counts = [0; 3];
        for count in &mut counts {
            append_all(&mut builder);
            let batch = builder.seal(&Stamp::default(), Some(&mut compressor)).unwrap();
            let (records, calls, _) = measure(|| {
                let parsed = Batches::new(batch.clone()).next().unwrap().unwrap();
                parsed.records(&mut decompressor).unwrap()
            });
            assert_eq!(records.len(), RECORDS);
            decompressor.recycle(records.into_bytes());
            *count = calls;
        }
        println!("{compression}: allocations to open a batch of {RECORDS} records: {counts:?}");
        assert!(counts[2] <= 24, "{compression}: {counts:?}");
    }
}

fn bombs_take_a_small_multiple_of_their_bound() {
    let zeros = vec![0; 24 << 20];
    for compression in available() {
        let mut bomb = Vec::new();
        Compressor::new(compression).unwrap().compress(&zeros, &mut bomb).unwrap();
        let (result, _, peak) = measure(|| {
            let mut out = Vec::new();
            Decompressor::new().max_size(2 << 20).decompress(compression, &bomb, &mut out)
        });
        assert!(result.unwrap_err().is_limit(), "{compression}");
        println!("{compression}: a bomb of {} bytes against a bound of 2 MiB took {peak}", bomb.len());
        assert!(peak <= 9 << 20, "{compression}: {peak}");
    }
}

fn claims_take_no_memory() {
    let zstd = [0x28, 0xb5, 0x2f, 0xfd];
    let size = (64_u64 << 30).to_le_bytes();
    let claims = [
        (Compression::Snappy, vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0, 0]),
        (Compression::Zstd, [&zstd[..], &[0xe0], &size, &[0x19, 0, 0, 1, 2, 3]].concat()),
        (Compression::Zstd, [&zstd[..], &[0, 0xf8], &[0x19, 0, 0, 1, 2, 3]].concat()),
        // A block of 4 MiB, says its frame.
        (Compression::Lz4, vec![0x04, 0x22, 0x4d, 0x18, 0x60, 0x70, 0x73, 0xff, 0xff, 0x3f, 0, 1, 2]),
        (
            Compression::Gzip,
            vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 3, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff],
        ),
    ];
    for (compression, bytes) in claims.into_iter().filter(|(compression, _)| compression.is_available()) {
        let (result, _, peak) =
            measure(|| Decompressor::new().decompress(compression, &bytes, &mut Vec::new()).is_ok());
        assert!(peak <= 2 << 20, "{compression}: {} bytes took {peak}, ok: {result}", bytes.len());
    }
    let mut header = vec![0; 61];
    header[8..12].copy_from_slice(&49_i32.to_be_bytes());
    header[16] = 2;
    header[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let (result, _, peak) = measure(|| RecordBatch::parse(header.clone().into()).is_err());
    assert!(result && peak < 4096, "{peak}");
}

#[test]
fn memory_follows_bytes_and_not_records_or_claims() {
    building_and_walking_allocate_nothing_a_record();
    warm_codecs_take_few_allocations_a_batch();
    bombs_take_a_small_multiple_of_their_bound();
    claims_take_no_memory();
}
