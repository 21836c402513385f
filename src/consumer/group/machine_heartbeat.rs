//! A member of a consumer group of KIP-848: the coordinator assigns, and everything is said by heartbeats.
//!
//! The keeper calls `handle_*` for what the application and the coordinator say, then sends what
//! [`Machine::poll_ask`] gives, drains [`Machine::poll_event`] and comes again at [`Machine::poll_timeout`].
//! Time acts in `poll_ask` only, so that call is never left out.
//!
//! ```text
//! Idle -> Joining -> Member -> Joining, when fenced: all is lost, the id is kept, the epoch is 0 (N04)
//! Joining | Member -> Stale, when the application stays away; -> Joining when it comes back (N10)
//! Joining | Member -> Leaving -> Idle | Joining | Left;  any -> Failed
//! ```
//!
//! Who says what is owned gives up the rest: a coordinator that wanted some of it back gives that to others then. So
//! nothing is taken between such a heartbeat and its answer, however long ago the target came.
//!
//! A static member may be refused because of itself: its join was heard and the answer lost, or it was fenced, and the
//! coordinator refuses every join for an instance that has not left, by the same id too. It leaves for a while then and
//! joins again. If the instance is another's, that leave does nothing, and the second refusal is final.
//!
//! A target is reconciled in two steps: what is not in it is revoked, and only when the application has handed
//! that over is the rest taken. A newer target waits for the end of the first step and is what the second step
//! follows. Each end is told to the coordinator at once (N09). Heartbeats go on meanwhile, and say what is owned still.
//!
//! `handle_revoked` names no partitions: it belongs to the last `Event::Revoke`, and a keeper that hears `Lost` must
//! forget that one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::{Ask, Event, Leave, Membership, Response, Settings, TopicPartition};
use crate::conn::Dice;
use crate::wire::{Str, Uuid};
use crate::{Error, ErrorCode, Result};

mod answers;
mod request;
mod target;

use request::Sent;
use target::Revoking;

/// What goes for the interval until the coordinator has said one, or if what it said cannot be right (N08).
const INTERVAL: Duration = Duration::from_secs(5);
/// An interval below this would be a hot loop, one above the other leave a member forgotten.
const INTERVAL_LEAST: Duration = Duration::from_millis(100);
const INTERVAL_MOST: Duration = Duration::from_mins(1);

/// The epoch with which a member joins.
const JOIN: i32 = 0;
/// The epoch with which it leaves for good.
const LEAVE: i32 = -1;
/// The epoch with which a static member leaves for a while (KIP-345).
const LEAVE_STATIC: i32 = -2;

/// A partition by the id of its topic, which outlives the name.
type Partition = (Uuid, i32);

/// Where a member stands, for those who look at it.
#[cfg_attr(not(test), allow(dead_code, reason = "for health, which comes with the patterns"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Idle,
    Joining,
    /// The application has still to hand over something.
    Reconciling,
    Stable,
    /// Out of the group, since the application stays away.
    Stale,
    Leaving,
    Left,
    Failed,
}

/// Whether a group can be joined by the classic protocol after this one has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// The coordinator does not speak this protocol, or was told not to.
    NoSuchProtocol,
    /// The group has classic members, and the coordinator does not convert it.
    GroupIsClassic,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    Idle,
    Join,
    Left,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Joining,
    Member,
    /// With the epoch by which to leave, until the coordinator knows.
    Stale {
        leave: Option<i32>,
    },
    Leaving {
        epoch: i32,
        then: Then,
    },
    Left,
    Failed,
}

/// A heartbeat on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Flight {
    ticket: u64,
    /// It says that we leave.
    leaves: bool,
    /// A coordinator may have known us before it.
    known: bool,
    at: Instant,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Subscription {
    topics: BTreeSet<Str>,
    regex: Option<Str>,
}

impl Subscription {
    fn is_empty(&self) -> bool {
        self.topics.is_empty() && self.regex.is_none()
    }
}

