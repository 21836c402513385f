//! Message formats 0 and 1, which logs from before Kafka 0.11 still hold. Read only.
//!
//! There are no batches: a message set is messages, one after the other. A compressed one wraps a
//! whole message set in its value. Here each outer message is a batch of its own, as in Java. The
//! wrapped ones are walked once when the batch is opened, because in a wrapper of format 1 their
//! offsets count from a base that only the last of them gives away; after that they come out one by
//! one, as ordinary [`Record`]s.
//!
//! Old producers were careless and old brokers let them be, so what Java reads is read here: offsets
//! in a wrapper that do not rise, messages of the other format in it, a last one that is cut short,
//! attributes without a meaning. A wrapper in a wrapper is refused, as Java refuses it. The checksums
//! of wrapped messages are not looked at: the wrapper's covers the same bytes.

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
    /// Added to each message's offset.
    base: i64,
    /// The time that goes for all messages of format 1, if the broker set it.
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
        if message.compression() != 0 {
            return Err("a compressed message inside a compressed message");
        }
        let record = Record {
            data,
            offset: self.base.checked_add(message.offset).ok_or("its offset overflows")?,
            timestamp: self.log_append_time.filter(|_| message.magic == 1).unwrap_or(message.timestamp),
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
    let size = read_size(&mut rest)?;
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

fn read_size(rest: &mut &[u8]) -> Result<usize, Broken> {
    let size = i32::from_be_bytes(*take(rest)?);
    usize::try_from(size).ok().filter(|size| *size >= SIZE_MIN).ok_or("its size is less than any message has")
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
    // What comes next must have an offset too.
    if message.offset == i64::MAX {
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
    let Message { offset, magic, attributes, timestamp, .. } = message;
    Ok(RecordBatch::from_message(bytes, magic, offset, timestamp, timestamp_type, compression, attributes))
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
    let mut layout = Layout { base: 0, log_append_time: None, wrapper_offset };
    if batch.compression() == Compression::None {
        let data = batch.bytes().clone();
        return Ok(Records { data, count: 1, layout: iter::Layout::Legacy(layout) });
    }
    let broken =
        |what: Broken| Error::corrupt(format!("the compressed message at offset {wrapper_offset}: {what}"));
    let wrapper = read_message(&mut &batch.bytes()[..]).map_err(broken)?;
    let value = wrapper.value.ok_or_else(|| broken("its value is null"))?;
    let mut data = decompressor.decompress_to_bytes(batch.compression(), value, Lz4Checksum::RightOrOld)?;
    let inner = walk(&data).map_err(broken)?;
    data.truncate(inner.len);
    // The wrapper's format says what the offsets mean, whatever the messages in it are.
    if batch.magic() == 1 {
        layout.base = base_of(wrapper_offset, inner.last_offset).map_err(broken)?;
    }
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        layout.log_append_time = Some(wrapper.timestamp);
    }
    Ok(Records { data, count: inner.count, layout: iter::Layout::Legacy(layout) })
}

/// The offset from which those in a wrapper of format 1 count, so that the last is the wrapper's.
fn base_of(wrapper: i64, last: i64) -> Result<i64, Broken> {
    // Some clients left the wrapper's offset at 0, and brokers of that time stored it so. Then those
    // in it are taken as they are.
    if wrapper == 0 {
        return Ok(0);
    }
    if wrapper < last {
        return Err("its offset is below the last in it");
    }
    wrapper.checked_sub(last).ok_or("the offsets in it overflow")
}

/// What is in a wrapper.
struct Inner {
    count: u32,
    last_offset: i64,
    /// The bytes of whole messages.
    len: usize,
}

/// Counts the messages of a set and finds the offset of the last. A message that is cut short ends
/// the set: brokers cut them off anywhere, and old clients sent such sets on as they were.
fn walk(data: &[u8]) -> Result<Inner, Broken> {
    let mut set = data;
    let (mut count, mut last_offset) = (0, 0);
    while is_whole(set)? {
        last_offset = read_message(&mut set)?.offset;
        count += 1;
    }
    if count == 0 {
        return Err("there is no message in it");
    }
    Ok(Inner { count, last_offset, len: data.len() - set.len() })
}

/// Whether the first message of a set is all there. Its size is checked as soon as it can be read.
fn is_whole(set: &[u8]) -> Result<bool, Broken> {
    let Some((_, mut rest)) = set.split_at_checked(size_of::<i64>()) else { return Ok(false) };
    if rest.len() < size_of::<i32>() {
        return Ok(false);
    }
    Ok(read_size(&mut rest)? <= rest.len())
}
