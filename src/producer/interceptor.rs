//! A hook for what looks over the producer's shoulder: tracing, auditing, counting by topic.
//!
//! Called by whoever hands a record over, and by whoever learns what became of a batch; never under a lock, so it may
//! use the producer itself. What it costs is paid only where one is set.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::ack::{Ack, Outcome};
use super::buffers::Buffer;
use super::lane::{OVERHEAD, Refusal};
use super::record::Record;
use super::shared::Shared;
use super::topic::TopicState;
use crate::records::{AsHeader, BatchBuilder, Header};
use crate::{Error, Result};

/// Sees each record before its partition is chosen, and each batch when it is done: Kafka's
/// `interceptor.classes` (KIP-42), except that the end is told for batches and not for records.
///
/// No lock is held while it is called, and it may call the producer; but it must not block, since it runs where
/// records are handed over and answers are read. Its panics are caught and said to `tracing`: the record
/// then goes out with the headers that were added until then.
///
/// ```
/// use weir::producer::{BatchReport, Interceptor, Outgoing};
///
/// struct Trace;
///
/// impl Interceptor for Trace {
///     fn on_send(&self, outgoing: &mut Outgoing<'_>) {
///         outgoing.add_header("trace", Some("7f"));
///     }
///
///     fn on_batch(&self, batch: &BatchReport<'_>) {
///         println!("{} records to {}-{}: {:?}", batch.count(), batch.topic(), batch.partition(), batch.error());
///     }
/// }
/// ```
pub trait Interceptor: Send + Sync {
    /// A record was handed over, by [`enqueue`](super::Producer::enqueue) or any of its kin, each time once, and
    /// is about to be taken; that may still fail. One that [`try_enqueue`](super::Producer::try_enqueue) gives back
    /// because there is no room for it now is not shown. Headers may be added.
    fn on_send(&self, outgoing: &mut Outgoing<'_>) {
        let _ = outgoing;
    }

    /// A batch is done, well or badly. Comes before its [`Ack`]s.
    fn on_batch(&self, batch: &BatchReport<'_>) {
        let _ = batch;
    }
}

/// A record on its way in, as an [`Interceptor`] sees it.
#[derive(Debug)]
pub struct Outgoing<'a> {
    topic: &'a str,
    partition: Option<i32>,
    timestamp: Option<i64>,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    given: &'a [Header<'a>],
    added: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Outgoing<'_> {
    /// The topic.
    pub fn topic(&self) -> &str {
        self.topic
    }

    /// The partition, if the record says which.
    pub fn partition(&self) -> Option<i32> {
        self.partition
    }

    /// The timestamp, if the record has one, in milliseconds since 1970.
    pub fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        self.key
    }

    /// The value.
    pub fn value(&self) -> Option<&[u8]> {
        self.value
    }

    /// The headers: those that it came with, and behind them those that were added.
    pub fn headers(&self) -> impl Iterator<Item = Header<'_>> {
        self.given.iter().copied().chain(self.added.iter().map(AsHeader::as_header))
    }

    /// Adds a header behind the others.
    pub fn add_header<V: AsRef<[u8]> + ?Sized>(
        &mut self,
        key: &(impl AsRef<[u8]> + ?Sized),
        value: Option<&V>,
    ) {
        self.added.push((key.as_ref().to_vec(), value.map(|value| value.as_ref().to_vec())));
    }
}

/// What became of a batch, as an [`Interceptor`] hears it.
#[derive(Debug)]
pub struct BatchReport<'a> {
    topic: &'a str,
    partition: i32,
    count: usize,
    offset: Option<i64>,
    timestamp: Option<i64>,
    error: Option<&'a Error>,
}

