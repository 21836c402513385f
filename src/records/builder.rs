//! Builds a batch of format 2.
//!
//! Each record is encoded once, when it is appended, straight into the buffer that becomes the
//! batch; space for the header is kept in front. Sealing compresses the records, writes the header,
//! and gives the bytes as they go out. What is only known late (producer id, sequence) is given
//! there. There is no clock in here: timestamps come with the records.
//!
//! Nothing is allocated for a record but the buffer's growth, and sealed batches can give their
//! buffer back ([`BatchBuilder::recycle`]).

use bytes::Bytes;

use super::NO_TIMESTAMP;
use super::batch::{CHECKED_FROM, HEADER_SIZE, crc32c};
use super::compression::{Compression, Compressor, reclaim};
use super::header::{Stamp, Summary, write_crc};
use super::record::{Header, Record};
use crate::wire::varint;
use crate::{Error, Result};

/// The largest batch that the format can say.
const SIZE_MAX: usize = i32::MAX as usize;

/// A record to be appended; everything in it is borrowed.
///
/// ```
/// use weir::records::NewRecord;
/// let record = NewRecord::new(1_700_000_000_000).key(b"user-1").value(b"{}");
/// let tombstone = NewRecord::new(1_700_000_000_001).key(b"user-2");
/// # let _ = (record, tombstone);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct NewRecord<'a, H = Header<'a>> {
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: &'a [H],
}

impl NewRecord<'_> {
    /// A record with this timestamp, in milliseconds since 1970, and with a null key, a null value
    /// and no headers.
    #[inline]
    pub fn new(timestamp: i64) -> Self {
        Self { timestamp, key: None, value: None, headers: &[] }
    }
}

impl<'a, H> NewRecord<'a, H> {
    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value(mut self, value: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.value = Some(value.as_ref());
        self
    }

    /// Sets key and value, either of which may be null.
    #[must_use]
    #[inline]
    pub fn key_value(mut self, key: Option<&'a [u8]>, value: Option<&'a [u8]>) -> Self {
        (self.key, self.value) = (key, value);
        self
    }

    #[cfg(feature = "client")]
    pub(crate) fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Sets the headers, whose type stays.
    #[cfg(feature = "client")]
    #[inline]
    pub(crate) fn with_headers<G>(self, headers: &'a [G]) -> NewRecord<'a, G> {
        let Self { timestamp, key, value, headers: _ } = self;
        NewRecord { timestamp, key, value, headers }
    }

    /// Sets the headers: [`Header`]s, or pairs of a key and an optional value, owned or not. Keys may come
    /// twice, and their order is kept.
    ///
    /// ```
    /// # use weir::records::NewRecord;
    /// let record = NewRecord::new(0).value("v").headers(&[("trace", Some("7f")), ("empty", None)]);
    /// ```
    #[must_use]
    pub fn headers<G: AsHeader>(self, headers: &'a [G]) -> NewRecord<'a, G> {
        let Self { timestamp, key, value, headers: _ } = self;
        NewRecord { timestamp, key, value, headers }
    }
}

/// Something that can be written as a record's header.
pub trait AsHeader {
    /// The header, borrowed.
    fn as_header(&self) -> Header<'_>;
}

impl AsHeader for Header<'_> {
    fn as_header(&self) -> Header<'_> {
        *self
    }
}

impl<K: AsRef<[u8]>, V: AsRef<[u8]>> AsHeader for (K, Option<V>) {
    fn as_header(&self) -> Header<'_> {
        Header { key: self.0.as_ref(), value: self.1.as_ref().map(AsRef::as_ref) }
    }
}

