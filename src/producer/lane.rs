//! Where records of one partition are encoded: the open batch, under a lock that is held for nothing else.
//!
//! A batch starts in a small buffer and doubles it as long as there is memory. It is closed when the next
//! record does not fit, or from outside. Whoever closes it puts it on its line under this lock, so that
//! batches stand there in the order of their records; what costs more happens after that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::ack::{Ack, Completion};
use super::buffers::{Buffer, Share};
use super::machine_core::LineId;
use super::partitioner::Turn;
use super::seal::Job;
use super::shared::Shared;
use super::stats::Facts;
use super::topic::TopicFacts;
use crate::net::clock;
use crate::records::{AsHeader, BatchBuilder, NO_TIMESTAMP, NewRecord};
use crate::{Error, Result};

/// Bytes in front of a batch's records, and those that the encoder may write beyond its end.
pub(crate) const OVERHEAD: usize = 61 + 8;

/// A batch does not start with more than this part of all memory.
const HINT_SHARE: usize = 16;

/// Why a record was not taken.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// There is no memory: so many bytes are wanted.
    NoRoom(usize),
    /// More batches wait to be compressed than there are threads for it.
    Busy,
    /// More is closed than brokers take at a time.
    Ahead,
    /// The topic's partitions are not known yet.
    NotReady,
    /// The batch is full, and another partition's turn has come.
    Elsewhere,
    Error(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What appending a record asks to be done after it, without the lock.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    pub(crate) seal: Option<Job>,
    pub(crate) opened: bool,
}

/// The open batch of a partition.
#[derive(Debug)]
pub(crate) struct Lane {
    pub(crate) topic: Arc<TopicFacts>,
    pub(crate) partition: i32,
    pub(crate) line: LineId,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    batch: Option<OpenBatch>,
    /// What the last batch needed.
    hint: usize,
    turn: Turn,
}

#[derive(Debug)]
struct OpenBatch {
    builder: BatchBuilder,
    share: Option<Share>,
    done: Arc<Completion>,
    opened: Instant,
    /// Bytes that fit into the buffer.
    room: usize,
}

impl Lane {
    pub(crate) fn new(topic: Arc<TopicFacts>, partition: i32, line: LineId) -> Self {
        Self { topic, partition, line, open: Mutex::default() }
    }

    /// Encodes a record into the open batch. `buffer` is used for a new batch, if one is needed and it is
    /// large enough. `in_turn`: the record is here only because it is the partition's turn.
    #[inline]
    pub(crate) fn append<H: AsHeader>(
        &self,
        shared: &Shared,
        record: &NewRecord<'_, H>,
        in_turn: bool,
        buffer: &mut Option<Buffer>,
        chores: &mut Chores,
    ) -> Result<Ack, Refusal> {
        let mut guard = self.lock();
        let open = &mut *guard;
        if let Some(batch) = &mut open.batch {
            let before = batch.builder.size();
            if let Some(place) = batch.builder.append_within(record, batch.room)? {
                let ack = Ack::new(Arc::clone(&batch.done), place);
                if in_turn {
                    open.turn.add(batch.builder.size() - before);
                }
                return Ok(ack);
            }
        }
        self.append_slowly(guard, shared, record, in_turn, buffer, chores)
    }

    #[cold]
    #[inline(never)]
    fn append_slowly<H: AsHeader>(
        &self,
        mut guard: MutexGuard<'_, Open>,
        shared: &Shared,
        record: &NewRecord<'_, H>,
        in_turn: bool,
        buffer: &mut Option<Buffer>,
        chores: &mut Chores,
    ) -> Result<Ack, Refusal> {
        let open = &mut *guard;
        shared.check_open()?;
        let target = self.topic.batch_target(shared.settings.batch_size);
        let grown = open.batch.as_mut().is_some_and(|batch| batch.grow(shared, record, target));
        if !grown && open.batch.is_some() {
            chores.seal = self.close_locked(open, shared);
        }
        if open.batch.is_none() {
            if in_turn && open.turn.ends(target) {
                return Err(Refusal::Elsewhere);
            }
            if shared.is_busy() {
                return Err(Refusal::Busy);
            }
            let batch = self.begin(open.hint, shared, record, target, buffer)?;
            shared.opened(self)?;
            open.batch = Some(batch);
            chores.opened = true;
        }
        let Some(batch) = &mut open.batch else { return Err(Error::internal("no batch is open").into()) };
        let before = batch.builder.size();
        let place = batch.builder.append_within(record, batch.room)?;
        let place = place.ok_or_else(|| Error::internal("a record that does not fit into its own batch"))?;
        if in_turn {
            open.turn.add(batch.builder.size() - before);
        }
        Ok(Ack::new(Arc::clone(&batch.done), place))
    }