impl<'a> BatchReport<'a> {
    pub(crate) fn new(topic: &'a str, partition: i32, count: usize, outcome: &'a Outcome) -> Self {
        let (offset, timestamp, error) = match outcome {
            Outcome::Written { offset, timestamp } => (*offset, *timestamp, None),
            Outcome::Failed { error, .. } => (None, None, Some(error)),
            Outcome::Split(_) => (None, None, None),
        };
        Self { topic, partition, count, offset, timestamp, error }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        self.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// How many records it has.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The offset of the first record, if it was written and the broker says where.
    pub fn base_offset(&self) -> Option<i64> {
        self.offset
    }

    /// When the broker wrote it, in milliseconds since 1970, if the topic's timestamps are the brokers'.
    pub fn timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// Why it was not written; none if it was.
    pub fn error(&self) -> Option<&Error> {
        self.error
    }
}

/// All that were set, in that order.
#[derive(Clone, Default)]
pub(crate) struct Interceptors(Vec<Arc<dyn Interceptor>>);

impl Interceptors {
    pub(crate) fn push(&mut self, interceptor: impl Interceptor + 'static) {
        self.0.push(Arc::new(interceptor));
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Shows them a record, and gives the headers that it has then.
    pub(crate) fn on_send<H: AsHeader>(&self, topic: &str, record: &Record<'_, H>) -> Headers {
        let given: Vec<Header<'_>> = record.headers.iter().map(AsHeader::as_header).collect();
        let Record { partition, timestamp, key, value, .. } = *record;
        let mut outgoing =
            Outgoing { topic, partition, timestamp, key, value, given: &given, added: Vec::new() };
        for interceptor in &self.0 {
            guarded("on_send", || interceptor.on_send(&mut outgoing));
        }
        Headers(outgoing.added)
    }

    /// Tells them what became of a batch. Not to be called under a lock.
    pub(crate) fn on_batch(&self, report: &BatchReport<'_>) {
        for interceptor in &self.0 {
            guarded("on_batch", || interceptor.on_batch(report));
        }
    }
}

/// Headers that interceptors have added.
#[derive(Debug)]
pub(crate) struct Headers(Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl Headers {
    /// All headers of a record: its own, and behind them these.
    pub(crate) fn join<'a, H: AsHeader>(&'a self, record: &Record<'a, H>) -> Vec<Header<'a>> {
        record.headers.iter().map(AsHeader::as_header).chain(self.0.iter().map(AsHeader::as_header)).collect()
    }
}

impl Shared {
    /// As [`try_append`](Self::try_append), once interceptors have seen it.
    #[inline]
    pub(crate) fn try_append_seen<H: AsHeader>(
        self: &Arc<Self>,
        topic: &Arc<TopicState>,
        record: &Record<'_, H>,
    ) -> Result<Ack, Refusal> {
        if self.settings.interceptors.is_empty() {
            return self.try_append(topic, record, &mut None);
        }
        let mut room = self.room_for(topic, record)?;
        let added = self.settings.interceptors.on_send(&topic.name, record);
        self.try_append(topic, &record.headers(&added.join(record)), &mut room)
    }

    /// Memory for a record, should it need a batch of its own: what is refused for now is not shown to anybody.
    fn room_for<H: AsHeader>(
        &self,
        topic: &TopicState,
        record: &Record<'_, H>,
    ) -> Result<Option<Buffer>, Refusal> {
        self.check_open()?;
        self.ready(topic, record.partition)?;
        if self.is_busy() {
            return Err(Refusal::Busy);
        }
        let size = OVERHEAD + ADDED + BatchBuilder::new().size_of(&record.encodable(0));
        if size > self.settings.record_size_max() {
            // Perhaps it never can be taken; whoever encodes it knows.
            return Ok(None);
        }
        self.buffers.take(size).map(Some).ok_or(Refusal::NoRoom(size))
    }
}

/// Bytes that are kept free for headers that interceptors add.
const ADDED: usize = 256;

/// What interceptors do wrong is not ours to die of.
fn guarded(what: &'static str, call: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(call)).is_err() {
        tracing::error!("an interceptor of the producer panicked in {what}");
    }
}

impl fmt::Debug for Interceptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.len())
    }
}