/// Builds one batch after another.
///
/// ```
/// use weir::records::{BatchBuilder, NewRecord, Stamp};
/// let mut builder = BatchBuilder::new();
/// builder.append(&NewRecord::new(1_700_000_000_000).value(b"hello"))?;
/// let batch = builder.seal(&Stamp::default(), None)?;
/// assert_eq!(batch[16], 2, "the message format");
/// # Ok::<(), weir::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct BatchBuilder {
    /// Empty, or the header's space and the records behind it.
    pub(super) buf: Vec<u8>,
    pub(super) count: i32,
    pub(super) next_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    pub(super) delete_horizon: bool,
}

/// The numbers of a record that is about to be written.
struct Plan {
    /// What the record's length field says.
    body: usize,
    /// All bytes, the length field's too.
    total: usize,
    timestamp_delta: i64,
    offset_delta: i32,
}

impl BatchBuilder {
    /// A builder without a buffer.
    pub fn new() -> Self {
        Self::default()
    }

    /// A builder with a buffer of so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buf: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// The bytes that the batch has so far, uncompressed, with its header.
    #[inline]
    pub fn size(&self) -> usize {
        self.buf.len().max(HEADER_SIZE)
    }

    /// The records in the batch so far.
    #[inline]
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Whether there are no records in the batch yet.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// By how many bytes `record` would make the batch larger: exact.
    pub fn size_of<H: AsHeader>(&self, record: &NewRecord<'_, H>) -> usize {
        self.plan(record, self.next_offset_delta).total
    }

    /// Appends a record. Gives its place in the batch, from 0. Fails, and changes nothing, if the
    /// format cannot carry it: a batch has at most 2 GiB and 2^31 records. The error is then
    /// [invalid](crate::Error::is_invalid).
    #[inline]
    pub fn append<H: AsHeader>(&mut self, record: &NewRecord<'_, H>) -> Result<i32> {
        match self.append_within(record, SIZE_MAX)? {
            Some(delta) => Ok(delta),
            None => Err(too_large()),
        }
    }

    /// Appends a record unless the batch, uncompressed, would be larger than `size_max` bytes then:
    /// `None`, and nothing has changed.
    #[inline]
    pub fn append_within<H: AsHeader>(
        &mut self,
        record: &NewRecord<'_, H>,
        size_max: usize,
    ) -> Result<Option<i32>> {
        self.append_at(self.next_offset_delta, record, size_max)
    }

    /// Appends a record that a batch has been read from, at a given place: with gaps, as a compacted
    /// log has them. The place must be behind the last record's.
    pub fn append_copy(&mut self, offset_delta: i32, record: &Record<'_>) -> Result<()> {
        if offset_delta < self.next_offset_delta {
            let what = format!("record {offset_delta} of a batch, where {} is next", self.next_offset_delta);
            return Err(Error::invalid(what));
        }
        let headers: Vec<_> = record.headers().collect();
        let copy = NewRecord::new(record.timestamp()).key_value(record.key(), record.value());
        match self.append_at(offset_delta, &copy.headers(&headers), SIZE_MAX)? {
            Some(_) => Ok(()),
            None => Err(too_large()),
        }
    }

    /// Makes this a batch whose tombstones may go from this time on, in milliseconds since 1970 (KIP-534).
    /// A broker's to set, before the first record.
    pub fn set_delete_horizon(&mut self, timestamp: i64) -> Result<()> {
        if self.count != 0 {
            return Err(Error::invalid("a delete horizon has to be set before the first record"));
        }
        (self.delete_horizon, self.base_timestamp) = (true, timestamp);
        Ok(())
    }

    #[inline]
    fn append_at<H: AsHeader>(
        &mut self,
        offset_delta: i32,
        record: &NewRecord<'_, H>,
        size_max: usize,
    ) -> Result<Option<i32>> {
        let plan = self.plan(record, offset_delta);
        if plan.total > size_max.min(SIZE_MAX).saturating_sub(self.size()) {
            return Ok(None);
        }
        if self.count == 0 {
            self.begin(record.timestamp, plan.total);
        }
        // Java refuses negative timestamps too, and adds a delta to the base without a check.
        if offset_delta == i32::MAX
            || record.timestamp < NO_TIMESTAMP
            || self.base_timestamp.checked_add(plan.timestamp_delta).is_none()
        {
            return Err(cannot_carry());
        }
        self.write(record, &plan);
        self.count += 1;
        self.next_offset_delta = offset_delta + 1;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        Ok(Some(offset_delta))
    }

