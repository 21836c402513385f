//! Offsets of a group, without I/O: commits in their order, one request in flight, each told its end once; and what was
//! committed, asked for until it is known.
//!
//! [`handle_commit`](Offsets::handle_commit) puts a commit in the queue. [`poll_ask`](Offsets::poll_ask) makes one
//! request of all that wait, where a later commit of a partition stands for the earlier one: so a commit that is
//! tried again never overtakes a newer one. Partitions that are taken from us fail from then on.

mod reading;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

pub(crate) use self::reading::{Request, Response, fetched as said};
use super::TopicPartition;
use super::group::Membership;
use crate::cluster::Backoff;
use crate::conn::Dice;
use crate::messages::offset_fetch::OffsetFetchRequest;
use crate::wire::Str;
use crate::{Error, ErrorCode, Result};

/// A commit that is to be told its end.
pub(crate) type CommitId = u64;

/// Where a group has got to in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitOffset {
    /// What is to be read next.
    pub(crate) offset: i64,
    /// Of the record before that; -1 if it is not known.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Str,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// A commit has ended.
    Committed { id: CommitId, result: Result<()> },
    /// What was committed of partitions that were asked for; none where nothing was.
    Fetched(BTreeMap<TopicPartition, Option<CommitOffset>>),
    /// It is not told, and will not be.
    FetchFailed { partitions: BTreeSet<TopicPartition>, error: Error },
    /// The group does not count who asked in any more, or not so.
    Rejoin { membership: Membership, code: ErrorCode },
}

#[derive(Debug)]
struct Entry {
    id: CommitId,
    /// What is not committed yet.
    open: BTreeMap<TopicPartition, CommitOffset>,
    /// The assignment that it belongs to, if it does.
    assignment: Option<u64>,
    deadline: Instant,
    error: Option<Error>,
}

#[derive(Debug)]
enum Flight {
    /// The first so many entries, as of whom.
    Commit {
        entries: usize,
        sent: BTreeMap<TopicPartition, CommitOffset>,
        by: Membership,
    },
    Fetch {
        asked: BTreeSet<TopicPartition>,
        by: Membership,
    },
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Offsets {
    backoff: Backoff,
    dice: Dice,
    /// Whether only what the group has assigned may be committed.
    strict: bool,
    /// What is assigned, and with which assignment it came.
    assigned: BTreeMap<TopicPartition, u64>,
    queue: VecDeque<Entry>,
    wanted: BTreeSet<TopicPartition>,
    commit: Option<u64>,
    fetch: Option<u64>,
    flights: BTreeMap<u64, Flight>,
    serial: u64,
    commit_at: Option<Instant>,
    fetch_at: Option<Instant>,
    commit_failures: u32,
    fetch_failures: u32,
    /// Who the coordinator did not know: there is no asking until that changes.
    stale: Option<Membership>,
    events: VecDeque<Event>,
}

impl Offsets {
    pub(crate) fn new(backoff: Backoff, strict: bool, seed: u64) -> Self {
        Self {
            backoff,
            dice: Dice::new(seed),
            strict,
            assigned: BTreeMap::new(),
            queue: VecDeque::new(),
            wanted: BTreeSet::new(),
            commit: None,
            fetch: None,
            flights: BTreeMap::new(),
            serial: 0,
            commit_at: None,
            fetch_at: None,
            commit_failures: 0,
            fetch_failures: 0,
            stale: None,
            events: VecDeque::new(),
        }
    }

    /// Whether only what the group has assigned may be committed from now on.
    pub(crate) fn set_strict(&mut self, strict: bool) {
        self.strict = strict;
    }

    pub(crate) fn handle_assigned(
        &mut self,
        partitions: impl Iterator<Item = TopicPartition>,
        assignment: u64,
    ) {
        self.assigned.extend(partitions.map(|at| (at, assignment)));
    }

    /// These are not ours any more: what waits of them fails, what is in flight of them may have been done.
    pub(crate) fn handle_unassigned(&mut self, partitions: impl Iterator<Item = TopicPartition>) {
        for at in partitions {
            self.assigned.remove(&at);
            self.wanted.remove(&at);
            if !self.strict {
                continue;
            }
            let flying = match self.commit.and_then(|ticket| self.flights.get(&ticket)) {
                Some(Flight::Commit { entries, .. }) => *entries,
                _ => 0,
            };
            for entry in self.queue.iter_mut().skip(flying) {
                if entry.open.remove(&at).is_some() {
                    entry.error.get_or_insert_with(|| not_ours(&at));
                }
            }
        }
        if self.commit.is_none() {
            self.finish();
        }
    }

