//! Message formats 0 and 1, which logs from before Kafka 0.11 still hold. Read only.
//!
//! There are no batches: a message set is messages, one after the other. A compressed one wraps a
//! whole message set in its value. Here each outer message is a batch of its own, as in Java. The
//! wrapped ones are walked once when the batch is opened, because in format 1 their offsets count
//! from a base that only the last of them gives away; after that they come out one by one, as
//! ordinary [`Record`]s.
//!
//! A wrapper in a wrapper is refused, as Java refuses it. The checksums of wrapped messages are not
//! looked at: the wrapper's covers the same bytes.

use bytes::Bytes;

use super::batch::RecordBatch;
use super::compression::{Compression, Decompressor, Lz4Checksum};
use super::iter::{self, Records};
use super::record::{Broken, Headers, Record};
use super::{NO_TIMESTAMP, TimestampType};
use crate::{Error, Result};

/// Offset and size, in front of each message.
pub(super) const LOG_OVERHEAD: usize = 12;
/// Checksum, magic, attributes and two lengths.
pub(super) const SIZE_MIN: usize = 14;
/// The checksum covers what is behind it.
const CHECKED_FROM: usize = 16;

/// How wrapped messages are to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layout {
    magic: i8,
    /// Added to each message's offset.
    base: i64,
    /// The time that goes for all messages, if the broker set it.
    log_append_time: Option<i64>,
    /// The offset of the wrapper, to name it in errors.
    pub(super) wrapper_offset: i64,
}

/// A message, taken apart.
struct Message<'a> {
    offset: i64,
    magic: i8,
    attributes: u8,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl Message<'_> {
    fn compression(&self) -> u8 {
        self.attributes & 0x07
    }

    fn is_log_append_time(&self) -> bool {
        self.attributes & 0x08 != 0
    }
}

impl Layout {
    /// Reads the first message of a set as a record; gives the rest of the set with it.
    #[inline(never)]
    pub(super) fn record<'a>(
        self,
        mut set: &'a [u8],
        data: &'a Bytes,
    ) -> Result<(Record<'a>, &'a [u8]), Broken> {
        let message = read_message(&mut set)?;
        if message.magic != self.magic {
            return Err("a message is of another format than the one around it");
        }
        if message.compression() != 0 {
            return Err("a compressed message inside a compressed message");
        }
        let record = Record {
            data,
            offset: self.base.checked_add(message.offset).ok_or("its offset overflows")?,
            timestamp: self.log_append_time.unwrap_or(message.timestamp),
            key: message.key,
            value: message.value,
            headers: Headers::default(),
        };
        Ok((record, set))
    }
}

/// Takes the front message off a message set.
fn read_message<'a>(set: &mut &'a [u8]) -> Result<Message<'a>, Broken> {
    let mut rest = *set;
    let offset = i64::from_be_bytes(*take(&mut rest)?);
    let size = i32::from_be_bytes(*take(&mut rest)?);
    let size = usize::try_from(size).map_err(|_| "its size is negative")?;
    let (mut body, after) = rest.split_at_checked(size).ok_or("its size is over the rest")?;
    let [_, _, _, _, magic, attributes] = *take(&mut body)?;
    let timestamp = match magic {
        0 => NO_TIMESTAMP,
        1 => i64::from_be_bytes(*take(&mut body)?),
        _ => return Err("a message of another format in formats 0 and 1"),
    };
    let key = read_bytes(&mut body)?;
    let value = read_bytes(&mut body)?;
    if !body.is_empty() {
        return Err("bytes are left over in it");
    }
    *set = after;
    Ok(Message { offset, magic: magic as i8, attributes, timestamp, key, value })
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], Broken> {
    let (taken, after) = rest.split_first_chunk().ok_or("it is cut short")?;
    *rest = after;
    Ok(taken)
}

