//! What a user has in hand: a transactional producer, and the one transaction that it has at a time.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::groups::{GroupMetadata, OffsetAndMetadata, read_offsets};
use crate::net::clock;
use crate::net::clock::FOREVER;
use crate::producer::enqueue::Enqueue;
use crate::producer::shared::Shared;
use crate::producer::topic::TopicState;
use crate::producer::{
    Ack, Builder, Delivery, Handle, Record, Refused, check_topic, close, flush, try_enqueue,
};
use crate::records::AsHeader;
use crate::{Error, Result};

/// The settings of a [`TransactionalProducer`]: those of the [`Builder`] that this came from, and its own.
#[derive(Debug, Clone)]
#[must_use]
pub struct TransactionalBuilder {
    builder: Builder,
}

impl TransactionalBuilder {
    pub(crate) fn new(builder: Builder) -> Self {
        Self { builder }
    }

    /// Kafka's `transaction.timeout.ms`: for how long a transaction may be open before its coordinator aborts it.
    /// Brokers refuse more than their `transaction.max.timeout.ms`, 15 min by default. 1 min by default.
    pub fn transaction_timeout(mut self, time: Duration) -> Self {
        if let Some(settings) = self.builder.transactional() {
            settings.timeout = time.min(FOREVER);
        }
        self
    }

    /// A producer with these settings. It connects in the background; its first transaction makes it known to
    /// the coordinator, which then fences older producers with its id.
    ///
    /// # Errors
    /// As [`Builder::build`]; and [`is_invalid`](Error::is_invalid) for a transactional id that is empty or longer
    /// than 32,767 bytes, for a timeout of less than a millisecond, and without idempotence.
    pub fn build(self) -> Result<TransactionalProducer> {
        Ok(TransactionalProducer { handle: Handle { shared: self.builder.start()? } })
    }
}

/// Writes records, and positions of consumer groups, in transactions (KIP-98, KIP-447, KIP-890): consumers
/// that read what is committed see all of a transaction or nothing of it.
///
/// One transaction is open at a time; [`begin`](Self::begin) gives it as a value that has to be
/// [committed](Transaction::commit) or [aborted](Transaction::abort), and is aborted when it is dropped.
///
/// ```no_run
/// # async fn run() -> weir::Result<()> {
/// use weir::producer::GroupMetadata;
/// use weir::{Client, Record};
///
/// let kafka = Client::connect("localhost:9092").await?;
/// let mut producer = kafka.producer().transactional_id("billing-1").build()?;
/// loop {
///     let transaction = producer.begin().await?;
///     let bill = transaction.enqueue(Record::to("bills").key("customer-7").value("12.40")).await?;
///     transaction.enqueue(Record::to("mails").key("customer-7").value("your bill")).await?;
///     transaction.send_offsets(&GroupMetadata::new("billing"), [("orders", 3, 1042)]).await?;
///     match transaction.commit().await {
///         Ok(()) => println!("written at offset {:?}", bill.await?.offset()),
///         Err(error) if error.is_fenced() => return Err(error),
///         Err(error) if error.may_have_happened() => println!("committed or not: look there first"),
///         Err(error) => println!("not committed, begin again: {error}"),
///     }
/// #   break;
/// }
/// producer.close(std::time::Duration::from_secs(30)).await
/// # }
/// ```
///
/// Whether brokers are spoken with in the first or the second way of transactions (KIP-890) is theirs to say,
/// by the feature `transaction.version`; it is found out anew for each transaction.
///
/// When the producer is dropped, an end that is under way goes on in the background, for as long as the runtime
/// runs and the [`Client`](crate::Client) is open, at most for the transaction timeout.
pub struct TransactionalProducer {
    handle: Handle,
}

