//! Fetch requests by hand, version 4, and a walk over what they bring: the least that reading asks for.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use weir::records::{Compression, Decompressor};

use crate::Fail;
use crate::load::{FETCH_MAX, PARTITION_MAX, Tally};

/// What a batch has before its records.
const BATCH_HEADER: usize = 61;
/// The checksum covers what comes after it.
const CHECKED_FROM: usize = 21;

/// A blocking socket, the buffers that are used again and again, and where to read on.
#[derive(Debug)]
pub struct Reading {
    socket: TcpStream,
    request: Vec<u8>,
    /// Where the partitions begin in it.
    partitions_at: usize,
    answer: Vec<u8>,
    plain: Vec<u8>,
    decompressor: Decompressor,
    offsets: Vec<u64>,
    /// What was read since the beginning.
    pub tally: Tally,
}

impl Reading {
    /// From the beginning of all partitions.
    pub fn connect(broker: &str, topic: &str, partitions: i32) -> Result<Self, Fail> {
        let socket = TcpStream::connect(broker)?;
        socket.set_nodelay(true)?;
        let request = head(topic, partitions);
        Ok(Self {
            socket,
            partitions_at: request.len(),
            request,
            answer: vec![0; 8 << 20],
            plain: Vec::new(),
            decompressor: Decompressor::new(),
            offsets: vec![0; partitions as usize],
            tally: Tally::default(),
        })
    }

    /// Asks once, and walks over all that comes.
    pub fn fetch(&mut self) -> Result<(), Fail> {
        self.request.truncate(self.partitions_at);
        for (partition, offset) in self.offsets.iter().enumerate() {
            self.request.extend_from_slice(&(partition as u32).to_be_bytes());
            self.request.extend_from_slice(&offset.to_be_bytes());
            self.request.extend_from_slice(&(PARTITION_MAX as u32).to_be_bytes());
        }
        let length = self.request.len() as u32 - 4;
        self.request[..4].copy_from_slice(&length.to_be_bytes());
        self.socket.write_all(&self.request)?;
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let length = u32::from_be_bytes(length) as usize;
        if self.answer.len() < length {
            self.answer.resize(length, 0);
        }
        self.socket.read_exact(&mut self.answer[..length])?;
        // The buffer is borrowed while the rest of this is changed.
        let answer = std::mem::take(&mut self.answer);
        let read = self.walk(&answer[..length]);
        self.answer = answer;
        read
    }

    /// Correlation id, throttle time, one topic, its name; of each partition its index, the error code, two offsets,
    /// the aborted transactions, the records.
    fn walk(&mut self, mut rest: &[u8]) -> Result<(), Fail> {
        take(&mut rest, 12)?;
        let name = take(&mut rest, 2)?;
        take(&mut rest, usize::from(name[0]) << 8 | usize::from(name[1]))?;
        for _ in 0..number(&mut rest)? {
            let partition = number(&mut rest)? as usize;
            let code = take(&mut rest, 2)?;
            if code != [0, 0] {
                return Err(format!("the broker answered {code:?}").into());
            }
            take(&mut rest, 16)?;
            let aborted = number(&mut rest)?;
            take(&mut rest, if aborted == u32::MAX { 0 } else { aborted as usize * 16 })?;
            let length = number(&mut rest)?;
            let records = take(&mut rest, if length == u32::MAX { 0 } else { length as usize })?;
            self.batches(partition, records)?;
        }
        Ok(())
    }

    /// The last batch may be cut.
    fn batches(&mut self, partition: usize, mut rest: &[u8]) -> Result<(), Fail> {
        while rest.len() >= BATCH_HEADER {
            let length = 12 + u32::from_be_bytes(rest[8..12].try_into()?) as usize;
            if rest.len() < length {
                break;
            }
            let (batch, after) = rest.split_at(length);
            rest = after;
            let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[CHECKED_FROM..]) as u32;
            if batch[17..21] != crc.to_be_bytes() {
                return Err("a wrong checksum".into());
            }
            let first = u64::from_be_bytes(batch[..8].try_into()?);
            let last = u32::from_be_bytes(batch[23..27].try_into()?);
            let count = u32::from_be_bytes(batch[57..61].try_into()?);
            let compression = Compression::from_id(batch[22] & 7).ok_or("no such codec")?;
            let records = if compression == Compression::None {
                &batch[BATCH_HEADER..]
            } else {
                self.decompressor.decompress(compression, &batch[BATCH_HEADER..], &mut self.plain)?;
                &self.plain
            };
            walk_records(records, count, &mut self.tally)?;
            self.offsets[partition] = first + u64::from(last) + 1;
        }
        Ok(())
    }
}

/// Length, attributes, timestamp, offset, key, value, headers.
fn walk_records(mut rest: &[u8], count: u32, tally: &mut Tally) -> Result<(), Fail> {
    for _ in 0..count {
        let length = varint(&mut rest)?;
        let mut record = take(&mut rest, length as usize)?;
        take(&mut record, 1)?;
        varint(&mut record)?;
        varint(&mut record)?;
        let key = varint(&mut record)?;
        take(&mut record, key.max(0) as usize)?;
        let value = varint(&mut record)?;
        tally.add(take(&mut record, value.max(0) as usize)?);
    }
    Ok(())
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], Fail> {
    let (taken, after) = rest.split_at_checked(n).ok_or("a short answer")?;
    *rest = after;
    Ok(taken)
}

fn number(rest: &mut &[u8]) -> Result<u32, Fail> {
    Ok(u32::from_be_bytes(take(rest, 4)?.try_into()?))
}

fn varint(rest: &mut &[u8]) -> Result<i64, Fail> {
    let (mut n, mut shift) = (0_u64, 0);
    loop {
        let (byte, after) = rest.split_first().ok_or("a short record")?;
        *rest = after;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok((n >> 1) as i64 ^ -((n & 1) as i64));
        }
        shift += 7;
        if shift > 63 {
            return Err("a long number".into());
        }
    }
}

/// Length (to come), API key, version, correlation id, client id; no replica, half a second, one byte at least, what
/// all have at most, uncommitted too; one topic.
fn head(topic: &str, partitions: i32) -> Vec<u8> {
    let mut head = vec![0; 4];
    head.extend_from_slice(&[0, 1, 0, 4, 0, 0, 0, 0, 0, 5]);
    head.extend_from_slice(b"floor");
    head.extend_from_slice(&(-1_i32).to_be_bytes());
    head.extend_from_slice(&500_u32.to_be_bytes());
    head.extend_from_slice(&1_u32.to_be_bytes());
    head.extend_from_slice(&(FETCH_MAX as u32).to_be_bytes());
    head.push(0);
    head.extend_from_slice(&1_u32.to_be_bytes());
    head.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    head.extend_from_slice(topic.as_bytes());
    head.extend_from_slice(&partitions.to_be_bytes());
    head
}
