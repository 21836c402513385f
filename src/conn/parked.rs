//! Requests of one connection that wait to be sent: in their order, bounded in number and in bytes.
//!
//! The machine puts them here while the broker wants quiet, while the authentication is renewed, or while
//! the socket takes no more, and takes them out when it may send. Who has gone, or has no time left, is let go.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::config::Config;
use super::time::earlier;
use crate::frame::{Answer, Pending};
use crate::wire::Segments;
use crate::{Error, Result};

/// Who waits for an answer.
pub(super) trait Waiter {
    /// Whether nobody waits any more, so that a request that was not sent need not be.
    fn is_gone(&self) -> bool;
}

/// Reads the throttle time out of an answer, in milliseconds: for those that nobody waits for any more.
pub(super) type ReadThrottle = fn(&Answer) -> Result<i32>;

/// A request, ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) segments: Segments,
    /// What its answer will be; nothing for a request that brokers do not answer.
    pub(super) pending: Option<(Pending, ReadThrottle)>,
    /// How long the broker may take, from when it was sent or the answer before it came, whichever is
    /// later. When that is over, the connection is.
    pub(super) timeout: Duration,
    /// When the one who asked gives up, wherever the request is then. The connection goes on.
    pub(super) deadline: Option<Instant>,
}

/// Those who wait. `W` is handed back with what becomes of a request.
#[derive(Debug)]
pub(super) struct Parked<W> {
    waiting: VecDeque<(W, Prepared)>,
    bytes: usize,
    len_max: usize,
    bytes_max: usize,
    /// Not later than the first deadline.
    deadline: Option<Instant>,
}

impl<W: Waiter> Parked<W> {
    pub(super) fn new(config: &Config) -> Self {
        let (len_max, bytes_max) = (config.parked_max, config.parked_bytes_max);
        Self { waiting: VecDeque::new(), bytes: 0, len_max, bytes_max, deadline: None }
    }

    /// Takes a request, or gives its waiter back with an error: there is no room. A request that is larger
    /// than all the room waits alone.
    pub(super) fn push(&mut self, waiter: W, request: Prepared) -> Result<(), (W, Error)> {
        let bytes = request.segments.len();
        if !self.has_room(bytes) {
            self.waiting.retain(|(waiter, _)| !waiter.is_gone());
            self.bytes = self.waiting.iter().map(|(_, request)| request.segments.len()).sum();
        }
        if !self.has_room(bytes) {
            let (len, taken) = (self.len(), self.bytes);
            let error = format!("{len} requests of {taken} bytes wait for this connection already");
            return Err((waiter, Error::limit(error)));
        }
        self.bytes += bytes;
        self.deadline = earlier(self.deadline, request.deadline);
        self.waiting.push_back((waiter, request));
        Ok(())
    }

    /// The one that has waited longest.
    pub(super) fn pop(&mut self) -> Option<(W, Prepared)> {
        let (waiter, request) = self.waiting.pop_front()?;
        self.bytes -= request.segments.len();
        Some((waiter, request))
    }

    /// Those who have no time left.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<W> {
        let mut over = Vec::new();
        if self.deadline.is_none_or(|first| now < first) {
            return over;
        }
        self.deadline = None;
        for (waiter, request) in std::mem::take(&mut self.waiting) {
            if request.deadline.is_some_and(|deadline| now >= deadline) {
                self.bytes -= request.segments.len();
                over.push(waiter);
            } else {
                self.deadline = earlier(self.deadline, request.deadline);
                self.waiting.push_back((waiter, request));
            }
        }
        over
    }

    /// When to look for those who have no time left, at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn has_room(&self, bytes: usize) -> bool {
        let fits = bytes <= self.bytes_max.saturating_sub(self.bytes) || self.waiting.is_empty();
        self.len() < self.len_max && fits
    }
}
