//! Where the id and the epoch of an idempotent producer come from (KIP-98, KIP-360).
//!
//! The pump says by [`Machine::handle_wanted`] that it has something to send and by [`Machine::bump`] that
//! the sequences of an identity are broken; it sends what [`Machine::poll_request`] gives, hands back what
//! came of it, and drains [`Machine::poll_event`]. A new epoch is made here without asking; only when an
//! id's epochs are used up is the broker asked for another id.
//!
//! Unknown -> Asking -> Known; Known -> Known with the next epoch, or Unknown -> Asking when there is none;
//! Asking -> Unknown when the broker does not allow it yet, and Failed, which is the end, when it never will.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::cluster::Backoff;
use crate::conn::Dice;
use crate::{Error, ErrorCode, Result};

/// The last epoch that a client uses. Brokers keep the one after it, so that they can always fence.
pub(crate) const EPOCH_MAX: i16 = i16::MAX - 1;

/// How long to wait at first when what was before is only being finished. Such waits are short.
pub(crate) const SOON: Duration = Duration::from_millis(20);

/// What batches are marked with: a producer's id, and which life of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Identity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl Identity {
    /// What a broker gave, if a producer may use it.
    pub(crate) fn read(id: i64, epoch: i16) -> Result<Self> {
        if id < 0 || !(0..=EPOCH_MAX).contains(&epoch) {
            return Err(Error::malformed(format!("producer id {id} with epoch {epoch}")));
        }
        Ok(Self { id, epoch })
    }

    /// The same id with the next epoch, if there is one.
    pub(crate) fn next(self) -> Option<Self> {
        let epoch = self.epoch.checked_add(1).filter(|epoch| *epoch <= EPOCH_MAX)?;
        Some(Self { epoch, ..self })
    }
}

/// What to do about an answer to `InitProducerId`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Done,
    /// Ask the same broker again.
    Again,
    /// Ask again shortly: what was before is being finished.
    Soon,
    /// Find out who coordinates now and ask there.
    Elsewhere,
    /// Not allowed, or not now. Whoever waits is told; a later wish asks anew.
    Refused,
    /// Another producer has taken over.
    Fenced,
    /// It will never succeed.
    Fatal,
}

impl Verdict {
    pub(crate) fn of(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NONE => Self::Done,
            ErrorCode::CONCURRENT_TRANSACTIONS => Self::Soon,
            ErrorCode::NOT_COORDINATOR | ErrorCode::COORDINATOR_NOT_AVAILABLE => Self::Elsewhere,
            // Rights can be given while the producer lives, so Java does not make it die of these either.
            ErrorCode::CLUSTER_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED
            | ErrorCode::TRANSACTION_ABORTABLE => Self::Refused,
            ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::PRODUCER_FENCED => Self::Fenced,
            code if code.is_retriable() => Self::Again,
            _ => Self::Fatal,
        }
    }
}

/// Whether an attempt that got no answer is made again.
pub(crate) fn passes(error: &Error) -> bool {
    // Who sends what cannot be read is asked again on another connection.
    error.is_io() || error.is_timeout() || error.is_retriable() || error.is_malformed()
}

/// A request that is to be sent now. It is ended by the method that takes its ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) ticket: u64,
}

#[derive(Debug)]
pub(crate) enum Event {
    /// Batches are marked with this from now on, and every partition's sequences begin at 0.
    Known(Identity),
    /// No identity was given. Whoever waits for one gets the error; a later wish asks again.
    Refused(Error),
    /// There will be none.
    Failed(Error),
}

#[derive(Debug)]
enum State {
    Unknown,
    /// In flight with a ticket, or to be asked at that time.
    Asking {
        ticket: Option<u64>,
        not_before: Option<Instant>,
        failures: u32,
    },
    Known(Identity),
    #[allow(dead_code, reason = "for those who look at the state")]
    Failed(Error),
}

#[derive(Debug)]
pub(crate) struct Machine {
    state: State,
    backoff: Backoff,
    dice: Dice,
    tickets: u64,
    events: VecDeque<Event>,
}

