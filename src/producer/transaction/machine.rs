//! A transactional producer as a machine: what may begin, what is sent to a coordinator, how it ends.
//!
//! The pump calls `handle_*` for what the user wants, what becomes of batches and what coordinators answer;
//! then it drains `poll_event`, sends what `poll_request` gives (one request is in flight at most) and asks
//! `poll_timeout` when to come again. It must see every answer that was lost: requests to the coordinator
//! are made once each, and the machine makes them again.
//!
//! ```text
//! Uninitialized -> Initializing -> Ready -> InTransaction -> Committing | Aborting -> Ready
//! InTransaction -> Abortable -> Aborting;  Committing -> Aborting, if it cannot be committed
//! Committing -> Indeterminate, if nobody waits for it any more, or the broker cannot say how it ended
//! Committing | Aborting | Indeterminate -> Initializing, when the epoch must be raised first
//! Initializing -> Uninitialized, if the broker does not allow it now;  any -> Fatal
//! ```
//!
//! **No request of one transaction may act on the next** (T01). With V2 each end raises the epoch. With V1 the
//! epoch stays, and a request whose answer was lost may still arrive: then it is raised before the next
//! transaction begins. A commit that may have been done is never followed by an abort: it is sent again
//! until the coordinator says how the transaction ended. `InitProducerId` while it is still open would not
//! do instead: the coordinator answers that by fencing whoever asks.

use std::collections::VecDeque;
use std::time::Instant;

use super::machine_codes::{self as codes, Verdict};
use super::machine_work::{Abilities, Group, Level, Offset, Offsets, Request, Work};
use super::trace::Trace;
use crate::cluster::Backoff;
use crate::conn::Dice;
use crate::producer::machine_identity::{Identity, SOON};
use crate::{Error, Result};

/// A request that is to be sent now, once. It is ended by one of the methods that take its ticket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) ticket: u64,
    pub(crate) request: Request,
    /// Whoever coordinated may do so no longer: find out again before sending.
    pub(crate) find_again: bool,
}

/// How a transaction ended for the one who began it. Told once for each.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Committed,
    Aborted,
    /// It never will be committed, whatever else is unknown; the machine sees to its abort.
    NotCommitted(Error),
    /// Nobody knows whether it is committed. It is so or not before the next one begins.
    Unknown(Error),
}

#[derive(Debug)]
pub(crate) enum Event {
    /// `handle_begin` may be called again. Batches are marked with the identity; if it is another than
    /// before, every partition's sequences begin at 0.
    Ready(Identity),
    /// Partitions were added: ask again for those that had to wait.
    Added,
    /// What came of offsets that were given.
    Offsets { call: u64, result: Result<()> },
    /// The transaction can only be aborted. Batches of it that were not sent are not sent any more.
    Failing { error: Error },
    /// The last word on a transaction.
    Ended { transaction: u64, outcome: Outcome },
    /// No identity was given. Whoever waits to begin gets the error; the next wish asks again.
    Refused(Error),
    /// This producer is at its end.
    Fatal(Error),
}

#[derive(Debug)]
pub(super) enum State {
    Uninitialized,
    Initializing,
    Ready,
    InTransaction(Work),
    Abortable(Work, Error),
    Committing {
        work: Work,
        /// Every batch of it has an answer.
        flushed: bool,
        /// An `EndTxn` may have been done, or may yet be.
        unsure: bool,
    },
    Aborting {
        work: Work,
        flushed: bool,
        /// Its outcome was told when its commit failed.
        told: bool,
    },
    /// Its outcome is told, as unknown; it is being found out.
    Indeterminate(Work),
    Fatal(Error),
}

#[derive(Debug)]
pub(super) struct Flight {
    pub(super) ticket: u64,
    pub(super) request: Request,
    /// Who was asked, once that is known.
    pub(super) broker: Option<i32>,
}

#[derive(Debug)]
pub(crate) struct Machine {
    pub(super) state: State,
    pub(super) identity: Option<Identity>,
    pub(super) abilities: Abilities,
    /// The epoch must be raised before another transaction begins.
    pub(super) bump: bool,
    flight: Option<Flight>,
    not_before: Option<Instant>,
    /// In a row, since the last success.
    failures: u32,
    find_again: bool,
    /// Why the last request has to be made again, if it has.
    delay: Option<Error>,
    tickets: u64,
    transactions: u64,
    calls: u64,
    backoff: Backoff,
    dice: Dice,
    pub(super) events: VecDeque<Event>,
    pub(super) trace: Trace,
}

