//! How the application learns what became of a record. All records of a batch share one [`Completion`]; an
//! [`Ack`] is a pointer to it and a number, so that a record costs no allocation and no task.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::wire::Str;
use crate::{Error, Result};

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It is in the log, from that offset on, if the broker knows it.
    Written { offset: Option<i64>, timestamp: Option<i64> },
    /// It is not, or nobody knows. Some records may have errors of their own (KIP-467).
    Failed { error: Error, records: Vec<(i32, Error)> },
    /// It was taken apart: each part's completion, and the place of its first record.
    Split(Vec<(i32, Arc<Completion>)>),
}

/// What became of a batch, once something has.
#[derive(Debug)]
pub(crate) struct Completion {
    pub(crate) topic: Str,
    pub(crate) partition: i32,
    outcome: OnceLock<Outcome>,
    waiters: Mutex<Vec<Waiter>>,
}

/// A task that waits, and for how many acks.
#[derive(Debug)]
struct Waiter {
    waker: Waker,
    acks: usize,
}

/// Among so many of those who came last an ack looks for its own task. Mostly one task waits for all of them in turn, or
/// each for its own.
const LOOK_BACK: usize = 4;

impl Completion {
    pub(crate) fn new(topic: Str, partition: i32) -> Arc<Self> {
        Arc::new(Self { topic, partition, outcome: OnceLock::new(), waiters: Mutex::default() })
    }

    /// Says what became of it, once: what comes after that is not heard. Not to be called under a lock.
    pub(crate) fn complete(&self, outcome: Outcome) {
        if self.outcome.set(outcome).is_ok() {
            let waiters = std::mem::take(&mut *self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
            for waiter in waiters {
                waiter.waker.wake();
            }
        }
    }

    /// The outcome, or the promise that the task is woken when there is one. `slot` is the waiter's place.
    fn poll(&self, slot: &mut u32, cx: &mut Context<'_>) -> Poll<&Outcome> {
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(outcome) = self.outcome.get() {
            return Poll::Ready(outcome);
        }
        if let Some(waiter) = waiters.get_mut(*slot as usize) {
            if waiter.waker.will_wake(cx.waker()) {
                return Poll::Pending;
            }
            if waiter.acks == 1 {
                waiter.waker.clone_from(cx.waker());
                return Poll::Pending;
            }
            // It has moved to another task, and others have not.
            waiter.acks -= 1;
        }
        let first = waiters.len().saturating_sub(LOOK_BACK);
        let mut last = waiters.iter_mut().enumerate().skip(first);
        let place = if let Some((place, waiter)) = last.find(|(_, waiter)| waiter.waker.will_wake(cx.waker()))
        {
            waiter.acks += 1;
            place
        } else {
            waiters.push(Waiter { waker: cx.waker().clone(), acks: 1 });
            waiters.len() - 1
        };
        *slot = u32::try_from(place).unwrap_or(NOWHERE);
        Poll::Pending
    }

    /// Waits until the batch, or all that it was taken apart into, is done with.
    pub(crate) async fn done(self: Arc<Self>) {
        let mut waiting = vec![self];
        while let Some(next) = waiting.pop() {
            let mut slot = NOWHERE;
            poll_fn(|cx| next.poll(&mut slot, cx).map(|_| ())).await;
            if let Some(Outcome::Split(parts)) = next.outcome.get() {
                waiting.extend(parts.iter().map(|(_, part)| Arc::clone(part)));
            }
        }
    }
}

/// The promise that an accepted record's outcome will be told: a future that comes to the record's
/// [`Delivery`], or to why there is none.
///
/// It always comes to an end: after the delivery timeout at the latest, and also when the producer is
/// closed, its tasks die, or the runtime ends. Dropping it changes nothing for the record.
///
/// # Errors
/// [`may_have_happened`](Error::may_have_happened) tells whether the record may be in the log all the same.
#[must_use = "whether the record arrived is known only here"]
pub struct Ack {
    /// None once the outcome was told.
    batch: Option<Arc<Completion>>,
    index: i32,
    /// The place among those who wait for the batch.
    slot: u32,
}

/// Not among those who wait.
const NOWHERE: u32 = u32::MAX;

impl Ack {
    #[inline]
    pub(crate) fn new(batch: Arc<Completion>, index: i32) -> Self {
        Self { batch: Some(batch), index, slot: NOWHERE }
    }