    /// Before the first record, which takes `first` bytes: the space for the header, and the time to count
    /// from.
    #[cold]
    pub(super) fn begin(&mut self, timestamp: i64, first: usize) {
        self.buf.clear();
        self.buf.reserve(HEADER_SIZE + first);
        self.buf.resize(HEADER_SIZE, 0);
        if !self.delete_horizon {
            self.base_timestamp = timestamp;
        }
        self.max_timestamp = NO_TIMESTAMP;
    }

    #[inline]
    fn plan<H: AsHeader>(&self, record: &NewRecord<'_, H>, offset_delta: i32) -> Plan {
        let base =
            if self.count == 0 && !self.delete_horizon { record.timestamp } else { self.base_timestamp };
        let timestamp_delta = record.timestamp.wrapping_sub(base);
        let mut body = 1
            + len_of(timestamp_delta)
            + len_of(i64::from(offset_delta))
            + nullable_len(record.key)
            + nullable_len(record.value)
            + varint::len_i32(record.headers.len() as i32);
        for header in record.headers {
            let header = header.as_header();
            body = body
                .saturating_add(nullable_len(Some(header.key)))
                .saturating_add(nullable_len(header.value));
        }
        let total = body.saturating_add(len_of(body as i64));
        Plan { body, total, timestamp_delta, offset_delta }
    }

    #[inline]
    fn write<H: AsHeader>(&mut self, record: &NewRecord<'_, H>, plan: &Plan) {
        self.buf.reserve(plan.total);
        self.write_head(plan, record.key.map_or(-1, |key| key.len() as i64));
        if let Some(key) = record.key {
            self.buf.extend_from_slice(key);
        }
        varint::write_i32(&mut self.buf, record.value.map_or(-1, |value| value.len() as i32));
        if let Some(value) = record.value {
            self.buf.extend_from_slice(value);
        }
        varint::write_i32(&mut self.buf, record.headers.len() as i32);
        for header in record.headers {
            let header = header.as_header();
            varint::write_i32(&mut self.buf, header.key.len() as i32);
            self.buf.extend_from_slice(header.key);
            varint::write_i32(&mut self.buf, header.value.map_or(-1, |value| value.len() as i32));
            self.buf.extend_from_slice(header.value.unwrap_or_default());
        }
    }

    /// Writes the five fields in front of the key. In an ordinary record they take eight bytes at
    /// most: those are put together in a register and stored at once. There is room for eight in every
    /// record but the smallest.
    #[inline]
    fn write_head(&mut self, plan: &Plan, key_len: i64) {
        let body = varint::zigzag64(plan.body as i64);
        let timestamp = varint::zigzag64(plan.timestamp_delta);
        let offset = varint::zigzag64(i64::from(plan.offset_delta));
        let key = varint::zigzag64(key_len);
        if (body | timestamp | offset) < 0x4000 && key < 0x80 && plan.total >= size_of::<u64>() {
            let mut head = Head::default();
            head.put(body);
            head.put(0);
            head.put(timestamp);
            head.put(offset);
            head.put(key);
            let end = self.buf.len() + head.len;
            self.buf.extend_from_slice(&head.bits.to_le_bytes());
            self.buf.truncate(end);
        } else {
            for n in [plan.body as i64, 0, plan.timestamp_delta, i64::from(plan.offset_delta), key_len] {
                // Whether a varint is one of 32 bits or of 64 makes no difference to the bytes.
                varint::write_i64(&mut self.buf, n);
            }
        }
    }

