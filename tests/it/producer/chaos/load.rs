//! The producers: each numbers its records, keeps some thousand of them under way, and writes down what it is
//! told of each.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use weir::producer::{Builder, Topic};
use weir::records::Compression;
use weir::{Ack, Client, Record, Result};

use super::check::Told;
use super::{PARTITIONS, TOPIC};

/// How many producers there are; each chooses partitions in its own way.
pub(super) const PRODUCERS: usize = 4;

/// Records of a producer that are not done yet.
const WINDOW: usize = 5000;

/// So often, some records are sent.
const BEAT: Duration = Duration::from_millis(10);

/// How far the producers have come.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// What producers were told of what failed: how often, and of which record first.
    pub(super) errors: Mutex<BTreeMap<(usize, String), (usize, usize)>>,
    pub(super) sent: AtomicUsize,
    pub(super) acked: AtomicUsize,
}

/// The settings of a producer. The last one is impatient, so that some of its records fail.
fn settings(builder: Builder, producer: usize) -> Builder {
    let builder = builder.max_block(Duration::from_mins(3)).delivery_timeout(Duration::from_mins(3));
    match producer {
        0 => builder.compression(Compression::Lz4),
        1 => builder.linger(Duration::ZERO).batch_size(2000),
        2 => builder.compression(Compression::Zstd).linger(Duration::from_millis(20)),
        _ => builder.delivery_timeout(Duration::from_secs(3)),
    }
}

/// Sends `count` records over at least `time`, and gives what became of each.
pub(super) async fn send_all(
    client: Client,
    producer: usize,
    count: usize,
    time: Duration,
    progress: Arc<Progress>,
) -> Result<Vec<Told>> {
    let handle = settings(client.producer(), producer).build()?;
    let topic = handle.topic(TOPIC);
    let mut told = Vec::with_capacity(count);
    let mut under_way = VecDeque::new();
    let began = Instant::now();
    let mut beat = tokio::time::interval(BEAT);
    for number in 0..count {
        // As many as are due by now, at once.
        while began.elapsed() * (count as u32) < time * (number as u32) {
            beat.tick().await;
        }
        under_way.push_back(send(&topic, producer, number).await?);
        progress.sent.fetch_add(1, Ordering::Relaxed);
        while under_way.len() > WINDOW || under_way.front().is_some_and(|ack: &Ack| ack.try_get().is_some()) {
            let Some(ack) = under_way.pop_front() else { break };
            told.push(outcome(ack, producer, told.len(), &progress).await);
        }
    }
    for ack in under_way {
        told.push(outcome(ack, producer, told.len(), &progress).await);
    }
    handle.close(Duration::from_secs(30)).await?;
    Ok(told)
}

/// By partition, by key, or by whose turn it is.
async fn send(topic: &Topic, producer: usize, number: usize) -> Result<Ack> {
    let value = format!("{producer} {number}");
    let key = format!("key {}", number % 100);
    let record = Record::new().value(&value);
    let record = match producer {
        0 => record.partition((number % PARTITIONS as usize) as i32),
        1 => record.key(&key),
        _ => record,
    };
    topic.enqueue(record).await
}

async fn outcome(ack: Ack, producer: usize, number: usize, progress: &Progress) -> Told {
    let error = match ack.await {
        Ok(at) => {
            progress.acked.fetch_add(1, Ordering::Relaxed);
            return Told::Acked { partition: at.partition(), offset: at.offset() };
        }
        Err(error) => error,
    };
    let told = if error.may_have_happened() { Told::MayBe } else { Told::Failed };
    let why = error.source().map_or_else(String::new, |source| format!(", because {source}"));
    let words = format!("{told:?}: {error}{why}");
    let mut errors = progress.errors.lock().expect("nothing panics under this lock");
    errors.entry((producer, words)).or_insert((0, number)).0 += 1;
    told
}