    /// Commits these. `assignment` is that with which they were read, if they were.
    pub(crate) fn handle_commit(
        &mut self,
        mut offsets: BTreeMap<TopicPartition, CommitOffset>,
        assignment: Option<u64>,
        deadline: Instant,
    ) -> CommitId {
        self.serial += 1;
        let id = self.serial;
        let mut error = None;
        if self.strict {
            offsets.retain(|at, _| {
                let ours =
                    self.assigned.get(at).is_some_and(|now| assignment.is_none_or(|then| then == *now));
                if !ours {
                    error.get_or_insert_with(|| not_ours(at));
                }
                ours
            });
        }
        self.queue.push_back(Entry { id, open: offsets, assignment, deadline, error });
        if self.commit.is_none() {
            self.finish();
        }
        id
    }

    /// Asks what was committed of these, until it is known.
    pub(crate) fn handle_fetch(&mut self, partitions: impl Iterator<Item = TopicPartition>) {
        self.wanted.extend(partitions);
    }

    /// Whether nothing is to be committed.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next request that is to be made, as a member; each is ended by one [`handle_answer`](Self::handle_answer).
    pub(crate) fn poll_ask(&mut self, now: Instant, by: Option<&Membership>) -> Option<(u64, Request)> {
        self.expire(now);
        let by = by?;
        if self.stale.as_ref() == Some(by) {
            return None;
        }
        if self.commit.is_none() && self.commit_at.is_none_or(|at| at <= now) && !self.queue.is_empty() {
            return Some(self.ask_commit(by));
        }
        if self.fetch.is_none() && self.fetch_at.is_none_or(|at| at <= now) && !self.wanted.is_empty() {
            let asked = self.wanted.clone();
            let request = reading::fetch(by, &asked);
            let ticket = self.begin(Flight::Fetch { asked, by: by.clone() });
            self.fetch = Some(ticket);
            return Some((ticket, Request::Fetch(request)));
        }
        None
    }

    fn ask_commit(&mut self, by: &Membership) -> (u64, Request) {
        let mut sent = BTreeMap::new();
        for entry in &self.queue {
            sent.extend(entry.open.iter().map(|(at, offset)| (at.clone(), offset.clone())));
        }
        let request = reading::commit(by, &sent);
        let ticket = self.begin(Flight::Commit { entries: self.queue.len(), sent, by: by.clone() });
        self.commit = Some(ticket);
        (ticket, Request::Commit(request))
    }

    fn begin(&mut self, flight: Flight) -> u64 {
        self.serial += 1;
        self.flights.insert(self.serial, flight);
        self.serial
    }

    /// A request has ended. Late ones change nothing.
    pub(crate) fn handle_answer(&mut self, ticket: u64, answer: Result<Response>, now: Instant) {
        match self.flights.remove(&ticket) {
            Some(Flight::Commit { entries, sent, by }) => {
                self.commit = None;
                let codes = match answer {
                    Ok(Response::Commit(response)) => Ok(reading::committed(response)),
                    Ok(Response::Fetch(_)) => Err(Error::internal("a fetch answers a commit")),
                    Err(error) => Err(error),
                };
                self.committed(entries, &sent, &by, codes, now);
                self.finish();
            }
            Some(Flight::Fetch { asked, by }) => {
                self.fetch = None;
                let said = match answer {
                    Ok(Response::Fetch(response)) => reading::fetched(response, &asked),
                    Ok(Response::Commit(_)) => Err(Error::internal("a commit answers a fetch")),
                    Err(error) => Err(error),
                };
                self.fetched(asked, &by, said, now);
            }
            None => {}
        }
    }

    fn committed(
        &mut self,
        entries: usize,
        sent: &BTreeMap<TopicPartition, CommitOffset>,
        by: &Membership,
        codes: Result<BTreeMap<TopicPartition, ErrorCode>>,
        now: Instant,
    ) {
        let mut again = false;
        let mut rejoin = None;
        for at in sent.keys() {
            let end = match &codes {
                Ok(codes) => match codes.get(at) {
                    Some(&ErrorCode::NONE) => Ok(()),
                    Some(code) => Err(Error::broker_said(*code, format!("committing {at}"))),
                    // An answer without it says nothing.
                    None => Err(Error::malformed(format!("the answer to a commit says nothing of {at}"))),
                },
                Err(error) => Err(error.clone()),
            };
            let end = match end {
                Err(error) if passes(&error) => {
                    again = true;
                    continue;
                }
                Err(error) => {
                    let code = error.code().filter(|code| asks_to_rejoin(*code));
                    rejoin = rejoin.or(code);
                    // The epoch was just raised: the next one will do.
                    if code == Some(ErrorCode::STALE_MEMBER_EPOCH) && self.assigned.contains_key(at) {
                        continue;
                    }
                    Err(error)
                }
                Ok(()) => Ok(()),
            };
            for entry in self.queue.iter_mut().take(entries) {
                if entry.open.remove(at).is_some()
                    && let Err(error) = &end
                {
                    entry.error.get_or_insert_with(|| error.clone());
                }
            }
        }
        if let Some(code) = rejoin {
            self.stale = Some(by.clone());
            self.events.push_back(Event::Rejoin { membership: by.clone(), code });
        }
        if again {
            self.commit_at = Some(now + self.backoff.after(self.commit_failures, &mut self.dice));
            self.commit_failures = self.commit_failures.saturating_add(1);
        } else {
            (self.commit_at, self.commit_failures) = (None, 0);
        }
        // What was taken from us while it was in flight is not tried again.
        if self.strict {
            let assigned = &self.assigned;
            for entry in &mut self.queue {
                let Entry { open, error, assignment, .. } = entry;
                open.retain(|at, _| {
                    let ours = assigned.get(at).is_some_and(|now| assignment.is_none_or(|then| then == *now));
                    if !ours {
                        error.get_or_insert_with(|| not_ours(at).maybe_done());
                    }
                    ours
                });
            }
        }
    }

