//! What a producer knows of a topic: how many partitions there are, the lane of each, whose turn it is, and how
//! well its records compress. Read for each record without a lock.

use std::ops::Deref;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::lane::Lane;
use super::partitioner::{Load, RoundRobin};
use crate::Error;
use crate::cluster::metadata::{Leader, Snapshot, TopicKey};
use crate::conn::Dice;
use crate::records::Compression;
use crate::wire::{Str, Uuid};

/// How long a look at the lengths of queues is good for.
pub(crate) const LOAD_FRESH: Duration = Duration::from_millis(5);

/// It is good for so much longer for each partition.
pub(crate) const LOAD_FRESH_EACH: Duration = Duration::from_micros(5);

/// A topic is forgotten when it was not used for so long and nobody has it in hand: Java's
/// `metadata.max.idle.ms`.
pub(crate) const IDLE_MAX: Duration = Duration::from_mins(5);

/// Nobody's turn.
const NONE: u32 = u32::MAX;

/// A topic that records are sent to.
#[derive(Debug)]
pub(crate) struct TopicState {
    facts: Arc<TopicFacts>,
    /// 0 while it is not known.
    count: AtomicU32,
    lanes: Lanes,
    /// The partition whose turn it is.
    current: AtomicU32,
    pub(crate) turns: Mutex<Turns>,
}

/// What batches have to know of their topic. Lanes hold this and not the topic, which holds them.
#[derive(Debug)]
pub(crate) struct TopicFacts {
    pub(crate) name: Str,
    pub(crate) compression: (Compression, Option<i32>),
    /// To how many thousandths of their size records come by compression.
    ratio: AtomicU32,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    id: Uuid,
    error: Option<Error>,
    /// When a batch was last opened for it, or it was first named.
    used: Instant,
}

/// By what the next partition is chosen.
#[derive(Debug)]
pub(crate) struct Turns {
    pub(crate) load: Load,
    pub(crate) measured: Option<Instant>,
    pub(crate) round: RoundRobin,
    pub(crate) dice: Dice,
}

impl TopicState {
    pub(crate) fn new(
        name: Str,
        compression: (Compression, Option<i32>),
        seed: u64,
        now: Instant,
    ) -> Arc<Self> {
        let turns = Turns {
            load: Load::default(),
            measured: None,
            round: RoundRobin::default(),
            dice: Dice::new(seed),
        };
        let known = Known { id: Uuid::ZERO, error: None, used: now };
        let facts = TopicFacts { name, compression, ratio: AtomicU32::new(1000), known: Mutex::new(known) };
        Arc::new(Self {
            facts: Arc::new(facts),
            count: AtomicU32::new(0),
            lanes: Lanes::default(),
            current: AtomicU32::new(NONE),
            turns: Mutex::new(turns),
        })
    }

    pub(crate) fn facts(&self) -> &Arc<TopicFacts> {
        &self.facts
    }

    /// All lanes that there are.
    pub(crate) fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        let rows = self.lanes.rows.iter().filter_map(OnceLock::get);
        rows.flat_map(|row| row.iter()).filter_map(OnceLock::get)
    }

    /// How many partitions there are; 0 if that is not known.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// What metadata says of it now.
    pub(crate) fn learn(&self, count: u32, id: Uuid, error: Option<Error>) {
        let refused = error.as_ref().is_some_and(|error| !error.is_retriable());
        {
            let mut known = self.facts.known();
            (known.id, known.error) = (id, error);
        }
        if refused {
            // Nothing can be sent to it; whoever wants to has to hear why.
            self.count.store(0, Ordering::Release);
            return;
        }
        // A topic that was made anew with fewer partitions has fewer; one that is gone keeps what it had.
        if count > 0 && self.count.swap(count, Ordering::AcqRel) != count {
            self.turns().measured = None;
            self.current.store(NONE, Ordering::Release);
        }
    }

    #[inline]
    pub(crate) fn lane(&self, partition: u32) -> Option<&Arc<Lane>> {
        self.lanes.slot(partition)?.get()
    }

    /// The lane of a partition, made if there is none.
    pub(crate) fn lane_or(&self, partition: u32, make: impl FnOnce() -> Arc<Lane>) -> Option<&Arc<Lane>> {
        Some(self.lanes.slot(partition)?.get_or_init(make))
    }

    /// The partition whose turn it is.
    #[inline]
    pub(crate) fn current(&self) -> Option<u32> {
        let current = self.current.load(Ordering::Relaxed);
        (current < self.count()).then_some(current)
    }

    pub(crate) fn set_current(&self, partition: u32) {
        self.current.store(partition, Ordering::Relaxed);
    }

    pub(crate) fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for TopicState {
    type Target = TopicFacts;

    fn deref(&self) -> &TopicFacts {
        &self.facts
    }
}

