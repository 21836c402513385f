//! What all handles of a producer share: its topics, its memory, and behind one lock, which is taken per batch
//! and never while anything waits, the core.
//!
//! A record's way in is here; [`pump`](super::pump) sends what is there, [`keeper`](super::keeper) does what has
//! to be waited for.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::task::Poll;
use std::time::Instant;

use tokio::sync::Notify;

use super::ack::{Ack, Completion, Outcome};
use super::buffers::{Buffer, Buffers};
use super::coarse::Coarse;
use super::config::Settings;
use super::lane::{Chores, Lane, Refusal};
use super::machine_core::{Core, LineId, Weighed};
use super::machine_identity;
use super::machine_line::{Sequences, Ticket};
use super::pace::Pace;
use super::partitioner::{Choice, PartitionLoad};
use super::record::Record;
use super::seal::{Job, Sealed, seal};
use super::stats::{Counters, Facts};
use super::topic::{LOAD_FRESH, LOAD_FRESH_EACH, TopicState, leader_of, learn};
use super::topics::Topics;
use super::transaction::Transactions;
use crate::cluster::Cluster;
use crate::cluster::metadata::{Snapshot, TopicKey};
use crate::conn::{Connection, Dice, Pool};
use crate::net::clock;
use crate::net::task::Home;
use crate::records::AsHeader;
use crate::wire::Str;
use crate::{Error, Result};

/// See the module.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) cluster: Cluster<Pool>,
    pub(crate) home: Home,
    pub(crate) buffers: Buffers,
    pub(crate) pace: Pace,
    pub(crate) coarse: Arc<Coarse>,
    pub(crate) counters: Counters,
    pub(super) topics: RwLock<Topics>,
    state: Mutex<State>,
    /// Wakes the keeper.
    pub(crate) kick: Notify,
    /// Wakes those who wait for something of a transaction.
    pub(crate) turned: Notify,
    /// Records are not taken any more.
    shutting: Notify,
    /// Batches that wait for a thread that compresses.
    backlog: AtomicUsize,
    /// One of them was compressed.
    compressed: Notify,
    closed: AtomicBool,
    /// Makes the keeper panic.
    #[cfg(test)]
    pub(crate) fail_point: AtomicBool,
}

/// A batch on its line.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) done: Arc<Completion>,
    pub(crate) serial: u64,
    /// None until it is sealed.
    pub(crate) sealed: Option<Sealed>,
    pub(crate) facts: Facts,
}

impl Weighed for Batch {
    fn size(&self) -> usize {
        self.sealed.as_ref().map_or(0, Sealed::size)
    }
}

/// A connection to a broker.
pub(crate) enum Link {
    /// The keeper makes one.
    Wanted,
    Ready {
        connection: Connection,
        place: u64,
    },
}

/// What is behind the lock.
pub(crate) struct State {
    pub(crate) core: Core<Batch>,
    pub(crate) lanes: BTreeMap<LineId, Arc<Lane>>,
    /// Where the sequences of lines that were forgotten go on.
    pub(super) kept: BTreeMap<(Str, i32), Sequences>,
    pub(crate) links: BTreeMap<i32, Link>,
    pub(crate) places: u64,
    pub(crate) identity: machine_identity::Machine,
    /// Of a transactional producer.
    pub(crate) transactions: Option<Transactions>,
    pub(crate) snapshot: Arc<Snapshot>,
    /// Batches that are not done, and how many records they have.
    pub(crate) pending: BTreeMap<u64, (Arc<Completion>, usize)>,
    serials: u64,
    /// Jobs for threads, and how many of those there are.
    pub(crate) jobs: VecDeque<Job>,
    pub(crate) workers: usize,
    /// Somebody pumps, and whether he is to look again.
    pub(crate) pumping: bool,
    pub(crate) again: bool,
    /// When the keeper wakes by itself.
    pub(crate) armed: Option<Instant>,
    /// Why nothing can be sent any more.
    pub(crate) fatal: Option<Error>,
    pub(super) dice: Dice,
}

