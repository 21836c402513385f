//! The floor: the least that safe Rust has to do for the same result, with nothing general about it.
//!
//! It knows that the fetch response is version 16, that there is one topic, that batches are
//! uncompressed and of message format 2, and it has no errors to report but "no". Bounds are
//! checked all the same, on every read, so that the difference to weir is what weir's generality
//! costs and not what its safety costs.

/// What a walk over a fetch response saw. Everyone must come to the same.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub records: u64,
    pub bytes: u64,
    /// Offsets, timestamps and the first byte of each value, mixed.
    pub mix: u64,
}

impl Seen {
    /// Looks at a record the way a program would that counts and routes: at the numbers, the
    /// lengths and the first byte.
    #[inline]
    pub fn see(&mut self, offset: i64, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) {
        self.records += 1;
        self.bytes += value.map_or(0, <[u8]>::len) as u64 + key.map_or(0, <[u8]>::len) as u64;
        let first = value.and_then(<[u8]>::first).copied().unwrap_or_default();
        self.mix = self.mix.wrapping_add(offset as u64 ^ timestamp as u64 ^ u64::from(first));
    }
}

/// Walks all records of a `FetchResponse` version 16. `crc` computes CRC-32C, or is `None` to skip
/// the check.
pub fn walk_fetch(frame: &[u8], crc: Option<fn(&[u8]) -> u32>) -> Option<Seen> {
    let mut seen = Seen::default();
    let mut frame = Cursor(frame);
    frame.take(4 + 2 + 4)?; // throttle time, error code, session id
    for _ in 1..frame.varint()? {
        frame.take(16)?; // topic id
        for _ in 1..frame.varint()? {
            frame.take(4 + 2 + 8 + 8 + 8)?; // index, error code, high watermark, stable and start offset
            for _ in 1..frame.varint()? {
                frame.take(8 + 8)?; // an aborted transaction
                frame.tags()?;
            }
            frame.take(4)?; // preferred read replica
            let len = frame.varint()?.checked_sub(1)?;
            let records = frame.take(len as usize)?;
            frame.tags()?;
            walk_records(records, crc, &mut seen)?;
        }
        frame.tags()?;
    }
    frame.tags()?;
    frame.0.is_empty().then_some(seen)
}

/// Walks the batches of one partition.
pub fn walk_records(batches: &[u8], crc: Option<fn(&[u8]) -> u32>, seen: &mut Seen) -> Option<()> {
    let mut batches = Cursor(batches);
    while !batches.0.is_empty() {
        let base_offset = batches.i64()?;
        let len = batches.i32()?;
        let mut batch = Cursor(batches.take(usize::try_from(len).ok()?)?);
        batch.take(4)?; // leader epoch
        let [2] = batch.take(1)? else { return None };
        let stored = batch.i32()? as u32;
        if crc.is_some_and(|crc| crc(batch.0) != stored) {
            return None;
        }
        let [_, 0] = batch.take(2)? else { return None }; // attributes: no codec, no flags
        batch.take(4)?; // last offset delta
        let base_timestamp = batch.i64()?;
        batch.take(8 + 8 + 2 + 4)?; // max timestamp, producer id, epoch, sequence
        for _ in 0..batch.i32()? {
            let len = batch.zigzag()?;
            let mut record = Cursor(batch.take(usize::try_from(len).ok()?)?);
            record.take(1)?; // attributes
            let timestamp = base_timestamp + record.zigzag()?;
            let offset = base_offset + record.zigzag()?;
            let key = record.nullable()?;
            let value = record.nullable()?;
            seen.see(offset, timestamp, key, value);
        }
    }
    Some(())
}

struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn i32(&mut self) -> Option<i32> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i32::from_be_bytes(*taken))
    }

    #[inline]
    fn i64(&mut self) -> Option<i64> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(i64::from_be_bytes(*taken))
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    #[inline]
    fn zigzag(&mut self) -> Option<i64> {
        self.varint().map(|n| (n >> 1) as i64 ^ -((n & 1) as i64))
    }

    /// Outer: is it there; inner: is it null.
    #[inline]
    #[allow(clippy::option_option)]
    fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        match usize::try_from(self.zigzag()?) {
            Ok(len) => self.take(len).map(Some),
            Err(_) => Some(None),
        }
    }

    #[inline]
    fn tags(&mut self) -> Option<()> {
        for _ in 0..self.varint()? {
            self.varint()?;
            let len = self.varint()?;
            self.take(len as usize)?;
        }
        Some(())
    }
}

/// Bytes of a batch before its first record.
const HEADER: usize = 61;

/// How to append a record: its timestamp and its offset from the batch's, and its value.
pub type Push = fn(&mut Vec<u8>, i64, i64, &[u8]);

