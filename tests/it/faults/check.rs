//! What the log must hold, judged from what callers were told. Pure: the stream writes down the fates, the log
//! is read once at the end, and defects that are planted here show that the judge sees them.

use std::collections::BTreeMap;

/// Where a record lies: partition and offset.
pub(super) type Place = (i32, i64);

/// What the caller of a produce request was told about its only record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The broker took it, at that place.
    Acked(Place),
    /// It failed, and may have happened.
    Maybe,
    /// It failed, and has not happened.
    Not,
}

/// Complaints about records: each acknowledged one is in the log once and at its place, one that has not
/// happened is not, and one that may have happened is there once at most, since the client repeats no such
/// request by itself.
pub(super) fn records(told: &BTreeMap<String, Fate>, log: &[(String, Place)]) -> Vec<String> {
    let mut places: BTreeMap<&str, Vec<Place>> = BTreeMap::new();
    for (value, place) in log {
        places.entry(value).or_default().push(*place);
    }
    let mut complaints = Vec::new();
    for (value, fate) in told {
        let found = places.remove(value.as_str()).unwrap_or_default();
        let right = match fate {
            Fate::Acked(place) => found == [*place],
            Fate::Maybe => found.len() <= 1,
            Fate::Not => found.is_empty(),
        };
        if !right {
            complaints.push(format!("{value}: told {fate:?}, found at {found:?}"));
        }
    }
    complaints.extend(places.iter().map(|(value, found)| format!("{value}: never sent, found at {found:?}")));
    complaints
}

/// Offsets that one caller committed for a group, one after the other and growing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Commits {
    /// The last that was acknowledged.
    pub(super) acked: i64,
    /// The last that was tried.
    pub(super) tried: i64,
}

/// Complaints about groups: what is read at the end is the last acknowledged offset, or one that was tried later.
pub(super) fn commits(told: &BTreeMap<String, Commits>, read: &BTreeMap<String, i64>) -> Vec<String> {
    let wrong = told.iter().filter(|(group, commits)| {
        let read = read.get(*group).copied().unwrap_or(-1);
        !(commits.acked..=commits.tried).contains(&read)
    });
    wrong.map(|(group, commits)| format!("{group}: told {commits:?}, read {:?}", read.get(group))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fate: Fate) -> BTreeMap<String, Fate> {
        BTreeMap::from([("a".to_owned(), fate)])
    }

    fn log(values: &[(&str, Place)]) -> Vec<(String, Place)> {
        values.iter().map(|(value, place)| ((*value).to_owned(), *place)).collect()
    }

    #[test]
    fn what_is_as_it_was_told_is_right() {
        for (fate, found) in [
            (Fate::Acked((3, 7)), &[("a", (3, 7))][..]),
            (Fate::Maybe, &[("a", (3, 7))]),
            (Fate::Maybe, &[]),
            (Fate::Not, &[]),
        ] {
            assert_eq!(records(&told(fate), &log(found)), [] as [String; 0], "{fate:?} {found:?}");
        }
    }

    #[test]
    fn what_is_not_as_it_was_told_is_seen() {
        for (fate, found) in [
            // Lost, somewhere else, twice.
            (Fate::Acked((3, 7)), &[][..]),
            (Fate::Acked((3, 7)), &[("a", (3, 8))]),
            (Fate::Acked((3, 7)), &[("a", (3, 7)), ("a", (3, 9))]),
            (Fate::Maybe, &[("a", (3, 7)), ("a", (3, 9))]),
            // It has happened after all.
            (Fate::Not, &[("a", (3, 7))]),
            // From nowhere.
            (Fate::Not, &[("b", (3, 7))]),
        ] {
            assert_eq!(records(&told(fate), &log(found)).len(), 1, "{fate:?} {found:?}");
        }
    }

    #[test]
    fn a_commit_that_was_lost_or_never_made_is_seen() {
        let told = BTreeMap::from([("g".to_owned(), Commits { acked: 5, tried: 7 })]);
        for (read, wrong) in
            [(Some(4), 1), (Some(5), 0), (Some(7), 0), (Some(8), 1), (Some(-1), 1), (None, 1)]
        {
            let read = read.map(|offset| ("g".to_owned(), offset)).into_iter().collect();
            assert_eq!(commits(&told, &read).len(), wrong, "{read:?}");
        }
    }
}