#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    member_id: Str,
    phase: Phase,
    /// Positive for a member only.
    epoch: i32,
    subscription: Subscription,
    /// A regular expression may be on the coordinator's mind: a full request must say that there is none.
    regex_sent: bool,
    /// A coordinator may know us.
    known: bool,

    /// What the application has been told to be its own, with the names it was told.
    owned: BTreeMap<Partition, Str>,
    revoking: Option<Revoking>,
    target: Option<BTreeSet<Partition>>,
    /// The application has not heard of this target yet.
    fresh: bool,
    names: BTreeMap<Uuid, Str>,

    /// What the coordinator has heard; unknown after an answer that was lost or bad.
    sent: Option<Sent>,
    /// Say what is owned at once.
    acknowledge: bool,
    /// What is owned was said, and no good answer has come since.
    claimed: bool,
    /// Send a heartbeat at once: the epoch may have changed.
    nudged: bool,
    flight: Option<Flight>,
    last_sent: Option<Instant>,
    interval: Duration,
    not_before: Option<Instant>,
    failures: u32,
    polled: Option<Instant>,
    /// The time of the last input.
    now: Option<Instant>,

    tickets: u64,
    dice: Dice,
    events: VecDeque<Event>,
    #[cfg(test)]
    planted: Option<Planted>,
}

/// Defects that the model must catch.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planted {
    /// Take what is new before what goes is handed over.
    TakeFirst,
    /// Be silent about what was lost.
    SilentLoss,
    /// Believe answers after leaving.
    AnswersAfterLeaving,
    /// Wait for the interval when a revocation is done.
    LateAcknowledgement,
    /// Send no full request after an answer that was lost.
    NotInFull,
    /// Keep what was owned when fenced.
    KeepWhenFenced,
    /// Do not leave when closed before joined.
    GhostOnClose,
    /// Take a refusal that is due to the member itself for the last word.
    HeldIsFinal,
}

impl Machine {
    /// The member's id is a random UUID made by the client (KIP-1082). The seed spreads the pauses.
    pub(crate) fn new(settings: Settings, member_id: Str, seed: u64) -> Self {
        Self {
            settings,
            member_id,
            phase: Phase::Idle,
            epoch: JOIN,
            subscription: Subscription::default(),
            regex_sent: false,
            known: false,
            owned: BTreeMap::new(),
            revoking: None,
            target: None,
            fresh: false,
            names: BTreeMap::new(),
            sent: None,
            acknowledge: false,
            claimed: false,
            nudged: false,
            flight: None,
            last_sent: None,
            interval: INTERVAL,
            not_before: None,
            failures: 0,
            polled: None,
            now: None,
            tickets: 0,
            dice: Dice::new(seed),
            events: VecDeque::new(),
            #[cfg(test)]
            planted: None,
        }
    }

    /// What is wanted from now on; the expression is RE2J's and the coordinator's to match. With neither, what is owned is
    /// given back and the group is left.
    pub(crate) fn handle_subscription(&mut self, topics: BTreeSet<Str>, regex: Option<Str>, now: Instant) {
        self.now = Some(now);
        self.subscription = Subscription { topics, regex };
        let empty = self.subscription.is_empty();
        match self.phase {
            Phase::Idle if !empty => {
                self.polled = Some(now);
                self.join();
            }
            Phase::Leaving { epoch, then: Then::Idle | Then::Join } => {
                let then = if empty { Then::Idle } else { Then::Join };
                self.polled = Some(now);
                self.phase = Phase::Leaving { epoch, then };
            }
            Phase::Joining | Phase::Member => self.reconcile(now),
            _ => {}
        }
    }

    /// The cluster's metadata has changed. Partitions of topics without a name wait for it (N06).
    pub(crate) fn handle_names(&mut self, resolve: &dyn Fn(Uuid) -> Option<Str>, now: Instant) {
        self.now = Some(now);
        for id in self.unresolved() {
            if let Some(name) = resolve(id) {
                self.names.insert(id, name);
            }
        }
        self.reconcile(now);
    }

    /// The topics that were assigned and whose names metadata has yet to say.
    pub(crate) fn unresolved(&self) -> BTreeSet<Uuid> {
        let ids = self.target.iter().flatten().map(|(id, _)| *id);
        ids.filter(|id| !self.names.contains_key(id)).collect()
    }

    /// The application has come back for more.
    pub(crate) fn handle_poll(&mut self, now: Instant) {
        self.now = Some(now);
        self.polled = Some(now);
        let wanted = !self.subscription.is_empty();
        match self.phase {
            // A leave that is still on its way need not be heard: joining with epoch 0 replaces the member, and a
            // static one that is refused releases its instance first.
            Phase::Stale { .. } if wanted => self.join(),
            Phase::Stale { leave: Some(epoch) } => self.phase = Phase::Leaving { epoch, then: Then::Idle },
            Phase::Stale { leave: None } => self.phase = Phase::Idle,
            _ => {}
        }
    }

    /// The application has handed over what the last `Event::Revoke` named.
    pub(crate) fn handle_revoked(&mut self, now: Instant) {
        self.now = Some(now);
        if let Some(revoking) = self.revoking.take() {
            self.release(&revoking);
            self.reconcile(now);
        }
    }

