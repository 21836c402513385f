//! Record batches as they come in a fetch response: format 2, and what older formats have instead.
//!
//! [`Batches`] cuts a run of bytes into [`RecordBatch`]es. A broker cuts the last batch anywhere, so
//! a rest that is no whole batch is no error; it is reported by [`Batches::partial`]. Everything else
//! that is wrong is an error, after which there are no more batches and [`Batches::position`] still
//! stands in front of the broken one. Nothing is ever skipped.

use std::fmt;

use bytes::Bytes;

use super::compression::{Compression, Decompressor, Lz4Checksum};
use super::iter::{Layout, RECORD_SIZE_MIN, Records};
use super::{TimestampType, legacy};
use crate::{Error, Result};

/// Offset and length, in front of each batch.
pub(super) const LOG_OVERHEAD: usize = legacy::LOG_OVERHEAD;
/// The whole header of format 2.
pub(super) const HEADER_SIZE: usize = 61;
/// The checksum of format 2 covers what is behind it.
pub(super) const CHECKED_FROM: usize = 21;

/// The bits of a batch's attributes.
pub(super) mod attribute {
    pub(in crate::records) const COMPRESSION: i16 = 0x07;
    pub(in crate::records) const LOG_APPEND_TIME: i16 = 0x08;
    pub(in crate::records) const TRANSACTIONAL: i16 = 0x10;
    pub(in crate::records) const CONTROL: i16 = 0x20;
    pub(in crate::records) const DELETE_HORIZON: i16 = 0x40;
    // Nobody has said what the other bits mean. They are kept and not looked at, where one might have
    // refused them as unknown: the delete horizon (KIP-534) came without a new message format, and so
    // may the next, to logs that the clients of today go on reading. Java ignores them too.
}

/// Cuts the bytes of a fetch response's partition into batches.
///
/// A broker cuts a response where it is full, so a last batch whose end is missing is no error: the
/// iterator ends before it, and [`partial`](Self::partial) tells of it. Whoever reads a file, which should
/// be whole, asks there.
#[derive(Debug, Clone)]
pub struct Batches {
    bytes: Bytes,
    position: usize,
    check_crcs: bool,
    failed: bool,
}

/// The beginning of a batch whose end is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Partial {
    /// The bytes that are there.
    pub held: usize,
    /// The bytes that the whole batch says it has, if so much can be read. A claim, no more.
    pub claimed: Option<usize>,
}

impl Batches {
    /// Over concatenated batches, with their checksums checked.
    pub fn new(bytes: Bytes) -> Self {
        Self { bytes, position: 0, check_crcs: true, failed: false }
    }

    /// Sets whether batches' checksums are checked (yes): Kafka's `check.crcs`.
    #[must_use]
    pub fn check_crcs(mut self, check: bool) -> Self {
        self.check_crcs = check;
        self
    }

    /// How many bytes have been made into batches.
    pub fn position(&self) -> usize {
        self.position
    }

    /// The rest that is no whole batch, once all whole ones have been taken. `None` before that,
    /// after an error, and if nothing is left.
    pub fn partial(&self) -> Option<Partial> {
        let rest = self.rest();
        if rest.is_empty() || self.failed {
            return None;
        }
        match whole_len(rest) {
            Ok(Whole::No { claimed }) => Some(Partial { held: rest.len(), claimed }),
            _ => None,
        }
    }

    /// Copies what is left into memory of its own.
    #[cfg(feature = "client")]
    pub(crate) fn detach(&mut self) {
        self.bytes = Bytes::copy_from_slice(self.rest());
        self.position = 0;
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let batch = match whole_len(self.rest()) {
            Ok(Whole::No { .. }) => return None,
            Ok(Whole::Yes(len)) => {
                let end = self.position + len;
                let batch = parse_one(self.bytes.slice(self.position..end), self.check_crcs);
                if batch.is_ok() {
                    self.position = end;
                }
                batch
            }
            Err(error) => Err(error),
        };
        self.failed = batch.is_err();
        Some(batch)
    }
}

