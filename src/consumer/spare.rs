//! Memory that batches were decompressed into, to be used again, and the count of what applications hold.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::records::Decompressor;

/// Buffers that are kept.
const SPARES_MAX: usize = 4;

/// See the module.
#[derive(Default)]
pub(crate) struct Spares {
    /// The bytes of answers that something is left of, and what batches in the application's hands were decompressed
    /// to.
    pub(crate) live: AtomicUsize,
    /// Somebody waits for memory...
    pub(crate) starved: AtomicBool,
    /// ...and is woken by this.
    pub(crate) freed: Notify,
    buffers: Mutex<Vec<Bytes>>,
    decompressors: Mutex<Vec<Decompressor>>,
}

impl Spares {
    /// Takes a buffer back, if nobody holds a part of it.
    pub(crate) fn put(&self, bytes: Bytes) {
        if !bytes.is_unique() {
            return;
        }
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        if buffers.len() < SPARES_MAX {
            buffers.push(bytes);
        }
    }

    /// A decompressor, with a buffer if there is one.
    pub(crate) fn decompressor(&self) -> Decompressor {
        let kept = self.decompressors.lock().unwrap_or_else(PoisonError::into_inner).pop();
        kept.unwrap_or_default()
    }

    /// Gives a decompressor the next buffer.
    pub(crate) fn refill(&self, decompressor: &mut Decompressor) {
        let buffer = self.buffers.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(buffer) = buffer {
            decompressor.recycle(buffer);
        }
    }

    /// Keeps a decompressor for the next batch.
    pub(crate) fn keep(&self, decompressor: Decompressor) {
        let mut kept = self.decompressors.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < SPARES_MAX {
            kept.push(decompressor);
        }
    }

    /// A batch was dropped.
    pub(crate) fn released(&self) {
        if self.starved.swap(false, Ordering::SeqCst) {
            self.freed.notify_one();
        }
    }
}

/// The records of one answer, as far as the budget goes: given back when nobody has any of them any more.
struct Charge {
    bytes: usize,
    spares: Arc<Spares>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.spares.live.fetch_sub(self.bytes, Ordering::AcqRel);
        self.spares.released();
    }
}

/// Records of one partition, which keep the memory of their whole answer.
struct Charged {
    records: Bytes,
    _charge: Arc<Charge>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.records
    }
}

/// Counts an answer, whose records these are, until all slices of them are gone.
pub(crate) fn charge<'a>(spares: &Arc<Spares>, records: impl Iterator<Item = &'a mut Bytes>) {
    let records: Vec<&mut Bytes> = records.filter(|records| !records.is_empty()).collect();
    let bytes = records.iter().map(|records| records.len()).sum();
    spares.live.fetch_add(bytes, Ordering::AcqRel);
    let charge = Arc::new(Charge { bytes, spares: Arc::clone(spares) });
    for slot in records {
        let records = std::mem::take(slot);
        *slot = Bytes::from_owner(Charged { records, _charge: Arc::clone(&charge) });
    }
}