impl Shared {
    pub(crate) fn new(settings: Settings, cluster: Cluster<Pool>, home: Home, seed: u64) -> Arc<Self> {
        let mut dice = Dice::new(seed);
        let state = State {
            core: Core::new(settings.limits(), dice.roll()),
            lanes: BTreeMap::new(),
            kept: BTreeMap::new(),
            links: BTreeMap::new(),
            places: 0,
            identity: machine_identity::Machine::new(settings.backoff, dice.roll()),
            transactions: settings
                .transactional
                .as_ref()
                .map(|_| Transactions::new(settings.backoff, dice.roll())),
            snapshot: cluster.snapshot(),
            pending: BTreeMap::new(),
            serials: 0,
            jobs: VecDeque::new(),
            workers: 0,
            pumping: false,
            again: false,
            armed: None,
            fatal: None,
            dice,
        };
        Arc::new(Self {
            buffers: Buffers::new(settings.buffer_memory),
            pace: Pace::new(settings.in_flight_max, settings.max_request_size),
            coarse: Coarse::new(home.clone()),
            settings,
            cluster,
            home,
            counters: Counters::default(),
            topics: RwLock::default(),
            state: Mutex::new(state),
            kick: Notify::new(),
            turned: Notify::new(),
            shutting: Notify::new(),
            backlog: AtomicUsize::new(0),
            compressed: Notify::new(),
            closed: AtomicBool::new(false),
            #[cfg(test)]
            fail_point: AtomicBool::new(false),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock but a defect, and then the machines are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the core hear something.
    pub(crate) fn with_core<T>(&self, hear: impl FnOnce(&mut Core<Batch>, Instant) -> T) -> T {
        let now = clock::now();
        hear(&mut self.lock().core, now)
    }

    /// Fails once records are not taken any more.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(self
                .lock()
                .fatal
                .clone()
                .unwrap_or_else(|| Error::closed("the producer was closed")));
        }
        Ok(())
    }

    /// Takes no more records from now on; `why`, if it is for an error.
    pub(crate) fn shut(&self, why: Option<Error>) {
        if let Some(why) = why {
            self.lock().fatal.get_or_insert(why);
        }
        self.closed.store(true, Ordering::Release);
        self.shutting.notify_waiters();
    }

