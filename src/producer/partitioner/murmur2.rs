//! The hash murmur2 as Kafka's Java client has it, so that a key goes where Java sends it.

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;

/// The hash of `key`.
pub(super) fn murmur2(key: &[u8]) -> u32 {
    let (words, rest) = key.as_chunks::<4>();
    // Java's lengths are of 31 bits, and so are those of keys.
    let mut hash = words.iter().fold(SEED ^ key.len() as u32, |hash, word| {
        let word = u32::from_le_bytes(*word).wrapping_mul(M);
        hash.wrapping_mul(M) ^ (word ^ word >> 24).wrapping_mul(M)
    });
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ hash >> 13).wrapping_mul(M);
    hash ^ hash >> 15
}

/// The partition that Java gives a key: the hash without its sign, modulo how many there are.
pub(super) fn partition(key: &[u8], count: u32) -> Option<u32> {
    (murmur2(key) & 0x7fff_ffff).checked_rem(count)
}