fn read_bytes<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Broken> {
    let len = i32::from_be_bytes(*take(rest)?);
    if len < 0 {
        return if len == -1 { Ok(None) } else { Err("a length is below -1") };
    }
    let (bytes, after) = rest.split_at_checked(len as usize).ok_or("a length is over the rest")?;
    *rest = after;
    Ok(Some(bytes))
}

/// A batch of one outer message, whose size was checked against `bytes`.
pub(super) fn parse(bytes: Bytes) -> Result<RecordBatch> {
    let message = read_message(&mut &bytes[..])
        .map_err(|what| Error::corrupt(format!("a message of format 0 or 1: {what}")))?;
    let known = if message.magic == 0 { 0x07 } else { 0x0f };
    if message.attributes & !known != 0 {
        let Message { attributes, offset, magic, .. } = message;
        let what =
            format!("attributes {attributes:#04x} of the message of format {magic} at offset {offset}");
        return Err(Error::unsupported(what).at(17));
    }
    if message.offset < 0 {
        return Err(Error::corrupt(format!("a message at offset {}", message.offset)).at(0));
    }
    let compression = match Compression::from_id(message.compression()) {
        // zstd came with format 2, and Java refuses it here too.
        None | Some(Compression::Zstd) => {
            let what = format!("codec {} in message format {}", message.compression(), message.magic);
            return Err(Error::unsupported(what).at(17));
        }
        Some(compression) => compression,
    };
    let timestamp_type = match (message.magic, message.is_log_append_time()) {
        (0, _) => TimestampType::NoTimestamp,
        (_, false) => TimestampType::CreateTime,
        (_, true) => TimestampType::LogAppendTime,
    };
    let (offset, magic, timestamp) = (message.offset, message.magic, message.timestamp);
    Ok(RecordBatch::from_message(bytes, magic, offset, timestamp, timestamp_type, compression))
}

/// The checksum that the message carries, and the one that its bytes have.
pub(super) fn checksums(message: &[u8]) -> (u32, u32) {
    let carried = message.get(LOG_OVERHEAD..).and_then(<[u8]>::first_chunk);
    let bytes = message.get(CHECKED_FROM..).unwrap_or_default();
    (carried.map_or(0, |bytes| u32::from_be_bytes(*bytes)), crc32fast::hash(bytes))
}

/// The records of the outer message that is `batch`.
pub(super) fn records(batch: &RecordBatch, decompressor: &mut Decompressor) -> Result<Records> {
    let wrapper_offset = batch.base_offset();
    let mut layout = Layout { magic: batch.magic(), base: 0, log_append_time: None, wrapper_offset };
    if batch.compression() == Compression::None {
        let data = batch.bytes().clone();
        return Ok(Records { data, count: 1, layout: iter::Layout::Legacy(layout) });
    }
    let broken =
        |what: Broken| Error::corrupt(format!("the compressed message at offset {wrapper_offset}: {what}"));
    let wrapper = read_message(&mut &batch.bytes()[..]).map_err(broken)?;
    let value = wrapper.value.ok_or_else(|| broken("its value is null"))?;
    let data = decompressor.decompress_to_bytes(batch.compression(), value, Lz4Checksum::RightOrOld)?;
    let (count, last) = walk(&data).map_err(broken)?;
    if layout.magic == 1 {
        layout.base = wrapper_offset.checked_sub(last).ok_or_else(|| broken("the offsets in it overflow"))?;
        if wrapper.is_log_append_time() {
            layout.log_append_time = Some(wrapper.timestamp);
        }
    }
    Ok(Records { data, count, layout: iter::Layout::Legacy(layout) })
}

/// Counts the messages of a set and finds the offset of the last.
fn walk(mut set: &[u8]) -> Result<(u32, i64), Broken> {
    let (mut count, mut last) = (0, -1);
    while !set.is_empty() {
        let offset = read_message(&mut set)?.offset;
        if offset <= last {
            return Err("the offsets in it do not grow");
        }
        last = offset;
        count += 1;
    }
    if count == 0 { Err("there is nothing in it") } else { Ok((count, last)) }
}