impl std::iter::FusedIterator for Batches {}

enum Whole {
    Yes(usize),
    No { claimed: Option<usize> },
}

/// How long the first batch is, if all of it is there.
fn whole_len(bytes: &[u8]) -> Result<Whole> {
    let Some(length) = bytes.get(8..LOG_OVERHEAD).and_then(<[u8]>::first_chunk) else {
        return Ok(Whole::No { claimed: None });
    };
    let length = i32::from_be_bytes(*length);
    let len = usize::try_from(length)
        .ok()
        .filter(|length| *length >= legacy::SIZE_MIN)
        .and_then(|length| length.checked_add(LOG_OVERHEAD))
        .ok_or_else(|| Error::corrupt(format!("batch length {length}")).at(8))?;
    Ok(if len <= bytes.len() { Whole::Yes(len) } else { Whole::No { claimed: Some(len) } })
}

/// A batch that is all of `bytes`, whose length has been checked.
fn parse_one(bytes: Bytes, check_crc: bool) -> Result<RecordBatch> {
    let batch = match bytes.get(16).map(|magic| *magic as i8) {
        Some(2) => parse_v2(bytes)?,
        Some(0 | 1) => legacy::parse(bytes)?,
        Some(magic @ 3..) => return Err(Error::unsupported(format!("message format {magic}")).at(16)),
        magic => return Err(Error::corrupt(format!("message format {}", magic.unwrap_or(-1))).at(16)),
    };
    if check_crc {
        batch.check_crc()?;
    }
    Ok(batch)
}

/// One batch: its header, and its records still compressed. Holds a share of the bytes it was cut
/// from.
///
/// A message of format 0 or 1 is a batch too, with the fields that it has not set to what Java gives
/// for them (-1, mostly).
#[derive(Clone)]
pub struct RecordBatch {
    bytes: Bytes,
    magic: i8,
    base_offset: i64,
    partition_leader_epoch: i32,
    attributes: i16,
    compression: Compression,
    timestamp_type: TimestampType,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    count: u32,
}

impl RecordBatch {
    /// The one batch that is all of `bytes`. Its checksum is checked. The error is
    /// [corrupt](crate::Error::is_corrupt) if the bytes are no batch, and
    /// [unsupported](crate::Error::is_unsupported) if the format or the codec is not known.
    pub fn parse(bytes: Bytes) -> Result<Self> {
        match whole_len(&bytes)? {
            Whole::Yes(len) if len == bytes.len() => parse_one(bytes, true),
            Whole::Yes(len) => Err(Error::corrupt("bytes behind the batch").at(len)),
            Whole::No { .. } => Err(Error::corrupt("batch cut short").at(bytes.len())),
        }
    }

    /// The records, decompressed if need be. [`Decompressor`] says how much is too much.
    pub fn records(&self, decompressor: &mut Decompressor) -> Result<Records> {
        let records = match self.magic {
            2 => self.records_v2(decompressor),
            _ => legacy::records(self, decompressor),
        };
        records.map_err(|error| error.within(format_args!("the batch at offset {}", self.base_offset)))
    }

    fn records_v2(&self, decompressor: &mut Decompressor) -> Result<Records> {
        let payload = self.bytes.slice(HEADER_SIZE..);
        // An emptied batch may keep its codec and have nothing to decompress.
        let data = if self.compression == Compression::None || (self.count == 0 && payload.is_empty()) {
            payload
        } else {
            decompressor.decompress_to_bytes(self.compression, &payload, Lz4Checksum::Right)?
        };
        check_count(self.count, data.len())?;
        let log_append_time =
            (self.timestamp_type == TimestampType::LogAppendTime).then_some(self.max_timestamp);
        let layout = Layout::V2 {
            base_offset: self.base_offset,
            base_timestamp: self.base_timestamp,
            log_append_time,
        };
        Ok(Records { data, count: self.count, layout })
    }