    pub(crate) fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lock().lanes.values().cloned().collect()
    }

    /// Takes a record, if there is room and its partition is known. Does not wait.
    #[inline]
    pub(crate) fn try_append<H: AsHeader>(
        self: &Arc<Self>,
        topic: &Arc<TopicState>,
        record: &Record<'_, H>,
        buffer: &mut Option<Buffer>,
    ) -> Result<Ack, Refusal> {
        let timestamp = record.timestamp.unwrap_or_else(|| self.coarse.now());
        let encodable = record.encodable(timestamp);
        loop {
            let (partition, in_turn) = self.choose(topic, record)?;
            let lane = match topic.lane(partition) {
                Some(lane) => lane,
                None => self.add_lane(topic, partition)?,
            };
            let mut chores = Chores::default();
            let appended = lane.append(self, &encodable, in_turn, buffer, &mut chores);
            if chores.opened || chores.seal.is_some() {
                self.do_chores(chores);
            }
            match appended {
                Err(Refusal::Elsewhere) => {
                    self.next_turn(topic);
                }
                other => return other,
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn do_chores(self: &Arc<Self>, chores: Chores) {
        let sealed = chores.seal.is_some();
        if let Some(job) = chores.seal {
            self.seal(job);
        }
        if sealed || self.settings.linger.is_zero() || self.buffers.is_short() {
            self.pump();
        } else {
            self.arm();
        }
    }

    /// How many partitions the topic has, if that is known, and the one that is named is among them.
    #[inline]
    pub(crate) fn ready(&self, topic: &TopicState, partition: Option<i32>) -> Result<u32, Refusal> {
        let count = topic.count();
        if count == 0 {
            // What may pass is waited for, until there is no time left.
            return Err(match topic.error().filter(|error| !error.is_retriable()) {
                Some(error) => {
                    // It may be allowed by the next time.
                    self.lacks(topic);
                    Refusal::Error(error)
                }
                None => Refusal::NotReady,
            });
        }
        match partition.map(|partition| (partition, u32::try_from(partition))) {
            Some((partition, Err(_))) => Err(Error::invalid(format!("partition {partition}")).into()),
            // It may be new.
            Some((_, Ok(partition))) if partition >= count => Err(Refusal::NotReady),
            _ => Ok(count),
        }
    }

    /// The partition of a record, and whether it is only that partition's turn.
    #[inline]
    fn choose<H>(&self, topic: &TopicState, record: &Record<'_, H>) -> Result<(u32, bool), Refusal> {
        let count = self.ready(topic, record.partition)?;
        if let Some(partition) = record.partition {
            return Ok((partition.unsigned_abs(), false));
        }
        match self.settings.partitioning.choose(&topic.name, record.key, count)? {
            Choice::At(partition) => Ok((partition, false)),
            Choice::Turn => Ok((self.next_turn(topic), false)),
            Choice::Sticky => Ok((topic.current().unwrap_or_else(|| self.next_turn(topic)), true)),
        }
    }

    /// Whose turn it is from now on.
    #[cold]
    #[inline(never)]
    fn next_turn(&self, topic: &TopicState) -> u32 {
        let now = clock::now();
        let mut turns = topic.turns();
        let turns = &mut *turns;
        // Looking at ten thousand partitions takes half a millisecond.
        let fresh = LOAD_FRESH.max(LOAD_FRESH_EACH.saturating_mul(topic.count()));
        if turns.measured.is_none_or(|at| now.saturating_duration_since(at) >= fresh) {
            turns.load.measure(&self.settings.partitioning, &self.loads(topic, now));
            turns.measured = Some(now);
        }
        let next = if self.settings.partitioning.is_round_robin() {
            turns.round.next(&turns.load)
        } else {
            turns.load.draw(&mut turns.dice)
        };
        topic.set_current(next);
        next
    }

    /// How busy each partition is.
    fn loads(&self, topic: &TopicState, now: Instant) -> Vec<PartitionLoad> {
        let state = self.lock();
        let patience = self.settings.partitioning.availability_timeout();
        let known = state.snapshot.topic(&topic.name);
        (0..topic.count())
            .map(|partition| {
                let line = topic.lane(partition).map(|lane| lane.line);
                let leader = known.and_then(|known| known.partition(partition as i32)?.leader);
                let slow = |patience| line.is_some_and(|line| state.core.is_stuck(line, now, patience));
                let rack = leader.and_then(|id| state.snapshot.broker(id)?.rack.as_ref());
                PartitionLoad {
                    queue_len: line.map_or(0, |line| state.core.load(line)) as u32,
                    leader_available: leader.is_some() && !patience.is_some_and(slow),
                    in_rack: self.settings.rack.is_some() && rack == self.settings.rack.as_ref(),
                }
            })
            .collect()
    }

    #[cold]
    #[inline(never)]
    fn add_lane<'a>(&self, topic: &'a Arc<TopicState>, partition: u32) -> Result<&'a Arc<Lane>, Refusal> {
        let index = i32::try_from(partition).map_err(|_| Error::invalid(format!("partition {partition}")))?;
        let make = || {
            let now = clock::now();
            let mut state = self.lock();
            let kept = state.kept.remove(&(topic.name.clone(), index));
            let line = state.core.add_line(self.settings.transactional.is_none(), kept);
            let lane = Arc::new(Lane::new(Arc::clone(topic.facts()), index, line));
            state.lanes.insert(line, Arc::clone(&lane));
            let leader = leader_of(&state.snapshot, &topic.name, index);
            state.core.handle_leader(line, leader, now);
            lane
        };
        let lane = topic.lane_or(partition, make);
        lane.ok_or_else(|| Error::invalid(format!("partition {partition} is more than there can be")).into())
    }

    /// What is known of a topic does not do.
    pub(crate) fn lacks(&self, topic: &TopicState) {
        self.cluster.lacking([TopicKey::Name(topic.name.clone())]);
    }

    /// Memory, as soon as there is some.
    pub(crate) async fn wait_for_room(self: &Arc<Self>, size: usize, deadline: Instant) -> Result<Buffer> {
        // What waits for more records is sent now.
        self.with_core(Core::handle_pressure);
        self.pump();
        let room = tokio::time::timeout_at(deadline.into(), self.buffers.acquire(size)).await;
        room.map_err(|_| {
            self.counters.exhausted();
            Error::timeout("no memory for the record became free: brokers are slower than records come")
        })?
    }

    /// Whether more batches wait to be compressed than help: what waits long is not in any cache any more.
    pub(crate) fn is_busy(&self) -> bool {
        let backlog = self.backlog.load(Ordering::Relaxed);
        backlog > 0 && backlog > Settings::workers()
    }

    /// Waits until not too many batches wait to be compressed.
    pub(crate) async fn wait_for_compression(&self) {
        loop {
            let mut compressed = std::pin::pin!(self.compressed.notified());
            compressed.as_mut().enable();
            if !self.is_busy() {
                return;
            }
            compressed.await;
        }
    }

    /// Waits until the topic, and the partition if one is named, are known.
    pub(crate) async fn wait_for_topic(
        self: &Arc<Self>,
        topic: &Arc<TopicState>,
        partition: Option<i32>,
        deadline: Instant,
    ) -> Result<()> {
        loop {
            let mut changes = self.cluster.changes();
            let mut shut = std::pin::pin!(self.shutting.notified());
            shut.as_mut().enable();
            self.check_open()?;
            learn(topic, &self.cluster.snapshot());
            let count = topic.count();
            let known = |partition| u32::try_from(partition).is_ok_and(|partition| partition < count);
            if count > 0 && partition.is_none_or(known) {
                return Ok(());
            }
            if let Some(error) = topic.error().filter(|error| !error.is_retriable()) {
                return Err(error);
            }
            self.lacks(topic);
            let mut changed = std::pin::pin!(changes.changed());
            let news = poll_fn(|cx| {
                let news = changed.as_mut().poll(cx).is_ready() || shut.as_mut().poll(cx).is_ready();
                if news { Poll::Ready(()) } else { Poll::Pending }
            });
            if tokio::time::timeout_at(deadline.into(), news).await.is_err() {
                let why = match (count, partition) {
                    (1.., Some(partition)) => {
                        return Err(Error::invalid(format!(
                            "partition {partition} of topic {}, which has {count}",
                            topic.name
                        )));
                    }
                    _ => topic.error(),
                };
                let error = Error::timeout(format!("topic {} is not known", topic.name));
                return Err(why.into_iter().fold(error, Error::because));
            }
        }
    }

    /// Puts a closed batch on its line. To be called under the lane's lock.
    pub(crate) fn put_on_line(&self, lane: &Lane, done: Arc<Completion>, facts: Facts) -> Option<Ticket> {
        self.pace.closed(facts.size);
        let mut state = self.lock();
        let serial = state.expect(&done, facts.count);
        let count = i32::try_from(facts.count).unwrap_or(i32::MAX);
        let batch = Batch { done, serial, sealed: None, facts };
        state.core.handle_closed(lane.line, batch, count, facts.opened)
    }

    /// Seals a batch, here or on a thread for it.
    pub(crate) fn seal(self: &Arc<Self>, job: Job) {
        if job.is_quick() {
            return self.seal_now(job);
        }
        let mut state = self.lock();
        state.jobs.push_back(job);
        self.backlog.store(state.jobs.len(), Ordering::Relaxed);
        if state.workers < Settings::workers() {
            state.workers += 1;
            drop(state);
            let shared = Arc::clone(self);
            self.home.aside(move || shared.work());
        }
    }

    fn work(self: &Arc<Self>) {
        loop {
            let mut state = self.lock();
            let Some(job) = state.jobs.pop_front() else {
                state.workers -= 1;
                return;
            };
            self.backlog.store(state.jobs.len(), Ordering::Relaxed);
            drop(state);
            self.compressed.notify_waiters();
            self.seal_now(job);
            self.pump();
        }
    }

    fn seal_now(&self, job: Job) {
        let Job { line, ticket, builder, share, topic } = job;
        // A codec that panics must not leave the batch between two places.
        let sealed = catch_unwind(AssertUnwindSafe(|| seal(builder, share, &topic)))
            .unwrap_or_else(|_| Err(Error::internal("sealing a batch panicked")));
        if let Ok(sealed) = &sealed {
            self.counters.sealed(sealed.closed().plain_size(), sealed.size());
        }
        let unused = self.with_core(|core, now| match sealed {
            Ok(sealed) => {
                let Some(batch) = core.batch_mut(line, ticket) else { return Some(sealed) };
                batch.sealed = Some(sealed);
                core.handle_sealed(line, ticket, now);
                None
            }
            Err(error) => {
                core.handle_unsealed(line, ticket, error, now);
                None
            }
        });
        // Its memory may wake somebody: not under the lock.
        drop(unused);
    }

    /// Sees to it that the keeper wakes when something is due.
    pub(crate) fn arm(&self) {
        let mut state = self.lock();
        let state = &mut *state;
        let due = state.core.poll_timeout();
        let sooner = due.is_some_and(|due| state.armed.is_none_or(|armed| due < armed));
        if sooner {
            state.armed = due;
        }
        // Connections and leaders are the keeper's to get, however early his next alarm is.
        let unlinked = state.core.wanted_brokers().any(|broker| !state.links.contains_key(&broker));
        if state.core.take_wishes() || unlinked || sooner {
            self.kick.notify_one();
        }
    }

    /// Closes all open batches, and gives what is not done.
    pub(crate) fn close_batches(self: &Arc<Self>) -> Vec<Arc<Completion>> {
        for lane in self.lanes() {
            if let Some(job) = lane.close(self) {
                self.seal(job);
            }
        }
        self.pump();
        self.lock().pending.values().map(|(done, _)| Arc::clone(done)).collect()
    }

    /// Ends everything that is not done with this error. What is in flight may have been written.
    pub(crate) fn fail_all(self: &Arc<Self>, error: &Error) {
        self.shut(Some(error.clone()));
        self.buffers.close();
        for (open, count) in self.lanes().iter().filter_map(|lane| lane.abandon()) {
            self.finish(&open, count, Outcome::Failed { error: error.clone(), records: Vec::new() });
        }
        let jobs = std::mem::take(&mut self.lock().jobs);
        drop(jobs);
        self.backlog.store(0, Ordering::Relaxed);
        self.compressed.notify_waiters();
        self.with_core(|core, now| core.fail(error, true, now));
        self.tell();
        self.end_transactions(error);
        // Those between two places, such as batches that are being taken apart.
        let rest = std::mem::take(&mut self.lock().pending);
        for (done, count) in rest.into_values() {
            let error = error.clone().maybe_done();
            self.finish(&done, count, Outcome::Failed { error, records: Vec::new() });
        }
    }
}

impl State {
    /// A batch that is to be done one day; its number among those.
    pub(crate) fn expect(&mut self, done: &Arc<Completion>, count: usize) -> u64 {
        self.serials += 1;
        self.pending.insert(self.serials, (Arc::clone(done), count));
        self.serials
    }
}
