//! One partition's batches on their way to its leader: in which order they go, under which sequence
//! numbers, what is sent again, and how each one ends. Pure: the core that owns it gives it events and the
//! time, and drains what it comes to.
//!
//! Batches go out in the order in which they were closed. Several may be in flight, to one broker over one
//! connection. When an attempt fails, nothing more is sent until all that is in flight has ended; then the
//! line starts again at the first batch that is not done.
//!
//! **Sequences** (KIP-98, KIP-360). A batch gets the producer's identity and its first sequence number when it
//! is first sent, and keeps both for as long as it may be in the log under them: the broker knows it again
//! then. Numbers of a batch that may be in the log are never given to another one. Where numbers are lost (a
//! batch was given up, or the broker does not know what came before), the line is *broken*: it finds out what
//! became of everything that may be in the log. Then what is left, which is certain not to be in it, is
//! numbered again: where the log ends, if that is known, and else from 0 under a new identity.
//!
//! What was on its way when a connection ended may still arrive at the broker after what is sent later. So an
//! attempt without an answer counts as one that may be in the log until the log is known to hold the batch,
//! or to have no place for it any more.

use std::collections::VecDeque;
use std::time::Instant;

pub(crate) use kept::Sequences;
pub(crate) use slot::{Answer, End, Event, Rules, Stamped, Ticket};
use slot::{Slot, State, after, is_behind};

use super::machine_identity::Identity;
use crate::Error;
use crate::conn::Dice;

mod kept;
mod slot;

/// The line of one partition.
#[derive(Debug)]
pub(crate) struct Line<B> {
    rules: Rules,
    slots: VecDeque<Slot<B>>,
    next_ticket: Ticket,
    in_flight: usize,
    /// The place to which what is in flight was sent.
    place: u64,
    /// An attempt has failed: nothing is sent until all in flight has ended.
    rewinding: bool,
    not_before: Option<Instant>,
    failures: u32,
    identity: Option<Identity>,
    next_sequence: i32,
    /// Up to where the log is known to hold what was sent under the identity; none before the first of it.
    /// A broker that knows nothing of an identity takes any first number from it (KIP-360), so until it
    /// knows this one, nothing is sent behind what it might refuse.
    acked_sequence: Option<i32>,
    /// Since when something waits to be sent without any of it being sent.
    waiting_since: Option<Instant>,
    /// Sequence numbers are lost; nothing is stamped until it is known which.
    broken: bool,
    /// It is not known where the log ends: only a new identity helps.
    burnt: bool,
    /// Why nothing is sent any more, at the end of all.
    over: Option<Error>,
    events: VecDeque<Event<B>>,
}

/// What is to be sent.
#[derive(Debug)]
pub(crate) struct Sending<'a, B> {
    pub(crate) ticket: Ticket,
    pub(crate) batch: &'a mut B,
    pub(crate) stamp: Option<Stamped>,
}