    /// Checks the checksum: CRC-32C in format 2, CRC-32 before.
    pub fn check_crc(&self) -> Result<()> {
        let (carried, found) = match self.magic {
            2 => {
                let carried = self.bytes.get(17..).and_then(<[u8]>::first_chunk);
                let bytes = self.bytes.get(CHECKED_FROM..).unwrap_or_default();
                (carried.map_or(0, |bytes| u32::from_be_bytes(*bytes)), crc32c(bytes))
            }
            _ => legacy::checksums(&self.bytes),
        };
        if carried == found {
            return Ok(());
        }
        let base = self.base_offset;
        let what =
            format!("the batch at offset {base} has checksum {found:08x}, not {carried:08x} as it says");
        Err(Error::corrupt(what).at(17))
    }

    /// A message of format 0 or 1.
    pub(super) fn from_message(
        bytes: Bytes,
        magic: i8,
        offset: i64,
        timestamp: i64,
        timestamp_type: TimestampType,
        compression: Compression,
        attributes: u8,
    ) -> Self {
        Self {
            bytes,
            magic,
            base_offset: offset,
            partition_leader_epoch: -1,
            attributes: i16::from(attributes),
            compression,
            timestamp_type,
            last_offset_delta: 0,
            base_timestamp: timestamp,
            max_timestamp: timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: u32::from(compression == Compression::None),
        }
    }

    /// All bytes of the batch, header included.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The message format: 2, or 0 or 1 from an old log.
    pub fn magic(&self) -> i8 {
        self.magic
    }

    /// The offset that the first record has, or had before compaction took it. Of a compressed
    /// message of format 0 or 1: the offset of its last record, since the first is not known before
    /// decompression.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// The offset that the header gives the last record, or gave it before compaction took it. Batches
    /// of some old clients have records behind it.
    pub fn last_offset(&self) -> i64 {
        // Both sums were found to fit when the batch was parsed.
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// Where to read on, as the header has it: right even if the batch is empty or has lost its last
    /// records.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// The epoch of the leader that appended the batch, set by the broker; -1 if not known.
    pub fn partition_leader_epoch(&self) -> i32 {
        self.partition_leader_epoch
    }

    /// The attributes as the header has them, with the bits that have no meaning so far. In formats 0
    /// and 1 they are eight, which do not all mean the same.
    pub fn attributes(&self) -> i16 {
        self.attributes
    }

    /// Whether a bit is set that only format 2 has.
    fn has(&self, bit: i16) -> bool {
        self.magic == 2 && self.attributes & bit != 0
    }

    /// The codec of the records.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        self.timestamp_type
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.has(attribute::TRANSACTIONAL)
    }

    /// Whether the records are control records, which are not for the application. See
    /// [`ControlType`](super::ControlType).
    pub fn is_control(&self) -> bool {
        self.has(attribute::CONTROL)
    }

    /// The time from which compaction may remove the tombstones in here, in milliseconds since 1970, if it
    /// has been set (KIP-534).
    pub fn delete_horizon(&self) -> Option<i64> {
        self.has(attribute::DELETE_HORIZON).then_some(self.base_timestamp)
    }

    /// The timestamp that the records' count from, in milliseconds since 1970: the first record's, unless
    /// there is a delete horizon.
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The largest timestamp of the records, or the time at which the broker appended them, in
    /// milliseconds since 1970.
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The producer's id if it is idempotent or transactional, else -1.
    pub fn producer_id(&self) -> i64 {
        self.producer_id
    }

    /// The producer's epoch, else -1.
    pub fn producer_epoch(&self) -> i16 {
        self.producer_epoch
    }

    /// The sequence number of the first record, else -1.
    pub fn base_sequence(&self) -> i32 {
        self.base_sequence
    }

    /// How many records there are. `None` for a compressed message of format 0 or 1, which does not
    /// say.
    pub fn count(&self) -> Option<usize> {
        let known = self.magic == 2 || self.compression == Compression::None;
        known.then_some(self.count as usize)
    }
}