    /// A commit or a fetch of offsets by that member was refused with that code (N05, G02).
    pub(crate) fn handle_rejoin(&mut self, of: &Membership, why: ErrorCode, now: Instant) {
        self.now = Some(now);
        if self.phase != Phase::Member {
            return;
        }
        // Who asked may have joined anew since, or have another epoch.
        let current = self.membership().is_some_and(|ours| ours == *of);
        match why {
            ErrorCode::UNKNOWN_MEMBER_ID | ErrorCode::FENCED_MEMBER_EPOCH if current => {
                self.fenced(&Error::broker_said(why, "committed or fetched offsets"));
            }
            ErrorCode::FENCED_INSTANCE_ID if current => {
                self.failed(Error::broker_said(why, "committed or fetched offsets"));
            }
            // The next heartbeat brings the epoch that goes, or says what is wrong.
            _ => self.nudged = true,
        }
    }

    /// No more of this group. What is owned is not told as revoked: the keeper has had it handed over before, or
    /// knows that it was not.
    pub(crate) fn handle_close(&mut self, leave: Leave, now: Instant) {
        self.now = Some(now);
        if self.phase == Phase::Left || matches!(self.phase, Phase::Leaving { then: Then::Left, .. }) {
            return;
        }
        self.forget();
        let silent = leave == Leave::Never && self.settings.instance.is_none();
        let epoch = match leave {
            Leave::Always => LEAVE,
            _ => self.leave_epoch(),
        };
        let left_already = matches!(self.phase, Phase::Stale { leave: None });
        #[cfg(test)]
        let silent = silent || self.planted == Some(Planted::GhostOnClose) && self.epoch == JOIN;
        // A static member that has left for a while may still leave for good.
        if silent || !self.known || left_already {
            self.left();
        } else {
            self.leave(epoch, Then::Left);
        }
        self.epoch = JOIN;
    }

    /// An ask has ended. Late ones, of asks that were given up, change nothing (N01).
    pub(crate) fn handle_answer(&mut self, ticket: u64, answer: Result<Response>, now: Instant) {
        self.now = Some(now);
        let Some(flight) = self.flight.filter(|flight| flight.ticket == ticket) else {
            return;
        };
        self.flight = None;
        self.answered(flight, answer, now);
    }

