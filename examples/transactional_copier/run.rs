//! Copies: each transaction has some records and the position behind them. What goes wrong is aborted, and copied again
//! from where the group has got to.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weir::consumer::{Batch, Consumer, Event, Isolation, Reset, TopicPartition};
use weir::producer::{GroupMetadata, OffsetAndMetadata};
use weir::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use weir::records::Record as Read;
use weir::{Client, ErrorCode, Record, TransactionalProducer};

use super::flags::Job;

/// Nothing here is worth more than a sentence for a person.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const SECOND: Duration = Duration::from_secs(1);

/// How long the end may take.
const CLOSE: Duration = Duration::from_secs(30);

/// What `ListOffsets` is asked for.
const FIRST: i64 = -2;
const END: i64 = -1;

/// Does the job, until it is done or `ended` comes to its end.
pub(crate) async fn run<W: Write>(job: Job, out: W, ended: impl Future<Output = ()>) -> Result<()> {
    let client = Client::connect(&job.bootstrap).await?;
    // Small batches, so that a transaction has several requests under way, as Java's program wants it.
    let builder = client.producer().batch_size(512).max_in_flight(5);
    let producer =
        builder.transactional_id(&job.transactional_id).transaction_timeout(job.timeout).build()?;
    let settings = client.consumer().group(&job.group).group_protocol(job.protocol).auto_commit(None);
    let settings = settings.isolation(Isolation::ReadCommitted).reset(Reset::Earliest);
    let settings = settings.session_timeout(10 * SECOND).max_poll_interval(180 * SECOND);
    let consumer = settings.build()?;
    let mut copier = Copier {
        client: client.clone(),
        left: job.count.unwrap_or(u64::MAX),
        job,
        producer,
        consumer,
        out,
        parts: None,
        processed: 0,
        consumed: 0,
    };
    let result = copier.copy_all(ended).await;
    let remaining = copier.remaining();
    let Copier { job, producer, consumer, mut out, processed, consumed, .. } = copier;
    let (closed, left) = (producer.close(CLOSE).await, consumer.close(CLOSE).await);
    let line = json!({
        "shutdown_complete": job.transactional_id, "totalProcessed": processed, "consumed": consumed,
        "remaining": remaining, "time": time(),
    });
    say(&mut out, &line)?;
    client.close().await;
    result?;
    closed?;
    Ok(left?)
}

/// What is copied of a partition, and to where.
#[derive(Debug, Clone, Copy)]
struct Part {
    at: i64,
    end: i64,
}

struct Copier<W> {
    job: Job,
    client: Client,
    producer: TransactionalProducer,
    consumer: Consumer,
    out: W,
    /// None until there was an assignment.
    parts: Option<BTreeMap<TopicPartition, Part>>,
    /// So many records may still be copied.
    left: u64,
    processed: u64,
    /// Since the last assignment.
    consumed: u64,
}

