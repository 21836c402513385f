//! Reads as a member of a group, and says what happens.

use std::collections::BTreeSet;
use std::io::Write;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use weir::consumer::{Batch, Committed, Consumer, Event, TopicPartition};

use super::flags::Job;
use super::properties::{KNOWN, Settings};

/// Nothing here is worth more than a sentence for a person.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// How long the end may take.
const CLOSE: Duration = Duration::from_secs(30);

/// Does the job, until it is done or `ended` comes to its end.
pub(crate) async fn run<W: Write>(job: Job, out: W, ended: impl Future<Output = ()>) -> Result<()> {
    let settings = Settings::new(&job.settings, &KNOWN);
    let client = settings.client(&job.bootstrap)?.connect().await?;
    let every = settings.millis("auto.commit.interval.ms")?.unwrap_or(Duration::from_secs(5));
    let builder = settings.consumer(client.consumer())?;
    let builder = builder.auto_commit(job.auto_commit.then_some(every));
    let mut lines = Lines { out };
    lines.say("startup_complete", json!({}))?;
    let consumer = builder.topics([&job.topic]).build()?;
    let mut reader = Reader { consumer, lines, left: job.count, job };
    let result = reader.read_all(ended).await;
    let Reader { consumer, mut lines, .. } = reader;
    let closed = consumer.close(CLOSE).await;
    lines.say("shutdown_complete", json!({}))?;
    client.close().await;
    result?;
    Ok(closed?)
}

struct Reader<W> {
    consumer: Consumer,
    lines: Lines<W>,
    /// So many records are still wanted; all if it is none.
    left: Option<u64>,
    job: Job,
}

impl<W: Write> Reader<W> {
    async fn read_all(&mut self, ended: impl Future<Output = ()>) -> Result<()> {
        let mut ended = pin!(ended);
        while self.left != Some(0) {
            let event = tokio::select! {
                biased;
                () = &mut ended => break,
                event = self.consumer.next_event() => event,
            };
            match event {
                Ok(None) => break,
                Ok(Some(Event::Batch(batch))) => self.tell_batch(&batch).await?,
                Ok(Some(Event::Assigned(partitions))) => {
                    self.lines.say("partitions_assigned", json!({ "partitions": list(&partitions) }))?;
                }
                Ok(Some(Event::Revoked(revoked))) => {
                    let partitions = list(revoked.partitions());
                    self.lines.say("partitions_revoked", json!({ "partitions": partitions }))?;
                    revoked.done();
                }
                // As Java says it.
                Ok(Some(Event::Lost { partitions, why })) => {
                    eprintln!("verifiable_consumer: lost {partitions:?}: {why}");
                    self.lines.say("partitions_revoked", json!({ "partitions": list(&partitions) }))?;
                }
                Ok(Some(_)) => {}
                Err(error) if error.is_retriable() => eprintln!("verifiable_consumer: {error}"),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Says what was read, no more than is wanted, and commits it.
    async fn tell_batch(&mut self, batch: &Batch) -> Result<()> {
        let (topic, partition) = (batch.topic(), batch.partition());
        let wanted = self.left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        let (mut count, mut first, mut last) = (0_u64, None, -1);
        for record in batch.iter().take(wanted) {
            count += 1;
            first.get_or_insert(record.offset());
            last = record.offset();
            if self.job.verbose {
                let fields = json!({
                    "key": text(record.key()), "value": text(record.value()),
                    "topic": topic, "partition": partition, "offset": last,
                });
                self.lines.say("record_data", fields)?;
            }
        }
        let Some(first) = first else { return Ok(()) };
        self.left = self.left.map(|left| left.saturating_sub(count));
        let summary = json!({
            "topic": topic, "partition": partition, "count": count, "minOffset": first, "maxOffset": last,
        });
        self.lines.say("records_consumed", json!({ "count": count, "partitions": [summary] }))?;
        if self.job.auto_commit && self.left != Some(0) {
            return Ok(());
        }
        let next = last + 1;
        let commit = if batch.next_offset() == next {
            self.consumer.commit(batch)
        } else {
            // Java's program commits what is behind the last record, gaps or not.
            let committed = Committed::new(next).with_leader_epoch(batch.leader_epoch());
            self.consumer.commit_offsets([(batch.topic_partition().clone(), committed)])
        };
        let result = commit.await;
        if self.job.auto_commit {
            return Ok(result?);
        }
        let offsets = json!([{ "topic": topic, "partition": partition, "offset": next }]);
        let mut fields = json!({ "offsets": offsets, "success": result.is_ok() });
        if let (Err(error), Some(fields)) = (&result, fields.as_object_mut()) {
            fields.insert("error".into(), error.to_string().into());
        }
        self.lines.say("offsets_committed", fields)?;
        match result {
            Err(error) if error.is_fenced() => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn list(partitions: &BTreeSet<TopicPartition>) -> Vec<Value> {
    partitions.iter().map(|at| json!({ "topic": at.topic(), "partition": at.partition() })).collect()
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
}

/// What is said, a line of JSON each.
struct Lines<W> {
    out: W,
}

impl<W: Write> Lines<W> {
    fn say(&mut self, name: &str, mut more: Value) -> Result<()> {
        if let Some(fields) = more.as_object_mut() {
            let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            fields.insert("timestamp".into(), i64::try_from(time.as_millis())?.into());
            fields.insert("name".into(), name.into());
        }
        writeln!(self.out, "{more}")?;
        Ok(self.out.flush()?)
    }
}
