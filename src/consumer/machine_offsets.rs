//! What a group has committed: what is to be written there, and what is to be read from there.
//!
//! The keeper calls `handle_*`, then sends what [`Machine::poll_ask`] gives (a commit and a fetch may be in flight at a time,
//! one of each), drains [`Machine::poll_event`] and comes again at [`Machine::poll_timeout`].
//!
//! **Commits go out in their order, one request at a time** (G13). What waits is one value a partition: a later commit
//! takes the place of an earlier one that has not gone out or has to go out again, and both are told what
//! became of it. So nothing old overwrites what is newer (C18). An explicit commit may go back, as after a seek; an
//! automatic one may not. A commit knows in which assignment its offsets were read: what was revoked or lost
//! since then is refused, also when the partition has come back.
//!
//! **Committed offsets are asked for until they are known** (N07, T14). An answer counts for what was asked and can be right
//! (G12); everything else is asked again. So there is no answer "nothing committed" that a failure has made.
//!
//! Requests name topics and carry no topic ids: `OffsetCommit` and `OffsetFetch` go up to version 9.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::TopicPartition;
use super::group::Membership;
use crate::cluster::Backoff;
use crate::conn::Dice;
use crate::messages::offset_commit::{OffsetCommitRequest, OffsetCommitResponse};
use crate::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchResponse};
use crate::wire::Str;
use crate::{Error, ErrorCode, Result};

mod commits;
mod fetches;

use commits::Commits;
use fetches::Fetches;
pub(crate) use fetches::{question, told};

/// How long to wait for another epoch after a refusal that said ours is old. The group's machine has one in a
/// heartbeat's time, if it is to have one.
const EPOCH_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CommitId(u64);

/// Where to go on in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommitOffset {
    pub(crate) offset: i64,
    /// Of the last record before it; -1 if unknown.
    pub(crate) leader_epoch: i32,
    pub(crate) metadata: Str,
}

/// Who wants the commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The application, which may go back.
    Explicit,
    /// The consumer, which may not.
    Automatic,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Commit(OffsetCommitRequest),
    /// In the form with groups (KIP-709); the cluster takes it apart for older brokers.
    Fetch(OffsetFetchRequest),
}

#[derive(Debug, Clone)]
pub(crate) enum Response {
    Commit(OffsetCommitResponse),
    /// In either form.
    Fetch(OffsetFetchResponse),
}

/// A request to the group's coordinator. Each is ended by one `handle_answer` with its ticket.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) ticket: u64,
    pub(crate) request: Request,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// What came of a commit: once for each, with all its partitions.
    Committed { id: CommitId, results: BTreeMap<TopicPartition, Result<()>> },
    /// What the group has committed; `None` is the coordinator's word that there is nothing.
    Fetched(BTreeMap<TopicPartition, Option<CommitOffset>>),
    /// It will not be known, and is not asked for any more.
    FetchFailed { partitions: BTreeSet<TopicPartition>, error: Error },
    /// For the group's machine, `handle_rejoin` (G02, N05).
    Rejoin(ErrorCode),
}

/// When one of the two kinds may be asked again.
#[derive(Debug, Default)]
struct Pause {
    failures: u32,
    not_before: Option<Instant>,
    /// Not with this epoch until then.
    stale: Option<(i32, Instant)>,
}

impl Pause {
    /// The coordinator has answered. An epoch that is old stays so.
    fn ended(&mut self) {
        (self.failures, self.not_before) = (0, None);
    }

    fn again(&mut self, backoff: Backoff, dice: &mut Dice, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + backoff.after(self.failures, dice));
    }

    fn allows(&self, membership: &Membership, now: Instant) -> bool {
        let fresh = |(epoch, until)| membership.generation != epoch || until <= now;
        self.not_before.is_none_or(|at| at <= now) && self.stale.is_none_or(fresh)
    }

    /// When to look again with this epoch. A new one is an input, so that it need not be waited for.
    fn until(&self, generation: i32) -> Option<Instant> {
        let stale = self.stale.filter(|(epoch, _)| *epoch == generation);
        self.not_before.max(stale.map(|(_, until)| until))
    }
}

#[derive(Debug)]
pub(crate) struct Machine {
    commits: Commits,
    fetches: Fetches,
    backoff: Backoff,
    dice: Dice,
    tickets: u64,
    /// The time of the last input.
    now: Option<Instant>,
    /// With which epoch to ask, at the last look; with none there was nobody to ask as.
    generation: Option<i32>,
    events: VecDeque<Event>,
    #[cfg(test)]
    planted: Option<Planted>,
}

