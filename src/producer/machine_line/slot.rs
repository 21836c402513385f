//! A batch's place on its line, what an attempt at sending it comes to, and what becomes of it.

use std::time::Instant;

use crate::Error;
use crate::cluster::Backoff;
use crate::producer::machine_identity::Identity;

/// A batch's number on its line.
pub(crate) type Ticket = u64;

/// The identity and the first sequence number that a batch carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamped {
    pub(crate) identity: Identity,
    pub(crate) sequence: i32,
}

/// What an attempt at sending a batch came to.
#[derive(Debug)]
pub(crate) enum Answer {
    /// It is in the log.
    Written { offset: Option<i64>, timestamp: Option<i64> },
    /// It was in the log before.
    Duplicate { offset: Option<i64>, timestamp: Option<i64> },
    /// It may work if it is sent again. `maybe`: it may be in the log.
    Retry { error: Error, maybe: bool },
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER`: a batch before it is missing.
    OutOfOrder { error: Error },
    /// The broker has no state of this identity, or a newer one: `UNKNOWN_PRODUCER_ID`,
    /// `INVALID_PRODUCER_EPOCH`.
    UnknownProducer { error: Error },
    /// It is larger than the broker takes.
    TooLarge { error: Error },
    /// It will never be taken. Some of its records may have errors of their own (KIP-467).
    Refused { error: Error, records: Vec<(i32, Error)> },
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum End {
    Written { offset: Option<i64>, timestamp: Option<i64> },
    Failed { error: Error, records: Vec<(i32, Error)> },
}

impl End {
    pub(crate) fn failed(error: Error) -> Self {
        Self::Failed { error, records: Vec::new() }
    }
}

/// What there is to be done for a line.
#[derive(Debug)]
pub(crate) enum Event<B> {
    /// The batch is done with; `batch` may still be on the wire, its owners say.
    Ended { batch: B, end: End },
    /// To be taken apart, and given back by [`Line::replace`](super::Line::replace).
    Split { ticket: Ticket, batch: B, error: Error },
}

/// How a line works.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) idempotent: bool,
    pub(crate) backoff: Backoff,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It is being compressed, or taken apart.
    Sealing,
    /// It can be sent, or sent again.
    Ready,
    /// It is in flight.
    Sent,
    /// It is in flight, and its owner was told that it took too long.
    Orphan,
    /// It is being taken apart, and so it was not known whom to tell that it is given up: its parts end with
    /// its error.
    Doomed,
    /// Done; it goes when all before it are done.
    Done,
}

#[derive(Debug)]
pub(super) struct Slot<B> {
    pub(super) ticket: Ticket,
    /// None once its end was told, and while it is taken apart.
    pub(super) batch: Option<B>,
    pub(super) count: i32,
    pub(super) deadline: Instant,
    pub(super) state: State,
    pub(super) stamp: Option<Stamped>,
    /// It may be in the log, under that stamp.
    pub(super) maybe: bool,
    /// It is a part of one that may be in the log: the broker would not know it again by its numbers.
    pub(super) torn: bool,
    /// A later one is in the log: it may be there before that, but is not to be written behind it.
    pub(super) overtaken: bool,
    /// Why the last attempt failed.
    pub(super) error: Option<Error>,
}

impl<B> Slot<B> {
    /// It waits to be sent, or will.
    pub(super) fn waits(&self) -> bool {
        matches!(self.state, State::Ready | State::Sealing)
    }

    /// It is not done.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Doomed | State::Done)
    }

    /// It is done, or will be as soon as its parts are there.
    pub(super) fn finish(&mut self) {
        let away = self.batch.is_none() && matches!(self.state, State::Sealing | State::Doomed);
        self.state = if away { State::Doomed } else { State::Done };
    }

    /// Somebody waits for its end.
    pub(super) fn is_owned(&self) -> bool {
        matches!(self.state, State::Ready | State::Sealing | State::Sent)
    }
}

/// Whether a sequence number comes later than another: no more than half of all can be under way.
pub(super) fn is_behind(sequence: i32, than: i32) -> bool {
    sequence.wrapping_sub(than) & i32::MAX < i32::MAX / 2
}

/// The sequence number behind so many records: they go on at 0 behind the largest (KIP-98).
pub(super) fn after(sequence: i32, count: i32) -> i32 {
    let sum = i64::from(sequence) + i64::from(count);
    (sum & i64::from(i32::MAX)) as i32
}
