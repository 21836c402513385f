//! Positions: where to begin, by look-ups at the leaders, and whether a leader's log still has what was read (KIP-320).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Core, Part, Start, State};
use crate::consumer::TopicPartition;
use crate::consumer::batch::Position;
use crate::consumer::config::Reset;
use crate::consumer::machine_session::Key;
use crate::wire::Str;
use crate::{Error, ErrorCode};

/// What an offset is looked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Sought {
    Earliest,
    Latest,
    /// The first record that is as old as this or younger, in milliseconds since 1970; the end if there is none.
    Time(i64),
    /// The first record that is not older than this.
    Since(Duration),
}

impl Sought {
    /// As `ListOffsets` has it; `today` is the time of day in milliseconds since 1970.
    pub(crate) fn timestamp(self, today: i64) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            Self::Time(time) => time,
            Self::Since(age) => {
                today.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)).max(0)
            }
        }
    }
}

/// A question for a leader. It is ended by [`Core::handle_sought`] or [`Core::handle_lookup_failed`].
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) ticket: u64,
    pub(crate) broker: i32,
    pub(crate) kind: LookupKind,
}

/// By topic, partition, and the leader's epoch.
#[derive(Debug)]
pub(crate) enum LookupKind {
    /// What offsets there are.
    Offsets(Vec<(Str, i32, i32, Sought)>),
    /// Where an epoch ends.
    Epochs(Vec<(Str, i32, i32, i32)>),
}

impl Core {
    /// Begins somewhere.
    pub(super) fn start(&mut self, key: Key, start: Start, now: Instant) {
        self.serial += 1;
        let version = self.serial;
        let Some(part) = self.parts.get_mut(&key) else { return };
        part.version = version;
        part.error = None;
        part.failures = 0;
        part.done = None;
        part.grown = None;
        if let Some(until) = part.not_before.take() {
            self.resting.remove(&(until, key));
        }
        let dropped = part.drop_chunks();
        self.buffered = self.buffered.saturating_sub(dropped);
        let Some(part) = self.parts.get_mut(&key) else { return };
        match start {
            Start::At(position) => return self.go_to(key, position, now),
            Start::Sought(sought) => part.state = State::Sought { sought, asked: false },
            Start::Committed => part.state = State::Committed,
            Start::Policy => return self.apply_policy(key, "there is no position for it", now),
        }
        self.settle(key, now);
    }

    /// Reads on from there; what is here is dropped.
    pub(super) fn go_to(&mut self, key: Key, position: Position, now: Instant) {
        self.serial += 1;
        let Some(part) = self.parts.get_mut(&key) else { return };
        part.version = self.serial;
        part.position = position;
        part.given = position;
        part.state = State::Fetching;
        let dropped = part.drop_chunks();
        self.buffered = self.buffered.saturating_sub(dropped);
        // What a leader of another epoch had may not be in this one's log.
        if let Some(part) = self.parts.get_mut(&key) {
            part.epoch = part.leader.map_or(-1, |(_, epoch)| epoch);
            if part.epoch > position.epoch {
                part.check();
            }
        }
        self.settle(key, now);
    }

    /// There is no position that could be read from.
    pub(super) fn apply_policy(&mut self, key: Key, why: &str, now: Instant) {
        let sought = match self.limits.reset {
            Reset::Earliest => Sought::Earliest,
            Reset::Latest => Sought::Latest,
            Reset::Since(age) => Sought::Since(age),
            Reset::None => {
                if let Some(part) = self.parts.get_mut(&key) {
                    let words = format!("{}: {why}, and the reset policy is none", part.at);
                    part.error = Some(Error::broker_said(ErrorCode::OFFSET_OUT_OF_RANGE, words));
                }
                return self.rest(key, now);
            }
        };
        self.serial += 1;
        let Some(part) = self.parts.get_mut(&key) else { return };
        part.version = self.serial;
        part.state = State::Sought { sought, asked: false };
        let dropped = part.drop_chunks();
        self.buffered = self.buffered.saturating_sub(dropped);
        self.settle(key, now);
    }

    /// The next question that is to be asked.
    pub(crate) fn poll_lookup(&mut self, now: Instant) -> Option<Lookup> {
        let first = *self.unsettled.first()?;
        let part = self.parts.get(&first)?;
        let (broker, _) = part.leader?;
        let checks = matches!(part.state, State::Check { .. });
        let alike: Vec<Key> = self
            .unsettled
            .iter()
            .copied()
            .filter(|key| {
                self.parts.get(key).is_some_and(|part| {
                    part.leader.is_some_and(|(id, _)| id == broker)
                        && matches!(part.state, State::Check { .. }) == checks
                })
            })
            .collect();
        let ticket = self.ticket();
        let mut asked = Vec::with_capacity(alike.len());
        let mut offsets = Vec::new();
        let mut epochs = Vec::new();
        for key in alike {
            let Some(part) = self.parts.get_mut(&key) else { continue };
            let (name, index) = (part.at.name().clone(), part.at.partition());
            let epoch = part.leader.map_or(-1, |(_, epoch)| epoch);
            match &mut part.state {
                State::Sought { sought, asked } => {
                    *asked = true;
                    offsets.push((name, index, epoch, *sought));
                }
                State::Check { asked } => {
                    *asked = true;
                    epochs.push((name, index, epoch, part.position.epoch));
                }
                _ => continue,
            }
            part.lookup = ticket;
            asked.push((key, part.version));
            self.settle(key, now);
        }
        self.lookups.insert(ticket, asked);
        let kind = if checks { LookupKind::Epochs(epochs) } else { LookupKind::Offsets(offsets) };
        Some(Lookup { ticket, broker, kind })
    }

