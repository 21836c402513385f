//! The judge: what the members of a group were told and read, in the order of time, against what was written.
//!
//! Pure: the planted defects below are caught by the same function that judges the cluster.

use std::collections::{BTreeMap, BTreeSet};

/// What has happened, as one member or an onlooker saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    Assigned(usize, Vec<i32>),
    /// Handed over in order; written down before it was done.
    Handed(usize, Vec<i32>),
    /// They may have been another's before the member learned of it.
    Lost(usize, Vec<i32>),
    /// It is gone, and says nothing any more.
    Dead(usize),
    /// Offsets and numbers of a batch, written down before it counts as done.
    Read(usize, i32, Vec<(i64, u32)>),
    /// What the group had committed, as an onlooker found it.
    Committed(i32, i64),
}

/// How many complaints are told; the rest is counted.
const TOLD_MAX: usize = 20;

#[derive(Default)]
struct Judge {
    wrong: Vec<String>,
    /// Who has a partition, and where it reads on.
    owners: BTreeMap<(i32, usize), Option<i64>>,
    /// Who had a partition while another was given it: he must have lost it.
    twice: BTreeMap<(i32, usize), usize>,
    read: BTreeMap<i32, BTreeMap<i64, u32>>,
    /// All below was read.
    ahead: BTreeMap<i32, i64>,
    committed: BTreeMap<i32, i64>,
}

/// What is wrong. `written` is by partition and offset.
pub(super) fn judge(written: &BTreeMap<(i32, i64), u32>, log: &[Entry]) -> Vec<String> {
    let mut judge = Judge::default();
    for entry in log {
        judge.hear(entry);
    }
    for ((partition, offset), number) in written {
        match judge.read.get(partition).and_then(|read| read.get(offset)) {
            None => judge.wrong.push(format!("{number}, at {offset} of {partition}, was never read")),
            Some(other) if other != number => {
                judge.wrong.push(format!("{other} was read at {offset} of {partition}, not {number}"));
            }
            Some(_) => {}
        }
    }
    for ((partition, member), other) in &judge.twice {
        judge.wrong.push(format!("{partition} is {member}'s and {other}'s at the end"));
    }
    let mut wrong = judge.wrong;
    let more = wrong.len().saturating_sub(TOLD_MAX);
    wrong.truncate(TOLD_MAX);
    if more > 0 {
        wrong.push(format!("and {more} complaints more"));
    }
    wrong
}

impl Judge {
    fn hear(&mut self, entry: &Entry) {
        match entry {
            Entry::Assigned(member, partitions) => {
                for partition in partitions {
                    let others: BTreeSet<usize> = self
                        .owners
                        .keys()
                        .filter(|(at, _)| at == partition)
                        .map(|(_, owner)| *owner)
                        .collect();
                    for other in others.into_iter().filter(|other| other != member) {
                        self.twice.insert((*partition, other), *member);
                    }
                    if self.owners.insert((*partition, *member), None).is_some() {
                        self.wrong.push(format!("{partition} was assigned to {member}, who had it"));
                    }
                }
            }
            Entry::Handed(member, partitions) => {
                for at in partitions.iter().map(|partition| (*partition, *member)) {
                    if let Some(other) = self.twice.remove(&at) {
                        self.wrong.push(format!("{} was {other}'s before {member} gave it back", at.0));
                    }
                    self.owners.remove(&at);
                }
            }
            Entry::Lost(member, partitions) => {
                for at in partitions.iter().map(|partition| (*partition, *member)) {
                    self.twice.remove(&at);
                    self.owners.remove(&at);
                }
            }
            Entry::Dead(member) => {
                self.twice.retain(|(_, owner), _| owner != member);
                self.owners.retain(|(_, owner), _| owner != member);
            }
            Entry::Read(member, partition, records) => self.hear_read(*member, *partition, records),
            Entry::Committed(partition, offset) => {
                let ahead = self.ahead.get(partition).copied().unwrap_or(0);
                if *offset > ahead {
                    self.wrong
                        .push(format!("{offset} of {partition} is committed, and read is only {ahead}"));
                }
                if let Some(before) =
                    self.committed.insert(*partition, *offset).filter(|before| before > offset)
                {
                    self.wrong.push(format!("{offset} of {partition} is committed after {before}"));
                }
            }
        }
    }

