//! How busy the partitions of a topic are, as a table to draw from.
//!
//! Made now and then, in one pass over all partitions; drawing from it takes a binary search, so that topics
//! with many partitions do not cost more.

use super::Partitioning;
use crate::conn::Dice;

/// What is known of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionLoad {
    /// The batches that wait to be sent to it.
    pub(crate) queue_len: u32,
    /// Whether it has a leader that has not been away for longer than the availability timeout.
    pub(crate) leader_available: bool,
    /// Whether its leader is in the producer's rack.
    pub(crate) in_rack: bool,
}

/// Which partitions may be drawn, and how often each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Load {
    /// All there are.
    count: u32,
    /// Those that may be drawn, in order; empty means all.
    partitions: Vec<u32>,
    /// The weights of those up to each of them; empty means that all weigh the same.
    sums: Vec<u64>,
}

impl Load {
    /// Of a topic's partitions, in order. Keeps its memory from one time to the next.
    ///
    /// Those without an available leader are left out; if that leaves none, all are in. If wanted, those in
    /// other racks are left out too, unless that leaves none (KIP-1123). If wanted, a partition weighs one
    /// more than what its queue is shorter than the longest (KIP-794).
    pub(crate) fn measure(&mut self, partitioning: &Partitioning, partitions: &[PartitionLoad]) {
        let (adaptive, rack_aware) = match partitioning {
            Partitioning::Uniform(uniform) => (uniform.adaptive, uniform.rack_aware),
            Partitioning::RoundRobin => (false, false),
            Partitioning::Crc32 | Partitioning::Custom(_) => (true, false),
        };
        self.count = partitions.len() as u32;
        self.partitions.clear();
        self.sums.clear();
        let near_only = rack_aware && partitions.iter().any(|one| one.leader_available && one.in_rack);
        let chosen = |one: &PartitionLoad| one.leader_available && (one.in_rack || !near_only);
        let drawn = || partitions.iter().zip(0..).filter(|(one, _)| chosen(one));
        let queues = || drawn().map(|(one, _)| one.queue_len);
        let chosen_count = drawn().count();
        if chosen_count != 0 && chosen_count != partitions.len() {
            self.partitions.extend(drawn().map(|(_, partition)| partition));
        }
        let longest = queues().max().unwrap_or(0);
        if adaptive && queues().any(|len| len != longest) {
            let mut sum = 0;
            self.sums.extend(queues().map(|len| {
                sum += u64::from(longest - len) + 1;
                sum
            }));
        }
    }

    /// Draws a partition. Without partitions there is only 0 to say.
    pub(crate) fn draw(&self, dice: &mut Dice) -> u32 {
        match self.sums.last() {
            Some(total) => self.at_weight(dice.roll() % total),
            None => self.nth(dice.below(self.len()) as u64),
        }
    }

    /// The partition that a number below all weights together falls to.
    pub(super) fn at_weight(&self, weight: u64) -> u32 {
        self.nth(self.sums.partition_point(|sum| *sum <= weight) as u64)
    }

    /// Those that may be drawn, counted round and round.
    pub(super) fn nth(&self, n: u64) -> u32 {
        let place = n.checked_rem(self.len() as u64).unwrap_or(0);
        self.partitions.get(place as usize).copied().unwrap_or(place as u32)
    }

    /// How many may be drawn.
    pub(super) fn len(&self) -> usize {
        if self.partitions.is_empty() { self.count as usize } else { self.partitions.len() }
    }

    /// The weights added up, one by one, and whose they are.
    #[cfg(test)]
    pub(super) fn table(&self) -> Vec<(u32, u64)> {
        let sum = |n: u64| self.sums.get(n as usize).copied().unwrap_or(n + 1);
        (0..self.len() as u64).map(|n| (self.nth(n), sum(n))).collect()
    }
}
