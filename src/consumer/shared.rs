//! What a consumer's handles share: behind one lock, taken per batch and never while anything waits, the core and the
//! group.
//!
//! The application takes batches here; [`pump`](super::pump) sends fetches, [`keeper`](super::keeper) does what has to
//! be waited for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use super::TopicPartition;
use super::batch::Batch;
use super::config::Settings;
use super::machine_core::{Core, Limits, Part, Start, State as PartState};
use super::machine_offsets;
use super::member::{Closing, Group, Subscription};
use super::spare::Spares;
use crate::cluster::Cluster;
use crate::cluster::metadata::{Snapshot, TopicKey};
use crate::conn::{Connection, Dice, Pool};
use crate::net::clock;
use crate::{Error, Result};

/// See the module.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) cluster: Cluster<Pool>,
    /// Of this consumer's connections, so that its fetches wait for nobody else's.
    pub(crate) lane: u32,
    state: Mutex<State>,
    pub(crate) spares: Arc<Spares>,
    /// Wakes the keeper.
    pub(crate) kick: Notify,
    /// Wakes the application.
    pub(crate) news: Notify,
    /// Wakes who waits for the end.
    pub(crate) ended: Notify,
    closed: AtomicBool,
    pub(crate) counters: Counters,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) fetches: AtomicUsize,
    pub(crate) batches: AtomicUsize,
    pub(crate) records: AtomicUsize,
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
    pub(crate) core: Core,
    pub(crate) links: BTreeMap<i32, Link>,
    pub(crate) places: u64,
    pub(crate) snapshot: Arc<Snapshot>,
    /// Partitions of which the application has something in its hands.
    pub(crate) given: BTreeSet<TopicPartition>,
    /// Readers of single partitions.
    pub(crate) readers: BTreeMap<TopicPartition, Arc<Notify>>,
    /// What is told to the application before batches.
    pub(crate) errors: VecDeque<Error>,
    /// Somebody pumps, and whether he is to look again.
    pub(crate) pumping: bool,
    pub(crate) again: bool,
    /// When the keeper wakes by itself.
    pub(crate) armed: Option<Instant>,
    /// Why nothing comes any more.
    pub(crate) fatal: Option<Error>,
    /// The number of the latest assignment.
    pub(crate) assignment: u64,
    /// How often partitions were wanted back.
    pub(crate) revocations: u64,
    /// If it is in one, or commits for one.
    pub(crate) group: Option<Group>,
    /// It is to end.
    pub(crate) closing: Option<Closing>,
    /// There is something to be told.
    pub(crate) has_news: bool,
    dice: Dice,
}

