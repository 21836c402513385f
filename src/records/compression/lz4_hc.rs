//! A high compressor for LZ4 blocks: hash chains, lazy matching, search depth by level.
//!
//! No pure-Rust crate offers one. Blocks hold up to 64 KiB and do not refer to each other, so a
//! position fits 16 bits and every earlier position is in reach. The tables are kept from block to
//! block; only the heads of the chains are cleared. Speed comes second here: who asks for a level
//! asks for small output.

#![allow(
    clippy::indexing_slicing,
    reason = "every index is derived from the length of the block being written, none from outside"
)]

/// Matches shorter than this are not worth their offset.
const MATCH_MIN: usize = 4;
/// The last bytes of a block are literals, and the last match starts this far before its end.
const LITERALS_AT_END: usize = 5;
const NO_MATCH_AT_END: usize = 12;
const HASH_BITS: u32 = 15;
/// No position: a match never starts this near to the end of the largest block.
const NONE: u16 = u16::MAX;
/// The deepest search, which levels from 13 on share: beyond, only time grows.
const DEPTH_MAX: u32 = 4096;

pub(super) struct HighCompressor {
    /// How many earlier positions are tried at each one.
    depth: u32,
    /// The latest position for each hash of four bytes.
    heads: Vec<u16>,
    /// For each position, the one before it with the same hash.
    chain: Vec<u16>,
}

#[derive(Clone, Copy)]
struct Match {
    at: usize,
    offset: usize,
    len: usize,
}

impl HighCompressor {
    pub(super) fn new(level: i32) -> Self {
        let depth = 1_u32.checked_shl((level - 1).max(0) as u32).unwrap_or(DEPTH_MAX).min(DEPTH_MAX);
        Self { depth, heads: vec![NONE; 1 << HASH_BITS], chain: vec![NONE; 1 << 16] }
    }

    /// Appends `block`, at most 64 KiB of it, as one LZ4 block.
    pub(super) fn compress_block(&mut self, block: &[u8], out: &mut Vec<u8>) {
        debug_assert!(block.len() <= 1 << 16, "positions have 16 bits");
        self.heads.fill(NONE);
        let mut anchor = 0;
        let mut at = 0;
        let mut indexed = 0;
        while at + NO_MATCH_AT_END <= block.len() {
            let Some(mut best) = self.longest(block, at, &mut indexed, MATCH_MIN - 1) else {
                at += 1;
                continue;
            };
            // A longer match one byte on is worth a literal.
            while best.at + 1 + NO_MATCH_AT_END <= block.len() {
                match self.longest(block, best.at + 1, &mut indexed, best.len) {
                    Some(next) => best = next,
                    None => break,
                }
            }
            write_sequence(&block[anchor..best.at], Some(best), out);
            at = best.at + best.len;
            anchor = at;
        }
        write_sequence(&block[anchor..], None, out);
    }

    /// The longest match at `at`, if any is longer than `longer_than`.
    fn longest(&mut self, block: &[u8], at: usize, indexed: &mut usize, longer_than: usize) -> Option<Match> {
        while *indexed < at {
            let head = &mut self.heads[hash(block, *indexed)];
            self.chain[*indexed] = std::mem::replace(head, *indexed as u16);
            *indexed += 1;
        }
        let len_max = block.len() - LITERALS_AT_END - at;
        let (mut best, mut best_len) = (None, longer_than);
        let mut candidate = self.heads[hash(block, at)];
        for _ in 0..self.depth {
            if candidate == NONE || best_len >= len_max {
                break;
            }
            let from = usize::from(candidate);
            // Only a match that agrees here can be longer than the best so far.
            if block[from + best_len] == block[at + best_len] {
                let len = common_len(&block[from..], &block[at..at + len_max]);
                if len > best_len {
                    best_len = len;
                    best = Some(Match { at, offset: at - from, len });
                }
            }
            candidate = self.chain[from];
        }
        best
    }
}

fn hash(block: &[u8], at: usize) -> usize {
    let four = block[at..].first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes));
    (four.wrapping_mul(0x9E37_79B1) >> (32 - HASH_BITS)) as usize
}

/// How many bytes `a` and `b` have in common at their fronts; `b` is the shorter.
fn common_len(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    while let (Some(x), Some(y)) = (a[len..].first_chunk::<8>(), b[len..].first_chunk::<8>()) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return len + differ.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(x, y)| x == y).count()
}

/// Literals and the match behind them; the block's last sequence has no match.
fn write_sequence(literals: &[u8], found: Option<Match>, out: &mut Vec<u8>) {
    let match_code = found.map_or(0, |found| found.len - MATCH_MIN);
    out.push((literals.len().min(15) << 4 | match_code.min(15)) as u8);
    write_long(literals.len(), out);
    out.extend_from_slice(literals);
    if let Some(found) = found {
        out.extend_from_slice(&(found.offset as u16).to_le_bytes());
        write_long(match_code, out);
    }
}

/// What does not fit a token's four bits.
fn write_long(len: usize, out: &mut Vec<u8>) {
    if let Some(mut rest) = len.checked_sub(15) {
        while rest >= 255 {
            out.push(255);
            rest -= 255;
        }
        out.push(rest as u8);
    }
}