/// Encodes one batch into `out`, which it empties first: one pass, no headers, no codec.
pub fn encode_batch<T: AsRef<[u8]>>(
    out: &mut Vec<u8>,
    base_timestamp: i64,
    values: &[T],
    push: Push,
    crc: Option<fn(&[u8]) -> u32>,
) {
    out.clear();
    out.resize(HEADER, 0);
    for (i, value) in values.iter().enumerate() {
        push(out, i as i64, i as i64, value.as_ref());
    }
    let last = values.len() as i32 - 1;
    let len = out.len() as i32 - 12;
    let header = &mut out[..HEADER];
    header[8..12].copy_from_slice(&len.to_be_bytes());
    header[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
    header[16] = 2;
    header[23..27].copy_from_slice(&last.to_be_bytes());
    header[27..35].copy_from_slice(&base_timestamp.to_be_bytes());
    header[35..43].copy_from_slice(&(base_timestamp + i64::from(last)).to_be_bytes());
    header[43..57].fill(0xff); // no producer id, epoch, sequence
    header[57..61].copy_from_slice(&(last + 1).to_be_bytes());
    if let Some(crc) = crc {
        let sum = crc(&out[21..]);
        out[17..21].copy_from_slice(&sum.to_be_bytes());
    }
}

/// Appends one record the plain way: any numbers, what stands before the value put together byte by
/// byte on the stack. This is the floor that weir is held to.
#[inline]
pub fn byte_by_byte(out: &mut Vec<u8>, timestamp_delta: i64, offset_delta: i64, value: &[u8]) {
    let mut head = Head { bytes: [0; 32], len: 0 };
    head.push(0); // attributes
    head.varint(zigzag(timestamp_delta));
    head.varint(zigzag(offset_delta));
    head.push(1); // no key
    head.varint(zigzag(value.len() as i64));
    let body = head.len + value.len() + 1;
    let mut front = Head { bytes: [0; 32], len: 0 };
    front.varint(zigzag(body as i64));
    out.reserve(64 + value.len());
    out.extend_from_slice(&front.bytes[..front.len]);
    out.extend_from_slice(&head.bytes[..head.len]);
    out.extend_from_slice(value);
    out.push(0); // no headers
}

struct Head {
    bytes: [u8; 32],
    len: usize,
}

impl Head {
    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    fn varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.push(n as u8);
    }
}

/// Appends one record. It knows that all numbers are below 8192, so that each takes one byte or two,
/// and puts those in front of the key together in a register: what is left to gain at the most.
#[inline]
pub fn in_registers(out: &mut Vec<u8>, timestamp_delta: i64, offset_delta: i64, value: &[u8]) {
    let (timestamp, offset) = (Varint::new(timestamp_delta), Varint::new(offset_delta));
    let value_len = Varint::new(value.len() as i64);
    let body = 3 + timestamp.len + offset.len + value_len.len + value.len();
    let mut head = Varint::new(body as i64);
    let no_key = Varint { bits: 1, len: 1 };
    for next in [Varint { bits: 0, len: 1 }, timestamp, offset, no_key] {
        head.bits |= next.bits << (8 * head.len);
        head.len += next.len;
    }
    out.reserve(16 + value.len());
    put_front(out, head.bits.to_le_bytes(), head.len);
    put_front(out, (value_len.bits as u16).to_le_bytes(), value_len.len);
    out.extend_from_slice(value);
    out.push(0); // no headers
}

/// Stores all the bytes and keeps the first `len`: a copy of a fixed length is no call.
#[inline]
fn put_front<const N: usize>(out: &mut Vec<u8>, bytes: [u8; N], len: usize) {
    let end = out.len() + len;
    out.extend_from_slice(&bytes);
    out.truncate(end);
}

/// A zigzag varint of one byte or two.
struct Varint {
    bits: u64,
    len: usize,
}

impl Varint {
    #[inline]
    fn new(n: i64) -> Self {
        let n = zigzag(n);
        assert!(n < 0x4000, "the floor knows its data");
        if n < 0x80 {
            return Self { bits: n, len: 1 };
        }
        Self { bits: n & 0x7f | 0x80 | n >> 7 << 8, len: 2 }
    }
}

#[inline]
fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{data, peer};

    #[test]
    fn the_floor_writes_what_the_peer_writes_and_reads_what_it_wrote() {
        let values = data::values();
        let theirs = peer::batch(&values);
        for push in [byte_by_byte, in_registers] {
            let mut ours = Vec::new();
            encode_batch(&mut ours, data::BASE_TIMESTAMP, &values, push, Some(crc32c::crc32c));
            assert!(ours == theirs, "the batches differ");
        }

        let frame = peer::fetch_frame(&values);
        let seen = walk_fetch(&frame, Some(crc32c::crc32c)).unwrap();
        assert_eq!(seen.records as usize, data::RECORDS * data::BATCHES);
        assert_eq!(seen, peer::walk_fetch(&frame));
        assert_eq!(walk_fetch(&frame, None), Some(seen));
    }

    #[test]
    fn the_floor_checks_lengths_and_sums() {
        let frame = peer::fetch_frame(&data::values());
        assert_eq!(walk_fetch(&frame[..frame.len() - 1], None), None);
        let mut flipped = frame.to_vec();
        flipped[frame.len() / 2] ^= 1;
        assert_eq!(walk_fetch(&flipped, Some(crc32c::crc32c)), None);
    }
}
