//! Where records without a key go: on one partition for a batch's worth of bytes, or each in turn.

use super::Load;
use crate::conn::Dice;

/// Stays on a partition until a batch's worth of bytes went there (KIP-480, KIP-794). Counted are bytes, not
/// batches, so that a slow partition, whose batches fill up, does not get more than a fast one, whose
/// batches leave half empty.
#[derive(Debug, Clone)]
pub(crate) struct Sticky {
    batch_size: u64,
    current: Option<u32>,
    /// What went to the current partition.
    bytes: u64,
}

impl Sticky {
    /// On no partition yet.
    pub(crate) fn new(batch_size: usize) -> Self {
        Self { batch_size: batch_size as u64, current: None, bytes: 0 }
    }

    /// The partition to go to; `None` before the first [`switch`](Self::switch).
    #[inline]
    pub(crate) fn current(&self) -> Option<u32> {
        self.current
    }

    /// Counts the bytes of records that went to the current partition, and tells whether to switch now.
    ///
    /// `batch_closed` is whether those records ended a batch, or there is none open. To leave an open batch
    /// behind would only send it out half full, so that is done no sooner than after twice the bytes, as in
    /// Java.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize, batch_closed: bool) -> bool {
        self.bytes = self.bytes.saturating_add(bytes as u64);
        let enough = if batch_closed { self.batch_size } else { self.batch_size.saturating_mul(2) };
        self.bytes >= enough
    }

    /// Draws the next partition, which may be the same, and goes there.
    pub(crate) fn switch(&mut self, load: &Load, dice: &mut Dice) -> u32 {
        let partition = load.draw(dice);
        (self.current, self.bytes) = (Some(partition), 0);
        partition
    }
}

/// Takes the partitions in turn, but for those without a leader while there are others.
#[derive(Debug, Clone, Default)]
pub(crate) struct RoundRobin {
    turn: u64,
}

impl RoundRobin {
    /// The partition of the next record.
    #[inline]
    pub(crate) fn next(&mut self, load: &Load) -> u32 {
        let partition = load.nth(self.turn);
        self.turn = self.turn.wrapping_add(1);
        partition
    }
}
