//! All partitions of a consumer, without I/O: where each is read, what is fetched from whom, what has come and waits
//! for the application.
//!
//! Partitions are assigned and get a position; then each stands in the session of the broker that it is read from, as
//! long as it may be fetched. [`poll_fetch`](Core::poll_fetch) gives the next request of a broker, within the memory
//! that there is; what comes is kept as chunks, which [`take`](Core::take) gives to the application in turn.
//! Whatever concerns a position carries its version: what was asked before a seek is dropped when it comes.

mod fetch;
mod part;
mod positions;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use self::fetch::Node;
pub(crate) use self::fetch::{Arrived, Fetch};
pub(crate) use self::part::{Part, Start, State};
pub(crate) use self::positions::{Lookup, LookupKind, Sought};
use super::TopicPartition;
use super::batch::Position;
use super::config::{Isolation, Reset};
use super::machine_session::Key;
use super::unpack::Chunk;
use crate::cluster::Backoff;
use crate::cluster::metadata::{Leader, Snapshot, TopicKey};
use crate::conn::Dice;
use crate::wire::{Str, Uuid};
use crate::{Error, Result};

/// What of the settings concerns fetching.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    pub(crate) isolation: Isolation,
    pub(crate) reset: Reset,
    pub(crate) check_crcs: bool,
    pub(crate) memory: usize,
    pub(crate) fetch_max: usize,
    pub(crate) partition_max: usize,
    pub(crate) max_wait: Duration,
    pub(crate) max_age: Duration,
    pub(crate) backoff: Backoff,
    /// Whether followers may be read from.
    pub(crate) rack: bool,
}

/// A chunk on its way to the application, and whose it is.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) key: Key,
    pub(crate) at: TopicPartition,
    pub(crate) assignment: u64,
    pub(crate) chunk: Chunk,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Core {
    limits: Limits,
    dice: Dice,
    parts: BTreeMap<Key, Part>,
    keys: BTreeMap<TopicPartition, Key>,
    nodes: BTreeMap<i32, Node>,
    /// Those for which something waits, in turn.
    ready: VecDeque<Key>,
    /// Those that rest until then.
    resting: BTreeSet<(Instant, Key)>,
    /// Those of which the position has to be asked for somewhere.
    unsettled: BTreeSet<Key>,
    /// Those without a broker to be read from.
    homeless: BTreeSet<Key>,
    serial: u64,
    tickets: u64,
    /// The bytes of chunks that wait, and what requests in flight may bring.
    buffered: usize,
    reserved: usize,
    lookups: BTreeMap<u64, Vec<(Key, u64)>>,
    /// What is known of leaders was found wrong.
    stale: bool,
    /// The broker that was fetched from last.
    turn: i32,
    /// Those that are known.
    brokers: BTreeSet<i32>,
}