    /// The next request, if one is to be sent now; one is in flight at most.
    pub(crate) fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        self.now = Some(now);
        self.advance(now);
        if self.flight.is_some() || self.due().is_none_or(|at| now < at) {
            return None;
        }
        Some(self.ask(now))
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call `poll_ask` again, if nothing else happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let due = if self.flight.is_none() { self.due() } else { None };
        let hand_over = self.revoking.as_ref().map(|revoking| revoking.deadline);
        [due, hand_over, self.poll_deadline()].into_iter().flatten().min()
    }

    /// Who commits; nobody while the group does not count us in.
    pub(crate) fn membership(&self) -> Option<Membership> {
        (self.phase == Phase::Member && self.epoch > JOIN).then(|| Membership {
            group: self.settings.group.clone(),
            member: self.member_id.clone(),
            instance: self.settings.instance.clone(),
            generation: self.epoch,
        })
    }

    #[cfg_attr(not(test), allow(dead_code, reason = "for health, which comes with the patterns"))]
    pub(crate) fn state(&self) -> State {
        match self.phase {
            Phase::Idle => State::Idle,
            Phase::Joining => State::Joining,
            Phase::Member if self.revoking.is_some() || !self.unresolved().is_empty() => State::Reconciling,
            Phase::Member => State::Stable,
            Phase::Stale { .. } => State::Stale,
            Phase::Leaving { .. } => State::Leaving,
            Phase::Left => State::Left,
            Phase::Failed => State::Failed,
        }
    }

    /// Whether the classic protocol may do after an `Event::Failed` with that error. Not for an expression that
    /// only a coordinator of this protocol can match.
    pub(crate) fn fallback(&self, error: &Error) -> Option<Fallback> {
        if self.subscription.regex.is_some() {
            return None;
        }
        match error.code() {
            Some(ErrorCode::UNSUPPORTED_VERSION) => Some(Fallback::NoSuchProtocol),
            Some(ErrorCode::GROUP_ID_NOT_FOUND) => Some(Fallback::GroupIsClassic),
            None if error.is_unsupported() => Some(Fallback::NoSuchProtocol),
            _ => None,
        }
    }

    /// What time alone brings about.
    fn advance(&mut self, now: Instant) {
        if self.poll_deadline().is_some_and(|at| at <= now) {
            self.stale();
        }
        let late = |revoking: &Revoking| revoking.deadline <= now;
        if self.revoking.as_ref().is_some_and(late)
            && let Some(revoking) = self.revoking.take()
        {
            let partitions = self.release(&revoking);
            let why = Error::timeout(format!(
                "partitions were not handed over within max.poll.interval ({:?})",
                self.settings.max_poll_interval
            ));
            self.events.push_back(Event::Lost { partitions, why });
            self.reconcile(now);
        }
    }

    /// When the application will have stayed away too long.
    fn poll_deadline(&self) -> Option<Instant> {
        let counts = matches!(self.phase, Phase::Joining | Phase::Member);
        self.polled.filter(|_| counts).map(|at| at + self.settings.max_poll_interval)
    }

    /// When a request goes out, if none is in flight. A time that has passed means now.
    fn due(&self) -> Option<Instant> {
        let at_once = self.not_before.or(self.now);
        match self.phase {
            Phase::Joining | Phase::Leaving { .. } | Phase::Stale { leave: Some(_) } => at_once,
            // Neither the application nor a refused commit makes heartbeats of a failing coordinator more frequent.
            Phase::Member if self.failures > 0 => self.not_before,
            Phase::Member if self.acknowledge || self.has_changed() => at_once,
            Phase::Member if self.nudged => self.last_sent.map(|at| at + self.settings.backoff.first),
            Phase::Member => self.last_sent.map(|at| at + self.interval),
            _ => None,
        }
    }

    fn join(&mut self) {
        self.phase = Phase::Joining;
        self.epoch = JOIN;
        self.sent = None;
        self.flight = None;
        self.nudged = false;
        self.acknowledge = false;
    }

    /// Drop all that was owned or was to be. Gives what it was.
    fn forget(&mut self) -> BTreeSet<TopicPartition> {
        let owned = std::mem::take(&mut self.owned);
        self.revoking = None;
        self.target = None;
        self.fresh = false;
        self.names.clear();
        self.acknowledge = false;
        owned.iter().map(|((_, partition), name)| TopicPartition::of(name, *partition)).collect()
    }

    fn lose(&mut self, why: &Error) {
        #[cfg(test)]
        if self.planted == Some(Planted::KeepWhenFenced) {
            return;
        }
        let partitions = self.forget();
        #[cfg(test)]
        if self.planted == Some(Planted::SilentLoss) {
            return;
        }
        if !partitions.is_empty() {
            self.events.push_back(Event::Lost { partitions, why: why.clone() });
        }
    }

    /// The coordinator does not count us in any more, though it may know the id.
    fn fenced(&mut self, why: &Error) {
        self.lose(why);
        if self.subscription.is_empty() { self.resign() } else { self.join() }
    }

    fn failed(&mut self, why: Error) {
        self.lose(&why);
        self.phase = Phase::Failed;
        self.epoch = JOIN;
        self.flight = None;
        self.events.push_back(Event::Failed(why));
    }

    /// The application has stayed away too long (N10).
    fn stale(&mut self) {
        let why = Error::timeout(format!(
            "the application did not come back for records within max.poll.interval ({:?})",
            self.settings.max_poll_interval
        ));
        self.lose(&why);
        self.leave(self.leave_epoch(), Then::Idle);
        self.phase = Phase::Stale { leave: self.known.then(|| self.leave_epoch()) };
    }

    fn leave_epoch(&self) -> i32 {
        if self.settings.instance.is_some() { LEAVE_STATIC } else { LEAVE }
    }

    /// Leave, and do not wait for what is in flight: its answer does not count any more (N01).
    fn leave(&mut self, epoch: i32, then: Then) {
        self.phase = Phase::Leaving { epoch, then };
        self.epoch = JOIN;
        self.nudged = false;
        #[cfg(test)]
        if self.planted == Some(Planted::AnswersAfterLeaving) && self.flight.is_some() {
            return;
        }
        self.flight = None;
        self.failures = 0;
        self.not_before = None;
    }

    fn left(&mut self) {
        self.known = false;
        self.flight = None;
        self.phase = Phase::Left;
        self.events.push_back(Event::Left);
    }

    /// Try again, after a pause that grows, and say everything.
    fn again(&mut self, now: Instant) {
        self.sent = None;
        #[cfg(test)]
        if self.planted == Some(Planted::NotInFull) {
            self.sent = Some(self.current());
        }
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + self.settings.backoff.after(self.failures, &mut self.dice));
    }
}

#[cfg(test)]
mod tests;
