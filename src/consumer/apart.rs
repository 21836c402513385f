//! Other ways to read: a partition by itself, in a task of its own; records one at a time; a stream.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use tokio::sync::Notify;

use super::batch::Batch;
use super::shared::Shared;
use super::{Consumer, TopicPartition};
use crate::net::clock;
use crate::records::OwnedRecord;
use crate::{Error, Result};

/// One partition, taken out of its consumer's turn to be read by itself, by a task of its own perhaps: however slow that
/// is, it holds up no other. Dropping this puts the partition back.
///
/// The consumer itself is still to be come back to: by [`Consumer::next`], where the other partitions are read and
/// rebalances are told.
pub struct PartitionConsumer {
    at: TopicPartition,
    shared: Arc<Shared>,
    news: Arc<Notify>,
}

impl PartitionConsumer {
    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.at
    }

    /// The next batch of this partition. `None` once the partition is not this consumer's any more, or about to be taken
    /// from it, or the consumer is closed: then finish, commit, and drop this, which is waited for before the partition
    /// is handed over.
    ///
    /// By coming back here the application says that it is done with what it was given before. Cancel safe.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        self.shared.returned_of(&self.at);
        loop {
            let news = self.news.notified();
            let mut news = std::pin::pin!(news);
            news.as_mut().enable();
            if let Some(error) = self.shared.lock().fatal.clone() {
                return if error.is_closed() { Ok(None) } else { Err(error) };
            }
            let here = self.shared.lock().core.find(&self.at).is_some_and(|part| !part.stopped);
            if !here || self.shared.is_closed() {
                return Ok(None);
            }
            if let Some(batch) = self.shared.take(Some(&self.at))? {
                return Ok(Some(batch));
            }
            news.await;
        }
    }
}

impl Drop for PartitionConsumer {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.readers.remove(&self.at);
        // It may be gone already.
        let _ = state.core.set_apart(&self.at, false, clock::now());
        drop(state);
        self.shared.tell();
        self.shared.kick.notify_one();
    }
}

impl fmt::Debug for PartitionConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionConsumer").field("at", &self.at).finish_non_exhaustive()
    }
}

/// A record with the partition that it is of. It shares the memory of the batch that it came in.
#[derive(Debug, Clone)]
pub struct ConsumerRecord {
    at: TopicPartition,
    record: OwnedRecord,
}

impl ConsumerRecord {
    /// The topic.
    pub fn topic(&self) -> &str {
        self.at.topic()
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.at.partition()
    }

    /// The topic and the partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.at
    }

    /// The record: offset, timestamp, key, value, headers.
    pub fn record(&self) -> &OwnedRecord {
        &self.record
    }

    /// The place of the record in its partition.
    pub fn offset(&self) -> i64 {
        self.record.offset()
    }

    /// The key; `None` is null.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    /// The value; `None` is null.
    pub fn value(&self) -> Option<&[u8]> {
        self.record.value()
    }
}

impl Consumer {
    /// Reads a partition by itself from now on; see [`PartitionConsumer`].
    ///
    /// # Errors
    /// [Invalid](Error::is_invalid): a partition that is not assigned, or that is read by itself already.
    pub fn partition(&self, at: impl Into<TopicPartition>) -> Result<PartitionConsumer> {
        let at = at.into();
        let news = Arc::new(Notify::new());
        let mut state = self.shared.lock();
        if state.readers.contains_key(&at) {
            return Err(Error::invalid(format!("{at} has a reader of its own already")));
        }
        state.core.set_apart(&at, true, clock::now())?;
        state.readers.insert(at.clone(), Arc::clone(&news));
        drop(state);
        Ok(PartitionConsumer { at, shared: Arc::clone(&self.shared), news })
    }

    /// The next record, as one that may be kept. A batch costs an allocation this way, and a record some 20 ns more than
    /// by [`next`](Self::next). The records of a batch count as done when the first of the next one is asked for.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub async fn next_record(&mut self) -> Result<Option<ConsumerRecord>> {
        loop {
            while let Some((record, assignment)) = self.records.pop_front() {
                // What was taken from us meanwhile, or is read from elsewhere now, is not given.
                if self.shared.is_current(&record.at, assignment) {
                    return Ok(Some(record));
                }
            }
            let Some(batch) = self.next().await? else { return Ok(None) };
            let at = batch.topic_partition();
            let version = self.shared.version_of(at);
            let records =
                batch.iter().map(|record| ConsumerRecord { at: at.clone(), record: record.to_owned() });
            self.records.extend(records.map(|record| (record, version)));
        }
    }

    /// The consumer as a stream of batches. It ends when the consumer is closed.
    pub fn into_stream(self) -> BatchStream {
        BatchStream { consumer: State::Idle(Some(self)) }
    }
}

/// Records that were taken out of a batch, each with the version of the position that it was read at.
pub(super) type Records = VecDeque<(ConsumerRecord, u64)>;

/// A [`Consumer`] as a stream of batches: what [`next`](Consumer::next) gives.
#[must_use = "streams do nothing unless polled"]
pub struct BatchStream {
    consumer: State,
}

type Next = Pin<Box<dyn Future<Output = (Consumer, Result<Option<Batch>>)> + Send>>;

enum State {
    Idle(Option<Consumer>),
    Waits(Next),
}

impl Stream for BatchStream {
    type Item = Result<Batch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Batch>>> {
        loop {
            match &mut self.consumer {
                State::Idle(consumer) => {
                    let Some(mut consumer) = consumer.take() else { return Poll::Ready(None) };
                    self.consumer = State::Waits(Box::pin(async move {
                        let next = consumer.next().await;
                        (consumer, next)
                    }));
                }
                State::Waits(next) => {
                    let (consumer, next) = ready!(next.as_mut().poll(cx));
                    self.consumer = State::Idle(Some(consumer));
                    return Poll::Ready(next.transpose());
                }
            }
        }
    }
}

impl fmt::Debug for BatchStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchStream").finish_non_exhaustive()
    }
}