/// Defects that the model must catch.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    /// A retry takes the place of what is newer.
    OldOverNew,
    /// Go on with what was revoked.
    CommitRevoked,
    /// Take the first answer for all that was asked.
    OmittedIsNone,
    /// Tell only the last of those whose commits were merged.
    ForgetMerged,
    /// Take an answer for a question that was asked anew meanwhile.
    AnyAnswer,
    /// Let a commit share the fate of one of an assignment that is over.
    MixAssignments,
}

impl Machine {
    /// The seed spreads the pauses between attempts.
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        Self {
            commits: Commits::default(),
            fetches: Fetches::default(),
            backoff,
            dice: Dice::new(seed),
            tickets: 0,
            now: None,
            generation: Some(-1),
            events: VecDeque::new(),
            #[cfg(test)]
            planted: None,
        }
    }

    /// Commit these, which were read in that assignment; assignments are counted upwards. What is not done by the
    /// deadline fails, and may have happened.
    pub(crate) fn handle_commit(
        &mut self,
        offsets: BTreeMap<TopicPartition, CommitOffset>,
        assignment: u64,
        origin: Origin,
        deadline: Instant,
        now: Instant,
    ) -> CommitId {
        self.now = Some(now);
        #[cfg(test)]
        {
            self.commits.mixes = self.planted == Some(Planted::MixAssignments);
        }
        let (id, events) = self.commits.add(offsets, assignment, origin, deadline);
        self.events.extend(events);
        id
    }

    /// Ask what is committed for these.
    pub(crate) fn handle_fetch(&mut self, partitions: BTreeSet<TopicPartition>, now: Instant) {
        self.now = Some(now);
        self.fetches.add(partitions);
    }

    /// These are not ours any more. That assignment, and those before it, can commit nothing for them.
    pub(crate) fn handle_unassigned(&mut self, partitions: &BTreeSet<TopicPartition>, assignment: u64) {
        self.fetches.drop(partitions);
        #[cfg(test)]
        if self.planted == Some(Planted::CommitRevoked) {
            return;
        }
        let events = self.commits.close(partitions, assignment);
        self.events.extend(events);
    }

    /// An ask has ended.
    pub(crate) fn handle_answer(&mut self, ticket: u64, answer: Result<Response>, now: Instant) {
        self.now = Some(now);
        if self.commits.is_in_flight(ticket) {
            let answer = answer.and_then(|answer| match answer {
                Response::Commit(answer) => Ok(answer),
                Response::Fetch(_) => Err(Error::internal("a commit was answered by something else")),
            });
            self.commits_answered(answer, now);
        } else if self.fetches.is_in_flight(ticket) {
            let answer = answer.and_then(|answer| match answer {
                Response::Fetch(answer) => Ok(answer),
                Response::Commit(_) => Err(Error::internal("a fetch was answered by something else")),
            });
            self.fetches_answered(answer, now);
        }
    }

    /// The next request, if one is to be sent now. Nothing is sent while there is no membership; a consumer
    /// without a group's protocol has one with generation -1 and an empty member id.
    pub(crate) fn poll_ask(&mut self, now: Instant, membership: Option<&Membership>) -> Option<Ask> {
        self.now = Some(now);
        let events = self.commits.expire(now);
        self.events.extend(events);
        self.generation = membership.map(|membership| membership.generation);
        let membership = membership?;
        let ticket = self.tickets + 1;
        let request = self.commits.ask(ticket, membership, now).map(Request::Commit);
        let request = request.or_else(|| self.fetches.ask(ticket, membership, now).map(Request::Fetch))?;
        self.tickets = ticket;
        Some(Ask { ticket, request })
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call `poll_ask` again, if nothing else happens before. Whoever gets another membership calls it too.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let commits = self.generation.and_then(|generation| self.commits.due(generation, self.now));
        let fetches = self.generation.and_then(|generation| self.fetches.due(generation, self.now));
        [commits, fetches, self.commits.deadline()].into_iter().flatten().min()
    }

    /// Whether commits are still to be told about.
    pub(crate) fn is_committing(&self) -> bool {
        !self.commits.is_empty()
    }
}

/// Whether what got no answer is asked again.
fn passes(error: &Error) -> bool {
    error.is_io() || error.is_timeout() || error.is_retriable() || error.is_malformed()
}

/// Whether another epoch may do what this one may not.
fn wants_epoch(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::STALE_MEMBER_EPOCH | ErrorCode::ILLEGAL_GENERATION | ErrorCode::REBALANCE_IN_PROGRESS
    )
}

/// Whether the group does not count us in any more.
fn shuts_out(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_MEMBER_EPOCH | ErrorCode::FENCED_INSTANCE_ID
    )
}

#[cfg(test)]
mod tests;
