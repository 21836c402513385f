//! The records of one batch: the bytes, decompressed, and the walk over them.
//!
//! [`RecordBatch::records`](super::RecordBatch::records) makes a [`Records`]; iterating over it gives
//! each [`Record`] or one error, after which there is nothing more. Every claim in the bytes is
//! checked on the way: what a record says of its length, its parts and its place, and that after the
//! last one nothing is left.

use std::fmt;

use bytes::Bytes;

use super::legacy;
use super::record::{Broken, Headers, Record, read_nullable, read_varint, read_varlong};
use crate::Error;

/// A record takes seven bytes at least: one each for its length, attributes, two deltas, two lengths
/// and the number of headers.
pub(super) const RECORD_SIZE_MIN: usize = 7;

/// The decompressed records of one batch.
#[derive(Clone)]
pub struct Records {
    pub(super) data: Bytes,
    pub(super) count: u32,
    pub(super) layout: Layout,
}

/// How the bytes are to be read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layout {
    V2 {
        base_offset: i64,
        base_timestamp: i64,
        /// The time that goes for all records, if the broker set it.
        log_append_time: Option<i64>,
    },
    Legacy(legacy::Layout),
}

impl Records {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none: compaction may leave a batch that way.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes of all records, decompressed: what this takes of a memory budget.
    pub fn byte_len(&self) -> usize {
        self.data.len()
    }

    /// Walks over the records.
    #[inline]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            data: &self.data,
            rest: &self.data,
            left: self.count,
            last_delta: 0,
            done: false,
            layout: self.layout,
        }
    }

    /// The memory of the records, for [`Decompressor::recycle`](super::Decompressor::recycle).
    pub fn into_bytes(self) -> Bytes {
        self.data
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { data, count, layout } = self;
        f.debug_struct("Records")
            .field("bytes", &data.len())
            .field("count", count)
            .field("layout", layout)
            .finish()
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, Error>;
    type IntoIter = RecordIter<'a>;

    #[inline]
    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Walks over the records of a batch; ends after the first error.
#[derive(Clone)]
pub struct RecordIter<'a> {
    data: &'a Bytes,
    rest: &'a [u8],
    left: u32,
    /// The offset of the record before, from the base; starts at the least that there is.
    last_delta: i32,
    done: bool,
    layout: Layout,
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, Error>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return self.end();
        }
        let before = self.rest;
        let record = match self.layout {
            Layout::V2 { base_offset, base_timestamp, log_append_time } => {
                self.v2(base_offset, base_timestamp, log_append_time)
            }
            Layout::Legacy(layout) => layout.record(self.rest, self.data).map(|(record, rest)| {
                self.rest = rest;
                record
            }),
        };
        match record {
            Ok(record) => {
                self.left -= 1;
                Some(Ok(record))
            }
            Err(what) => {
                self.stop();
                Some(Err(broken(self.layout, what, self.data.len() - before.len())))
            }
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more may come: the error for bytes behind the last record.
        let left = self.left as usize;
        if self.done { (0, Some(0)) } else { (left.min(1), Some(left + 1)) }
    }
}

impl std::iter::FusedIterator for RecordIter<'_> {}

impl<'a> RecordIter<'a> {
    #[inline]
    fn v2(
        &mut self,
        base_offset: i64,
        base_timestamp: i64,
        log_append_time: Option<i64>,
    ) -> Result<Record<'a>, Broken> {
        let len = read_varint(&mut self.rest)?;
        if len < 0 {
            return Err("its length is negative");
        }
        let (mut body, rest) =
            self.rest.split_at_checked(len as usize).ok_or("its length is over the rest")?;
        // Bits of this byte have no meaning so far, and Java looks at none of them.
        body = body.split_first().ok_or("it is empty")?.1;
        let timestamp_delta = read_varlong(&mut body)?;
        let delta = read_varint(&mut body)?;
        // Old clients numbered all records 0, or left the batch's last offset at its first, and
        // brokers of that time stored it: an offset may come twice, and lie behind that last one.
        if delta < self.last_delta {
            return Err("its offset is below the one before, or below the first of the batch");
        }
        let offset = base_offset.checked_add(i64::from(delta)).ok_or("its offset overflows")?;
        let key = read_nullable(&mut body)?;
        let value = read_nullable(&mut body)?;
        let headers = if let [0] = body {
            Headers::default()
        } else {
            let count = read_varint(&mut body)?;
            Headers::check(body, count)?
        };
        let created = base_timestamp.checked_add(timestamp_delta).ok_or("its timestamp overflows")?;
        self.last_delta = delta;
        self.rest = rest;
        Ok(Record {
            data: self.data,
            offset,
            timestamp: log_append_time.unwrap_or(created),
            key,
            value,
            headers,
        })
    }

    /// After the last record: nothing may be left.
    #[inline]
    fn end(&mut self) -> Option<Result<Record<'a>, Error>> {
        if self.done || self.rest.is_empty() {
            self.done = true;
            return None;
        }
        let at = self.data.len() - self.rest.len();
        self.stop();
        Some(Err(broken(self.layout, "bytes are left over behind the last record", at)))
    }

    #[inline]
    fn stop(&mut self) {
        self.done = true;
        self.left = 0;
        self.rest = &[];
    }
}

/// The error for a record. Takes nothing by reference, which would keep the iterator out of
/// registers.
#[cold]
fn broken(layout: Layout, what: Broken, at: usize) -> Error {
    let base = match layout {
        Layout::V2 { base_offset, .. } => base_offset,
        Layout::Legacy(layout) => layout.wrapper_offset,
    };
    Error::corrupt(format!("a record of the batch at offset {base}: {what}")).at(at)
}

impl fmt::Debug for RecordIter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordIter").field("left", &self.left).field("layout", &self.layout).finish()
    }
}