    fn fetched(
        &mut self,
        asked: BTreeSet<TopicPartition>,
        by: &Membership,
        said: Result<reading::Said>,
        now: Instant,
    ) {
        let mut found = BTreeMap::new();
        let mut again = false;
        match said {
            Ok(said) => {
                for (at, one) in said {
                    match one {
                        Ok(offset) => drop(found.insert(at, offset)),
                        Err(error) => again |= self.unfetched(BTreeSet::from([at]), by, error),
                    }
                }
            }
            Err(error) => again = self.unfetched(asked, by, error),
        }
        found.retain(|at, _| self.wanted.remove(at));
        if !found.is_empty() {
            self.events.push_back(Event::Fetched(found));
        }
        if again {
            self.fetch_at = Some(now + self.backoff.after(self.fetch_failures, &mut self.dice));
            self.fetch_failures = self.fetch_failures.saturating_add(1);
        } else {
            (self.fetch_at, self.fetch_failures) = (None, 0);
        }
    }

    /// Whether it is asked again.
    fn unfetched(&mut self, partitions: BTreeSet<TopicPartition>, by: &Membership, error: Error) -> bool {
        if let Some(code) = error.code().filter(|code| asks_to_rejoin(*code)) {
            if self.stale.as_ref() != Some(by) {
                self.events.push_back(Event::Rejoin { membership: by.clone(), code });
                self.stale = Some(by.clone());
            }
            return true;
        }
        // Nothing but its being told is a reason to begin elsewhere.
        if passes(&error) || error.is_malformed() || error.code().is_some_and(ErrorCode::is_retriable) {
            return true;
        }
        self.wanted.retain(|at| !partitions.contains(at));
        self.events.push_back(Event::FetchFailed { partitions, error });
        false
    }

    /// Tells of commits of which nothing is left to be done.
    fn finish(&mut self) {
        // In the order of the commits, whatever became of them.
        while self.queue.front().is_some_and(|entry| entry.open.is_empty())
            && let Some(entry) = self.queue.pop_front()
        {
            let result = entry.error.map_or(Ok(()), Err);
            self.events.push_back(Event::Committed { id: entry.id, result });
        }
    }

    fn expire(&mut self, now: Instant) {
        if self.commit.is_some() {
            return;
        }
        for entry in &mut self.queue {
            if entry.deadline <= now {
                let late = || Error::timeout("a commit was not done in time").maybe_done();
                entry.error.get_or_insert_with(late);
                entry.open.clear();
            }
        }
        self.finish();
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`poll_ask`](Self::poll_ask) again, if nothing else happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let commit = (self.commit.is_none() && !self.queue.is_empty()).then_some(self.commit_at).flatten();
        let fetch = (self.fetch.is_none() && !self.wanted.is_empty()).then_some(self.fetch_at).flatten();
        let deadline =
            if self.commit.is_none() { self.queue.iter().map(|entry| entry.deadline).min() } else { None };
        [commit, fetch, deadline].into_iter().flatten().min()
    }
}

fn not_ours(at: &TopicPartition) -> Error {
    Error::broker_said(ErrorCode::ILLEGAL_GENERATION, format!("{at} is not assigned to this member any more"))
}

/// Whether it helps to ask again.
fn passes(error: &Error) -> bool {
    match error.code() {
        Some(code) => matches!(
            code,
            ErrorCode::NOT_COORDINATOR
                | ErrorCode::COORDINATOR_NOT_AVAILABLE
                | ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
                | ErrorCode::REQUEST_TIMED_OUT
                | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                | ErrorCode::UNKNOWN_TOPIC_ID
                | ErrorCode::UNSTABLE_OFFSET_COMMIT
                | ErrorCode::THROTTLING_QUOTA_EXCEEDED
        ),
        None => error.is_io() || error.is_timeout() || error.is_limit(),
    }
}

fn asks_to_rejoin(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::STALE_MEMBER_EPOCH
    )
}

/// Asks what a group has committed, as nobody of its members.
pub(crate) fn fetch_of(group: &Str, partitions: &BTreeSet<TopicPartition>) -> OffsetFetchRequest {
    let nobody = Membership { group: group.clone(), member: Str::new(), instance: None, generation: -1 };
    reading::fetch(&nobody, partitions)
}