impl Machine {
    /// The seed spreads the pauses between attempts.
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        Self {
            state: State::Uninitialized,
            identity: None,
            abilities: Abilities { level: Level::V1, bumps: false },
            bump: false,
            flight: None,
            not_before: None,
            failures: 0,
            find_again: false,
            delay: None,
            tickets: 0,
            transactions: 0,
            calls: 0,
            backoff,
            dice: Dice::new(seed),
            events: VecDeque::new(),
            trace: Trace::default(),
        }
    }

    /// What batches are marked with, once that is known.
    #[cfg(test)]
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// Why this producer is at its end, if it is.
    pub(crate) fn error(&self) -> Option<&Error> {
        match &self.state {
            State::Fatal(error) => Some(error),
            _ => None,
        }
    }

    /// How brokers are spoken with in the transaction under way.
    pub(crate) fn level(&self) -> Level {
        self.abilities.level
    }

    /// Whether there is a transaction that has begun and not ended.
    pub(crate) fn is_under_way(&self) -> bool {
        !matches!(self.state, State::Uninitialized | State::Initializing | State::Ready | State::Fatal(_))
    }

    /// Whether `handle_begin` may be called again with hope.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Uninitialized | State::Ready)
    }

    /// Why the transaction under way can only be aborted, if that is so.
    pub(crate) fn trouble(&self) -> Option<&Error> {
        match &self.state {
            State::Abortable(_, error) | State::Fatal(error) => Some(error),
            _ => None,
        }
    }

    /// Why it takes so long, as far as a coordinator has said.
    pub(crate) fn delay(&self) -> Option<&Error> {
        self.delay.as_ref()
    }

    /// The last request has to be made again, because of this.
    pub(super) fn delayed(&mut self, why: Error) {
        self.delay = Some(why);
    }

    /// Whether the transaction under way is, or may yet be, committed.
    pub(crate) fn may_commit(&self) -> bool {
        matches!(self.state, State::InTransaction(_) | State::Committing { .. } | State::Indeterminate(_))
    }

    /// The producer was closed, and nothing can be asked any more.
    pub(crate) fn handle_closed(&mut self, error: Error) {
        self.die(error);
    }

    /// Begins a transaction and gives its number; none if that must wait for [`Event::Ready`], after which
    /// to call it again. Whoever waits no longer need not say so. `abilities` are the brokers' as of now.
    pub(crate) fn handle_begin(&mut self, abilities: Abilities) -> Result<Option<u64>> {
        match &self.state {
            State::Fatal(error) => return Err(error.clone()),
            State::InTransaction(_) | State::Abortable(..) => {
                return Err(Error::invalid("a transaction is under way"));
            }
            State::Uninitialized => {
                self.abilities = abilities;
                self.state = State::Initializing;
                return Ok(None);
            }
            State::Ready => {}
            _ => return Ok(None),
        }
        // What was begun the old way must not be taken for a part of the new (KIP-890).
        let upgraded = self.abilities.level == Level::V1 && abilities.level == Level::V2;
        self.abilities = abilities;
        if upgraded {
            self.bump = true;
            self.state = State::Initializing;
            return Ok(None);
        }
        self.transactions += 1;
        self.state = State::InTransaction(Work::new(self.transactions, abilities.level));
        Ok(Some(self.transactions))
    }

    /// A batch of the transaction is for that partition: may it be sent now? If not, ask again after
    /// [`Event::Added`]; an error says that it never may.
    pub(crate) fn handle_partition(&mut self, topic: &str, partition: i32) -> Result<bool> {
        match &mut self.state {
            State::InTransaction(work) | State::Committing { work, flushed: false, .. } => {
                Ok(work.want(topic, partition))
            }
            State::Abortable(_, error) | State::Fatal(error) => Err(error.clone()),
            _ => Err(Error::invalid("no transaction takes records now")),
        }
    }

    /// Offsets become a part of the transaction. What comes of it is an event with the number given here.
    pub(crate) fn handle_offsets(&mut self, group: Group, offsets: Vec<Offset>) -> Result<u64> {
        match &mut self.state {
            State::InTransaction(work) => {
                self.calls += 1;
                if offsets.is_empty() {
                    self.events.push_back(Event::Offsets { call: self.calls, result: Ok(()) });
                } else {
                    work.offsets.push_back(Offsets { call: self.calls, group, pending: offsets });
                }
                Ok(self.calls)
            }
            State::Abortable(_, error) | State::Fatal(error) => Err(error.clone()),
            _ => Err(Error::invalid("no transaction takes offsets now")),
        }
    }

    /// A batch of the transaction came to nothing, or may have: it expired, or its partition's leader
    /// refused it.
    pub(crate) fn handle_batch_failed(&mut self, error: &Error) {
        match codes::of_batch(error.code()) {
            Verdict::Fatal | Verdict::Fenced => self.die(error.clone()),
            _ => self.fail(error, true),
        }
    }

    /// The transaction is to be committed. It is when its batches are flushed and nothing has failed; the
    /// outcome is an event, as it is for one that has failed already, which is aborted instead.
    pub(crate) fn handle_commit(&mut self) -> Result<()> {
        self.change(|machine, state| match state {
            State::InTransaction(work) => (State::Committing { work, flushed: false, unsure: false }, Ok(())),
            State::Abortable(work, error) => {
                machine.tell(work.id, Outcome::NotCommitted(error));
                (State::Aborting { work, flushed: false, told: true }, Ok(()))
            }
            State::Fatal(error) => (State::Fatal(error.clone()), Err(error)),
            other => (other, Err(Error::invalid("no transaction is under way"))),
        })
    }

    /// The transaction is to be aborted. Batches of it that were not sent are not sent any more.
    pub(crate) fn handle_abort(&mut self) -> Result<()> {
        if matches!(self.state, State::InTransaction(_) | State::Abortable(..)) {
            self.drop_offsets(&Error::closed("the transaction was aborted"));
        }
        self.change(|_, state| match state {
            State::InTransaction(work) | State::Abortable(work, _) => {
                (State::Aborting { work, flushed: false, told: false }, Ok(()))
            }
            State::Fatal(error) => (State::Fatal(error.clone()), Err(error)),
            other => (other, Err(Error::invalid("no transaction is under way"))),
        })
    }

    /// No batch of the transaction that is being ended is on its way or waits to be sent.
    pub(crate) fn handle_flushed(&mut self) {
        if let State::Committing { flushed, .. } | State::Aborting { flushed, .. } = &mut self.state {
            *flushed = true;
            self.settle();
        }
    }

    /// Whoever asked for the end of the transaction waits no longer and gets this error; the end goes on
    /// without him (T20). A commit that was not sent yet becomes an abort.
    pub(crate) fn handle_gave_up(&mut self, why: Error) {
        let ending = self.is_ending();
        self.change(|machine, state| match state {
            State::Committing { work, unsure, .. } if unsure || ending => {
                machine.tell(work.id, Outcome::Unknown(why));
                machine.bump |= work.level == Level::V1;
                (State::Indeterminate(work), ())
            }
            State::Committing { work, flushed, .. } | State::Aborting { work, flushed, told: false } => {
                machine.tell(work.id, Outcome::NotCommitted(why));
                (State::Aborting { work, flushed, told: true }, ())
            }
            other => (other, ()),
        });
        if matches!(self.state, State::Aborting { .. }) {
            self.drop_offsets(&Error::closed("the transaction is being aborted"));
        }
        self.settle();
    }

    /// The next request to a coordinator, if one is to be sent now.
    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Ask> {
        if self.flight.is_some() || self.not_before.is_some_and(|at| now < at) {
            return None;
        }
        let request = self.next_request()?;
        if let (Request::CommitOffsets { .. }, State::InTransaction(work) | State::Committing { work, .. }) =
            (&request, &mut self.state)
        {
            // With V2 this is what opens it.
            work.open = true;
        }
        self.tickets += 1;
        self.not_before = None;
        let find_again = std::mem::take(&mut self.find_again);
        self.flight = Some(Flight { ticket: self.tickets, request: request.clone(), broker: None });
        Some(Ask { ticket: self.tickets, request, find_again })
    }

    /// The request goes to that broker.
    pub(crate) fn handle_sent(&mut self, ticket: u64, broker: i32) {
        if let Some(flight) = self.flight.as_mut().filter(|flight| flight.ticket == ticket) {
            flight.broker = Some(broker);
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call `poll_request` again, if nothing else happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.flight.is_none() && self.next_request().is_some())
    }

    fn next_request(&self) -> Option<Request> {
        let raised = self.identity.filter(|_| self.abilities.bumps || self.abilities.level == Level::V2);
        if matches!(self.state, State::Initializing) {
            return Some(Request::Init { identity: raised });
        }
        let identity = self.identity?;
        let end = |work: &Work, commit| Some(Request::End { identity, level: work.level, commit });
        match &self.state {
            State::InTransaction(work) => work.next_request(identity),
            State::Committing { work, flushed, .. } => {
                let next = work.next_request(identity);
                next.or_else(|| if *flushed { end(work, true) } else { None })
            }
            State::Aborting { work, flushed: true, .. } => end(work, false),
            State::Indeterminate(work) => end(work, true),
            _ => None,
        }
    }

    /// Takes the request in flight, if that is its ticket.
    pub(super) fn land(&mut self, ticket: u64) -> Option<Flight> {
        self.flight.take_if(|flight| flight.ticket == ticket)
    }

    /// Whether an `EndTxn` is on its way.
    fn is_ending(&self) -> bool {
        matches!(&self.flight, Some(Flight { request: Request::End { .. }, .. }))
    }

    /// Something went well: the next request need not wait.
    pub(super) fn went_well(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.delay = None;
    }

    pub(super) fn wait(&mut self, now: Instant) {
        self.wait_by(self.backoff, now);
    }

    pub(super) fn wait_shortly(&mut self, now: Instant) {
        self.wait_by(Backoff { first: SOON.min(self.backoff.first), most: self.backoff.first }, now);
    }

    fn wait_by(&mut self, backoff: Backoff, now: Instant) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + backoff.after(self.failures, &mut self.dice));
    }

    pub(super) fn look_elsewhere(&mut self) {
        self.find_again = true;
    }

    /// Replaces the state by what `by` makes of it.
    pub(super) fn change<T>(&mut self, by: impl FnOnce(&mut Self, State) -> (State, T)) -> T {
        let state = std::mem::replace(&mut self.state, State::Uninitialized);
        let (state, result) = by(self, state);
        self.state = state;
        result
    }

    pub(super) fn work(&mut self) -> Option<&mut Work> {
        match &mut self.state {
            State::InTransaction(work)
            | State::Abortable(work, _)
            | State::Committing { work, .. }
            | State::Aborting { work, .. }
            | State::Indeterminate(work) => Some(work),
            _ => None,
        }
    }

    pub(super) fn tell(&mut self, transaction: u64, outcome: Outcome) {
        self.events.push_back(Event::Ended { transaction, outcome });
    }

    /// Offsets that wait will not be committed.
    fn drop_offsets(&mut self, why: &Error) {
        let dropped = self.work().map(|work| std::mem::take(&mut work.offsets)).unwrap_or_default();
        for Offsets { call, .. } in dropped {
            self.events.push_back(Event::Offsets { call, result: Err(why.clone()) });
        }
    }

    /// The transaction can only be aborted. `broken`: and its sequences are not to be gone on with.
    pub(super) fn fail(&mut self, error: &Error, broken: bool) {
        let ending = self.is_ending();
        self.change(|machine, state| {
            let state = match state {
                State::InTransaction(work) => {
                    let failing = Event::Failing { error: error.clone() };
                    machine.events.push_back(failing);
                    State::Abortable(work, error.clone())
                }
                State::Committing { work, flushed, unsure: false } if !ending => {
                    let failing = Event::Failing { error: error.clone() };
                    machine.events.push_back(failing);
                    machine.tell(work.id, Outcome::NotCommitted(error.clone()));
                    State::Aborting { work, flushed, told: true }
                }
                other => other,
            };
            (state, ())
        });
        // With V2 the end raises the epoch.
        let level = self.work().map(|work| work.level);
        self.bump |= broken && level == Some(Level::V1);
        if matches!(self.state, State::Abortable(..) | State::Aborting { .. }) {
            self.drop_offsets(error);
            self.settle();
        }
    }

    /// The producer is at its end, and with it what is under way.
    pub(super) fn die(&mut self, error: Error) {
        if matches!(self.state, State::Fatal(_)) {
            return;
        }
        let ending = self.is_ending();
        self.drop_offsets(&error);
        self.change(|machine, state| {
            let outcome = match &state {
                State::Committing { unsure, .. } if *unsure || ending => Outcome::Unknown(error.clone()),
                _ => Outcome::NotCommitted(error.clone()),
            };
            match state {
                State::InTransaction(work)
                | State::Abortable(work, _)
                | State::Committing { work, .. }
                | State::Aborting { work, told: false, .. } => machine.tell(work.id, outcome),
                _ => {}
            }
            (State::Fatal(error.clone()), ())
        });
        self.flight = None;
        self.events.push_back(Event::Fatal(error));
    }

    /// The transaction is over. What comes next depends on whether its epoch can be used again.
    pub(super) fn finish(&mut self) {
        self.went_well();
        if self.bump {
            self.state = State::Initializing;
        } else if let Some(identity) = self.identity {
            self.state = State::Ready;
            self.events.push_back(Event::Ready(identity));
        }
    }

    /// Ends what no coordinator knows of without asking one.
    pub(super) fn settle(&mut self) {
        if self.flight.is_some() {
            return;
        }
        match &self.state {
            State::Committing { work, flushed: true, unsure: false } if !work.open && work.is_complete() => {
                self.tell(work.id, Outcome::Committed);
                self.finish();
            }
            State::Aborting { work, flushed: true, told } if !work.open => {
                if !*told {
                    self.tell(work.id, Outcome::Aborted);
                }
                self.finish();
            }
            _ => {}
        }
    }
}