impl<B> Line<B> {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            slots: VecDeque::new(),
            next_ticket: 0,
            in_flight: 0,
            place: 0,
            rewinding: false,
            not_before: None,
            failures: 0,
            identity: None,
            next_sequence: 0,
            acked_sequence: None,
            waiting_since: None,
            broken: false,
            burnt: false,
            over: None,
            events: VecDeque::new(),
        }
    }

    /// Takes a batch that gets no more records. It is sent once it is [sealed](Self::handle_sealed).
    pub(crate) fn push(&mut self, batch: B, count: i32, now: Instant, deadline: Instant) -> Ticket {
        let ticket = self.ticket();
        if self.waiting() == 0 {
            self.waiting_since = Some(now);
        }
        self.slots.push_back(Slot {
            ticket,
            batch: Some(batch),
            count,
            deadline,
            state: State::Sealing,
            stamp: None,
            maybe: false,
            torn: false,
            overtaken: false,
            error: None,
        });
        if let Some(error) = self.over.clone() {
            self.give_up(ticket, error, Vec::new());
            self.tidy();
        }
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        self.next_ticket
    }

    /// The batch of a ticket, unless its end was told.
    pub(crate) fn batch_mut(&mut self, ticket: Ticket) -> Option<&mut B> {
        self.slot_mut(ticket)?.batch.as_mut()
    }

    /// A batch can be sent from now on.
    pub(crate) fn handle_sealed(&mut self, ticket: Ticket) {
        if let Some(slot) = self.slot_mut(ticket).filter(|slot| slot.state == State::Sealing) {
            slot.state = State::Ready;
        }
    }

    /// A batch cannot be sent, for a reason of ours.
    pub(crate) fn handle_unsealed(&mut self, ticket: Ticket, error: Error) {
        let Some(slot) = self.slot_mut(ticket) else { return };
        match slot.state {
            State::Sealing => {
                // Whoever could not take it apart has its batch, and tells of its end himself.
                slot.state = State::Ready;
                self.give_up(ticket, error, Vec::new());
            }
            State::Doomed => slot.state = State::Done,
            _ => {}
        }
        self.tidy();
    }

    /// In place of a batch that was to be taken apart: its parts, with the same sequence numbers. They are
    /// to be sealed. If the whole may be in the log, each part may be: under those numbers the broker takes
    /// the whole or the parts, and not both.
    pub(crate) fn replace(&mut self, ticket: Ticket, parts: Vec<(B, i32)>) -> Vec<Ticket> {
        let Some(at) = self.index(ticket) else { return Vec::new() };
        let Some(whole) = self.slots.remove(at) else { return Vec::new() };
        let mut stamp = whole.stamp;
        let mut tickets = Vec::with_capacity(parts.len());
        for (place, (batch, count)) in parts.into_iter().enumerate() {
            let ticket = self.ticket();
            tickets.push(ticket);
            let slot = Slot {
                ticket,
                batch: Some(batch),
                count,
                deadline: whole.deadline,
                state: State::Sealing,
                stamp,
                maybe: whole.maybe,
                torn: whole.maybe,
                overtaken: whole.overtaken,
                error: whole.error.clone(),
            };
            stamp = stamp.map(|stamp| Stamped { sequence: after(stamp.sequence, count), ..stamp });
            self.slots.insert(at + place, slot);
        }
        let doom = whole.error.filter(|_| whole.state == State::Doomed);
        if let Some(error) = doom.or_else(|| self.over.clone()) {
            let error = if whole.maybe { error.maybe_done() } else { error };
            for ticket in &tickets {
                self.end(*ticket, End::failed(error.clone()));
            }
            self.tidy();
        }
        tickets
    }

    /// Whether something could be sent at `now`, to this place, under that identity.
    pub(crate) fn is_sendable(&self, now: Instant, place: u64, current: Option<Identity>) -> bool {
        self.next_index(now, place, current).is_some()
    }

    /// The batch that [`poll_send`](Self::poll_send) would give.
    pub(crate) fn peek(&self, now: Instant, place: u64, current: Option<Identity>) -> Option<&B> {
        self.slots.get(self.next_index(now, place, current)?)?.batch.as_ref()
    }

    /// The next batch, which is in flight from then on.
    pub(crate) fn poll_send(
        &mut self,
        now: Instant,
        place: u64,
        current: Option<Identity>,
    ) -> Option<Sending<'_, B>> {
        let at = self.next_index(now, place, current)?;
        if self.rules.idempotent && self.slots.get(at)?.stamp.is_none() {
            if self.identity != current {
                // Every partition begins at 0 under a new identity (P06).
                (self.identity, self.next_sequence, self.acked_sequence) = (current, 0, None);
            }
            let stamp = self.identity.map(|identity| Stamped { identity, sequence: self.next_sequence });
            let count = self.slots.get(at)?.count;
            self.next_sequence = after(self.next_sequence, count);
            self.slots.get_mut(at)?.stamp = stamp;
        }
        self.in_flight += 1;
        self.waiting_since = Some(now);
        self.place = place;
        let slot = self.slots.get_mut(at)?;
        slot.state = State::Sent;
        Some(Sending { ticket: slot.ticket, batch: slot.batch.as_mut()?, stamp: slot.stamp })
    }

    /// Where in the queue the next batch to be sent is.
    fn next_index(&self, now: Instant, place: u64, current: Option<Identity>) -> Option<usize> {
        if self.rewinding || (self.in_flight > 0 && self.place != place) {
            return None;
        }
        if self.not_before.is_some_and(|time| now < time) {
            return None;
        }
        let waits = |slot: &Slot<B>| matches!(slot.state, State::Ready | State::Sealing);
        // Where numbers were lost, first what became of those that may be in the log.
        let at = self.slots.iter().position(|slot| waits(slot) && (slot.maybe || !self.broken))?;
        let slot = self.slots.get(at)?;
        if self.rules.idempotent && self.in_flight > 0 && self.acked_sequence.is_none() {
            return None;
        }
        let stamped = slot.stamp.is_some() || !self.rules.idempotent || self.can_stamp(current);
        (slot.state == State::Ready && stamped).then_some(at)
    }

    /// Whether a batch can get a number now.
    fn can_stamp(&self, current: Option<Identity>) -> bool {
        if self.broken || current.is_none() {
            return false;
        }
        // A new identity starts when nothing is left of the old one.
        self.identity == current || !self.slots.iter().any(|slot| slot.stamp.is_some() && slot.is_open())
    }

    /// What an attempt came to.
    pub(crate) fn handle_answer(&mut self, ticket: Ticket, answer: Answer, now: Instant, dice: &mut Dice) {
        let Some(slot) = self.slot_mut(ticket) else { return };
        let orphan = match slot.state {
            State::Sent => false,
            State::Orphan => true,
            State::Sealing | State::Ready | State::Doomed | State::Done => return,
        };
        slot.state = State::Ready;
        self.in_flight -= 1;
        match answer {
            Answer::Written { offset, timestamp } | Answer::Duplicate { offset, timestamp } => {
                self.written(ticket, End::Written { offset, timestamp });
            }
            Answer::Retry { error, maybe } => self.retry(ticket, error, maybe, now, dice),
            Answer::OutOfOrder { error } => self.out_of_order(ticket, error, now, dice),
            Answer::UnknownProducer { error } if self.rules.idempotent => {
                self.unknown_producer(ticket, error, now, dice);
            }
            Answer::TooLarge { error } => self.too_large(ticket, error),
            Answer::UnknownProducer { error } => self.refused(ticket, error, Vec::new()),
            Answer::Refused { error, records } => self.refused(ticket, error, records),
        }
        // Nobody waits for it any more, so it is not sent again.
        if orphan && self.slot_mut(ticket).is_some_and(|slot| slot.state == State::Ready) {
            self.leave_hole(ticket);
        }
        self.tidy();
    }

    fn written(&mut self, ticket: Ticket, end: End) {
        self.failures = 0;
        let Some(at) = self.index(ticket) else { return };
        if let Some(slot) = self.slots.get(at)
            && let Some(stamp) = slot.stamp
            && Some(stamp.identity) == self.identity
        {
            // An answer that was lost may come back for a batch that stands further in front.
            let end = after(stamp.sequence, slot.count);
            if self.acked_sequence.is_none_or(|acked| is_behind(end, acked)) {
                self.acked_sequence = Some(end);
            }
        }
        let before = self.slots.iter_mut().take(at).filter(|slot| slot.waits() && !slot.maybe);
        let mut overtaken: Vec<Ticket> = Vec::new();
        for slot in before {
            match slot.stamp {
                // A broker that took this one has those before it, or will never take them: it is asked again.
                Some(_) => (slot.maybe, slot.overtaken) = (true, true),
                None => overtaken.push(slot.ticket),
            }
        }
        self.end(ticket, end);
        if self.rules.idempotent {
            for ticket in overtaken {
                self.overtaken(ticket);
            }
        }
    }

    /// Ends a batch that is not in the log, where a later one is: behind that it has no place.
    fn overtaken(&mut self, ticket: Ticket) {
        self.broken = true;
        let error = Error::io("a later record of the partition was, or may have been, written first");
        self.end(ticket, End::failed(error));
    }

    fn retry(&mut self, ticket: Ticket, error: Error, maybe: bool, now: Instant, dice: &mut Dice) {
        if let Some(slot) = self.slot_mut(ticket) {
            slot.maybe |= maybe;
            slot.error = Some(error);
        }
        self.rewind(now, dice);
    }

    fn rewind(&mut self, now: Instant, dice: &mut Dice) {
        // What was in flight beside it fails with it, and is no failure more.
        if !self.rewinding {
            self.failures = self.failures.saturating_add(1);
            self.not_before = Some(now + self.rules.backoff.after(self.failures, dice));
        }
        self.rewinding = self.in_flight > 0;
    }

    fn out_of_order(&mut self, ticket: Ticket, error: Error, now: Instant, dice: &mut Dice) {
        if !self.rules.idempotent {
            return self.refused(ticket, error, Vec::new());
        }
        let Some(at) = self.index(ticket) else { return };
        // Behind one that was not written itself this was to be expected. But where numbers are lost, only
        // what may be in the log is still sent under them.
        let comes = |slot: &Slot<B>| {
            slot.is_open() && slot.stamp.is_some() && (!self.broken || !slot.waits() || slot.maybe)
        };
        if !self.slots.iter().take(at).any(comes) {
            // Where all that was given up is known not to be in the log, it is that which is missing.
            let explained = self.broken && !self.burnt;
            let shut_out = explained || self.is_shut_out(at);
            (self.broken, self.burnt) = (true, !explained);
            if let Some(slot) = self.slots.get_mut(at) {
                // Its numbers may still be on their way, and must not fit again in this epoch.
                self.burnt |= slot.maybe;
                slot.maybe &= slot.torn || !shut_out;
                if slot.maybe {
                    // What the gap was left for may yet arrive, and an earlier attempt of this one behind it.
                    return self.lost(ticket, error, now, dice);
                }
                if slot.overtaken {
                    self.overtaken(ticket);
                }
            }
        }
        if let Some(slot) = self.slots.get_mut(at) {
            slot.error = Some(error);
        }
        self.rewind(now, dice);
    }

    /// Whether a batch that the broker does not have in its turn can never come to be in the log under its
    /// numbers: what is missing before it was there and is lost, or it stands here, and will get other ones.
    fn is_shut_out(&self, at: usize) -> bool {
        let Some(stamp) = self.slots.get(at).and_then(|slot| slot.stamp) else { return true };
        let leads = |slot: &Slot<B>| {
            slot.stamp.is_some_and(|before| after(before.sequence, slot.count) == stamp.sequence)
        };
        let before = self.slots.iter().take(at).rev().find(|slot| slot.is_open() && leads(slot));
        before.is_some_and(|slot| slot.waits() && !slot.maybe) || self.acked_sequence == Some(stamp.sequence)
    }

    /// Ends a batch of which it cannot be found out any more whether it is in the log.
    fn lost(&mut self, ticket: Ticket, error: Error, now: Instant, dice: &mut Dice) {
        (self.broken, self.burnt) = (true, true);
        self.end(ticket, End::failed(error.maybe_done()));
        self.rewind(now, dice);
    }

    fn unknown_producer(&mut self, ticket: Ticket, error: Error, now: Instant, dice: &mut Dice) {
        (self.broken, self.burnt) = (true, true);
        match self.slot_mut(ticket) {
            // An earlier attempt may be in the log, and the broker has forgotten whose it was.
            Some(slot) if slot.maybe => return self.lost(ticket, error, now, dice),
            Some(slot) => slot.error = Some(error),
            None => {}
        }
        self.rewind(now, dice);
    }

    fn too_large(&mut self, ticket: Ticket, error: Error) {
        self.rewinding = self.in_flight > 0;
        let Some(slot) = self.slot_mut(ticket) else { return };
        if slot.count <= 1 {
            return self.refused(ticket, error, Vec::new());
        }
        let error = if slot.maybe { error.maybe_done() } else { error };
        slot.error = Some(error.clone());
        if let Some(batch) = slot.batch.take() {
            slot.state = State::Sealing;
            self.events.push_back(Event::Split { ticket, batch, error });
        }
    }

    fn refused(&mut self, ticket: Ticket, error: Error, records: Vec<(i32, Error)>) {
        self.rewinding = self.in_flight > 0;
        let at = self.index(ticket).filter(|at| self.slots.get(*at).is_some_and(|slot| slot.maybe));
        if self.rules.idempotent
            && let Some(at) = at
        {
            // Nobody will find out whether it is in the log, where those before it are not.
            let before = self.slots.iter().take(at).filter(|slot| slot.waits() && !slot.maybe);
            let before: Vec<Ticket> = before.map(|slot| slot.ticket).collect();
            for ticket in before {
                self.overtaken(ticket);
            }
        }
        self.give_up(ticket, error, records);
    }

    /// Ends a batch that is not in flight. Its numbers may be lost by that.
    fn give_up(&mut self, ticket: Ticket, error: Error, records: Vec<(i32, Error)>) {
        let maybe = self.slot_mut(ticket).is_some_and(|slot| slot.maybe);
        let mark = |error: Error| if maybe { error.maybe_done() } else { error };
        let error = mark(error);
        let records = records.into_iter().map(|(place, error)| (place, mark(error))).collect();
        self.leave_hole(ticket);
        self.end(ticket, End::Failed { error, records });
    }

    /// The numbers of a batch will not be used by it.
    fn leave_hole(&mut self, ticket: Ticket) {
        let Some(at) = self.index(ticket) else { return };
        let Some(slot) = self.slots.get_mut(at) else { return };
        let maybe = slot.maybe;
        slot.finish();
        let Some(stamp) = slot.stamp.filter(|stamp| Some(stamp.identity) == self.identity) else { return };
        let last = self.slots.iter().skip(at + 1).all(|slot| slot.stamp.is_none());
        if last && !maybe && !self.broken {
            // Nobody has seen them in a log.
            self.next_sequence = stamp.sequence;
        } else {
            self.broken = true;
            self.burnt |= maybe;
        }
    }

    fn end(&mut self, ticket: Ticket, end: End) {
        let Some(slot) = self.slot_mut(ticket) else { return };
        slot.finish();
        match (slot.batch.take(), end) {
            (Some(batch), end) => self.events.push_back(Event::Ended { batch, end }),
            // For those who will get its parts.
            (None, End::Failed { error, .. }) => slot.error = Some(error),
            (None, End::Written { .. }) => {}
        }
    }

    /// Fails what has taken too long. What is in flight stays, without its batch's owner waiting, so that its
    /// numbers are accounted for.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let late = self.slots.iter().filter(|slot| slot.is_owned() && now >= slot.deadline);
        let late: Vec<(Ticket, State, Option<Error>)> =
            late.map(|slot| (slot.ticket, slot.state, slot.error.clone())).collect();
        for (ticket, state, why) in late {
            let error = Error::timeout("the time to deliver the record was over");
            let error = why.into_iter().fold(error, Error::because);
            match state {
                State::Sent => self.orphan(ticket, error),
                // It will be ended when it comes back.
                State::Sealing => {}
                _ => self.give_up(ticket, error, Vec::new()),
            }
        }
        self.tidy();
    }

    fn orphan(&mut self, ticket: Ticket, error: Error) {
        let Some(slot) = self.slot_mut(ticket) else { return };
        slot.state = State::Orphan;
        if let Some(batch) = slot.batch.take() {
            self.events.push_back(Event::Ended { batch, end: End::failed(error.maybe_done()) });
        }
    }

    /// Fails all that is not in flight; with `all`, that too, and whatever comes later.
    pub(crate) fn fail(&mut self, error: &Error, all: bool) {
        if all {
            self.over.get_or_insert_with(|| error.clone());
        }
        let states: Vec<(Ticket, State)> = self.slots.iter().map(|slot| (slot.ticket, slot.state)).collect();
        for (ticket, state) in states {
            match state {
                State::Sent if all => self.orphan(ticket, error.clone()),
                State::Ready | State::Sealing => self.give_up(ticket, error.clone(), Vec::new()),
                _ => {}
            }
        }
        self.tidy();
    }

    /// Forgets what is done, and what was true of it.
    fn tidy(&mut self) {
        if self.in_flight == 0 {
            self.rewinding = false;
        }
        if self.broken && self.in_flight == 0 && !self.slots.iter().any(|slot| slot.waits() && slot.maybe) {
            // All that is left is certain not to be in the log.
            for slot in self.slots.iter_mut().filter(|slot| slot.is_open()) {
                slot.stamp = None;
            }
            // The log ends where it is known to if nothing else may be in it (P04), or if that is the last
            // of the numbers that were given out.
            self.broken = self.burnt && self.acked_sequence != Some(self.next_sequence);
            if !self.broken {
                self.burnt = false;
                self.next_sequence = self.acked_sequence.unwrap_or(0);
            }
        }
        while self.slots.front().is_some_and(|slot| slot.state == State::Done) {
            self.slots.pop_front();
        }
    }

    /// Whether nothing can be sent until there is a new identity: that one, which has to be another than
    /// this.
    pub(crate) fn wants_identity(&self) -> Option<Identity> {
        let open = self.slots.iter().any(|slot| slot.waits() && slot.maybe);
        let stuck = self.broken && self.in_flight == 0 && !open;
        self.identity.filter(|_| stuck)
    }

    /// There is another identity, and nothing is left of the old one.
    pub(crate) fn handle_identity(&mut self, identity: Identity) {
        if self.wants_identity().is_some_and(|old| old != identity) {
            (self.broken, self.burnt) = (false, false);
            self.identity = None;
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event<B>> {
        self.events.pop_front()
    }

    /// When something is to be done without an event: the first deadline, the end of a pause that is not over.
    pub(crate) fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let first = self.slots.iter().find(|slot| slot.is_owned() && slot.state != State::Sealing);
        let pause = self.not_before.filter(|time| *time > now && !self.slots.is_empty());
        first.map(|slot| slot.deadline).into_iter().chain(pause).min()
    }

    /// Why the first batch that has failed did so.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.slots.iter().find_map(|slot| slot.error.as_ref())
    }

    /// How many batches are not done.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many of them wait to be sent.
    pub(crate) fn waiting(&self) -> usize {
        self.slots.iter().filter(|slot| slot.waits()).count()
    }

    /// Since when what waits to be sent has waited, if anything does.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        self.waiting_since.filter(|_| self.waiting() > 0)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    fn index(&self, ticket: Ticket) -> Option<usize> {
        self.slots.iter().position(|slot| slot.ticket == ticket)
    }

    fn slot_mut(&mut self, ticket: Ticket) -> Option<&mut Slot<B>> {
        let at = self.index(ticket)?;
        self.slots.get_mut(at)
    }
}

#[cfg(test)]
mod tests;