impl TransactionalProducer {
    /// Begins a transaction. Waits until the producer is known to its coordinator, and until the transaction before
    /// has ended, whatever became of the future that was to end it: what is uncertain about it is settled first.
    ///
    /// When the future is dropped, no transaction was begun.
    ///
    /// # Errors
    /// - [`is_timeout`](Error::is_timeout): it could not begin within [`max_block`](Builder::max_block); it may be
    ///   tried again.
    /// - [`is_fenced`](Error::is_fenced): another producer has this transactional id (KIP-588). This one is at its end.
    /// - What the coordinator refuses, such as the right to use the transactional id.
    /// - Whatever else this producer came to its end by.
    pub async fn begin(&mut self) -> Result<Transaction<'_>> {
        let shared = &self.handle.shared;
        shared.begin().await?;
        Ok(Transaction { shared, done: false })
    }

    /// Ends the producer: waits until the last transaction has ended, at most for `timeout`.
    ///
    /// When the future is dropped, what was begun goes on as if the producer had been dropped.
    ///
    /// # Errors
    /// [`is_timeout`](Error::is_timeout) if the transaction could not be ended in time. Its coordinator will abort it,
    /// or has a commit that was told before.
    pub async fn close(self, timeout: Duration) -> Result<()> {
        let shared = &self.handle.shared;
        let deadline = clock::now() + timeout.min(FOREVER);
        let ended = shared.settled(deadline).await;
        close(shared, deadline.saturating_duration_since(clock::now())).await?;
        ended
    }
}

/// An open transaction: to be [committed](Self::commit) or [aborted](Self::abort). When it is dropped it is
/// aborted in the background, without waiting.
///
/// All methods but those two take a shared reference, so that several tasks can work on it; when it is ended
/// no call of theirs is under way any more.
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction<'p> {
    shared: &'p Arc<Shared>,
    done: bool,
}

impl Transaction<'_> {
    /// Sends a record and waits until the broker has it: as [`enqueue`](Self::enqueue), and then its [`Ack`]. That
    /// it is there does not mean that it is committed.
    ///
    /// When the future is dropped, the record may have been accepted, and is then a part of the transaction.
    ///
    /// # Errors
    /// As [`enqueue`](Self::enqueue) and the `Ack`.
    pub async fn send<H: AsHeader>(&self, record: Record<'_, H>) -> Result<Delivery> {
        self.enqueue(record).await?.await
    }

    /// Takes a record, as soon as there is room for it; as [`Producer::enqueue`](crate::Producer::enqueue).
    ///
    /// A record that cannot be written makes the transaction one that can only be aborted: [`commit`](Self::commit)
    /// says so, whether anybody looks at the [`Ack`] or not.
    ///
    /// When the future is dropped before it gives the `Ack`, the record was not taken.
    ///
    /// # Errors
    /// As there, and why the transaction can only be aborted, if that is so.
    pub async fn enqueue<H: AsHeader>(&self, record: Record<'_, H>) -> Result<Ack> {
        let topic = self.topic_of(&record)?;
        Enqueue::new(self.shared, &topic, record, None).await
    }

    /// Takes a record if that is possible without waiting, and gives it back otherwise; as
    /// [`Producer::try_enqueue`](crate::Producer::try_enqueue).
    ///
    /// # Errors
    /// As there, and why the transaction can only be aborted, if that is so.
    pub fn try_enqueue<'a, H: AsHeader>(&self, record: Record<'a, H>) -> Result<Ack, Refused<'a, H>> {
        match self.topic_of(&record) {
            Ok(topic) => try_enqueue(self.shared, &topic, record),
            Err(error) => Err(Refused { record, error }),
        }
    }

    /// A topic, to send records of this transaction to it by the shortest way.
    pub fn topic(&self, name: &str) -> TransactionTopic<'_> {
        TransactionTopic { state: self.shared.topic(name), shared: self.shared }
    }

    /// Sends what has been taken without waiting for more, and waits until all of it is done, well or badly.
    /// [`commit`](Self::commit) does so by itself.
    ///
    /// When the future is dropped, what was begun goes on.
    ///
    /// # Errors
    /// Why the transaction can only be aborted, if that is so.
    pub async fn flush(&self) -> Result<()> {
        flush(self.shared).await?;
        self.shared.trouble().map_or(Ok(()), Err)
    }

    /// Makes positions of a consumer group a part of the transaction: they are committed with it or not at all
    /// (KIP-98, KIP-447). Each is a topic, a partition, and the offset of the next record to be read.
    ///
    /// When the future is dropped, the positions may be a part of the transaction or become one; if that
    /// is not wanted, abort it.
    ///
    /// # Errors
    /// - [`is_invalid`](Error::is_invalid): there is no such offset, partition or group; nothing has happened.
    /// - [`is_timeout`](Error::is_timeout): it could not be done within [`max_block`](Builder::max_block). They may
    ///   still become a part of the transaction.
    /// - Else the transaction can only be aborted, and why: the group's member has lost its place (by
    ///   [`code`](Error::code) `ILLEGAL_GENERATION`, `UNKNOWN_MEMBER_ID`, `FENCED_INSTANCE_ID` or
    ///   `STALE_MEMBER_EPOCH`), or there is no right to it.
    pub async fn send_offsets<T: AsRef<str>, O: Into<OffsetAndMetadata>>(
        &self,
        group: &GroupMetadata,
        offsets: impl IntoIterator<Item = (T, i32, O)>,
    ) -> Result<()> {
        let (group, offsets) = (group.read()?, read_offsets(offsets)?);
        self.shared.add_offsets(group, offsets).await
    }

    /// Sends what is left, waits until all of it is written, and commits the transaction.
    ///
    /// When the future is dropped after it was polled, the commit goes on in the background, and the next
    /// [`begin`](TransactionalProducer::begin) waits for its end; if it was not polled, the transaction is aborted.
    ///
    /// # Errors
    /// - [`may_have_happened`](Error::may_have_happened): nobody knows whether it is committed. What becomes of it is
    ///   decided before the next transaction begins; no later one can change it (KIP-890).
    /// - Otherwise it is not and never will be committed: a record of it could not be written, the time was over
    ///   ([`is_timeout`](Error::is_timeout), after [`max_block`](Builder::max_block)) before it was told to the
    ///   coordinator, or the coordinator had aborted it after the transaction timeout. The next one can begin.
    /// - [`is_fenced`](Error::is_fenced): another producer has this transactional id. This one is at its end.
    pub async fn commit(mut self) -> Result<()> {
        self.done = true;
        self.shared.end(true).await
    }

    /// Aborts the transaction: what was not sent is not sent any more, and what was sent is never seen by
    /// consumers that read what is committed. [`Ack`]s of records that were not sent come to an error.
    ///
    /// When the future is dropped, it is aborted all the same.
    ///
    /// # Errors
    /// [`is_timeout`](Error::is_timeout): it takes longer than [`max_block`](Builder::max_block), and goes on in the
    /// background. [`is_fenced`](Error::is_fenced) as for [`commit`](Self::commit). It is not committed in either
    /// case.
    pub async fn abort(mut self) -> Result<()> {
        self.done = true;
        self.shared.end(false).await
    }

    fn topic_of<H>(&self, record: &Record<'_, H>) -> Result<Arc<TopicState>> {
        let name = record.topic.ok_or_else(|| Error::invalid("a record without a topic"))?;
        self.shared.find_topic(name)
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.shared.abort_in_background();
        }
    }
}

