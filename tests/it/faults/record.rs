//! What became of every call of the stream: counts, stalls, recoveries, and what must not be.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use weir::{Error, ErrorCode};

use super::check::{Commits, Fate};

/// Successes in a row, all begun after a fault, after which a lane counts as recovered from it.
const STREAK: u32 = 3;

/// Complaints that are kept; the first tell enough.
const COMPLAINTS_MAX: usize = 50;

/// How a call ended.
#[derive(Debug, Clone)]
pub(super) enum End {
    Good,
    /// Answered, with an error code in it.
    Refused(ErrorCode),
    Failed(Error),
}

/// Calls of one kind to one place, one after the other.
#[derive(Debug)]
struct Lane {
    name: String,
    last_good: Instant,
    streak: u32,
    good: u64,
    calls: u64,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Record {
    lanes: Vec<Lane>,
    /// The longest that a call may take, margin included.
    patience: Duration,
    /// The fault that is on, and since when.
    fault: &'static str,
    mark: Instant,
    pub(super) faults: u64,
    pub(super) recoveries: Vec<(String, Duration)>,
    /// The longest time between two successes of a lane, whose, and in which fault it ended.
    stall: (Duration, String),
    longest_call: Duration,
    ends: BTreeMap<String, u64>,
    pub(super) calls: u64,
    pub(super) told: BTreeMap<String, Fate>,
    pub(super) commits: BTreeMap<String, Commits>,
    pub(super) complaints: Vec<String>,
}

impl Record {
    pub(super) fn new(lanes: impl IntoIterator<Item = String>, patience: Duration) -> Self {
        let now = Instant::now();
        let lane = |name| Lane { name, last_good: now, streak: 0, good: 0, calls: 0 };
        Self {
            lanes: lanes.into_iter().map(lane).collect(),
            patience,
            fault: "start",
            mark: now,
            faults: 0,
            recoveries: Vec::new(),
            stall: Default::default(),
            longest_call: Duration::ZERO,
            ends: BTreeMap::new(),
            calls: 0,
            told: BTreeMap::new(),
            commits: BTreeMap::new(),
            complaints: Vec::new(),
        }
    }

    /// From now on successes count for the recovery from this.
    pub(super) fn mark(&mut self, fault: &'static str) {
        self.fault = fault;
        self.mark = Instant::now();
        self.lanes.iter_mut().for_each(|lane| (lane.streak, lane.good) = (0, 0));
    }

    pub(super) fn heard(&mut self, lane: usize, began: Instant, end: &End) {
        let now = Instant::now();
        let took = now - began;
        self.calls += 1;
        self.longest_call = self.longest_call.max(took);
        let Lane { name, last_good, streak, good, calls } = &mut self.lanes[lane];
        let name = name.clone();
        *calls += 1;
        match end {
            End::Good => {
                let stall = now - *last_good;
                *last_good = now;
                if began >= self.mark {
                    *streak += 1;
                    *good += 1;
                }
                if stall > self.stall.0 {
                    self.stall = (stall, format!("{name}, {}", self.fault));
                }
            }
            _ => *streak = 0,
        }
        *self.ends.entry(kind(end)).or_default() += 1;
        if took > self.patience {
            self.complain(format!("{name}: a call took {took:?}, with {end:?}"));
        }
        if !is_expected(end) {
            self.complain(format!("{name}, {}: {end:?}", self.fault));
        }
    }

    pub(super) fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }

    /// The lanes that have not recovered yet.
    pub(super) fn waiting(&self) -> Vec<&str> {
        self.lanes.iter().filter(|lane| lane.streak < STREAK).map(|lane| lane.name.as_str()).collect()
    }

    /// The lanes of these that had no success since the mark.
    pub(super) fn without_success(&self, which: impl Fn(&str) -> bool) -> Vec<&str> {
        let lanes = self.lanes.iter().filter(|lane| lane.good == 0 && which(&lane.name));
        lanes.map(|lane| lane.name.as_str()).collect()
    }

    /// Notes that every lane has recovered, and how long that took.
    pub(super) fn recovered(&mut self) -> Duration {
        let took = self.mark.elapsed();
        self.recoveries.push((self.fault.to_owned(), took));
        took
    }

    /// How many calls of that lane have ended.
    pub(super) fn calls_of(&self, name: &str) -> u64 {
        self.lanes.iter().filter(|lane| lane.name == name).map(|lane| lane.calls).sum()
    }

    pub(super) fn lanes(&self) -> u64 {
        self.lanes.len() as u64
    }

    pub(super) fn summary(&self) -> String {
        let fates = |wanted: fn(&Fate) -> bool| self.told.values().filter(|fate| wanted(fate)).count();
        let mut lines = vec![format!(
            "{} faults, {} recoveries, longest stall {:.1?} ({}), {} calls, longest {:.1?}",
            self.faults,
            self.recoveries.len(),
            self.stall.0,
            self.stall.1,
            self.calls,
            self.longest_call,
        )];
        lines.push(format!(
            "records: {} acknowledged, {} that may be there, {} that are not",
            fates(|fate| matches!(fate, Fate::Acked(_))),
            fates(|fate| matches!(fate, Fate::Maybe)),
            fates(|fate| matches!(fate, Fate::Not)),
        ));
        lines.extend(self.ends.iter().map(|(kind, count)| format!("{count:>8} {kind}")));
        lines.join("\n")
    }
}

fn kind(end: &End) -> String {
    match end {
        End::Good => "good".to_owned(),
        End::Refused(code) => format!("answered with {code}"),
        End::Failed(error) => {
            let kind = match error {
                error if error.is_timeout() => "timeout".to_owned(),
                error if error.is_io() => "connection".to_owned(),
                error => {
                    error.code().map_or_else(|| format!("{error}"), |code| format!("refused with {code}"))
                }
            };
            let happened = if error.may_have_happened() { "may have happened" } else { "has not happened" };
            format!("{kind}, {happened}")
        }
    }
}

/// Faults of this kind are no reason for any error that does not pass.
fn is_expected(end: &End) -> bool {
    match end {
        End::Good => true,
        End::Refused(code) => code.is_retriable(),
        End::Failed(error) => error.is_retriable(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record::new(["a".to_owned(), "b".to_owned()], Duration::from_secs(10))
    }

    #[test]
    fn a_lane_has_recovered_after_successes_that_began_after_the_fault() {
        let mut record = record();
        let before = Instant::now();
        record.mark("a fault");
        (0..5).for_each(|_| record.heard(0, before, &End::Good));
        assert_eq!(record.waiting(), ["a", "b"]);
        for lane in [0, 1] {
            (0..STREAK - 1).for_each(|_| record.heard(lane, Instant::now(), &End::Good));
            record.heard(lane, Instant::now(), &End::Refused(ErrorCode::NOT_LEADER_OR_FOLLOWER));
            (0..STREAK).for_each(|_| record.heard(lane, Instant::now(), &End::Good));
        }
        assert_eq!(record.waiting(), [""; 0]);
        assert_eq!(record.complaints, [""; 0]);
    }

    #[test]
    fn errors_that_do_not_pass_and_calls_without_end_are_seen() {
        let mut record = record();
        record.heard(0, Instant::now(), &End::Refused(ErrorCode::UNKNOWN_SERVER_ERROR));
        record.heard(1, Instant::now(), &End::Failed(Error::authentication("no")));
        record.patience = Duration::ZERO;
        record.heard(1, Instant::now(), &End::Good);
        assert_eq!(record.complaints.len(), 3, "{:?}", record.complaints);
        assert_eq!(record.without_success(|_| true), ["a"]);
    }
}
