//! A batch whose records are final and whose header is not: what a producer holds until it is acknowledged.
//!
//! [`BatchBuilder::close`] does all that costs by the byte, compression and the checksum of the records,
//! wherever and whenever there is time for it. [`Closed::stamp_as`] then fills in the header, as often as the
//! producer's id, epoch or sequence changes, at a cost that does not depend on the size.
//!
//! A batch that has been given out is never written to again: as long as anybody holds the bytes, a new
//! stamp goes on a copy.

use std::fmt;

use bytes::Bytes;

use super::NO_TIMESTAMP;
use super::batch::{CHECKED_FROM, HEADER_SIZE, crc32c};
use super::builder::{BatchBuilder, NewRecord};
use super::compression::{Compression, Compressor, Decompressor, Lz4Checksum, reclaim};
use super::crc::Shift;
use super::header::{Stamp, Summary, write_crc};
use super::iter::{Layout, Records};
use crate::Result;

/// A batch that takes no more records. See the module.
pub(crate) struct Closed {
    buffer: Buffer,
    summary: Summary,
    plain_size: usize,
    /// The checksum of all that is behind the header, and what it takes to put one of the header in front.
    crc: u32,
    shift: Shift,
}

/// The header's space and the records, as they go out.
enum Buffer {
    /// Not stamped yet.
    Own(Vec<u8>),
    /// Given out, and the size of the memory behind it.
    Shared(Bytes, usize),
}

impl BatchBuilder {
    /// An empty builder that fills the memory of `buffer`; what is in there is dropped.
    pub(crate) fn from_buffer(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { buf: buffer, ..Self::default() }
    }

    /// The bytes of memory that the batch has. As long as [`size`](Self::size) and
    /// [`size_of`](Self::size_of) a record are together no more than that, appending it allocates nothing;
    /// [`append_within`](Self::append_within) the capacity is both in one.
    pub(crate) fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Goes on in the memory of `larger`, and gives back what it had, empty.
    pub(crate) fn grow_into(&mut self, mut larger: Vec<u8>) -> Vec<u8> {
        larger.clear();
        larger.extend_from_slice(&self.buf);
        let mut former = std::mem::replace(&mut self.buf, larger);
        former.clear();
        former
    }

    /// Ends the batch: compresses it if that makes it smaller, and computes the checksum of the records. The
    /// builder is empty after that, without a buffer. If it fails, nothing has changed.
    ///
    /// `scratch` is where the compressor writes; what is in there is dropped. Memory that is no larger than
    /// the batch's becomes the batch's, and `scratch` gets that in its place; otherwise what was compressed
    /// is copied over the plain records. Either way the batch does not take more memory than it had.
    pub(crate) fn close(
        &mut self,
        compressor: Option<&mut Compressor>,
        scratch: &mut Vec<u8>,
    ) -> Result<Closed> {
        if self.count == 0 {
            let timestamp = if self.delete_horizon { self.base_timestamp } else { NO_TIMESTAMP };
            self.begin(timestamp, 0);
        }
        let plain_size = self.buf.len();
        let mut compression = Compression::None;
        if let Some(compressor) =
            compressor.filter(|codec| self.count != 0 && codec.compression() != Compression::None)
        {
            scratch.clear();
            scratch.resize(HEADER_SIZE, 0);
            compressor.compress(payload(&self.buf), scratch)?;
            if scratch.len() < plain_size {
                compression = compressor.compression();
                self.take_over(scratch);
            }
        }
        let summary = self.summary(compression);
        let buffer = std::mem::take(&mut self.buf);
        self.clear();
        let payload = payload(&buffer);
        let (crc, shift) = (crc32c(payload), Shift::by(payload.len()));
        Ok(Closed { buffer: Buffer::Own(buffer), summary, plain_size, crc, shift })
    }

    /// Replaces the plain records by the compressed ones.
    fn take_over(&mut self, scratch: &mut Vec<u8>) {
        if scratch.capacity() <= self.buf.capacity() {
            std::mem::swap(&mut self.buf, scratch);
        } else {
            self.buf.clear();
            self.buf.extend_from_slice(scratch);
        }
    }
}

impl Closed {
    /// The records in the batch.
    pub(crate) fn count(&self) -> usize {
        self.summary.count as usize
    }

    /// The bytes that go out, with the header.
    pub(crate) fn size(&self) -> usize {
        self.bytes().len()
    }

    /// The bytes that would go out without compression, with the header.
    pub(crate) fn plain_size(&self) -> usize {
        self.plain_size
    }

    /// The codec; none, if the one that was asked for made nothing smaller.
    pub(crate) fn compression(&self) -> Compression {
        self.summary.compression
    }

    /// The greatest timestamp of the records, in milliseconds since 1970.
    pub(crate) fn max_timestamp(&self) -> i64 {
        self.summary.max_timestamp
    }