impl Shared {
    pub(crate) fn new(settings: Settings, cluster: Cluster<Pool>, seed: u64) -> Arc<Self> {
        let mut dice = Dice::new(seed);
        let limits = Limits {
            isolation: settings.isolation,
            reset: settings.reset,
            check_crcs: settings.check_crcs,
            memory: settings.memory,
            fetch_max: settings.fetch_max,
            partition_max: settings.partition_max,
            max_wait: settings.max_wait,
            max_age: settings.max_age,
            backoff: settings.backoff,
            rack: settings.rack.is_some(),
        };
        let group = settings.group.clone().map(|group| Group {
            offsets: machine_offsets::Machine::new(settings.backoff, dice.roll()),
            asked_as: None,
            settings: group,
            member: None,
            parting: None,
            subscription: Subscription::None,
            news: VecDeque::new(),
            revoking: None,
            left: false,
            auto_commit: settings.auto_commit,
            next_commit: None,
            commits: BTreeMap::new(),
            committed: BTreeMap::new(),
            waiting: 0,
        });
        let state = State {
            core: Core::new(limits, dice.roll()),
            links: BTreeMap::new(),
            places: 0,
            snapshot: cluster.snapshot(),
            given: BTreeSet::new(),
            readers: BTreeMap::new(),
            errors: VecDeque::new(),
            pumping: false,
            again: false,
            armed: None,
            fatal: None,
            assignment: 0,
            revocations: 0,
            group,
            closing: None,
            has_news: false,
            dice,
        };
        Arc::new(Self {
            lane: cluster.lane(),
            settings,
            cluster,
            state: Mutex::new(state),
            spares: Arc::default(),
            kick: Notify::new(),
            news: Notify::new(),
            ended: Notify::new(),
            closed: AtomicBool::new(false),
            counters: Counters::default(),
        })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock but a defect, and then the machines are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fails once it is closed, or cannot go on.
    pub(crate) fn check_open(&self) -> Result<()> {
        if let Some(fatal) = self.lock().fatal.clone() {
            return Err(fatal);
        }
        if self.is_closed() { Err(Error::closed("the consumer was closed")) } else { Ok(()) }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Gives nothing any more.
    pub(crate) fn shut(&self, why: Option<Error>) {
        let readers: Vec<Arc<Notify>> = {
            let mut state = self.lock();
            if let Some(why) = why {
                state.fatal.get_or_insert(why);
            }
            self.closed.store(true, Ordering::Release);
            state.readers.values().cloned().collect()
        };
        self.kick.notify_one();
        self.news.notify_one();
        self.ended.notify_waiters();
        for reader in &readers {
            reader.notify_one();
        }
    }

    /// Reads these from now on, and no others.
    pub(crate) fn assign(self: &Arc<Self>, wanted: BTreeMap<TopicPartition, Start>) {
        let now = clock::now();
        let topics: BTreeSet<TopicKey> = wanted.keys().map(|at| TopicKey::Name(at.name().clone())).collect();
        let mut state = self.lock();
        let gone: Vec<TopicPartition> =
            state.core.parts().map(|part| part.at.clone()).filter(|at| !wanted.contains_key(at)).collect();
        for at in gone {
            state.core.unassign(&at);
        }
        state.assignment += 1;
        let (assignment, snapshot) = (state.assignment, Arc::clone(&state.snapshot));
        for (at, start) in wanted {
            state.core.assign(at.clone(), assignment, start, now);
            if let Some(key) = state.core.key(&at) {
                state.core.look(key, &snapshot, now);
            }
            // Where the group has got to, for those that begin now.
            let lacks = state.core.find(&at).is_some_and(|part| part.state == PartState::Committed);
            if let Some(group) = state.group.as_mut().filter(|_| lacks) {
                group.offsets.handle_fetch(BTreeSet::from([at]), now);
            }
        }
        drop(state);
        self.cluster.want(topics);
        self.pump();
        self.kick.notify_one();
    }

    /// The application has come back: what it was given is done.
    pub(crate) fn returned(&self) {
        let now = clock::now();
        let mut state = self.lock();
        let state = &mut *state;
        // Whoever reads one by itself comes back by himself.
        let apart: BTreeSet<TopicPartition> =
            state.given.iter().filter(|at| state.readers.contains_key(*at)).cloned().collect();
        for at in std::mem::replace(&mut state.given, apart) {
            if state.given.contains(&at) {
                continue;
            }
            if let Some(part) = state.core.part_mut(&at) {
                part.handle_return();
            }
        }
        if let Some(group) = &mut state.group {
            let due = group.next_commit.is_some_and(|at| at <= now);
            if let Some(member) = &mut group.member {
                member.handle_poll(now);
            }
            if due {
                self.kick.notify_one();
            }
        }
    }

    /// As [`returned`](Self::returned), of one partition that has a reader of its own.
    pub(crate) fn returned_of(&self, at: &TopicPartition) {
        let mut state = self.lock();
        if state.given.remove(at)
            && let Some(part) = state.core.part_mut(at)
        {
            part.handle_return();
        }
    }

    /// The version of a partition's position.
    pub(crate) fn version_of(&self, at: &TopicPartition) -> u64 {
        self.lock().core.find(at).map_or(0, Part::version)
    }

    /// Whether it is read on from where it was at that version.
    pub(crate) fn is_current(&self, at: &TopicPartition, version: u64) -> bool {
        self.lock().core.find(at).is_some_and(|part| part.version() == version && !part.stopped)
    }

    /// The next batch that is here, of that partition or of whose turn it is.
    pub(crate) fn take(self: &Arc<Self>, of: Option<&TopicPartition>) -> Result<Option<Batch>> {
        loop {
            let taken = self.lock().core.take(of);
            let Some(taken) = taken else { return Ok(None) };
            // Memory has become free, or will.
            let mut taken = taken?;
            let most = self.settings.batch_size;
            let unpacked = taken.chunk.unpack(&taken.at, taken.assignment, most, &self.spares);
            let (batch, failed) = match unpacked {
                Ok(batch) => (batch, None),
                Err(error) => (None, Some(error)),
            };
            let at = taken.at.clone();
            let mut state = self.lock();
            let current = state.core.give_back(taken, failed.clone(), clock::now());
            if batch.is_some() && current {
                state.given.insert(at);
            }
            drop(state);
            self.pump();
            match (batch, failed) {
                (Some(batch), _) if current => {
                    self.counters.batches.fetch_add(1, Ordering::Relaxed);
                    self.counters.records.fetch_add(batch.len(), Ordering::Relaxed);
                    return Ok(Some(batch));
                }
                _ => {}
            }
        }
    }

    /// Tells those who wait that there may be something for them.
    pub(crate) fn tell(&self) {
        let readers: Vec<Arc<Notify>> = self.lock().readers.values().cloned().collect();
        self.news.notify_one();
        for reader in &readers {
            reader.notify_one();
        }
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
        let unlinked = state.core.wanted_brokers().any(|broker| !state.links.contains_key(&broker));
        if sooner || unlinked || state.core.has_errands() {
            self.kick.notify_one();
        }
    }
}

impl State {
    pub(crate) fn roll(&mut self) -> u64 {
        self.dice.roll()
    }

    /// A connection is of no use any more.
    pub(crate) fn lose(&mut self, broker: i32, place: u64) {
        if let Some(Link::Ready { place: now, .. }) = self.links.get(&broker)
            && *now == place
        {
            self.links.remove(&broker);
            self.core.handle_place(broker, None);
        }
    }
}

impl Shared {
    /// Whoever waits for a commit waits no more: nothing will come of it.
    pub(crate) fn drop_waiters(&self) {
        let waiters = self.lock().group.as_mut().map(|group| std::mem::take(&mut group.commits));
        drop(waiters);
    }
}