    fn begin<H: AsHeader>(
        &self,
        hint: usize,
        shared: &Shared,
        record: &NewRecord<'_, H>,
        target: usize,
        buffer: &mut Option<Buffer>,
    ) -> Result<OpenBatch, Refusal> {
        // Refused before a batch is opened for it, which then would be sent with nothing in it.
        if record.timestamp() < NO_TIMESTAMP {
            return Err(Error::invalid("a record whose timestamp is negative").into());
        }
        let builder = BatchBuilder::new();
        let need = OVERHEAD + builder.size_of(record);
        let most = shared.settings.record_size_max();
        if need > most {
            let words = format!("a record of {} bytes, where {most} may be sent", need - OVERHEAD);
            return Err(Error::limit(words).into());
        }
        let given = buffer.take().filter(|given| given.capacity() >= need);
        // What the last batch needed this one will need as well. Where memory is short that is waited for:
        // many small batches would cost more, and take longer.
        let want = need.max(hint.min(target).min(shared.buffers.total() / HINT_SHARE));
        let buffer = given.or_else(|| shared.buffers.take(want));
        let (bytes, share) = buffer.ok_or(Refusal::NoRoom(want))?.into_parts();
        let builder = BatchBuilder::from_buffer(bytes);
        let room = room_in(&builder, need, target);
        let done = Completion::new(self.topic.name.clone(), self.partition);
        shared.coarse.refresh();
        let opened = clock::now();
        self.topic.touch(opened);
        Ok(OpenBatch { builder, share, done, opened, room })
    }

    /// Whether there is an open batch.
    pub(crate) fn is_open(&self) -> bool {
        self.lock().batch.is_some()
    }

    /// Closes the open batch, if there is one. What it gives has to be [sealed](Shared::seal).
    pub(crate) fn close(&self, shared: &Shared) -> Option<Job> {
        let mut open = self.lock();
        self.close_locked(&mut open, shared)
    }

    fn close_locked(&self, open: &mut Open, shared: &Shared) -> Option<Job> {
        let OpenBatch { builder, share, done, opened, .. } = open.batch.take()?;
        // Between what it was and what it is, so that one small batch does not make the next grow anew.
        open.hint = builder.size().max(open.hint / 2);
        let facts = Facts { count: builder.count(), size: builder.size(), opened, sent: false };
        let ticket = shared.put_on_line(self, done, facts)?;
        Some(Job { line: self.line, ticket, builder, share, topic: Arc::clone(&self.topic) })
    }

    /// Fails the open batch without sending it.
    pub(crate) fn abandon(&self) -> Option<(Arc<Completion>, usize)> {
        let batch = self.lock().batch.take()?;
        Some((batch.done, batch.builder.count()))
    }

    #[inline]
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenBatch {
    /// Moves to a larger buffer, if the batch may become so large and there is one.
    fn grow<H: AsHeader>(&mut self, shared: &Shared, record: &NewRecord<'_, H>, target: usize) -> bool {
        let need = self.builder.size() + self.builder.size_of(record);
        if need > target {
            return false;
        }
        let size =
            (self.builder.capacity() * 2).max(need + OVERHEAD).min((target + OVERHEAD).max(need + OVERHEAD));
        let Some(buffer) = shared.buffers.take(size) else { return false };
        let (bytes, share) = buffer.into_parts();
        let former = self.builder.grow_into(bytes);
        drop(Buffer::from_parts(former, self.share.take()));
        (self.share, self.room) = (share, room_in(&self.builder, need, target));
        true
    }
}

/// Up to which size a batch may be filled: its buffer, or what it is meant to have, or its first record.
fn room_in(builder: &BatchBuilder, need: usize, target: usize) -> usize {
    (builder.capacity().saturating_sub(8)).min(target.max(need))
}
