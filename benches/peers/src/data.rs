//! The inputs: made from fixed seeds, so that every run and every machine measures the same work.

use bytes::Bytes;

/// Records in each batch of the record benches.
pub const RECORDS: usize = 1000;
/// Batches, one a partition, in the fetch response.
pub const BATCHES: usize = 10;
/// Bytes in a record's value.
pub const VALUE: usize = 100;
/// The timestamp of the first record; the next ones follow a millisecond apart.
pub const BASE_TIMESTAMP: i64 = 1_700_000_000_000;

/// Xorshift: enough disorder that values do not compress and branches do not learn them.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    pub fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn number(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let number = self.number().to_le_bytes();
            chunk.copy_from_slice(&number[..chunk.len()]);
        }
    }
}

/// A thousand random values, slices of one buffer.
pub fn values() -> Vec<Bytes> {
    let mut all = vec![0; RECORDS * VALUE];
    Random::seeded(1).fill(&mut all);
    let all = Bytes::from(all);
    (0..RECORDS).map(|i| all.slice(i * VALUE..(i + 1) * VALUE)).collect()
}

const WORDS: [&str; 24] = [
    "order",
    "created",
    "customer",
    "amount",
    "currency",
    "status",
    "shipped",
    "invoice",
    "warehouse",
    "true",
    "false",
    "null",
    "timestamp",
    "payment",
    "accepted",
    "address",
    "street",
    "country",
    "quantity",
    "discount",
    "reference",
    "partner",
    "channel",
    "priority",
];

/// About `len` bytes of records that compress to a half: one part of each is random, as keys and
/// numbers are, the other is words in an order that changes, as field names and states are.
pub fn half_compressible(len: usize) -> Vec<u8> {
    let mut random = Random::seeded(2);
    let mut out = Vec::with_capacity(len);
    let mut noise = [0; 50];
    while out.len() < len {
        random.fill(&mut noise);
        out.extend_from_slice(&noise);
        let end = out.len() + 50;
        while out.len() < end {
            out.extend_from_slice(WORDS[random.number() as usize % WORDS.len()].as_bytes());
            out.push(b' ');
        }
        out.truncate(end);
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_every_time_and_not_all_alike() {
        assert_eq!(values(), values());
        assert_ne!(values()[0], values()[1]);
        assert_eq!(values().len(), RECORDS);
    }

    #[test]
    fn half_compressible_compresses_to_about_a_half() {
        let plain = half_compressible(1 << 20);
        let packed = zstd::bulk::compress(&plain, 3).unwrap();
        let ratio = packed.len() as f64 / plain.len() as f64;
        assert!((0.45..0.75).contains(&ratio), "{ratio}");
    }
}
