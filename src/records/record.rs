//! One record, borrowed from its batch, and its headers.
//!
//! A [`Record`] points into the bytes of [`Records`](super::Records); nothing is copied or allocated
//! to make one. By the time a record is handed out, all its lengths have been checked, its headers'
//! too, so reading it cannot fail. [`Record::to_owned`] gives one that keeps the batch's memory alive
//! instead of borrowing it.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;

use crate::wire::varint;

/// What is wrong with a record, before the place is added.
pub(super) type Broken = &'static str;

/// One record of a batch, borrowed.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub(super) data: &'a Bytes,
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
    pub(super) headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// The place of this record in its partition.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since 1970, given by the producer or, with
    /// [`TimestampType::LogAppendTime`](super::TimestampType), by the broker;
    /// [`NO_TIMESTAMP`](super::NO_TIMESTAMP) if there is none.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The key; `None` is null, which is not the same as empty.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` is null: a tombstone, in a compacted topic.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers in their order. Keys may repeat.
    pub fn headers(&self) -> Headers<'a> {
        self.headers
    }

    /// The same record with a share in the batch's memory instead of a borrow. Copies no data; the
    /// memory of the whole batch stays as long as this lives.
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord {
            data: self.data.clone(),
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.map(|key| range_in(self.data, key)),
            value: self.value.map(|value| range_in(self.data, value)),
            headers: range_in(self.data, self.headers.rest),
            header_count: self.headers.left,
        }
    }
}

impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key", &self.key.map(Escaped))
            .field("value", &self.value.map(Escaped))
            .field("headers", &self.headers)
            .finish()
    }
}

/// A record that shares its batch's memory instead of borrowing it. See [`Record::to_owned`].
#[derive(Clone)]
pub struct OwnedRecord {
    data: Bytes,
    offset: i64,
    timestamp: i64,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    headers: Range<usize>,
    header_count: u32,
}

impl OwnedRecord {
    /// The place of this record in its partition.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// As [`Record::timestamp`].
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// The key; `None` is null.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.clone().and_then(|range| self.data.get(range))
    }

    /// The value; `None` is null.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.clone().and_then(|range| self.data.get(range))
    }

    /// The key as a slice of the batch's memory, without a copy.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key.clone().map(|range| self.data.slice(range))
    }

    /// The value as a slice of the batch's memory, without a copy.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value.clone().map(|range| self.data.slice(range))
    }

    /// The headers in their order. Keys may repeat.
    pub fn headers(&self) -> Headers<'_> {
        Headers { rest: self.data.get(self.headers.clone()).unwrap_or_default(), left: self.header_count }
    }

    /// The same record, borrowed.
    pub fn as_record(&self) -> Record<'_> {
        Record {
            data: &self.data,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key(),
            value: self.value(),
            headers: self.headers(),
        }
    }
}

impl fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_record().fmt(f)
    }
}

/// Where `part` lies in `whole`, of which it is a part.
fn range_in(whole: &Bytes, part: &[u8]) -> Range<usize> {
    // An empty part may point anywhere.
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    if start > whole.len() || part.is_empty() { 0..0 } else { start..start + part.len() }
}

/// A header of a record. Keys are bytes: producers that are not Java may write ones that are no
/// UTF-8, and they survive.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key; several headers of a record may have the same.
    pub key: &'a [u8],
    /// The value; `None` is null.
    pub value: Option<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// A header with this key and value.
    pub fn new(key: &'a (impl AsRef<[u8]> + ?Sized), value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { key: key.as_ref(), value: Some(value.as_ref()) }
    }

    /// The key as text, if it is UTF-8.
    pub fn key_str(&self) -> Option<&'a str> {
        std::str::from_utf8(self.key).ok()
    }
}

impl fmt::Debug for Header<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value } = self;
        f.debug_tuple("Header").field(&Escaped(key)).field(&value.map(Escaped)).finish()
    }
}

/// The headers of a record, parsed as they are asked for.
#[derive(Clone, Copy, Default)]
pub struct Headers<'a> {
    rest: &'a [u8],
    left: u32,
}

