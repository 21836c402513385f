//! What a piece of a log holds: as Java tells it, as weir reads it.
//!
//! `tests/oracle/Records.java` has the format in which it passes the pipe.

use std::io::{self, Read};

use bytes::Bytes;
use weir::records::{Batches, Decompressor, RecordBatch, TimestampType};

use super::stream::read_array;

/// All of a piece.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// Bytes of a last batch that is cut off.
    pub(super) left_over: usize,
    pub(super) batches: Vec<Batch>,
}

/// What a batch says of itself, and its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) format: i8,
    pub(super) codec: i8,
    pub(super) log_append_time: bool,
    pub(super) transactional: bool,
    pub(super) control: bool,
    pub(super) first_offset: i64,
    pub(super) last_offset: i64,
    pub(super) max_timestamp: i64,
    pub(super) delete_horizon: Option<i64>,
    pub(super) producer_id: i64,
    pub(super) producer_epoch: i16,
    pub(super) first_sequence: i32,
    pub(super) leader_epoch: i32,
    pub(super) records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<Vec<u8>>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Log {
    /// As Java tells it.
    pub(super) fn parse(mut told: &[u8]) -> io::Result<Self> {
        let from = &mut told;
        let left_over = u32::from_be_bytes(read_array(from)?) as usize;
        let count = u32::from_be_bytes(read_array(from)?);
        let batches = (0..count).map(|_| Batch::parse(from)).collect::<io::Result<_>>()?;
        assert!(from.is_empty(), "{} bytes behind the last batch", from.len());
        Ok(Self { left_over, batches })
    }

    /// As weir reads it, checksums checked.
    pub(super) fn read(bytes: Bytes, decompressor: &mut Decompressor) -> weir::Result<Self> {
        let mut batches = Batches::new(bytes);
        let mut log = Self::default();
        for batch in batches.by_ref() {
            log.batches.push(Batch::read(&batch?, decompressor)?);
        }
        log.left_over = batches.partial().map_or(0, |partial| partial.held);
        Ok(log)
    }

    pub(super) fn records(&self) -> usize {
        self.batches.iter().map(|batch| batch.records.len()).sum()
    }
}

impl Batch {
    fn parse(from: &mut &[u8]) -> io::Result<Self> {
        let [format, codec, flags] = read_array(from)?;
        let (first_offset, last_offset) = (read_i64(from)?, read_i64(from)?);
        let (max_timestamp, delete_horizon) = (read_i64(from)?, read_i64(from)?);
        let producer_id = read_i64(from)?;
        let producer_epoch = i16::from_be_bytes(read_array(from)?);
        let (first_sequence, leader_epoch) = (read_i32(from)?, read_i32(from)?);
        let count = u32::from_be_bytes(read_array(from)?);
        Ok(Self {
            format: format as i8,
            codec: codec as i8,
            log_append_time: flags & 1 != 0,
            transactional: flags & 2 != 0,
            control: flags & 4 != 0,
            first_offset,
            last_offset,
            max_timestamp,
            delete_horizon: (flags & 8 != 0).then_some(delete_horizon),
            producer_id,
            producer_epoch,
            first_sequence,
            leader_epoch,
            records: (0..count).map(|_| Record::parse(from)).collect::<io::Result<_>>()?,
        })
    }

    fn read(batch: &RecordBatch, decompressor: &mut Decompressor) -> weir::Result<Self> {
        let data = batch.records(decompressor)?;
        let mut records = Vec::new();
        for record in &data {
            let record = record?;
            let owned = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
            records.push(Record {
                offset: record.offset(),
                timestamp: record.timestamp(),
                key: owned(record.key()),
                value: owned(record.value()),
                headers: record.headers().map(|header| (header.key.to_vec(), owned(header.value))).collect(),
            });
        }
        decompressor.recycle(data.into_bytes());
        let wrapper = batch.magic() < 2 && batch.compression().id() != 0;
        Ok(Self {
            format: batch.magic(),
            codec: batch.compression().id() as i8,
            log_append_time: batch.timestamp_type() == TimestampType::LogAppendTime,
            transactional: batch.is_transactional(),
            control: batch.is_control(),
            // An old compressed message says only the last; Java decompresses it to tell the first.
            first_offset: records
                .first()
                .filter(|_| wrapper)
                .map_or(batch.base_offset(), |first| first.offset),
            last_offset: batch.last_offset(),
            max_timestamp: batch.max_timestamp(),
            delete_horizon: batch.delete_horizon(),
            producer_id: batch.producer_id(),
            producer_epoch: batch.producer_epoch(),
            first_sequence: batch.base_sequence(),
            leader_epoch: batch.partition_leader_epoch(),
            records,
        })
    }
}

impl Record {
    fn parse(from: &mut &[u8]) -> io::Result<Self> {
        let (offset, timestamp) = (read_i64(from)?, read_i64(from)?);
        let (key, value) = (read_nullable(from)?, read_nullable(from)?);
        let mut headers = Vec::new();
        for _ in 0..u32::from_be_bytes(read_array(from)?) {
            let key = read_nullable(from)?.expect("Java has no header without a key");
            headers.push((key, read_nullable(from)?));
        }
        Ok(Self { offset, timestamp, key, value, headers })
    }
}

fn read_i64(from: &mut &[u8]) -> io::Result<i64> {
    Ok(i64::from_be_bytes(read_array(from)?))
}

fn read_i32(from: &mut &[u8]) -> io::Result<i32> {
    Ok(i32::from_be_bytes(read_array(from)?))
}

fn read_nullable(from: &mut &[u8]) -> io::Result<Option<Vec<u8>>> {
    let Ok(length) = usize::try_from(read_i32(from)?) else { return Ok(None) };
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(Some(bytes))
}
