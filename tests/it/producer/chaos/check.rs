//! The judge: what producers were told against what Java read back.
//!
//! A record's value is the number of its producer and its own number, which rise by one from record to record.
//! Pure: the planted defects below are caught by the same function that judges the cluster.

use std::collections::BTreeMap;

/// What a producer was told of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// Where it is. The offset is not known of one whose answer the broker forgot.
    Acked { partition: i32, offset: Option<i64> },
    /// It is not there.
    Failed,
    /// It may be there.
    MayBe,
}

/// A record as Java read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) producer: usize,
    pub(super) number: usize,
}

/// How many complaints are told; the rest is counted.
const TOLD_MAX: usize = 20;

/// What is wrong. `told` is by producer and number, `seen` by partition in the order of the log.
pub(super) fn judge(told: &[Vec<Told>], seen: &[Seen]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut found: BTreeMap<(usize, usize), Seen> = BTreeMap::new();
    let mut last: BTreeMap<(i32, usize), Seen> = BTreeMap::new();
    let mut ends: BTreeMap<i32, i64> = BTreeMap::new();
    for one in seen {
        if ends.insert(one.partition, one.offset).is_some_and(|before| before >= one.offset) {
            wrong.push(format!("{one:?}: offsets do not rise"));
        }
        if let Some(first) = found.insert((one.producer, one.number), *one) {
            wrong.push(format!("{one:?}: written twice, at first {first:?}"));
        }
        let before = last.insert((one.partition, one.producer), *one);
        if let Some(before) = before.filter(|before| before.number > one.number) {
            wrong.push(format!("{one:?}: behind a later one, {before:?}"));
        }
        match told.get(one.producer).and_then(|told| told.get(one.number)) {
            None => wrong.push(format!("{one:?}: never sent")),
            Some(Told::Failed) => {
                wrong.push(format!("{one:?}: certainly not written, its producer was told"));
            }
            Some(Told::MayBe | Told::Acked { .. }) => {}
        }
    }
    for (producer, told) in told.iter().enumerate() {
        for (number, told) in told.iter().enumerate() {
            let Told::Acked { partition, offset } = *told else { continue };
            match found.get(&(producer, number)) {
                None => wrong.push(format!("record {number} of producer {producer}: acked and lost")),
                Some(seen) if seen.partition != partition || offset.is_some_and(|at| at != seen.offset) => {
                    wrong.push(format!("{seen:?}: acked at {offset:?} of partition {partition}"));
                }
                Some(_) => {}
            }
        }
    }
    let more = wrong.len().saturating_sub(TOLD_MAX);
    wrong.truncate(TOLD_MAX);
    if more > 0 {
        wrong.push(format!("and {more} complaints more"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two producers, two partitions; the last records of each failed, in both ways.
    fn right() -> (Vec<Vec<Told>>, Vec<Seen>) {
        let (mut told, mut seen) = (vec![Vec::new(), Vec::new()], Vec::new());
        for partition in 0..2 {
            for offset in 0..20 {
                let (producer, number) = (offset as usize % 2, offset as usize / 2 * 2 + partition as usize);
                seen.push(Seen { partition, offset, producer, number });
            }
        }
        for (producer, told) in told.iter_mut().enumerate() {
            let at = |number: usize| (number % 2, number / 2 * 2 + producer);
            told.extend((0..20).map(|number| {
                let (partition, offset) = at(number);
                Told::Acked { partition: partition as i32, offset: Some(offset as i64) }
            }));
            told.extend([Told::Failed, Told::MayBe]);
        }
        (told, seen)
    }

    /// What is complained of after this was done to the log.
    fn after(spoil: impl FnOnce(&mut Vec<Vec<Told>>, &mut Vec<Seen>)) -> String {
        let (mut told, mut seen) = right();
        spoil(&mut told, &mut seen);
        judge(&told, &seen).join("\n")
    }

    #[test]
    fn a_good_log_is_good() {
        assert_eq!(after(|_, _| {}), "");
    }

    #[test]
    fn a_lost_record_is_seen() {
        let lost = after(|_, seen| seen.retain(|one| one.offset != 7 || one.partition != 0));
        assert_eq!(lost, "record 6 of producer 1: acked and lost");
    }

    #[test]
    fn a_record_written_twice_is_seen() {
        let twice = after(|_, seen| seen.push(Seen { offset: 20, ..seen[39] }));
        assert!(twice.contains("written twice"), "{twice}");
        let elsewhere = after(|_, seen| {
            let last = Seen { offset: 20, partition: 1, ..seen[3] };
            seen.push(last);
        });
        assert!(elsewhere.contains("written twice"), "{elsewhere}");
    }

    #[test]
    fn records_that_changed_places_are_seen() {
        let swapped = after(|told, seen| {
            // Offsets stay, and producers were told of them: only the order is wrong.
            let (one, other) = (seen[4].number, seen[6].number);
            (seen[4].number, seen[6].number) = (other, one);
            told[0].swap(one, other);
        });
        assert!(swapped.contains("behind a later one"), "{swapped}");
        let lines = after(|_, seen| seen.swap(4, 6));
        assert!(lines.contains("offsets do not rise"), "{lines}");
    }

    #[test]
    fn a_record_that_failed_and_is_there_is_seen() {
        let there =
            |number| after(move |_, seen| seen.push(Seen { partition: 1, offset: 20, producer: 0, number }));
        assert!(there(20).contains("certainly not written"), "{}", there(20));
        assert_eq!(there(21), "", "what may be there, may");
        assert!(there(22).contains("never sent"), "{}", there(22));
    }

    #[test]
    fn a_wrong_offset_is_seen() {
        let moved = after(|told, _| told[1][3] = Told::Acked { partition: 1, offset: Some(4) });
        assert!(moved.contains("acked at Some(4) of partition 1"), "{moved}");
        let partition = after(|told, _| told[1][3] = Told::Acked { partition: 0, offset: None });
        assert!(partition.contains("acked at None of partition 0"), "{partition}");
    }
}
