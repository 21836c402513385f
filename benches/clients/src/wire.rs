//! Produce requests by hand, version 8, and what their answers say: the least that the wire asks for.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use weir::records::{Compression, Compressor};

use crate::Fail;

/// Requests that are sent before the first of them is answered.
const IN_FLIGHT: usize = 5;
/// What a batch has before its records.
const BATCH_HEADER: usize = 61;
/// The checksum covers what comes after it.
const CHECKED_FROM: usize = 21;

/// A blocking socket, the buffers that are used again and again, and what waits for an answer.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    /// A request up to its partition's index.
    head: Vec<u8>,
    request: Vec<u8>,
    /// Records that are still to be compressed.
    plain: Vec<u8>,
    records: u32,
    compression: Compression,
    compressor: Compressor,
    answer: Vec<u8>,
    /// The numbers of records in the requests that were sent.
    sent: VecDeque<u32>,
    acked: usize,
}

impl Wire {
    pub fn connect(broker: &str, topic: &str, codec: &str) -> Result<Self, Fail> {
        let socket = TcpStream::connect(broker)?;
        socket.set_nodelay(true)?;
        let named = Compression::ALL.into_iter().find(|compression| compression.name() == codec);
        let compression = named.ok_or("no such codec")?;
        let mut wire = Self {
            socket,
            head: head(topic),
            request: Vec::with_capacity(2 << 20),
            plain: Vec::with_capacity(2 << 20),
            records: 0,
            compression,
            compressor: Compressor::new(compression)?,
            answer: vec![0; 4096],
            sent: VecDeque::with_capacity(IN_FLIGHT),
            acked: 0,
        };
        wire.begin();
        Ok(wire)
    }

    /// Encodes one record; says how large the batch has become.
    pub fn append(&mut self, value: &[u8]) -> usize {
        let plain = self.compression != Compression::None;
        let out = if plain { &mut self.plain } else { &mut self.request };
        let body = 4 + varint_len(self.records) + varint_len(value.len() as u32) + value.len();
        varint(out, body as u32);
        // No attributes, and the timestamp of the batch.
        out.extend_from_slice(&[0, 0]);
        varint(out, self.records);
        // No key: a length of -1.
        out.push(1);
        varint(out, value.len() as u32);
        out.extend_from_slice(value);
        // No headers.
        out.push(0);
        self.records += 1;
        out.len()
    }

    /// Sends what was appended to this partition; waits first for an answer, if five are missing.
    pub fn send(&mut self, partition: u32) -> Result<(), Fail> {
        if self.sent.len() == IN_FLIGHT {
            self.receive()?;
        }
        self.seal(partition)?;
        self.socket.write_all(&self.request)?;
        self.sent.push_back(self.records);
        self.begin();
        Ok(())
    }

    /// Waits for all answers; says how many records were acknowledged since the beginning.
    pub fn finish(&mut self) -> Result<usize, Fail> {
        while !self.sent.is_empty() {
            self.receive()?;
        }
        Ok(self.acked)
    }

    fn begin(&mut self) {
        self.records = 0;
        self.plain.clear();
        self.request.clear();
        self.request.extend_from_slice(&self.head);
        // The partition, the length of its records, and the header of the batch.
        self.request.resize(self.head.len() + 8 + BATCH_HEADER, 0);
    }

    fn seal(&mut self, partition: u32) -> Result<(), Fail> {
        if self.compression != Compression::None {
            self.compressor.compress(&self.plain, &mut self.request)?;
        }
        let length = self.request.len() as u32 - 4;
        self.request[..4].copy_from_slice(&length.to_be_bytes());
        let (_, rest) = self.request.split_at_mut(self.head.len());
        let (place, batch) = rest.split_at_mut(8);
        place[..4].copy_from_slice(&partition.to_be_bytes());
        let size = batch.len() as u32;
        place[4..].copy_from_slice(&size.to_be_bytes());
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
        batch[8..12].copy_from_slice(&(size - 12).to_be_bytes());
        batch[12..16].copy_from_slice(&(-1_i32).to_be_bytes());
        batch[16] = 2;
        batch[22] = self.compression.id();
        batch[23..27].copy_from_slice(&(self.records - 1).to_be_bytes());
        batch[27..35].copy_from_slice(&now.to_be_bytes());
        batch[35..43].copy_from_slice(&now.to_be_bytes());
        // No producer id, no epoch, no sequence.
        batch[43..57].fill(0xff);
        batch[57..61].copy_from_slice(&self.records.to_be_bytes());
        let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, &batch[CHECKED_FROM..]) as u32;
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }

    /// Reads one answer: correlation id, one topic, its name, one partition, its index, and the error code.
    fn receive(&mut self) -> Result<(), Fail> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let answer = self.answer.get_mut(..u32::from_be_bytes(length) as usize).ok_or("a long answer")?;
        self.socket.read_exact(answer)?;
        let [high, low] = answer.get(8..10).ok_or("a short answer")? else { return Err("no name".into()) };
        let at = 10 + usize::from(u16::from_be_bytes([*high, *low])) + 8;
        match answer.get(at..at + 2) {
            Some([0, 0]) => self.acked += self.sent.pop_front().ok_or("nothing was asked")? as usize,
            other => return Err(format!("the broker answered {other:?}").into()),
        }
        Ok(())
    }
}

/// Length (to come), API key, version, correlation id, client id; no transaction, all replicas, 30 seconds; one
/// topic, one partition.
fn head(topic: &str) -> Vec<u8> {
    let mut head = vec![0; 4];
    head.extend_from_slice(&[0, 0, 0, 8, 0, 0, 0, 0, 0, 5]);
    head.extend_from_slice(b"floor");
    head.extend_from_slice(&[0xff, 0xff, 0xff, 0xff]);
    head.extend_from_slice(&30_000_u32.to_be_bytes());
    head.extend_from_slice(&1_u32.to_be_bytes());
    head.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    head.extend_from_slice(topic.as_bytes());
    head.extend_from_slice(&1_u32.to_be_bytes());
    head
}

/// A number that is not negative, as a zigzag varint.
fn varint(out: &mut Vec<u8>, number: u32) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn varint_len(number: u32) -> usize {
    ((38 - (number << 1 | 1).leading_zeros()) / 7) as usize
}