impl Machine {
    /// The seed spreads the pauses between attempts.
    pub(crate) fn new(backoff: Backoff, seed: u64) -> Self {
        Self { state: State::Unknown, backoff, dice: Dice::new(seed), tickets: 0, events: VecDeque::new() }
    }

    /// What batches are marked with, once that is known.
    pub(crate) fn identity(&self) -> Option<Identity> {
        match self.state {
            State::Known(identity) => Some(identity),
            _ => None,
        }
    }

    /// Why there will never be an identity.
    #[cfg(test)]
    pub(crate) fn error(&self) -> Option<&Error> {
        match &self.state {
            State::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Whether nobody has asked for an identity, or the last one who did was refused.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self.state, State::Unknown)
    }

    /// Somebody has something to send.
    pub(crate) fn handle_wanted(&mut self) {
        if matches!(self.state, State::Unknown) {
            self.state = State::Asking { ticket: None, not_before: None, failures: 0 };
        }
    }

    /// Sequences of `broken` cannot be gone on with. Nothing happens if that is not the identity any more:
    /// several partitions find out about the same one (P05).
    pub(crate) fn bump(&mut self, broken: Identity) {
        if self.identity() != Some(broken) {
            return;
        }
        match broken.next() {
            Some(next) => self.known(next),
            None => self.state = State::Asking { ticket: None, not_before: None, failures: 0 },
        }
    }

    /// A broker answered.
    pub(crate) fn handle_answer(&mut self, ticket: u64, code: ErrorCode, id: i64, epoch: i16, now: Instant) {
        if !self.is_in_flight(ticket) {
            return;
        }
        let said = || Error::broker_said(code, "asked for a producer id");
        match Verdict::of(code) {
            Verdict::Done => match Identity::read(id, epoch) {
                Ok(identity) => self.known(identity),
                Err(error) => self.failed(error),
            },
            Verdict::Again | Verdict::Elsewhere => self.wait(self.backoff, now),
            Verdict::Soon => self.wait(Backoff { first: SOON, most: self.backoff.first }, now),
            Verdict::Refused => {
                self.state = State::Unknown;
                self.events.push_back(Event::Refused(said()));
            }
            Verdict::Fenced | Verdict::Fatal => self.failed(said()),
        }
    }

    /// No answer came, and none will. An id that was given out in vain is only wasted.
    pub(crate) fn handle_failure(&mut self, ticket: u64, error: Error, now: Instant) {
        if !self.is_in_flight(ticket) {
        } else if passes(&error) {
            self.wait(self.backoff, now);
        } else if error.is_auth() || error.is_closed() {
            self.state = State::Unknown;
            self.events.push_back(Event::Refused(error));
        } else {
            self.failed(error);
        }
    }

    /// The next request, if one is to be sent now. Any broker may be asked.
    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Ask> {
        let State::Asking { ticket, not_before, .. } = &mut self.state else { return None };
        if ticket.is_some() || not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.tickets += 1;
        *ticket = Some(self.tickets);
        Some(Ask { ticket: self.tickets })
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call `poll_request` again, if nothing else happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Asking { ticket: None, not_before, .. } => not_before,
            _ => None,
        }
    }

    fn is_in_flight(&self, ticket: u64) -> bool {
        matches!(self.state, State::Asking { ticket: Some(sent), .. } if sent == ticket)
    }

    fn known(&mut self, identity: Identity) {
        self.state = State::Known(identity);
        self.events.push_back(Event::Known(identity));
    }

    fn failed(&mut self, error: Error) {
        self.state = State::Failed(error.clone());
        self.events.push_back(Event::Failed(error));
    }

    fn wait(&mut self, backoff: Backoff, now: Instant) {
        if let State::Asking { ticket, not_before, failures } = &mut self.state {
            *ticket = None;
            *failures = failures.saturating_add(1);
            *not_before = Some(now + backoff.after(*failures, &mut self.dice));
        }
    }
}

#[cfg(test)]
mod tests;