    fn hear_read(&mut self, member: usize, partition: i32, records: &[(i64, u32)]) {
        let Some(next) = self.owners.get_mut(&(partition, member)) else {
            self.wrong.push(format!("{member} read {partition}, which is not his"));
            return;
        };
        let read = self.read.entry(partition).or_default();
        for (offset, number) in records {
            if let Some(next) = next.filter(|next| next != offset) {
                self.wrong.push(format!("{member} read {offset} of {partition}, and not {next}"));
            }
            *next = Some(offset + 1);
            if let Some(before) = read.insert(*offset, *number).filter(|before| before != number) {
                self.wrong.push(format!("{offset} of {partition} was {before} and is {number}"));
            }
        }
        let ahead = self.ahead.entry(partition).or_default();
        while read.contains_key(ahead) {
            *ahead += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Entry::{Assigned, Committed, Dead, Handed, Lost, Read};
    use super::*;

    /// Two members of two partitions; one gives the other what it has, and leaves.
    fn right() -> Vec<Entry> {
        let read = |member, partition, from: i64| {
            Read(
                member,
                partition,
                (from..from + 5).map(|at| (at, at as u32 * 2 + partition as u32)).collect(),
            )
        };
        vec![
            Assigned(0, vec![0, 1]),
            read(0, 0, 0),
            read(0, 1, 0),
            Committed(1, 5),
            Handed(0, vec![1]),
            Assigned(1, vec![1]),
            read(1, 1, 5),
            read(0, 0, 5),
            Handed(0, vec![0]),
            Assigned(1, vec![0]),
            read(1, 0, 5),
            Committed(0, 10),
        ]
    }

    /// What is complained of after this was done to the log.
    fn after(spoil: impl FnOnce(&mut Vec<Entry>)) -> String {
        let parts = (0..2).flat_map(|partition| (0..10).map(move |offset| (partition, offset)));
        let written = parts.map(|at| (at, at.1 as u32 * 2 + at.0 as u32)).collect();
        let mut log = right();
        spoil(&mut log);
        judge(&written, &log).join("\n")
    }

    #[test]
    fn a_good_log_is_good() {
        assert_eq!(after(|_| {}), "");
    }

    #[test]
    fn two_owners_are_seen() {
        let early = after(|log| log.swap(4, 5));
        assert_eq!(early, "1 was 1's before 0 gave it back");
        assert!(after(|log| drop(log.remove(8))).contains("0 is 0's and 1's at the end"));
        assert_eq!(after(|log| log[8] = Lost(0, vec![0])), "");
        assert_eq!(after(|log| log[8] = Dead(0)), "");
        assert!(after(|log| log.insert(1, Assigned(0, vec![1]))).contains("who had it"));
    }

    #[test]
    fn what_is_read_without_right_is_seen() {
        assert!(after(|log| log.swap(7, 8)).contains("0 read 0, which is not his"));
    }

    #[test]
    fn a_lost_record_and_a_wrong_order_are_seen() {
        assert!(after(|log| drop(log.remove(6))).contains("11, at 5 of 1, was never read"));
        let skipped = after(|log| log[7] = Read(0, 0, vec![(5, 10), (7, 14)]));
        assert_eq!(skipped, "0 read 7 of 0, and not 6");
        let changed = after(|log| log[10] = Read(1, 0, vec![(5, 11)]));
        assert!(changed.contains("5 of 0 was 10 and is 11"), "{changed}");
    }

    #[test]
    fn commits_of_what_was_not_read_or_that_go_back_are_seen() {
        assert_eq!(after(|log| log[3] = Committed(1, 6)), "6 of 1 is committed, and read is only 5");
        assert_eq!(after(|log| log.push(Committed(0, 9))), "9 of 0 is committed after 10");
    }
}
