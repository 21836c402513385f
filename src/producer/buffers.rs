//! The producer's memory: one budget in bytes, given out in buffers, awaited in order of arrival.
//!
//! A buffer's bytes belong to the budget from when it is given out until nobody holds any part of it: neither a
//! batch, nor a request that is still being written. Buffers that come back are kept for the next batch, within
//! the budget, and given up when memory of another size is wanted. The budget grows with data: a batch
//! starts small and doubles.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{Error, Result};

/// The smallest buffer, in bytes.
const SIZE_MIN: usize = 512;

/// The budget. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Buffers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    room: Arc<Semaphore>,
    total: usize,
    /// Buffers that came back, by their capacity.
    spare: Mutex<BTreeMap<usize, Vec<(Vec<u8>, Share)>>>,
    waiting: AtomicUsize,
}

/// A part of the budget.
#[derive(Debug)]
pub(crate) struct Share {
    permit: Option<OwnedSemaphorePermit>,
}

/// Memory that is in the budget.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    share: Option<Share>,
    home: Buffers,
}

impl Buffers {
    pub(crate) fn new(total: usize) -> Self {
        let total = total.min(u32::MAX as usize);
        Self(Arc::new(Inner {
            room: Arc::new(Semaphore::new(total)),
            total,
            spare: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }))
    }

    /// The whole budget, in bytes.
    pub(crate) fn total(&self) -> usize {
        self.0.total
    }

    /// What is in use, in bytes, with what is kept for later.
    pub(crate) fn used(&self) -> usize {
        self.0.total.saturating_sub(self.0.room.available_permits())
    }

    /// Whether somebody waits for memory.
    pub(crate) fn is_short(&self) -> bool {
        self.0.waiting.load(Relaxed) > 0
    }

    /// How many wait for memory.
    pub(crate) fn waiting(&self) -> usize {
        self.0.waiting.load(Relaxed)
    }

    /// An empty buffer of `size` bytes or somewhat more, if there is room now.
    pub(crate) fn take(&self, size: usize) -> Option<Buffer> {
        let class = self.class(size);
        if let Some((bytes, share)) = self.spare().get_mut(&class).and_then(Vec::pop) {
            return Some(self.buffer(bytes, share));
        }
        if self.is_short() {
            return None;
        }
        let permits = u32::try_from(class).ok()?;
        loop {
            if let Ok(permit) = Arc::clone(&self.0.room).try_acquire_many_owned(permits) {
                return Some(self.buffer(Vec::with_capacity(class), Share { permit: Some(permit) }));
            }
            if !self.evict() {
                return None;
            }
        }
    }

    /// As [`take`](Self::take), after waiting for room behind those who came before. Safe to drop.
    pub(crate) async fn acquire(&self, size: usize) -> Result<Buffer> {
        let class = self.class(size);
        let permits = u32::try_from(class).unwrap_or(u32::MAX);
        self.0.waiting.fetch_add(1, Relaxed);
        let _waiting = Waiting(&self.0.waiting);
        while self.evict() {}
        let permit = Arc::clone(&self.0.room).acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| Error::closed("the producer was closed"))?;
        Ok(self.buffer(Vec::with_capacity(class), Share { permit: Some(permit) }))
    }

    /// Lets go of those who wait, with an error.
    pub(crate) fn close(&self) {
        self.0.room.close();
    }

    /// The capacity that a buffer for so many bytes has.
    pub(crate) fn class(&self, size: usize) -> usize {
        let rounded = size.max(SIZE_MIN).checked_next_power_of_two().unwrap_or(size);
        if rounded > self.0.total { size.max(SIZE_MIN) } else { rounded }
    }

    fn buffer(&self, bytes: Vec<u8>, share: Share) -> Buffer {
        Buffer { bytes, share: Some(share), home: self.clone() }
    }

    /// Gives up one buffer that is kept; the largest, because it helps most.
    fn evict(&self) -> bool {
        let mut spare = self.spare();
        while let Some(mut last) = spare.last_entry() {
            let found = last.get_mut().pop();
            if last.get().is_empty() {
                last.remove();
            }
            if found.is_some() {
                return true;
            }
        }
        false
    }

    fn give_back(&self, bytes: Vec<u8>, share: Share) {
        if !self.is_short() && !self.0.room.is_closed() {
            self.spare().entry(bytes.capacity()).or_default().push((bytes, share));
        }
    }

    fn spare(&self) -> MutexGuard<'_, BTreeMap<usize, Vec<(Vec<u8>, Share)>>> {
        self.0.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Buffer {
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The memory, and what stands for it in the budget.
    pub(crate) fn into_parts(mut self) -> (Vec<u8>, Option<Share>) {
        (std::mem::take(&mut self.bytes), self.share.take())
    }

    /// Memory that came out of this budget, with its share.
    pub(crate) fn from_parts(home: &Buffers, bytes: Vec<u8>, share: Option<Share>) -> Self {
        Self { bytes, share, home: home.clone() }
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
        if let Some(share) = self.share.take() {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            self.home.give_back(bytes, share);
        }
    }
}
