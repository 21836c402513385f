//! The producer: records in, batches out, and the outcome of each record told exactly once.
//!
//! ```no_run
//! # async fn run() -> weir::Result<()> {
//! use weir::{Client, Record};
//!
//! let kafka = Client::connect("localhost:9092").await?;
//! let producer = kafka.producer().build()?;
//! let order = Record::to("orders").key("customer-7").value("one book");
//! let at = producer.send(order).await?;
//! println!("written to partition {} at offset {:?}", at.partition(), at.offset());
//! producer.close(std::time::Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! A record is encoded once, when it is accepted, into the open batch of its partition. A batch goes out when it
//! is full or has waited for [`linger`](Builder::linger); what is sent again is the same bytes. The producer is
//! idempotent unless it is told not to be (KIP-98): each record is written once, and in order, however
//! often it has to be sent, for as long as the producer lives.
//!
//! Inside: `lane` encodes, `machine_line` orders, `machine_core` chooses what goes to which broker,
//! `pump` sends it, `answers` judges what comes back, `keeper` waits for what has to be waited for.

mod ack;
mod answers;
mod buffers;
mod builder;
mod coarse;
mod config;
mod enqueue;
mod interceptor;
mod keeper;
mod lane;
mod machine_core;
mod machine_identity;
mod machine_line;
mod pace;
pub mod partitioner;
mod pump;
mod record;
mod seal;
mod shared;
mod stats;
#[cfg(test)]
mod tests;
mod topic;
mod topics;
mod transaction;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use ack::{Ack, Delivery};
pub use builder::Builder;
pub use config::Acks;
pub use enqueue::Enqueue;
pub use interceptor::{BatchReport, Interceptor, Outgoing};
use lane::Refusal;
pub use partitioner::{Partitioner, Partitioning};
pub use record::Record;
use shared::Shared;
pub use stats::Stats;
use topic::TopicState;
pub use transaction::{
    GroupMetadata, OffsetAndMetadata, Transaction, TransactionTopic, TransactionalBuilder,
    TransactionalProducer,
};

use crate::net::clock;
use crate::net::clock::FOREVER;
use crate::records::AsHeader;
use crate::{Error, Result};

/// Sends records. Clones are the same producer, and may be used from anywhere at the same time.
///
/// When the last clone and the last [`Topic`] are dropped, what was accepted is still delivered in the
/// background, for as long as the runtime runs and the [`Client`](crate::Client) is open; dropping does not
/// wait. [`close`](Self::close) does.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// The producer's life.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.shut(None);
        self.shared.close_batches();
        self.shared.kick.notify_one();
    }
}

impl Producer {
    fn new(shared: Arc<Shared>) -> Self {
        Self { handle: Arc::new(Handle { shared }) }
    }

    /// Sends a record and waits until the broker has it: as [`enqueue`](Self::enqueue), and then its [`Ack`].
    ///
    /// When the future is dropped, the record may have been accepted; if so, it is delivered all the same.
    ///
    /// # Errors
    /// Why it was not accepted, or not written. [`may_have_happened`](Error::may_have_happened) tells whether
    /// it may have been written all the same.
    pub async fn send<H: AsHeader>(&self, record: Record<'_, H>) -> Result<Delivery> {
        self.enqueue(record).await?.await
    }

    /// Takes a record, as soon as there is room for it; what becomes of it the [`Ack`] tells. Records of a
    /// partition are written in the order in which they are taken.
    ///
    /// Waits where [`try_enqueue`](Self::try_enqueue) would refuse: while all memory is in use, and while the
    /// topic is not known yet. When the future is dropped before it gives the `Ack`, the record was not taken.
    ///
    /// # Errors
    /// - [`is_invalid`](Error::is_invalid): the record has no topic, or a partition that there is not.
    /// - [`is_limit`](Error::is_limit): it is larger than
    ///   [`max_request_size`](Builder::max_request_size), or than all memory.
    /// - [`is_timeout`](Error::is_timeout): there was no room, or the topic was not known, for
    ///   [`max_block`](Builder::max_block).
    /// - [`is_closed`](Error::is_closed): the producer was closed.
    /// - What brokers say of the topic, if they refuse it.
    pub async fn enqueue<H: AsHeader>(&self, record: Record<'_, H>) -> Result<Ack> {
        let topic = self.topic_of(&record)?;
        Enqueue::new(&self.handle.shared, &topic, record, None).await
    }