impl Core {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            dice: Dice::new(seed),
            parts: BTreeMap::new(),
            keys: BTreeMap::new(),
            nodes: BTreeMap::new(),
            ready: VecDeque::new(),
            resting: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            homeless: BTreeSet::new(),
            serial: 0,
            tickets: 0,
            buffered: 0,
            reserved: 0,
            lookups: BTreeMap::new(),
            stale: false,
            turn: -1,
            brokers: BTreeSet::new(),
        }
    }

    /// This partition is ours from now on, as of that assignment. One that is already, stays as it is.
    pub(crate) fn assign(&mut self, at: TopicPartition, assignment: u64, start: Start, now: Instant) {
        if self.keys.contains_key(&at) {
            return;
        }
        self.serial += 1;
        let key = self.serial;
        self.keys.insert(at.clone(), key);
        self.serial += 1;
        self.parts.insert(key, Part::new(at, assignment, self.serial));
        self.start(key, start, now);
    }

    /// This partition is not ours any more. What was fetched of it is dropped.
    pub(crate) fn unassign(&mut self, at: &TopicPartition) -> Option<Part> {
        let key = self.keys.remove(at)?;
        self.leave(key);
        self.unsettled.remove(&key);
        self.homeless.remove(&key);
        let part = self.parts.remove(&key)?;
        self.buffered = self.buffered.saturating_sub(part.buffered);
        if let Some(until) = part.not_before {
            self.resting.remove(&(until, key));
        }
        Some(part)
    }

    pub(crate) fn find(&self, at: &TopicPartition) -> Option<&Part> {
        self.parts.get(self.keys.get(at)?)
    }

    pub(crate) fn part_mut(&mut self, at: &TopicPartition) -> Option<&mut Part> {
        self.parts.get_mut(self.keys.get(at)?)
    }

    pub(crate) fn parts(&self) -> impl Iterator<Item = &Part> {
        self.parts.values()
    }

    /// Reads on from somewhere else. What was fetched is dropped, what is on its way is dropped when it comes.
    pub(crate) fn seek(&mut self, at: &TopicPartition, start: Start, now: Instant) -> Result<()> {
        let key = *self.keys.get(at).ok_or_else(|| not_assigned(at))?;
        self.start(key, start, now);
        Ok(())
    }

    /// Gives nothing of it until it is resumed, and keeps what is there.
    pub(crate) fn set_paused(&mut self, at: &TopicPartition, paused: bool, now: Instant) -> Result<()> {
        let key = *self.keys.get(at).ok_or_else(|| not_assigned(at))?;
        if let Some(part) = self.parts.get_mut(&key) {
            part.paused = paused;
            if paused {
                part.chunks.iter_mut().for_each(Chunk::detach);
            }
        }
        self.settle(key, now);
        Ok(())
    }

    /// Gives nothing of it any more: it is about to be given back.
    pub(crate) fn stop(&mut self, at: &TopicPartition, now: Instant) {
        if let Some(key) = self.keys.get(at).copied() {
            if let Some(part) = self.parts.get_mut(&key) {
                part.stopped = true;
            }
            self.settle(key, now);
        }
    }

    /// Takes it out of the turn of all, or puts it back: it has a reader of its own.
    pub(crate) fn set_apart(&mut self, at: &TopicPartition, apart: bool, now: Instant) -> Result<()> {
        let key = *self.keys.get(at).ok_or_else(|| not_assigned(at))?;
        if let Some(part) = self.parts.get_mut(&key) {
            part.apart = apart;
        }
        self.settle(key, now);
        Ok(())
    }

    /// What is known of the cluster now.
    pub(crate) fn handle_cluster(&mut self, snapshot: &Snapshot, now: Instant) {
        self.brokers = snapshot.brokers().map(|broker| broker.id).collect();
        let keys: Vec<Key> = self.parts.keys().copied().collect();
        for key in keys {
            self.look(key, snapshot, now);
        }
    }

    /// What is known of the leader of one partition.
    pub(crate) fn look(&mut self, key: Key, snapshot: &Snapshot, now: Instant) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        let name = TopicKey::Name(part.at.name().clone());
        let id = snapshot.topic(part.at.topic()).map_or(Uuid::ZERO, |topic| topic.id);
        let led = snapshot.leader(&name, part.at.partition());
        let leader = match led {
            Leader::Known { broker, epoch } if snapshot.broker(broker).is_some() => Some((broker, epoch)),
            _ => None,
        };
        if part.read_from.is_some_and(|(broker, _)| snapshot.broker(broker).is_none()) {
            part.read_from = None;
        }
        part.refused = match led {
            Leader::Refused(code) => Some(code),
            _ => None,
        };
        self.handle_leader(key, leader, id, now);
    }

    fn handle_leader(&mut self, key: Key, leader: Option<(i32, i32)>, id: Uuid, now: Instant) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        if part.handle_leader(leader, id) {
            // Offsets of the one say nothing of the other.
            return self.apply_policy(key, "its topic was made anew", now);
        }
        self.settle(key, now);
    }

    pub(crate) fn key(&self, at: &TopicPartition) -> Option<Key> {
        self.keys.get(at).copied()
    }

    /// The next chunk for the application, of that partition or of whose turn it is. It is to be given back by
    /// [`give_back`](Self::give_back). Or an error, which is told once and met again when it is tried again.
    pub(crate) fn take(&mut self, of: Option<&TopicPartition>) -> Option<Result<Taken>> {
        let turns = if of.is_some() { 1 } else { self.ready.len() };
        for _ in 0..turns {
            let key = match of {
                Some(at) => self.key(at)?,
                None => self.ready.pop_front()?,
            };
            let Some(part) = self.parts.get_mut(&key) else { continue };
            if of.is_none() {
                part.queued = false;
            }
            if part.apart != of.is_some() || !part.may_give() {
                continue;
            }
            if let Some(chunk) = part.chunks.pop_front() {
                part.out = true;
                part.buffered = part.buffered.saturating_sub(chunk.size);
                self.buffered = self.buffered.saturating_sub(chunk.size);
                let (at, assignment) = (part.at.clone(), part.assignment);
                return Some(Ok(Taken { key, at, assignment, chunk }));
            }
            if let Some(error) = part.error.take() {
                return Some(Err(error));
            }
        }
        None
    }

    /// What is left of a chunk comes back, and what was given of it counts as given. Tells whether it still counts: not
    /// if the application has sought elsewhere meanwhile, or the partition is gone.
    pub(crate) fn give_back(&mut self, taken: Taken, failed: Option<Error>, now: Instant) -> bool {
        let Taken { key, chunk, .. } = taken;
        let Some(part) = self.parts.get_mut(&key) else { return false };
        part.out = false;
        let current = part.version == chunk.version && !part.stopped;
        if current {
            part.given = chunk.from;
            if let Some(error) = failed {
                self.stumble(key, error, now);
                return true;
            }
            part.failures = 0;
            if !chunk.is_done() {
                part.buffered += chunk.size;
                self.buffered += chunk.size;
                part.chunks.push_front(chunk);
            }
        }
        self.settle(key, now);
        current
    }

    /// What is here cannot be read: it is fetched again after a rest, and the application told.
    fn stumble(&mut self, key: Key, error: Error, now: Instant) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        part.position = part.given;
        // Without an epoch there is nothing that a leader could be asked about.
        if part.position.epoch < 0 && matches!(part.state, State::Check { .. }) {
            part.state = State::Fetching;
        }
        self.serial += 1;
        part.version = self.serial;
        self.buffered = self.buffered.saturating_sub(part.drop_chunks());
        part.error = Some(error);
        // What was being asked about it was for the version before.
        self.again(key, now);
    }

    /// Lets it rest after a failure, longer each time.
    fn rest(&mut self, key: Key, now: Instant) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        part.failures = part.failures.saturating_add(1);
        let pause = self.limits.backoff.after(part.failures, &mut self.dice);
        if let Some(before) = part.not_before.replace(now + pause) {
            self.resting.remove(&(before, key));
        }
        self.resting.insert((now + pause, key));
        self.settle(key, now);
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        for node in self.nodes.values_mut() {
            node.handle_timeout(now);
        }
        while let Some((until, key)) = self.resting.first().copied()
            && until <= now
        {
            self.resting.pop_first();
            if let Some(part) = self.parts.get_mut(&key) {
                if part.not_before.is_some_and(|at| at <= now) {
                    part.not_before = None;
                }
                if part.read_from.is_some_and(|(_, until)| until <= now) {
                    part.read_from = None;
                }
            }
            self.settle(key, now);
        }
    }

    /// When something is due.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let nodes = self.nodes.values().filter_map(Node::due);
        self.resting.first().map(|(until, _)| *until).into_iter().chain(nodes).min()
    }

    /// Topics and partitions that have no broker to be read from.
    pub(crate) fn homeless(&self) -> impl Iterator<Item = &Str> {
        self.homeless.iter().filter_map(|key| Some(self.parts.get(key)?.at.name()))
    }

    /// Whether there is something that only the keeper can do.
    pub(crate) fn has_errands(&self) -> bool {
        !self.unsettled.is_empty() || self.stale
    }

    /// Whether leaders were found to be wrong since this was last asked.
    pub(crate) fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

    /// Puts a partition where it belongs now: into a session, among those that wait for something, into the turn.
    fn settle(&mut self, key: Key, _now: Instant) {
        let cap = self.limits.partition_max.saturating_mul(2);
        let Some(part) = self.parts.get_mut(&key) else { return };
        let home = part.home();
        let rests = part.not_before.is_some();
        let unsettled = part.is_unsettled() && !rests;
        let active = part.is_active() && !rests;
        let full = part.buffered >= cap;
        if part.may_give() && !part.apart && !part.queued {
            part.queued = true;
            self.ready.push_back(key);
        }
        let (before, spec) = (part.node, part.spec(self.limits.partition_max));
        let place = home.filter(|_| active);
        part.node = place;
        set(&mut self.unsettled, key, unsettled);
        set(&mut self.homeless, key, home.is_none());
        if before != place
            && let Some(node) = before.and_then(|before| self.nodes.get_mut(&before))
        {
            node.session.unwant(key);
            node.full.remove(&key);
        }
        if let Some(node) = place.map(|place| self.nodes.entry(place).or_default()) {
            set(&mut node.full, key, full);
            if full {
                node.session.unwant(key);
            } else {
                node.session.want(key, spec);
            }
        }
    }

    /// Takes a partition out of its session.
    fn leave(&mut self, key: Key) {
        if let Some(part) = self.parts.get_mut(&key)
            && let Some(node) = part.node.take().and_then(|node| self.nodes.get_mut(&node))
        {
            node.session.unwant(key);
            node.full.remove(&key);
        }
    }

    fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Where the application will read on.
    pub(crate) fn position(&self, at: &TopicPartition) -> Option<Position> {
        self.find(at).filter(|part| part.state.has_position()).map(|part| part.given)
    }
}

fn set(of: &mut BTreeSet<Key>, key: Key, is: bool) {
    if is {
        of.insert(key);
    } else {
        of.remove(&key);
    }
}

fn not_assigned(at: &TopicPartition) -> Error {
    Error::invalid(format!("{at} is not assigned to this consumer"))
}