impl<W: Write> Copier<W> {
    async fn copy_all(&mut self, ended: impl Future<Output = ()>) -> Result<()> {
        if self.job.group_mode {
            self.consumer.subscribe([&self.job.input])?;
        } else {
            let at = TopicPartition::new(&self.job.input, self.job.partition);
            self.consumer.assign([at.clone()])?;
            self.measure([at]).await?;
        }
        let mut ended = pin!(ended);
        while self.remaining() > 0 {
            self.tell("ProcessLoop")?;
            let event = tokio::select! {
                biased;
                () = &mut ended => break,
                event = tokio::time::timeout(SECOND, self.consumer.next_event()) => event,
            };
            match event {
                Ok(Ok(None)) => break,
                Ok(Ok(Some(Event::Batch(batch)))) => self.copy(&batch).await?,
                Ok(Ok(Some(Event::Assigned(partitions)))) => {
                    self.consumed = 0;
                    self.measure(partitions).await?;
                    self.tell("RebalanceComplete")?;
                }
                Ok(Ok(Some(Event::Revoked(revoked)))) => {
                    if let Some(parts) = &mut self.parts {
                        parts.retain(|at, _| !revoked.partitions().contains(at));
                    }
                    // Nothing more to copy does not mean the end: others are to come.
                    self.parts = self.parts.take().filter(|parts| !parts.is_empty());
                }
                Ok(Ok(Some(Event::Lost { .. }))) => self.parts = None,
                Err(_) | Ok(Ok(Some(_))) => {}
                Ok(Err(error)) if error.is_retriable() => eprintln!("transactional_copier: {error}"),
                Ok(Err(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Copies a batch, in as many transactions as it takes.
    async fn copy(&mut self, batch: &Batch) -> Result<()> {
        let mut records = batch.iter().peekable();
        while records.peek().is_some() {
            let most = self.job.size.min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let some: Vec<Read<'_>> = records.by_ref().take(most).collect();
            let next = match (records.peek(), some.last()) {
                (_, None) => return Ok(()),
                (None, Some(_)) => batch.next_offset(),
                (Some(_), Some(last)) => last.offset() + 1,
            };
            match self.copy_some(batch, &some, next).await {
                Ok(true) => {
                    let count = some.len() as u64;
                    (self.processed, self.consumed) = (self.processed + count, self.consumed + count);
                    self.left = self.left.saturating_sub(count);
                    let part = self.parts.as_mut().and_then(|parts| parts.get_mut(batch.topic_partition()));
                    if let Some(part) = part {
                        part.at = next;
                    }
                }
                Ok(false) => return self.go_back().await,
                Err(error) if error.is_fenced() => return Err(error.into()),
                Err(error) => {
                    eprintln!("transactional_copier: {error}");
                    return self.go_back().await;
                }
            }
        }
        Ok(())
    }

    /// One transaction. Tells whether it was committed.
    async fn copy_some(&mut self, batch: &Batch, records: &[Read<'_>], next: i64) -> weir::Result<bool> {
        let metadata = if self.job.group_metadata {
            self.consumer.group_metadata()
        } else {
            Some(GroupMetadata::new(&self.job.group))
        };
        // Who is no member any more has nothing to copy.
        let Some(metadata) = metadata else { return Ok(false) };
        let transaction = self.producer.begin().await?;
        for record in records {
            let copy = Record::to(&self.job.output).partition(batch.partition());
            // What becomes of it is the transaction's to say.
            drop(transaction.enqueue(copy.key_value(record.key(), record.value())).await?);
        }
        let next = OffsetAndMetadata::new(next).leader_epoch(batch.leader_epoch());
        transaction.send_offsets(&metadata, [(batch.topic(), batch.partition(), next)]).await?;
        if self.job.random_aborts && RandomState::new().build_hasher().finish().is_multiple_of(3) {
            transaction.abort().await?;
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Reads on where the group has got to. Nobody knows that before the last transaction is decided, which is so when
    /// another can begin.
    async fn go_back(&mut self) -> Result<()> {
        loop {
            match self.producer.begin().await {
                Ok(transaction) => break transaction.abort().await?,
                Err(error) if error.is_fenced() => return Err(error.into()),
                Err(error) => eprintln!("transactional_copier: {error}"),
            }
        }
        let assigned = self.consumer.assignment();
        let committed = retried(|| self.consumer.committed(assigned.clone())).await?;
        for at in assigned {
            let sought = match committed.get(&at) {
                Some(committed) => self.consumer.seek(at.clone(), committed.offset()),
                None => self.consumer.seek_to_beginning(at.clone()),
            };
            // It may be gone meanwhile.
            if let Err(error) = sought {
                eprintln!("transactional_copier: {error}");
            }
        }
        Ok(())
    }

    /// Asks where these partitions begin for the group, and where they end now.
    async fn measure(&mut self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<()> {
        let partitions: Vec<TopicPartition> = partitions.into_iter().collect();
        let committed = retried(|| self.consumer.committed(partitions.clone())).await?;
        for at in partitions {
            let first = match committed.get(&at) {
                Some(committed) => committed.offset(),
                None => retried(|| offset(&self.client, &at, FIRST)).await?,
            };
            let end = retried(|| offset(&self.client, &at, END)).await?;
            self.parts.get_or_insert_default().insert(at, Part { at: first, end });
        }
        // Also if there is nothing for it to do.
        self.parts.get_or_insert_default();
        Ok(())
    }

    /// How many records are to be copied before it ends.
    fn remaining(&self) -> u64 {
        let behind = |part: &Part| u64::try_from(part.end - part.at).unwrap_or(0);
        let parts = self.parts.as_ref().filter(|_| !self.job.follow);
        let there = parts.map_or(u64::MAX, |parts| parts.values().map(behind).sum());
        there.min(self.left)
    }

    fn tell(&mut self, stage: &str) -> Result<()> {
        let line = json!({
            "progress": self.job.transactional_id, "totalProcessed": self.processed, "consumed": self.consumed,
            "remaining": self.remaining(), "time": time(), "stage": stage,
        });
        say(&mut self.out, &line)
    }
}

/// What may pass is tried again for some time.
async fn retried<T, F: Future<Output = weir::Result<T>>>(work: impl Fn() -> F) -> weir::Result<T> {
    let mut tries = 0;
    loop {
        match work().await {
            Err(error) if tries < 10 && (error.is_retriable() || error.is_timeout() || error.is_io()) => {
                tries += 1;
                tokio::time::sleep(SECOND / 5).await;
            }
            result => return result,
        }
    }
}

/// The first or the last offset of a partition, as of what is committed.
async fn offset(client: &Client, at: &TopicPartition, which: i64) -> weir::Result<i64> {
    let partition =
        ListOffsetsPartition { partition_index: at.partition(), timestamp: which, ..Default::default() };
    let topic =
        ListOffsetsTopic { name: at.topic().into(), partitions: vec![partition], ..Default::default() };
    let request =
        ListOffsetsRequest { replica_id: -1, isolation_level: 1, topics: vec![topic], ..Default::default() };
    let answer = client.request(request).await?;
    let found = answer.topics.iter().flat_map(|topic| &topic.partitions).next();
    match found {
        Some(found) if ErrorCode(found.error_code).is_none() => Ok(found.offset),
        _ => Ok(0),
    }
}

fn say(out: &mut impl Write, line: &Value) -> Result<()> {
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// Milliseconds since 1970; nobody reads Java's dates.
fn time() -> String {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    time.as_millis().to_string()
}
