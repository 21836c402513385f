//! What a producer has counted, as Kafka's own producer names it. Counted when a batch is sealed, sent or done, never
//! for each record.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::shared::Shared;

/// What a producer has counted since it was made, and what it holds now.
///
/// Each has the name of the metric in Kafka's Java client from which it can be computed, and of its
/// telemetry (KIP-714), where they are `org.apache.kafka.producer.` with dots; rates are the differences of two calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// `record-send-total`: records in requests; those that are sent again count again.
    pub records_sent: u64,
    /// `record-retry-total`: records that were sent again.
    pub records_retried: u64,
    /// `record-error-total`: records that were taken and came to an error.
    pub records_failed: u64,
    /// Records that the brokers have said they have.
    pub records_acked: u64,
    /// Batches that were sent, each time counted.
    pub batches_sent: u64,
    /// `byte-total`: bytes of batches that were sent, compressed, each time counted.
    pub bytes_sent: u64,
    /// Requests that were sent; with [`records_sent`](Self::records_sent) they give `records-per-request-avg`.
    pub requests_sent: u64,
    /// `requests-in-flight`: produce requests without an answer, now.
    pub requests_in_flight: u64,
    /// Batches that were made; a batch that is taken apart gives new ones.
    pub batches_sealed: u64,
    /// Bytes of those before compression, with their headers; over the records they give about `record-size-avg`.
    pub bytes_plain: u64,
    /// Bytes of those after compression; see [`batch_size_avg`](Self::batch_size_avg) and
    /// [`compression_ratio`](Self::compression_ratio).
    pub bytes_sealed: u64,
    /// `batch-size-max`: the largest batch, compressed, in bytes.
    pub batch_size_max: u64,
    /// `record-queue-time-max`: the longest that a batch has waited from its first record to its first sending.
    pub queue_time_max: Duration,
    /// The sum of such times; see [`queue_time_avg`](Self::queue_time_avg).
    pub queue_time_total: Duration,
    /// How many such times there were.
    pub queue_times: u64,
    /// `batch-split-total`: batches that were taken apart because they were too large for their broker.
    pub batches_split: u64,
    /// `buffer-total-bytes`: the memory for records, in bytes.
    pub buffer_total: u64,
    /// `buffer-available-bytes`: what of it is free now. Buffers that are kept for the next batch count as in use.
    pub buffer_available: u64,
    /// `waiting-threads`: who waits for memory now; here tasks.
    pub buffer_waiting: u64,
    /// `buffer-exhausted-total`: records that were refused, or waited in vain, for want of memory.
    pub buffer_exhausted: u64,
}

impl Stats {
    /// `batch-size-avg`: the mean size of a batch, compressed, in bytes.
    pub fn batch_size_avg(&self) -> f64 {
        ratio(self.bytes_sealed, self.batches_sealed)
    }

    /// `compression-rate-avg`: to what part of their size batches come by compression; 1 is not at all.
    pub fn compression_ratio(&self) -> f64 {
        ratio(self.bytes_sealed, self.bytes_plain)
    }

    /// `records-per-request-avg`.
    pub fn records_per_request(&self) -> f64 {
        ratio(self.records_sent, self.requests_sent)
    }

    /// `record-queue-time-avg`: how long a batch waits from its first record to its first sending.
    pub fn queue_time_avg(&self) -> Duration {
        let mean = self.queue_time_total.as_nanos().checked_div(u128::from(self.queue_times)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(mean).unwrap_or(u64::MAX))
    }
}

/// Zero where there is nothing yet.
#[allow(clippy::cast_precision_loss, reason = "figures for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl Shared {
    /// What was counted, and what is held now.
    pub(crate) fn stats(&self) -> Stats {
        let (total, used) = (self.buffers.total() as u64, self.buffers.used() as u64);
        Stats {
            requests_in_flight: self.lock().core.in_flight() as u64,
            buffer_total: total,
            buffer_available: total.saturating_sub(used),
            buffer_waiting: self.buffers.waiting() as u64,
            ..self.counters.stats()
        }
    }
}

/// What is counted of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts {
    /// Records.
    pub(crate) count: usize,
    /// Bytes, when it was closed.
    pub(crate) size: usize,
    pub(crate) opened: Instant,
    /// It was sent before.
    pub(crate) sent: bool,
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    records_sent: AtomicU64,
    records_retried: AtomicU64,
    records_failed: AtomicU64,
    records_acked: AtomicU64,
    batches_sent: AtomicU64,
    bytes_sent: AtomicU64,
    requests_sent: AtomicU64,
    batches_sealed: AtomicU64,
    bytes_plain: AtomicU64,
    bytes_sealed: AtomicU64,
    batch_size_max: AtomicU64,
    queue_ns_max: AtomicU64,
    queue_ns_total: AtomicU64,
    queue_times: AtomicU64,
    batches_split: AtomicU64,
    buffer_exhausted: AtomicU64,
}

fn add(counter: &AtomicU64, more: usize) {
    counter.fetch_add(more as u64, Relaxed);
}

impl Counters {
    pub(crate) fn sealed(&self, plain: usize, size: usize) {
        add(&self.batches_sealed, 1);
        add(&self.bytes_plain, plain);
        add(&self.bytes_sealed, size);
        self.batch_size_max.fetch_max(size as u64, Relaxed);
    }

    /// A batch goes out; `queued` is how long it waited, the first time.
    pub(crate) fn sent(&self, records: usize, size: usize, queued: Option<Duration>) {
        add(&self.batches_sent, 1);
        add(&self.records_sent, records);
        add(&self.bytes_sent, size);
        match queued {
            Some(time) => {
                let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                self.queue_ns_max.fetch_max(ns, Relaxed);
                self.queue_ns_total.fetch_add(ns, Relaxed);
                add(&self.queue_times, 1);
            }
            None => add(&self.records_retried, records),
        }
    }

    pub(crate) fn requested(&self) {
        add(&self.requests_sent, 1);
    }

    pub(crate) fn acked(&self, records: usize) {
        add(&self.records_acked, records);
    }

    pub(crate) fn failed(&self, records: usize) {
        add(&self.records_failed, records);
    }

    pub(crate) fn split(&self) {
        add(&self.batches_split, 1);
    }

    pub(crate) fn exhausted(&self) {
        add(&self.buffer_exhausted, 1);
    }

    /// What was counted; what is held now is not known here.
    pub(crate) fn stats(&self) -> Stats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        Stats {
            records_sent: read(&self.records_sent),
            records_retried: read(&self.records_retried),
            records_failed: read(&self.records_failed),
            records_acked: read(&self.records_acked),
            batches_sent: read(&self.batches_sent),
            bytes_sent: read(&self.bytes_sent),
            requests_sent: read(&self.requests_sent),
            batches_sealed: read(&self.batches_sealed),
            bytes_plain: read(&self.bytes_plain),
            bytes_sealed: read(&self.bytes_sealed),
            batch_size_max: read(&self.batch_size_max),
            queue_time_max: Duration::from_nanos(read(&self.queue_ns_max)),
            queue_time_total: Duration::from_nanos(read(&self.queue_ns_total)),
            queue_times: read(&self.queue_times),
            batches_split: read(&self.batches_split),
            buffer_exhausted: read(&self.buffer_exhausted),
            ..Stats::default()
        }
    }
}