/// A topic that records of a transaction are sent to. It cannot outlive the transaction.
#[derive(Clone)]
pub struct TransactionTopic<'t> {
    state: Arc<TopicState>,
    shared: &'t Arc<Shared>,
}

impl TransactionTopic<'_> {
    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.state.name
    }

    /// As [`Transaction::send`].
    ///
    /// # Errors
    /// As there; [`is_invalid`](Error::is_invalid) for a record of another topic.
    pub async fn send<H: AsHeader>(&self, record: Record<'_, H>) -> Result<Delivery> {
        self.enqueue(record).await?.await
    }

    /// As [`Transaction::enqueue`].
    ///
    /// # Errors
    /// As there; [`is_invalid`](Error::is_invalid) for a record of another topic.
    #[inline]
    pub async fn enqueue<H: AsHeader>(&self, record: Record<'_, H>) -> Result<Ack> {
        check_topic(&self.state, &record)?;
        Enqueue::new(self.shared, &self.state, record, None).await
    }

    /// As [`Transaction::try_enqueue`].
    ///
    /// # Errors
    /// As there; [`is_invalid`](Error::is_invalid) for a record of another topic.
    #[inline]
    pub fn try_enqueue<'a, H: AsHeader>(&self, record: Record<'a, H>) -> Result<Ack, Refused<'a, H>> {
        match check_topic(&self.state, &record) {
            Ok(()) => try_enqueue(self.shared, &self.state, record),
            Err(error) => Err(Refused { record, error }),
        }
    }
}

impl fmt::Debug for TransactionalProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.handle.shared.settings.transactional.as_ref().map(|settings| &settings.id);
        f.debug_struct("TransactionalProducer").field("id", &id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Transaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

impl fmt::Debug for TransactionTopic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransactionTopic").field("name", &self.name()).finish_non_exhaustive()
    }
}
