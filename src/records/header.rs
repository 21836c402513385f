//! The header of a batch of format 2, as it is written.
//!
//! A [`Summary`] is what the records themselves decide; it is known when the last one is in. A [`Stamp`]
//! is what is only known when the batch goes out. Together they fill the 61 bytes in front of the
//! records, all but the checksum, which whoever has the bytes puts in.

use super::batch::{CHECKED_FROM, HEADER_SIZE, LOG_OVERHEAD, attribute};
use super::compression::Compression;

/// Where the checksum is, in front of what it covers.
const CRC_FROM: usize = CHECKED_FROM - size_of::<u32>();

/// What a batch's header says besides its records: who wrote it and how it is to be treated.
///
/// The default is a batch as a producer without idempotence writes it. What only brokers set is
/// here too, for tests and for servers.
#[derive(Debug, Clone, Copy)]
pub struct Stamp {
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    transactional: bool,
    control: bool,
    base_offset: i64,
    partition_leader_epoch: i32,
    log_append_time: Option<i64>,
    pub(super) last_offset_delta: Option<i32>,
}

impl Default for Stamp {
    fn default() -> Self {
        Self {
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            transactional: false,
            control: false,
            base_offset: 0,
            partition_leader_epoch: -1,
            log_append_time: None,
            last_offset_delta: None,
        }
    }
}

impl Stamp {
    /// Sets the idempotent producer's id and epoch, and the sequence number of the first record.
    #[must_use]
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        (self.producer_id, self.producer_epoch, self.base_sequence) = (id, epoch, base_sequence);
        self
    }

    /// Sets whether the batch belongs to a transaction.
    #[must_use]
    pub fn transactional(mut self, yes: bool) -> Self {
        self.transactional = yes;
        self
    }

    /// Sets whether the records are control records. A broker's to write.
    #[must_use]
    pub fn control(mut self, yes: bool) -> Self {
        self.control = yes;
        self
    }

    /// Sets the offset of the first record, and the leader's epoch. A broker's to set.
    #[must_use]
    pub fn base_offset(mut self, offset: i64, partition_leader_epoch: i32) -> Self {
        (self.base_offset, self.partition_leader_epoch) = (offset, partition_leader_epoch);
        self
    }

    /// Sets the time of appending, in milliseconds since 1970, which then goes for all records. A broker's
    /// to set.
    #[must_use]
    pub fn log_append_time(mut self, timestamp: i64) -> Self {
        self.log_append_time = Some(timestamp);
        self
    }

    /// Sets the offset of the last record, from the base, where compaction took the last ones.
    #[must_use]
    pub fn last_offset_delta(mut self, delta: i32) -> Self {
        self.last_offset_delta = Some(delta);
        self
    }
}

/// What a batch's records say in its header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summary {
    pub(super) count: i32,
    /// The place of the last record, from the first.
    pub(super) last_offset_delta: i32,
    pub(super) base_timestamp: i64,
    pub(super) max_timestamp: i64,
    /// Whether the base timestamp is a delete horizon (KIP-534).
    pub(super) delete_horizon: bool,
    pub(super) compression: Compression,
}

impl Summary {
    /// Fills the header of `batch`, which is a whole one of at most 2 GiB, but for the checksum. A last
    /// offset delta in the stamp counts if it is not before the last record's.
    pub(super) fn write(&self, batch: &mut [u8], stamp: &Stamp) {
        let length = (batch.len() - LOG_OVERHEAD) as i32;
        let last_offset_delta = self.last_offset_delta.max(stamp.last_offset_delta.unwrap_or(0));
        let max_timestamp = stamp.log_append_time.unwrap_or(self.max_timestamp);
        // The space has been kept in front of every batch.
        let Some(header) = batch.first_chunk_mut::<HEADER_SIZE>() else { return };
        header[0..8].copy_from_slice(&stamp.base_offset.to_be_bytes());
        header[8..12].copy_from_slice(&length.to_be_bytes());
        header[12..16].copy_from_slice(&stamp.partition_leader_epoch.to_be_bytes());
        header[16] = 2;
        header[21..23].copy_from_slice(&self.attributes(stamp).to_be_bytes());
        header[23..27].copy_from_slice(&last_offset_delta.to_be_bytes());
        header[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        header[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
        header[43..51].copy_from_slice(&stamp.producer_id.to_be_bytes());
        header[51..53].copy_from_slice(&stamp.producer_epoch.to_be_bytes());
        header[53..57].copy_from_slice(&stamp.base_sequence.to_be_bytes());
        header[57..61].copy_from_slice(&self.count.to_be_bytes());
    }

    fn attributes(&self, stamp: &Stamp) -> i16 {
        let flags = [
            (stamp.log_append_time.is_some(), attribute::LOG_APPEND_TIME),
            (stamp.transactional, attribute::TRANSACTIONAL),
            (stamp.control, attribute::CONTROL),
            (self.delete_horizon, attribute::DELETE_HORIZON),
        ];
        let set = flags.into_iter().filter(|(is_set, _)| *is_set);
        set.fold(i16::from(self.compression.id()), |attributes, (_, bit)| attributes | bit)
    }
}

/// Puts the checksum in its place.
pub(super) fn write_crc(batch: &mut [u8], crc: u32) {
    if let Some(place) = batch.get_mut(CRC_FROM..CHECKED_FROM) {
        place.copy_from_slice(&crc.to_be_bytes());
    }
}
