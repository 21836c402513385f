//! Memory that batches were decompressed into, to be used again, and the count of what applications hold.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::records::Decompressor;

/// Buffers that are kept.
const SPARES_MAX: usize = 4;

/// See the module.
#[derive(Default)]
pub(crate) struct Spares {
    /// The bytes that batches in the application's hands were decompressed to.
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