impl TopicFacts {
    /// Why nothing can be sent to it, if that is so.
    pub(crate) fn error(&self) -> Option<Error> {
        self.known().error.clone()
    }

    /// Its id, where brokers have ids.
    pub(crate) fn id(&self) -> Uuid {
        self.known().id
    }

    /// A batch is opened for it.
    pub(crate) fn touch(&self, now: Instant) {
        self.known().used = now;
    }

    /// Whether it was not used for so long that it may be forgotten.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.known().used) >= IDLE_MAX
    }

    /// How many bytes of records a batch is meant to have, so that it has `batch_size` compressed.
    pub(crate) fn batch_target(&self, batch_size: usize) -> usize {
        if self.compression.0 == Compression::None {
            return batch_size;
        }
        let ratio = self.ratio.load(Ordering::Relaxed).clamp(RATIO_MIN, 1000) as usize;
        // A twentieth less, since the next batch may compress less well.
        ((batch_size.saturating_mul(1000) / ratio).saturating_mul(20) / 21).max(1)
    }

    /// A batch of so many bytes became so many. Rises fast and falls slowly, as Java's does.
    pub(crate) fn learn_ratio(&self, plain: usize, compressed: usize) {
        let seen = compressed.saturating_mul(1000) / plain.max(1);
        let seen = u32::try_from(seen).unwrap_or(u32::MAX);
        let known = self.ratio.load(Ordering::Relaxed);
        let next = if seen > known { seen.max(known + 50) } else { seen.max(known.saturating_sub(5)) };
        self.ratio.store(next.clamp(RATIO_MIN, 1050), Ordering::Relaxed);
    }

    /// Records do not compress as well as was thought: a batch was too large.
    pub(crate) fn forget_ratio(&self) {
        self.ratio.store(1000, Ordering::Relaxed);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The leader of a partition, if there is one now.
pub(crate) fn leader_of(snapshot: &Snapshot, topic: &Str, partition: i32) -> Option<i32> {
    match snapshot.leader(&TopicKey::Name(topic.clone()), partition) {
        Leader::Known { broker, .. } if snapshot.broker(broker).is_some() => Some(broker),
        _ => None,
    }
}

/// What brokers refuse to let anybody send to a topic with, if they do.
pub(crate) fn refusal_of(snapshot: &Snapshot, topic: &Str) -> Option<Error> {
    let code = snapshot.topic(topic)?.error;
    (!code.is_none() && !code.is_retriable()).then(|| Error::broker_said(code, format!("topic {topic}")))
}

/// Tells a topic what a snapshot says of it.
pub(crate) fn learn(topic: &TopicState, snapshot: &Snapshot) {
    let Some(known) = snapshot.topic(&topic.name) else { return };
    let last = known.partitions.last().map_or(0, |last| last.index.saturating_add(1));
    let error =
        (!known.error.is_none()).then(|| Error::broker_said(known.error, format!("topic {}", topic.name)));
    topic.learn(u32::try_from(last).unwrap_or(0), known.id, error);
}

/// A batch is not made more than eight times as large as what is to come of it.
const RATIO_MIN: u32 = 125;

type Row = Box<[OnceLock<Arc<Lane>>]>;

/// Lanes by partition: added to and never removed, so that looking one up takes no lock. Row `n` has 2^n of them.
#[derive(Debug, Default)]
struct Lanes {
    rows: [OnceLock<Row>; 24],
}

impl Lanes {
    #[inline]
    fn slot(&self, partition: u32) -> Option<&OnceLock<Arc<Lane>>> {
        let place = partition.checked_add(1)?;
        let row = place.ilog2();
        let lanes = self
            .rows
            .get(row as usize)?
            .get_or_init(|| (0..1_usize << row).map(|_| OnceLock::new()).collect());
        lanes.get((place - (1 << row)) as usize)
    }
}