    /// Finishes the batch: compresses it if a compressor is given, writes the header with its
    /// checksum, and gives the bytes. The builder is empty after that. A batch without records is
    /// written too; it is what compaction leaves. It has no codec, whatever is asked for: Java fails on
    /// nothing that says it is compressed.
    pub fn seal(&mut self, stamp: &Stamp, compressor: Option<&mut Compressor>) -> Result<Bytes> {
        if self.count == 0 {
            let timestamp = if self.delete_horizon { self.base_timestamp } else { NO_TIMESTAMP };
            self.begin(timestamp, 0);
        }
        self.check_last_offset(stamp)?;
        let compressor =
            compressor.filter(|codec| self.count != 0 && codec.compression() != Compression::None);
        let compression = compressor.as_ref().map_or(Compression::None, |codec| codec.compression());
        let mut batch = match compressor {
            Some(compressor) => {
                let mut out = Vec::with_capacity(HEADER_SIZE + self.buf.len() / 2);
                out.resize(HEADER_SIZE, 0);
                compressor.compress(self.buf.get(HEADER_SIZE..).unwrap_or_default(), &mut out)?;
                out
            }
            None => std::mem::take(&mut self.buf),
        };
        if batch.len() > SIZE_MAX {
            return Err(too_large());
        }
        self.summary(compression).write(&mut batch, stamp);
        let crc = crc32c(batch.get(CHECKED_FROM..).unwrap_or_default());
        write_crc(&mut batch, crc);
        self.clear();
        Ok(Bytes::from(batch))
    }

    fn check_last_offset(&self, stamp: &Stamp) -> Result<()> {
        if stamp.last_offset_delta.is_some_and(|delta| delta < self.last_offset_delta()) {
            return Err(Error::invalid("a last offset delta that is before the last record's"));
        }
        Ok(())
    }

    /// The place of the last record.
    fn last_offset_delta(&self) -> i32 {
        (self.next_offset_delta - 1).max(0)
    }

    /// What the header will say of the records.
    pub(super) fn summary(&self, compression: Compression) -> Summary {
        Summary {
            count: self.count,
            last_offset_delta: self.last_offset_delta(),
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            delete_horizon: self.delete_horizon,
            compression,
        }
    }

    /// Drops the records, keeps the buffer.
    pub fn clear(&mut self) {
        let mut buf = std::mem::take(&mut self.buf);
        buf.clear();
        *self = Self { buf, ..Self::default() };
    }

    /// Takes back the buffer of a sealed batch that is done with, unless the builder has one that is
    /// as large, or parts of it are still held elsewhere.
    pub fn recycle(&mut self, batch: Bytes) {
        if self.count == 0
            && batch.len() > self.buf.capacity()
            && let Some(buf) = reclaim(batch)
        {
            self.buf = buf;
        }
    }
}

/// Up to eight bytes, the first of them lowest.
#[derive(Default)]
struct Head {
    bits: u64,
    len: usize,
}

impl Head {
    /// Adds a varint of one or two bytes.
    #[inline]
    fn put(&mut self, n: u64) {
        let long = n >= 0x80;
        let bytes = if long { n & 0x7f | 0x80 | n >> 7 << 8 } else { n };
        self.bits |= bytes << (8 * self.len);
        self.len += 1 + usize::from(long);
    }
}

/// The bytes that a zigzag varint takes.
#[inline]
fn len_of(n: i64) -> usize {
    match varint::zigzag64(n) {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => varint::len_i64(n),
    }
}

/// The bytes that a key or value takes with its length.
#[inline]
fn nullable_len(bytes: Option<&[u8]>) -> usize {
    match bytes {
        None => 1,
        Some(bytes) => bytes.len().saturating_add(len_of(bytes.len() as i64)),
    }
}

#[cold]
fn too_large() -> Error {
    Error::invalid("a batch of more than 2 GiB")
}

#[cold]
fn cannot_carry() -> Error {
    Error::invalid("a record whose timestamp is negative, or too far from the batch's first")
}