    /// What a leader says, by topic and partition: an error, or an offset and an epoch.
    pub(crate) fn handle_sought(
        &mut self,
        ticket: u64,
        said: &BTreeMap<(Str, i32), (ErrorCode, Position)>,
        now: Instant,
    ) {
        for (key, version) in self.lookups.remove(&ticket).unwrap_or_default() {
            // Whoever led before may say something else than who leads now.
            let current = |part: &&Part| part.version == version && part.lookup == ticket;
            let Some(part) = self.parts.get(&key).filter(current) else { continue };
            let state = part.state;
            match said.get(&(part.at.name().clone(), part.at.partition())) {
                Some((code, position)) if code.is_none() => match state {
                    State::Sought { sought, asked: true } => self.found(key, sought, *position, now),
                    State::Check { asked: true } => self.checked(key, *position, now),
                    _ => {}
                },
                Some((code, _)) => self.not_found(key, *code, now),
                // An answer without it says nothing.
                None => self.again(key, now),
            }
        }
    }

    /// A question has no answer. Where the broker cannot be asked that, positions are taken as they are.
    pub(crate) fn handle_lookup_failed(&mut self, ticket: u64, error: &Error, now: Instant) {
        let cannot = error.is_unsupported();
        self.stale |= !cannot;
        for (key, version) in self.lookups.remove(&ticket).unwrap_or_default() {
            let current = |part: &&mut Part| part.version == version && part.lookup == ticket;
            let Some(part) = self.parts.get_mut(&key).filter(current) else { continue };
            match part.state {
                State::Check { .. } if cannot => {
                    part.state = State::Fetching;
                    self.settle(key, now);
                }
                _ => {
                    if !error.is_retriable() && !error.is_io() && !error.is_timeout() {
                        part.error = Some(error.clone());
                    }
                    self.again(key, now);
                }
            }
        }
    }

    fn found(&mut self, key: Key, sought: Sought, position: Position, now: Instant) {
        if position.offset >= 0 {
            return self.go_to(key, position, now);
        }
        match sought {
            // Nothing is as young as that.
            Sought::Time(_) | Sought::Since(_) => {
                if let Some(part) = self.parts.get_mut(&key) {
                    part.state = State::Sought { sought: Sought::Latest, asked: false };
                }
                self.settle(key, now);
            }
            Sought::Earliest | Sought::Latest => self.again(key, now),
        }
    }

    fn checked(&mut self, key: Key, end: Position, now: Instant) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        // Who knows nothing of that epoch says -1; nothing is known to be lost then.
        if end.offset >= part.position.offset || end.offset < 0 {
            part.state = State::Fetching;
            return self.settle(key, now);
        }
        self.handle_truncation(key, end, now);
    }

    fn not_found(&mut self, key: Key, code: ErrorCode, now: Instant) {
        let passes = code.is_retriable() || code == ErrorCode::FENCED_LEADER_EPOCH;
        self.stale |= passes;
        if let Some(part) = self.parts.get_mut(&key)
            && !passes
        {
            part.error = Some(Error::broker_said(code, format!("{} has no position", part.at)));
        }
        self.again(key, now);
    }

    /// It is asked again after a rest.
    pub(super) fn again(&mut self, key: Key, now: Instant) {
        if let Some(part) = self.parts.get_mut(&key)
            && let State::Sought { asked, .. } | State::Check { asked } = &mut part.state
        {
            *asked = false;
        }
        self.rest(key, now);
    }

    /// What the group has committed, or that it has nothing.
    pub(crate) fn handle_committed(&mut self, key: Key, committed: Option<Position>, now: Instant) {
        if self.parts.get(&key).is_none_or(|part| part.state != State::Committed) {
            return;
        }
        match committed {
            Some(position) => self.go_to(key, position, now),
            None => self.apply_policy(key, "the group has committed nothing", now),
        }
    }

    /// The group does not tell where it has got to.
    pub(crate) fn handle_committed_failed(&mut self, at: &TopicPartition, error: &Error, now: Instant) {
        let Some(key) = self.key(at) else { return };
        if let Some(part) = self.parts.get_mut(&key).filter(|part| part.state == State::Committed) {
            part.error = Some(error.clone().within(format_args!("{at}")));
        }
        self.settle(key, now);
    }
}