    /// Takes a record if that is possible without waiting, and gives it back otherwise.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue), and [`is_limit`](Error::is_limit) while there is no room, and
    /// [`is_retriable`](Error::is_retriable) while the topic is not known yet.
    pub fn try_enqueue<'a, H: AsHeader>(&self, record: Record<'a, H>) -> Result<Ack, Refused<'a, H>> {
        match self.topic_of(&record) {
            Ok(topic) => try_enqueue(&self.handle.shared, &topic, record),
            Err(error) => Err(Refused { record, error }),
        }
    }

    /// A topic, to send records to it by the shortest way.
    pub fn topic(&self, name: &str) -> Topic {
        Topic { state: self.handle.shared.topic(name), handle: Arc::clone(&self.handle) }
    }

    /// Sends what has been taken without waiting for more, and waits until all of it is done, well or badly:
    /// that is told by the [`Ack`]s. Records taken meanwhile are not waited for.
    ///
    /// When the future is dropped, what was begun goes on.
    ///
    /// # Errors
    /// Why this producer cannot send anything any more, if that is so.
    pub async fn flush(&self) -> Result<()> {
        flush(&self.handle.shared).await
    }

    /// Takes no more records, waits until those that were taken are done, at most for `timeout`, and then fails
    /// the rest with an error that tells whether they may have been written. Other clones are closed with
    /// it.
    ///
    /// When the future is dropped, no more records are taken, and what was taken goes on.
    ///
    /// # Errors
    /// [`is_timeout`](Error::is_timeout) if not all could be done in time.
    pub async fn close(&self, timeout: Duration) -> Result<()> {
        close(&self.handle.shared, timeout).await
    }

    /// What was counted since the producer was made, and what it holds now.
    pub fn stats(&self) -> Stats {
        self.handle.shared.stats()
    }

    fn topic_of<H>(&self, record: &Record<'_, H>) -> Result<Arc<TopicState>> {
        let name = record.topic.ok_or_else(|| Error::invalid("a record without a topic"))?;
        self.handle.shared.find_topic(name)
    }
}

/// A topic that records are sent to: the shortest way in, since its name is not looked up for each record.
/// Clones are the same.
#[derive(Clone)]
pub struct Topic {
    state: Arc<TopicState>,
    handle: Arc<Handle>,
}

impl Topic {
    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// As [`Producer::send`].
    ///
    /// # Errors
    /// As there; [`is_invalid`](Error::is_invalid) for a record of another topic.
    pub async fn send<H: AsHeader>(&self, record: Record<'_, H>) -> Result<Delivery> {
        self.enqueue(record).await?.await
    }

    /// As [`Producer::enqueue`].
    ///
    /// # Errors
    /// As there; [`is_invalid`](Error::is_invalid) for a record of another topic.
    #[inline]
    pub fn enqueue<'a, H: AsHeader>(&'a self, record: Record<'a, H>) -> Enqueue<'a, H> {
        let wrong = self.check(&record).err();
        Enqueue::new(&self.handle.shared, &self.state, record, wrong)
    }

    /// As [`Producer::try_enqueue`].
    ///
    /// # Errors
    /// As there; [`is_invalid`](Error::is_invalid) for a record of another topic.
    #[inline]
    pub fn try_enqueue<'a, H: AsHeader>(&self, record: Record<'a, H>) -> Result<Ack, Refused<'a, H>> {
        match self.check(&record) {
            Ok(()) => try_enqueue(&self.handle.shared, &self.state, record),
            Err(error) => Err(Refused { record, error }),
        }
    }

    #[inline]
    fn check<H>(&self, record: &Record<'_, H>) -> Result<()> {
        check_topic(&self.state, record)
    }
}

#[inline]
fn check_topic<H>(topic: &TopicState, record: &Record<'_, H>) -> Result<()> {
    match record.topic {
        Some(other) if *other != *topic.name => {
            Err(Error::invalid(format!("a record for {other} was given to topic {}", topic.name)))
        }
        _ => Ok(()),
    }
}

/// A record that was not taken, and why.
#[non_exhaustive]
pub struct Refused<'a, H = crate::records::Header<'a>> {
    /// The record.
    pub record: Record<'a, H>,
    /// Why it was not taken.
    pub error: Error,
}

fn try_enqueue<'a, H: AsHeader>(
    shared: &Arc<Shared>,
    topic: &Arc<TopicState>,
    record: Record<'a, H>,
) -> Result<Ack, Refused<'a, H>> {
    let error = match shared.try_append_seen(topic, &record) {
        Ok(ack) => return Ok(ack),
        Err(Refusal::Error(error)) => error,
        Err(Refusal::Busy) => Error::limit("records come faster than they can be compressed"),
        Err(Refusal::NoRoom(_) | Refusal::Elsewhere | Refusal::Ahead) => {
            shared.with_core(machine_core::Core::handle_pressure);
            shared.pump();
            shared.counters.exhausted();
            Error::limit("no memory for the record is free now")
        }
        Err(Refusal::NotReady) => match shared.check_open().map(|()| shared.lacks(topic)) {
            Ok(()) => Error::timeout(format!("topic {} is not known yet", topic.name)),
            Err(error) => error,
        },
    };
    Err(Refused { record, error })
}

async fn flush(shared: &Arc<Shared>) -> Result<()> {
    for done in shared.close_batches() {
        done.done().await;
    }
    match shared.lock().fatal.clone() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

async fn close(shared: &Arc<Shared>, timeout: Duration) -> Result<()> {
    shared.shut(None);
    let deadline = clock::now() + timeout.min(FOREVER);
    let all = async {
        for done in shared.close_batches() {
            done.done().await;
        }
    };
    let flushed = tokio::time::timeout_at(deadline.into(), all).await;
    let closed = flushed.map_err(|_| {
        let error = Error::timeout("not all records could be delivered before the producer was closed");
        shared.fail_all(&error);
        error
    });
    shared.kick.notify_one();
    closed
}

impl<H> fmt::Debug for Refused<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused").field("error", &self.error).finish_non_exhaustive()
    }
}

impl<H> fmt::Display for Refused<'_, H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<H> std::error::Error for Refused<'_, H> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl<H> From<Refused<'_, H>> for Error {
    fn from(refused: Refused<'_, H>) -> Self {
        refused.error
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").finish_non_exhaustive()
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("name", &self.name()).finish_non_exhaustive()
    }
}
