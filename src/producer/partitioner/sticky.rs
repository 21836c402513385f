//! Where records without a key go: on one partition for a batch's worth of bytes, or each in turn.

use super::Load;

/// What a partition got while it was its turn. The turn lasts until a batch's worth of bytes went there (KIP-480,
/// KIP-794). Counted are bytes, not batches, so that a slow partition, whose batches fill up, does not get more
/// than a fast one, whose batches leave half empty. It ends where a batch does: to leave an open one behind
/// would only send it out half full.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turn {
    bytes: u64,
}

impl Turn {
    /// Counts the bytes of records that came because it is the partition's turn.
    #[inline]
    pub(crate) fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// Whether the turn is over, now that a batch has ended; if so, the next one begins.
    pub(crate) fn ends(&mut self, batch_size: usize) -> bool {
        let over = self.bytes >= batch_size as u64;
        if over {
            self.bytes = 0;
        }
        over
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
