//! Sends numbers and says what became of each, in the order in which they were sent.

#![allow(clippy::cast_precision_loss, reason = "rates are told to some digits")]

use std::io::Write;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use weir::{Ack, Error, Record};

use super::flags::Job;
use super::properties::{KNOWN, Settings};

/// Nothing here is worth more than a sentence for a person.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Records whose outcome is not told yet.
const WAITING_MAX: usize = 100_000;

/// Longer than any delivery takes unless it is told otherwise.
const CLOSE: Duration = Duration::from_mins(3);

/// A record that was to be sent, and what is known of it.
struct Sent {
    key: Option<String>,
    value: String,
    ack: weir::Result<Ack>,
}

/// Does the job, until it is done or `ended` comes to its end.
pub(crate) async fn run<W>(job: Job, out: W, ended: impl Future<Output = ()>) -> Result<()>
where
    W: Write + Send + 'static,
{
    let settings = Settings::new(&job.settings, &KNOWN);
    let client = settings.client(&job.bootstrap)?.connect().await?;
    let producer = settings.producer(client.producer())?.build()?;
    let topic = producer.topic(&job.topic);
    let mut lines = Lines { out, topic: job.topic.clone(), acked: 0 };
    lines.say("startup_complete", json!({}))?;
    lines.out.flush()?;
    let (sender, sent) = mpsc::channel(WAITING_MAX);
    let told = tokio::spawn(lines.tell(sent));
    let (began, began_ms) = (Instant::now(), now_ms());
    let mut ended = pin!(ended);
    let mut number = 0;
    while job.count.is_none_or(|count| number < count) {
        tokio::select! {
            biased;
            () = &mut ended => break,
            () = due(&job, began, number) => {}
        }
        let key = job.repeating_keys.map(|keys| (number % keys.max(1)).to_string());
        let value = match job.value_prefix {
            Some(prefix) => format!("{prefix}.{number}"),
            None => number.to_string(),
        };
        let record = Record::new().key_value(key.as_deref().map(str::as_bytes), Some(value.as_bytes()));
        let record = match job.create_time {
            Some(time) => record.timestamp(time + now_ms() - began_ms),
            None => record,
        };
        // What is not taken when the end comes is not sent.
        let ack = tokio::select! {
            biased;
            () = &mut ended => break,
            ack = topic.enqueue(record) => ack,
        };
        number += 1;
        if sender.send(Sent { key, value, ack }).await.is_err() {
            break;
        }
    }
    drop(sender);
    let closed = producer.close(CLOSE).await;
    let mut lines = told.await??;
    lines.say("shutdown_complete", json!({}))?;
    let seconds = began.elapsed().as_secs_f64().max(0.001);
    let summary = json!({
        "sent": number,
        "acked": lines.acked,
        "target_throughput": job.rate.map_or(-1, |rate| i64::try_from(rate).unwrap_or(i64::MAX)),
        "avg_throughput": lines.acked as f64 / seconds,
    });
    lines.say("tool_data", summary)?;
    lines.out.flush()?;
    client.close().await;
    Ok(closed?)
}

/// Waits until the turn of a record has come.
async fn due(job: &Job, began: Instant, number: u64) {
    match job.rate {
        None => {}
        // With no records a second, the first never comes.
        Some(0) => std::future::pending().await,
        Some(rate) => {
            let at = began + Duration::from_secs_f64(number as f64 / rate as f64);
            if at > Instant::now() {
                tokio::time::sleep_until(at).await;
            }
        }
    }
}

/// What is said, a line of JSON each.
struct Lines<W> {
    out: W,
    topic: String,
    acked: u64,
}

impl<W: Write> Lines<W> {
    fn say(&mut self, name: &str, mut more: Value) -> Result<()> {
        if let Some(fields) = more.as_object_mut() {
            fields.insert("timestamp".into(), now_ms().into());
            fields.insert("name".into(), name.into());
        }
        Ok(writeln!(self.out, "{more}")?)
    }

    /// Says what became of each record, and gives itself back when there are no more.
    async fn tell(mut self, mut sent: mpsc::Receiver<Sent>) -> Result<Self> {
        while let Some(Sent { key, value, ack }) = sent.recv().await {
            let delivery = match ack {
                Err(error) => Err(error),
                Ok(ack) => {
                    if ack.try_get().is_none() {
                        // Who reads is not to wait with us.
                        self.out.flush()?;
                    }
                    ack.await
                }
            };
            let topic = self.topic.clone();
            match delivery {
                Ok(at) => {
                    self.acked += 1;
                    let (partition, offset) = (at.partition(), at.offset().unwrap_or(-1));
                    let fields = json!({
                        "key": key, "value": value, "topic": topic, "partition": partition, "offset": offset,
                    });
                    self.say("producer_send_success", fields)?;
                }
                Err(error) => {
                    let fields = json!({
                        "key": key, "value": value, "topic": topic,
                        "exception": class(&error), "message": error.to_string(),
                    });
                    self.say("producer_send_error", fields)?;
                }
            }
        }
        Ok(self)
    }
}

/// What stands for the name of Java's class.
fn class(error: &Error) -> String {
    match error.code() {
        Some(code) => code.to_string(),
        None if error.is_timeout() => "TimeoutException".into(),
        None => "weir::Error".into(),
    }
}

fn now_ms() -> i64 {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