    /// What became of the record, if that is known by now. Does not wait.
    pub fn try_get(&self) -> Option<Result<Delivery>> {
        let (mut batch, mut index) = (self.batch.as_ref()?, self.index);
        loop {
            match batch.outcome.get()? {
                Outcome::Split(parts) => (batch, index) = part_of(parts, index)?,
                Outcome::Written { .. } => return Some(Ok(Delivery { batch: Arc::clone(batch), index })),
                Outcome::Failed { error, records } => return Some(Err(failure_of(error, records, index))),
            }
        }
    }
}

impl Future for Ack {
    type Output = Result<Delivery>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // Mostly it is one of many of a batch that was written.
        if let Some(Outcome::Written { .. }) = self.batch.as_ref().and_then(|batch| batch.outcome.get())
            && let Some(batch) = self.batch.take()
        {
            return Poll::Ready(Ok(Delivery { batch, index: self.index }));
        }
        self.poll_slowly(cx)
    }
}

impl Ack {
    #[cold]
    #[inline(never)]
    fn poll_slowly(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery>> {
        loop {
            let Some(batch) = &self.batch else {
                return Poll::Ready(Err(Error::internal("what became of the record was told before")));
            };
            let (part, index) = match batch.poll(&mut self.slot, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Outcome::Split(parts)) => match part_of(parts, self.index) {
                    Some((part, index)) => (Arc::clone(part), index),
                    None => return Poll::Ready(Err(Error::internal("a part of a batch was lost"))),
                },
                Poll::Ready(Outcome::Written { .. }) => {
                    let delivery = Delivery { batch: Arc::clone(batch), index: self.index };
                    self.batch = None;
                    return Poll::Ready(Ok(delivery));
                }
                Poll::Ready(Outcome::Failed { error, records }) => {
                    let error = failure_of(error, records, self.index);
                    self.batch = None;
                    return Poll::Ready(Err(error));
                }
            };
            (self.batch, self.index, self.slot) = (Some(part), index, NOWHERE);
        }
    }
}

/// The part of a batch that was taken apart in which a record is, and its place there.
fn part_of(parts: &[(i32, Arc<Completion>)], index: i32) -> Option<(&Arc<Completion>, i32)> {
    let (first, part) = parts.iter().rev().find(|(first, _)| *first <= index)?;
    Some((part, index - first))
}

/// A record's own error, or that of all.
fn failure_of(error: &Error, records: &[(i32, Error)], index: i32) -> Error {
    let own = records.iter().find(|(place, _)| *place == index);
    own.map_or(error, |(_, own)| own).clone()
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = self.batch.as_ref().map(|batch| (&*batch.topic, batch.partition));
        f.debug_struct("Ack").field("place", &place).finish_non_exhaustive()
    }
}

/// Where a record is in the log.
#[derive(Clone)]
pub struct Delivery {
    batch: Arc<Completion>,
    index: i32,
}

impl Delivery {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.batch.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// The offset. None where brokers do not tell: with [`Acks::None`](super::Acks), and for a record that
    /// was sent again after the broker had forgotten where it wrote it first.
    pub fn offset(&self) -> Option<i64> {
        match self.batch.outcome.get() {
            Some(Outcome::Written { offset, .. }) => Some((*offset)?.saturating_add(i64::from(self.index))),
            _ => None,
        }
    }

    /// When the broker wrote it, in milliseconds since 1970, if the topic's timestamps are the brokers'.
    pub fn timestamp(&self) -> Option<i64> {
        match self.batch.outcome.get() {
            Some(Outcome::Written { timestamp, .. }) => *timestamp,
            _ => None,
        }
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("topic", &self.topic())
            .field("partition", &self.partition())
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .finish()
    }
}
