//! Variable-length integers, as Kafka and Protocol Buffers write them: seven bits a byte, least
//! significant first; signed ones zigzag.
//!
//! Reading takes at most five bytes for 32 bits and ten for 64, and refuses bits that fall off the
//! end. Over-long forms of small numbers (`80 00` for zero) are accepted, as Java accepts them.

use crate::{Error, Result};

/// Reads an unsigned 32-bit varint from the front of `buf`.
#[inline]
pub(crate) fn read_u32(buf: &mut &[u8]) -> Result<u32> {
    if let [first, rest @ ..] = *buf
        && *first < 0x80
    {
        *buf = rest;
        return Ok(u32::from(*first));
    }
    read_u32_long(buf)
}

fn read_u32_long(buf: &mut &[u8]) -> Result<u32> {
    let mut value = 0_u32;
    for (i, byte) in buf.iter().take(5).enumerate() {
        let bits = u32::from(byte & 0x7f);
        if i == 4 && bits > 0x0f {
            return Err(Error::malformed("varint over 32 bits"));
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *buf = buf.get(i + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(end_or_long(buf.len(), 5))
}

/// Reads an unsigned 64-bit varint from the front of `buf`.
#[inline]
pub(crate) fn read_u64(buf: &mut &[u8]) -> Result<u64> {
    if let [first, rest @ ..] = *buf
        && *first < 0x80
    {
        *buf = rest;
        return Ok(u64::from(*first));
    }
    read_u64_long(buf)
}

fn read_u64_long(buf: &mut &[u8]) -> Result<u64> {
    let mut value = 0_u64;
    for (i, byte) in buf.iter().take(10).enumerate() {
        let bits = u64::from(byte & 0x7f);
        if i == 9 && bits > 1 {
            return Err(Error::malformed("varint over 64 bits"));
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            *buf = buf.get(i + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(end_or_long(buf.len(), 10))
}

#[cold]
fn end_or_long(len: usize, max: usize) -> Error {
    if len < max {
        Error::malformed("varint cut short")
    } else {
        Error::malformed(format!("varint longer than {max} bytes"))
    }
}

/// Reads a zigzag 32-bit varint from the front of `buf`.
#[inline]
pub(crate) fn read_i32(buf: &mut &[u8]) -> Result<i32> {
    read_u32(buf).map(|n| (n >> 1) as i32 ^ -((n & 1) as i32))
}

/// Reads a zigzag 64-bit varint from the front of `buf`.
#[inline]
pub(crate) fn read_i64(buf: &mut &[u8]) -> Result<i64> {
    read_u64(buf).map(|n| (n >> 1) as i64 ^ -((n & 1) as i64))
}

/// Appends an unsigned 32-bit varint.
#[inline]
pub(crate) fn write_u32(out: &mut Vec<u8>, mut n: u32) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends an unsigned 64-bit varint.
#[inline]
pub(crate) fn write_u64(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Appends a zigzag 32-bit varint.
#[inline]
pub(crate) fn write_i32(out: &mut Vec<u8>, n: i32) {
    write_u32(out, zigzag32(n));
}

/// Appends a zigzag 64-bit varint.
#[inline]
pub(crate) fn write_i64(out: &mut Vec<u8>, n: i64) {
    write_u64(out, zigzag64(n));
}

/// Bytes that a zigzag 32-bit varint takes: 1 to 5.
#[inline]
pub(crate) fn len_i32(n: i32) -> usize {
    ((38 - zigzag32(n).leading_zeros() as usize) / 7).max(1)
}

/// Bytes that a zigzag 64-bit varint takes: 1 to 10.
#[inline]
pub(crate) fn len_i64(n: i64) -> usize {
    ((70 - zigzag64(n).leading_zeros() as usize) / 7).max(1)
}

#[inline]
fn zigzag32(n: i32) -> u32 {
    ((n << 1) ^ (n >> 31)) as u32
}

/// Small numbers of either sign as small unsigned ones: 0, -1, 1, -2 as 0, 1, 2, 3.
#[inline]
pub(crate) fn zigzag64(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_goes_both_ways_and_is_foretold() {
        let edges = (0..63).flat_map(|bit| [(1_i64 << bit) - 1, 1 << bit, -(1 << bit)]).chain([
            0,
            i64::MIN,
            i64::MAX,
        ]);
        for n in edges {
            let mut out = Vec::new();
            write_i64(&mut out, n);
            assert_eq!(out.len(), len_i64(n), "{n}");
            let mut buf = &out[..];
            assert_eq!(read_i64(&mut buf).unwrap(), n);
            assert!(buf.is_empty());
            for cut in 0..out.len() {
                assert!(read_i64(&mut &out[..cut]).unwrap_err().is_malformed());
            }
            let Ok(n) = i32::try_from(n) else { continue };
            out.clear();
            write_i32(&mut out, n);
            assert_eq!(out.len(), len_i32(n), "{n}");
            assert_eq!(read_i32(&mut &out[..]).unwrap(), n);
        }
    }

    #[test]
    fn b09_overlong_and_overflowing_varints_are_errors() {
        for bad in [&[0xff, 0xff, 0xff, 0xff, 0x10][..], &[0x80; 5], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]] {
            assert!(read_u32(&mut &*bad).unwrap_err().is_malformed(), "{bad:x?}");
        }
        let mut over = [0xff; 10];
        over[9] = 0x02;
        assert!(read_u64(&mut &over[..]).unwrap_err().is_malformed());
        assert!(read_u64(&mut &[0x80; 11][..]).unwrap_err().is_malformed());
    }

    #[test]
    fn padded_zero_is_read_as_java_reads_it() {
        assert_eq!(read_u32(&mut &[0x80, 0x00][..]).unwrap(), 0);
    }
}
