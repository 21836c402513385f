//! What a proxy saw and did, for tests to assert on: counts, and the events in their order.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::RuleId;
use super::rule::{Direction, End};

/// Events that are kept; the oldest go first, the counts stay whole.
const EVENTS_MAX: usize = 100_000;

/// One thing that happened, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Instant,
    /// On which link; the first of a proxy is 1.
    pub link: u64,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// A client connected.
    Opened,
    /// The broker could not be reached, or there is none yet; the client is reset.
    Unreachable,
    /// A rule struck.
    Fault {
        /// Which rule.
        rule: RuleId,
        /// The way in which it was looked for; none if it is about the whole link.
        direction: Option<Direction>,
        /// The API of the frame, if it is about a frame whose API is known.
        api: Option<i16>,
        /// The frame's correlation id.
        correlation: Option<i32>,
    },
    /// The link is over: by which end, if the proxy made it or passed on a reset; none if both peers closed
    /// it in peace.
    Closed(Option<End>),
}

/// A copy of a proxy's record.
#[derive(Debug, Clone, Default)]
pub struct Log {
    events: VecDeque<Event>,
    opened: u64,
    closed: u64,
    requests: BTreeMap<i16, u64>,
    responses: BTreeMap<i16, u64>,
    faults: BTreeMap<RuleId, u64>,
    version: u64,
}

impl Log {
    /// The last 100,000 events, oldest first.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// Connections that clients opened so far.
    pub fn opened(&self) -> u64 {
        self.opened
    }

    /// Connections that are open now.
    pub fn open(&self) -> u64 {
        self.opened - self.closed
    }

    /// Requests of this API that began to come in, those included that a fault then kept.
    pub fn requests(&self, api: i16) -> u64 {
        self.requests.get(&api).copied().unwrap_or(0)
    }

    /// Responses of this API that began to come in, those included that a fault then kept.
    pub fn responses(&self, api: i16) -> u64 {
        self.responses.get(&api).copied().unwrap_or(0)
    }

    /// Every API seen, with its requests.
    pub fn requests_by_api(&self) -> &BTreeMap<i16, u64> {
        &self.requests
    }

    /// How often this rule struck.
    pub fn faults(&self, rule: RuleId) -> u64 {
        self.faults.get(&rule).copied().unwrap_or(0)
    }

    /// How often any rule struck.
    pub fn faults_total(&self) -> u64 {
        self.faults.values().sum()
    }

    /// Rises with each change.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn count(&mut self, direction: Direction, api: Option<i16>) {
        self.version += 1;
        let Some(api) = api else { return };
        let counts = match direction {
            Direction::Requests => &mut self.requests,
            Direction::Responses => &mut self.responses,
        };
        *counts.entry(api).or_default() += 1;
    }

    pub(super) fn add(&mut self, at: Instant, link: u64, kind: EventKind) {
        self.version += 1;
        match kind {
            EventKind::Opened => self.opened += 1,
            EventKind::Closed(_) => self.closed += 1,
            EventKind::Fault { rule, .. } => *self.faults.entry(rule).or_default() += 1,
            EventKind::Unreachable => {}
        }
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(Event { at, link, kind });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded_and_counts_are_not() {
        let mut log = Log::default();
        for _ in 0..EVENTS_MAX + 10 {
            log.add(Instant::now(), 1, EventKind::Opened);
        }
        assert_eq!((log.events().count(), log.opened()), (EVENTS_MAX, EVENTS_MAX as u64 + 10));
    }
}