    /// The bytes of memory behind the batch.
    pub(crate) fn capacity(&self) -> usize {
        match &self.buffer {
            Buffer::Own(buffer) => buffer.capacity(),
            Buffer::Shared(_, capacity) => *capacity,
        }
    }

    /// Writes the header, and gives the bytes, which share the batch's memory. If bytes that were given out
    /// earlier are still held, the batch moves to memory of its own size first, and those stay as they are.
    ///
    /// A last offset delta in the stamp that is before the last record's does not count.
    #[cfg(test)]
    pub(crate) fn stamp(&mut self, stamp: &Stamp) -> Bytes {
        self.stamp_as(stamp, Bytes::from)
    }

    /// As `stamp`, with the memory shared in the caller's way.
    pub(crate) fn stamp_as(&mut self, stamp: &Stamp, share: impl FnOnce(Vec<u8>) -> Bytes) -> Bytes {
        let mut buffer = self.take_buffer();
        self.summary.write(&mut buffer, stamp);
        let header = crc32c(buffer.get(CHECKED_FROM..HEADER_SIZE).unwrap_or_default());
        write_crc(&mut buffer, self.shift.join(header, self.crc));
        let capacity = buffer.capacity();
        let bytes = share(buffer);
        self.buffer = Buffer::Shared(bytes.clone(), capacity);
        bytes
    }

    /// The memory, empty, if nobody else holds a part of it.
    pub(crate) fn into_buffer(self) -> Option<Vec<u8>> {
        match self.buffer {
            Buffer::Own(mut buffer) => {
                buffer.clear();
                Some(buffer)
            }
            Buffer::Shared(bytes, _) => reclaim(bytes),
        }
    }

    /// Takes the batch apart, for a broker that finds it too large: into batches of at most half the records
    /// and, where a record alone is not larger, of at most `size_max` bytes uncompressed. Each comes with
    /// the place that its first record has in this one. One record cannot be taken apart and comes back as
    /// one batch. The pieces have as much memory as they have bytes.
    ///
    /// Fails if the batch decompresses to more than the decompressor allows.
    pub(crate) fn split(
        &self,
        decompressor: &mut Decompressor,
        size_max: usize,
    ) -> Result<Vec<(usize, BatchBuilder)>> {
        let records = self.records(decompressor)?;
        let count_max = self.count().div_ceil(2);
        let mut pieces = Vec::new();
        let mut piece = BatchBuilder::new();
        let mut first = 0;
        for (place, record) in records.iter().enumerate() {
            let record = record?;
            let headers: Vec<_> = record.headers().collect();
            let again =
                NewRecord::new(record.timestamp()).key_value(record.key(), record.value()).headers(&headers);
            // Timestamps that are too far from another first one do not fit either, as a size may not.
            let fits =
                piece.count() < count_max && matches!(piece.append_within(&again, size_max), Ok(Some(_)));
            if !fits {
                if !piece.is_empty() {
                    piece.buf.shrink_to_fit();
                    pieces.push((first, std::mem::take(&mut piece)));
                    first = place;
                }
                piece.append(&again)?;
            }
        }
        piece.buf.shrink_to_fit();
        pieces.push((first, piece));
        decompressor.recycle(records.into_bytes());
        Ok(pieces)
    }

    /// The records, plain.
    fn records(&self, decompressor: &mut Decompressor) -> Result<Records> {
        let data = match (&self.buffer, self.summary.compression) {
            (Buffer::Shared(bytes, _), Compression::None) => bytes.slice(HEADER_SIZE..),
            (_, codec) => {
                decompressor.decompress_to_bytes(codec, payload(self.bytes()), Lz4Checksum::Right)?
            }
        };
        let base_timestamp = self.summary.base_timestamp;
        let layout = Layout::V2 { base_offset: 0, base_timestamp, log_append_time: None };
        Ok(Records { data, count: self.summary.count as u32, layout })
    }

    fn bytes(&self) -> &[u8] {
        match &self.buffer {
            Buffer::Own(buffer) => buffer,
            Buffer::Shared(bytes, _) => bytes,
        }
    }

    /// The bytes in memory that nobody else can see.
    fn take_buffer(&mut self) -> Vec<u8> {
        match std::mem::replace(&mut self.buffer, Buffer::Own(Vec::new())) {
            Buffer::Own(buffer) => buffer,
            Buffer::Shared(bytes, _) => match bytes.try_into_mut() {
                Ok(bytes) => Vec::from(bytes),
                Err(held) => held.to_vec(),
            },
        }
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closed")
            .field("summary", &self.summary)
            .field("size", &self.size())
            .field("plain_size", &self.plain_size)
            .finish_non_exhaustive()
    }
}

/// What is behind the header.
fn payload(batch: &[u8]) -> &[u8] {
    batch.get(HEADER_SIZE..).unwrap_or_default()
}