impl fmt::Debug for RecordBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordBatch")
            .field("magic", &self.magic)
            .field("offsets", &(self.base_offset..=self.last_offset()))
            .field("count", &self.count())
            .field("size", &self.bytes.len())
            .field("compression", &self.compression)
            .field("timestamps", &(self.base_timestamp..=self.max_timestamp))
            .field("producer", &(self.producer_id, self.producer_epoch, self.base_sequence))
            .field("transactional", &self.is_transactional())
            .field("control", &self.is_control())
            .finish_non_exhaustive()
    }
}

/// Reads the header of format 2.
fn parse_v2(bytes: Bytes) -> Result<RecordBatch> {
    let len = bytes.len();
    let mut header: &[u8] =
        bytes.get(..HEADER_SIZE).ok_or_else(|| Error::corrupt(format!("batch of {len} bytes")).at(8))?;
    let base_offset = i64::from_be_bytes(take(&mut header));
    let _length = take::<4>(&mut header);
    let partition_leader_epoch = i32::from_be_bytes(take(&mut header));
    let _magic_and_crc = take::<5>(&mut header);
    let attributes = i16::from_be_bytes(take(&mut header));
    let last_offset_delta = i32::from_be_bytes(take(&mut header));
    let base_timestamp = i64::from_be_bytes(take(&mut header));
    let max_timestamp = i64::from_be_bytes(take(&mut header));
    let producer_id = i64::from_be_bytes(take(&mut header));
    let producer_epoch = i16::from_be_bytes(take(&mut header));
    let base_sequence = i32::from_be_bytes(take(&mut header));
    let count = i32::from_be_bytes(take(&mut header));

    let fits = base_offset.checked_add(i64::from(last_offset_delta) + 1).is_some();
    // A first offset below 0 is odd, but Java reads it, and it harms no sum.
    if last_offset_delta < 0 || !fits {
        let what = format!("batch with base offset {base_offset} and last offset delta {last_offset_delta}");
        return Err(Error::corrupt(what).at(23));
    }
    let in_batch = |error: Error| error.within(format_args!("the batch at offset {base_offset}"));
    let (compression, timestamp_type) = read_attributes(attributes).map_err(in_batch)?;
    let count = u32::try_from(count)
        .map_err(|_| in_batch(Error::corrupt(format!("it says it has {count} records")).at(57)))?;
    if compression == Compression::None {
        check_count(count, len - HEADER_SIZE).map_err(in_batch)?;
    }
    Ok(RecordBatch {
        bytes,
        magic: 2,
        base_offset,
        partition_leader_epoch,
        attributes,
        compression,
        timestamp_type,
        last_offset_delta,
        base_timestamp,
        max_timestamp,
        producer_id,
        producer_epoch,
        base_sequence,
        count,
    })
}

fn read_attributes(attributes: i16) -> Result<(Compression, TimestampType)> {
    let id = (attributes & attribute::COMPRESSION) as u8;
    let compression = Compression::from_id(id)
        .ok_or_else(|| Error::unsupported(format!("compression type {id}")).at(21))?;
    let timestamp_type = match attributes & attribute::LOG_APPEND_TIME {
        0 => TimestampType::CreateTime,
        _ => TimestampType::LogAppendTime,
    };
    Ok((compression, timestamp_type))
}

/// Refuses a number of records that cannot be in `len` bytes.
fn check_count(count: u32, len: usize) -> Result<()> {
    if count as usize <= len / RECORD_SIZE_MIN {
        return Ok(());
    }
    Err(Error::corrupt(format!("it says it has {count} records, in {len} bytes")).at(57))
}

/// The checksum of format 2.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}

/// Takes the next `N` bytes of a header that is known to be whole.
fn take<const N: usize>(header: &mut &[u8]) -> [u8; N] {
    match header.split_first_chunk() {
        Some((taken, rest)) => {
            *header = rest;
            *taken
        }
        None => [0; N],
    }
}