impl<'a> Headers<'a> {
    /// The value of the last header with this key, as Java's `lastHeader`. `None`: there is no such
    /// header; `Some(None)`: its value is null.
    pub fn last_value(self, key: impl AsRef<[u8]>) -> Option<Option<&'a [u8]>> {
        let key = key.as_ref();
        self.filter(|header| header.key == key).last().map(|header| header.value)
    }

    /// Checks `count` headers that must fill `bytes` to the last byte.
    pub(super) fn check(bytes: &'a [u8], count: i32) -> Result<Self, Broken> {
        // A header takes two bytes at least.
        let Some(left) = u32::try_from(count).ok().filter(|n| *n as usize <= bytes.len() / 2) else {
            return Err("the number of headers cannot be");
        };
        let mut rest = bytes;
        for _ in 0..left {
            if read_nullable(&mut rest)?.is_none() {
                return Err("a header key is null");
            }
            read_nullable(&mut rest)?;
        }
        if rest.is_empty() { Ok(Self { rest: bytes, left }) } else { Err("bytes are left over in it") }
    }
}

#[allow(clippy::copy_iterator, reason = "two words, kept whole in the record and handed out anew each time")]
impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Checked when the record was read, so neither of these fails.
        let key = read_nullable(&mut self.rest).ok()??;
        let value = read_nullable(&mut self.rest).ok()?;
        Some(Header { key, value })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Headers<'_> {}

impl fmt::Debug for Headers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(*self).finish()
    }
}

/// Bytes shown as text with escapes.
struct Escaped<'a>(&'a [u8]);

impl fmt::Debug for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// Reads a signed varint. One and two bytes, which are nearly all there are in records, are decoded
/// in place. The slice is only ever passed on by value, so that it stays in registers.
#[inline]
pub(super) fn read_varint(buf: &mut &[u8]) -> Result<i32, Broken> {
    let n = match **buf {
        [a, ref rest @ ..] if a < 0x80 => {
            *buf = rest;
            u32::from(a)
        }
        [a, b, ref rest @ ..] if b < 0x80 => {
            *buf = rest;
            u32::from(a & 0x7f) | u32::from(b) << 7
        }
        _ => {
            let (n, rest) = long_varint(buf)?;
            *buf = rest;
            return Ok(n);
        }
    };
    Ok((n >> 1) as i32 ^ -((n & 1) as i32))
}

/// Reads a signed varint of 64 bits.
#[inline]
pub(super) fn read_varlong(buf: &mut &[u8]) -> Result<i64, Broken> {
    let n = match **buf {
        [a, ref rest @ ..] if a < 0x80 => {
            *buf = rest;
            u64::from(a)
        }
        [a, b, ref rest @ ..] if b < 0x80 => {
            *buf = rest;
            u64::from(a & 0x7f) | u64::from(b) << 7
        }
        _ => {
            let (n, rest) = long_varlong(buf)?;
            *buf = rest;
            return Ok(n);
        }
    };
    Ok((n >> 1) as i64 ^ -((n & 1) as i64))
}

#[inline(never)]
fn long_varint(mut buf: &[u8]) -> Result<(i32, &[u8]), Broken> {
    let n = varint::read_i32(&mut buf).map_err(|_| "a varint is broken")?;
    Ok((n, buf))
}

#[inline(never)]
fn long_varlong(mut buf: &[u8]) -> Result<(i64, &[u8]), Broken> {
    let n = varint::read_i64(&mut buf).map_err(|_| "a varint is broken")?;
    Ok((n, buf))
}

/// Reads bytes behind their length; -1 is null.
#[inline]
pub(super) fn read_nullable<'a>(buf: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Broken> {
    let len = read_varint(buf)?;
    if len < 0 {
        return if len == -1 { Ok(None) } else { Err("a length is below -1") };
    }
    let (bytes, rest) = buf.split_at_checked(len as usize).ok_or("a length is over the rest")?;
    *buf = rest;
    Ok(Some(bytes))
}
