//! The sticky assignment where all members want the same topics.
//!
//! Each member gets the same number of partitions, the lesser quota, and some get one more. First, members keep what
//! they had, up to a quota. What is left is given in turn: near ones first, if racks matter, then all others.

use std::collections::VecDeque;

use super::problem::{Problem, at, at_mut, set};
use super::sticky::{Claims, Racks};
use crate::{Error, Result};

/// The partitions of each member, and those that it gets from another, each with the member.
pub(super) fn assign(
    problem: &Problem<'_>,
    racks: &Racks<'_>,
    claims: &Claims,
) -> Result<(Vec<Vec<u32>>, Vec<(u32, u32)>)> {
    let Some(count) = Some(problem.members.len() as u32).filter(|count| *count > 0) else {
        return Ok((Vec::new(), Vec::new()));
    };
    let partitions = problem.partition_count();
    let mut filling = Filling {
        problem,
        racks,
        claims,
        least: partitions / count,
        over_wanted: partitions % count,
        over: 0,
        below: Vec::new(),
        exactly: VecDeque::new(),
        lists: vec![Vec::new(); count as usize],
        taken_from: vec![None; partitions as usize],
        moving: Vec::new(),
    };
    let mut left = filling.keep();
    let rank = |member: &u32| at(&problem.rank, *member);
    filling.below.sort_by_key(rank);
    filling.exactly.make_contiguous().sort_by_key(rank);
    racks.sort(&mut left);
    if racks.matter {
        left = filling.fill_near(left);
    }
    filling.fill(&left)?;
    Ok((filling.lists, filling.moving))
}

struct Filling<'a> {
    problem: &'a Problem<'a>,
    racks: &'a Racks<'a>,
    claims: &'a Claims,
    /// The lesser quota. The greater one is one more, if `over_wanted` is not 0.
    least: u32,
    /// How many members are to have one more.
    over_wanted: u32,
    /// How many have.
    over: u32,
    /// Members that have less than the lesser quota.
    below: Vec<u32>,
    /// Members that have the lesser quota, and may get one more.
    exactly: VecDeque<u32>,
    lists: Vec<Vec<u32>>,
    /// Whom a partition was taken from.
    taken_from: Vec<Option<u32>>,
    moving: Vec<(u32, u32)>,
}

impl Filling<'_> {
    fn most(&self) -> u32 {
        self.least + u32::from(self.over_wanted > 0)
    }

    /// A member has the greater quota now.
    fn count_over(&mut self) {
        self.over += 1;
        if self.over == self.over_wanted {
            self.exactly.clear();
        }
    }

    /// Lets members keep what they had, within their quotas. Gives what is left, by topic and number.
    fn keep(&mut self) -> Vec<u32> {
        let mut left = vec![true; self.problem.partition_count() as usize];
        for (member, held) in (0..).zip(&self.claims.held) {
            let mut owned = Vec::with_capacity(held.len());
            for partition in held {
                if self.racks.mismatch(member, *partition) {
                    set(&mut self.taken_from, *partition, Some(member));
                } else if !at(&self.claims.disputed, *partition) {
                    owned.push(*partition);
                }
            }
            owned.sort_unstable_by_key(|partition| (self.problem.within_topic(*partition), *partition));
            let has = owned.len() as u32;
            let keeps = if has < self.least {
                self.below.push(member);
                has
            } else if has >= self.most() && self.over < self.over_wanted {
                self.count_over();
                self.most()
            } else {
                if self.over < self.over_wanted {
                    self.exactly.push_back(member);
                }
                self.least
            };
            for partition in owned.split_off(keeps as usize) {
                set(&mut self.taken_from, partition, Some(member));
            }
            for partition in &owned {
                set(&mut left, *partition, false);
            }
            set(&mut self.lists, member, owned);
        }
        (0..).zip(left).filter_map(|(partition, left)| left.then_some(partition)).collect()
    }

    /// Gives a member a new partition. Says how many it has then.
    fn give(&mut self, partition: u32, member: u32) -> u32 {
        let from = at(&self.taken_from, partition);
        if from.is_some_and(|from| from != member) || at(&self.claims.disputed, partition) {
            self.moving.push((partition, member));
        }
        let give = |list: &mut Vec<u32>| {
            list.push(partition);
            list.len() as u32
        };
        at_mut(&mut self.lists, member, give).unwrap_or_default()
    }

    /// Goes around the members that are below the quota, and gives each partition to the next one that is near; if
    /// there is none, to one that may have one more. Gives what found nobody.
    fn fill_near(&mut self, left: Vec<u32>) -> Vec<u32> {
        let mut next = 0;
        let mut still = Vec::new();
        for partition in left {
            let near = |member: &u32| self.racks.is_near(*member, partition);
            let (before, after) = self.below.split_at(next.min(self.below.len()));
            let found = after.iter().position(near).map(|found| found + before.len());
            if let Some(found) = found.or_else(|| before.iter().position(near)) {
                let Some(member) = self.below.get(found).copied() else { continue };
                let has = self.give(partition, member);
                next = found;
                if has >= self.least {
                    self.below.remove(found);
                    if has < self.most() && self.over < self.over_wanted {
                        self.exactly.push_back(member);
                    }
                } else {
                    next += 1;
                }
                next = next.checked_rem(self.below.len()).unwrap_or(0);
            } else if let Some(found) = self.exactly.iter().position(near) {
                let Some(member) = self.exactly.remove(found) else { continue };
                self.give(partition, member);
                self.count_over();
            } else {
                still.push(partition);
            }
        }
        still
    }

    /// Goes around the members that are below the quota, until none is; then each of the others may get one.
    fn fill(&mut self, left: &[u32]) -> Result<()> {
        let mut around: VecDeque<u32> = std::mem::take(&mut self.below).into();
        for partition in left {
            // By counting, there is room for each partition.
            let Some(member) = around.pop_front().or_else(|| self.exactly.pop_front()) else {
                return Err(Error::internal("more partitions than the quotas of all members"));
            };
            let has = self.give(*partition, member);
            if has < self.least {
                around.push_back(member);
            } else if has == self.least {
                self.exactly.push_back(member);
            }
        }
        Ok(())
    }
}
