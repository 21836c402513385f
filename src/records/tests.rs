//! What goes in comes out; what is broken is refused.

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
