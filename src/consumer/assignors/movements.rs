//! Which partitions were moved from whom to whom, so that two partitions of a topic do not just swap their owners.

use std::collections::BTreeMap;

use super::java::HashSet;
use super::problem::{at, set};

/// The movements of one balancing.
#[derive(Debug)]
pub(super) struct Movements {
    /// Where each partition was first, where it is, and its age in the set of those.
    moved: Vec<Option<(u32, u32, u32)>>,
    /// By topic, first owner and present owner.
    sets: BTreeMap<(u32, u32, u32), HashSet>,
}

/// A partition, its topic and its hash code.
#[derive(Debug, Clone, Copy)]
pub(super) struct Movable {
    pub(super) partition: u32,
    pub(super) topic: u32,
    pub(super) hash: u32,
}

impl Movements {
    pub(super) fn new(partitions: u32) -> Self {
        Self { moved: vec![None; partitions as usize], sets: BTreeMap::new() }
    }

    /// Notes a movement. One that brings a partition back to where it was first is none.
    pub(super) fn note(&mut self, it: Movable, from: u32, to: u32) {
        let mut first = from;
        if let Some((source, present, age)) = at(&self.moved, it.partition) {
            first = source;
            let key = (it.topic, source, present);
            if let Some(set) = self.sets.get_mut(&key) {
                set.remove(age, it.hash);
                if set.is_empty() {
                    self.sets.remove(&key);
                }
            }
            set(&mut self.moved, it.partition, None);
            if source == to {
                return;
            }
        }
        let set_of_pair = self.sets.entry((it.topic, first, to)).or_insert_with(HashSet::new);
        let age = set_of_pair.add(it.partition, it.hash);
        set(&mut self.moved, it.partition, Some((first, to, age)));
    }

    /// Instead of moving this partition, another of the topic may go back to where it was: one that was moved the
    /// opposite way.
    pub(super) fn instead(&self, it: Movable, from: u32, to: u32) -> u32 {
        let first = at(&self.moved, it.partition).map_or(from, |(source, ..)| source);
        self.sets.get(&(it.topic, to, first)).and_then(HashSet::first).unwrap_or(it.partition)
    }
}
