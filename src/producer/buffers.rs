//! The producer's memory: one budget in bytes, given out in buffers, awaited in order of arrival.
//!
//! A buffer's bytes belong to the budget from when it is given out until nobody holds any part of it: neither a
//! batch, nor a request that is still being written. Buffers that come back are kept for the next batch, within
//! the budget, or handed to whoever waits; they are given up when memory of another size is wanted. The budget
//! grows with data: a batch starts small and doubles.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{Error, Result};

/// The smallest buffer, in bytes.
const SIZE_MIN: usize = 512;

/// A buffer that is kept may be so many times as large as what is wanted.
const SPARE_MAX: usize = 2;

/// The budget. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Buffers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    total: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Bytes that are neither given out nor kept.
    free: usize,
    /// Buffers that came back, by their part of the budget; the last one is the warmest.
    spare: BTreeMap<usize, Vec<Vec<u8>>>,
    /// Who waits, for how many bytes, in order.
    waiting: VecDeque<(usize, oneshot::Sender<Buffer>)>,
    closed: bool,
}

/// A part of the budget. Clones are the same part, and it comes back when the last of them is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Share(Arc<Part>);

#[derive(Debug)]
struct Part {
    bytes: usize,
    home: Buffers,
}

/// Memory that is in the budget.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    /// None for memory that is not counted.
    share: Option<Share>,
}

impl Buffers {
    pub(crate) fn new(total: usize) -> Self {
        let state = State { free: total, spare: BTreeMap::new(), waiting: VecDeque::new(), closed: false };
        Self(Arc::new(Inner { total, state: Mutex::new(state) }))
    }

    /// The whole budget, in bytes.
    pub(crate) fn total(&self) -> usize {
        self.0.total
    }

    /// What is in use, in bytes, with what is kept for later.
    pub(crate) fn used(&self) -> usize {
        self.0.total.saturating_sub(self.lock().free)
    }

    /// Whether somebody waits for memory.
    pub(crate) fn is_short(&self) -> bool {
        self.lock().is_awaited()
    }

    /// How many wait for memory.
    pub(crate) fn waiting(&self) -> usize {
        self.lock().waiting.iter().filter(|(_, waiter)| !waiter.is_closed()).count()
    }

    /// An empty buffer of `size` bytes or somewhat more, if there is room now and nobody waits for it.
    pub(crate) fn take(&self, size: usize) -> Option<Buffer> {
        let class = self.class(size);
        let mut state = self.lock();
        if state.is_awaited() || state.closed {
            return None;
        }
        let memory = state.take(class)?;
        drop(state);
        Some(self.buffer(memory, class))
    }

    /// As [`take`](Self::take), after waiting for room behind those who came before. Safe to drop.
    pub(crate) async fn acquire(&self, size: usize) -> Result<Buffer> {
        let class = self.class(size);
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.closed {
                return Err(Error::closed("the producer was closed"));
            }
            state.waiting.push_back((class, sender));
        }
        self.serve();
        receiver.await.map_err(|_| Error::closed("the producer was closed"))
    }

    /// Lets go of those who wait, with an error.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let gone = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.spare));
        drop(state);
        drop(gone);
    }

    /// The bytes that a buffer for so many has.
    pub(crate) fn class(&self, size: usize) -> usize {
        let rounded = size.max(SIZE_MIN).checked_next_power_of_two().unwrap_or(size);
        if rounded > self.0.total { size.max(SIZE_MIN) } else { rounded }
    }

    fn buffer(&self, memory: Memory, class: usize) -> Buffer {
        let (memory, bytes) = match memory {
            Memory::Spare(memory, bytes) => (memory, bytes),
            Memory::Fresh => (Vec::with_capacity(class), class),
        };
        Buffer { bytes: memory, share: Some(Share(Arc::new(Part { bytes, home: self.clone() }))) }
    }

    /// Gives memory to those who wait, the first of them first.
    fn serve(&self) {
        loop {
            let mut state = self.lock();
            if !state.is_awaited() {
                return;
            }
            let Some(class) = state.waiting.front().map(|(class, _)| *class) else { return };
            let Some(memory) = state.take(class) else { return };
            let waiter = state.waiting.pop_front();
            drop(state);
            let buffer = self.buffer(memory, class);
            if let Some((_, waiter)) = waiter {
                // If he has gone the buffer comes back by being dropped.
                drop(waiter.send(buffer));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where memory comes from.
enum Memory {
    /// A buffer that was kept, and its part of the budget.
    Spare(Vec<u8>, usize),
    /// To be allocated: its bytes are taken from the budget.
    Fresh,
}

impl State {
    /// Whether somebody waits still.
    fn is_awaited(&mut self) -> bool {
        while self.waiting.front().is_some_and(|(_, waiter)| waiter.is_closed()) {
            self.waiting.pop_front();
        }
        !self.waiting.is_empty()
    }

    /// Memory of that class: a buffer that is kept, or room for one.
    fn take(&mut self, class: usize) -> Option<Memory> {
        // Somewhat larger is better than new: fresh memory costs more than what is copied into it.
        let fitting = self.spare.range_mut(class..=class.saturating_mul(SPARE_MAX));
        let fitting = fitting.into_iter().find(|(_, all)| !all.is_empty());
        if let Some((bytes, all)) = fitting
            && let Some(memory) = all.pop()
        {
            return Some(Memory::Spare(memory, *bytes));
        }
        let kept: usize = self.spare.iter().map(|(class, all)| class * all.len()).sum();
        if self.free + kept < class {
            return None;
        }
        while self.free < class {
            // The largest, because it helps most.
            let mut last = self.spare.last_entry()?;
            let (size, given_up) = (*last.key(), last.get_mut().pop());
            if last.get().is_empty() {
                last.remove();
            }
            self.free += given_up.map_or(0, |_| size);
        }
        self.free -= class;
        Some(Memory::Fresh)
    }
}

impl Buffer {
    /// Memory that came out of this budget, with its share.
    pub(crate) fn from_parts(bytes: Vec<u8>, share: Option<Share>) -> Self {
        Self { bytes, share }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The memory, and what stands for it in the budget.
    pub(crate) fn into_parts(mut self) -> (Vec<u8>, Option<Share>) {
        (std::mem::take(&mut self.bytes), self.share.take())
    }

    /// The same memory, to be shared; it comes back when the last who holds it lets go.
    pub(crate) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // In tests, whoever still reads what he has given back reads this (P03).
        #[cfg(test)]
        self.bytes.fill(POISON);
        // As long as others stand for the same part, it is not free.
        let Some(part) = self.share.as_mut().and_then(|share| Arc::get_mut(&mut share.0)) else { return };
        // What is kept has the size that it stands for, or it would never be found again.
        if self.bytes.capacity() >= part.bytes {
            let mut state = part.home.lock();
            if !state.closed {
                let mut bytes = std::mem::take(&mut self.bytes);
                bytes.clear();
                state.spare.entry(part.bytes).or_default().push(bytes);
                part.bytes = 0;
            }
        }
        // The share itself is dropped after this, and serves those who wait.
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.home.lock().free += self.bytes;
        self.home.serve();
    }
}

/// What is in memory that was given back.
#[cfg(test)]
const POISON: u8 = 0xdb;
