//! Fetching: the next request of a broker, within the memory that there is, and what its answer says of each partition.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::part::preferred_until;
use super::{Core, Part, State};
use crate::consumer::batch::{Marks, Position};
use crate::consumer::config::{Isolation, Reset};
use crate::consumer::machine_session::{Key, Plan, Session, Spec};
use crate::consumer::unpack::Chunk;
use crate::wire::{Str, Uuid};
use crate::{Error, ErrorCode};

/// The first wait of a request while partitions are left out that the application has not caught up with.
const SHORT_WAIT: Duration = Duration::from_millis(2);

/// What a partition may have in a fetch at most, however large its batches are.
const PARTITION_LIMIT: usize = 256 << 20;

/// The chunks of a partition that may wait in the memory that they came in, with all that came beside them.
const CHUNKS_SHARED: usize = 4;

/// One broker.
#[derive(Debug, Default)]
pub(crate) struct Node {
    pub(super) session: Session,
    /// The place of the connection to it, and whether topics go by their ids there.
    place: Option<(u64, bool)>,
    flight: Option<Flight>,
    not_before: Option<Instant>,
    failures: u32,
    /// Partitions that are left out because the application has not caught up.
    pub(super) full: BTreeSet<Key>,
    /// Answers in a row without records.
    empty: u32,
}

#[derive(Debug)]
struct Flight {
    ticket: u64,
    reserved: usize,
}

impl Node {
    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.not_before.take_if(|at| *at <= now);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.not_before.filter(|_| self.flight.is_none() && !self.session.is_idle())
    }
}

/// A fetch that is to be sent now.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) ticket: u64,
    pub(crate) broker: i32,
    pub(crate) place: u64,
    pub(crate) plan: Plan,
    pub(crate) max_bytes: usize,
    pub(crate) wait: Duration,
}

/// What an answer says of one partition.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) topic: Str,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) code: ErrorCode,
    pub(crate) marks: Marks,
    pub(crate) aborted: Vec<(i64, i64)>,
    pub(crate) preferred: i32,
    /// The epoch and the end at which logs part ways (KIP-595).
    pub(crate) diverging: Option<Position>,
    pub(crate) records: Bytes,
}

impl Core {
    /// Brokers that are to be fetched from.
    pub(crate) fn wanted_brokers(&self) -> impl Iterator<Item = i32> {
        self.nodes.iter().filter(|(_, node)| !node.session.is_idle()).map(|(id, _)| *id)
    }

    /// There is a connection to a broker, or none any more.
    pub(crate) fn handle_place(&mut self, broker: i32, place: Option<(u64, bool)>) {
        let node = self.nodes.entry(broker).or_default();
        node.place = place;
        if place.is_none() {
            node.session.handle_failure();
        }
    }

    /// A broker cannot be reached: what was read from it as a follower is read from the leader.
    pub(crate) fn handle_unreachable(&mut self, broker: i32, now: Instant) {
        let followed = |part: &Part| part.read_from.is_some_and(|(id, _)| id == broker);
        let keys: Vec<Key> =
            self.parts.iter().filter(|(_, part)| followed(part)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(part) = self.parts.get_mut(&key) {
                part.read_from = None;
            }
            self.settle(key, now);
        }
    }

    /// The next request that is to be sent. `live` are the bytes that the application holds; `starved` is set when
    /// memory is what is lacking.
    pub(crate) fn poll_fetch(&mut self, live: usize, now: Instant, starved: &mut bool) -> Option<Fetch> {
        let limits = &self.limits;
        let most = limits.fetch_max.min((limits.memory / 4).max(limits.partition_max));
        // A connection keeps room for one answer more than is alive.
        let memory = limits.memory.saturating_sub(most).max(most);
        let least = limits.partition_max.min(most);
        if memory.saturating_sub(self.held(live)) < least {
            self.make_room(now);
        }
        let room = memory.saturating_sub(self.held(live));
        // With nothing to give and nothing on its way, something is fetched whatever is held.
        let short = room < least && (self.reserved > 0 || self.has_something());
        let may = |node: &Node| {
            node.flight.is_none()
                && node.place.is_some()
                && !node.session.is_idle()
                && node.not_before.is_none_or(|at| at <= now)
        };
        // In turn, so that memory that is short does not always go to the same.
        let after = (Bound::Excluded(self.turn), Bound::Unbounded);
        let next = self.nodes.range(after).find(|(_, node)| may(node));
        let broker = *next.or_else(|| self.nodes.iter().find(|(_, node)| may(node)))?.0;
        if short {
            *starved = true;
            return None;
        }
        let max_bytes = room.clamp(least, most);
        let node = self.nodes.get_mut(&broker)?;
        let (place, ids) = node.place?;
        node.not_before = None;
        let plan = node.session.begin(ids);
        // Whoever left is waited for a short while only, and longer the longer he takes.
        let wait = if node.full.is_empty() {
            self.limits.max_wait
        } else {
            SHORT_WAIT.saturating_mul(1 << node.empty.min(16)).min(self.limits.max_wait)
        };
        self.tickets += 1;
        node.flight = Some(Flight { ticket: self.tickets, reserved: max_bytes });
        self.reserved += max_bytes;
        self.turn = broker;
        Some(Fetch { ticket: self.tickets, broker, place, plan, max_bytes, wait })
    }

    /// Whether something waits for the application, or it is about to give something back.
    fn has_something(&self) -> bool {
        let waits = |key: &Key| self.parts.get(key).is_some_and(|part| part.may_give() && !part.apart);
        self.ready.iter().any(waits) || self.parts.values().any(|part| part.out)
    }

    /// Memory is short. If all that is here is of partitions that are paused, others would never get any: then
    /// those give up what they have, and it is fetched again when they are resumed.
    fn make_room(&mut self, now: Instant) {
        if self.reserved > 0 || self.has_something() {
            return;
        }
        let holds = |part: &Part| part.paused && !part.stopped && !part.chunks.is_empty();
        let keys: Vec<Key> = self.parts.iter().filter(|(_, part)| holds(part)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(given) = self.parts.get(&key).map(|part| part.given) {
                self.go_to(key, given, now);
            }
        }
    }

    /// The request was answered: as a whole, and for each partition that has something to say.
    pub(crate) fn handle_fetched(
        &mut self,
        broker: i32,
        ticket: u64,
        code: ErrorCode,
        session_id: i32,
        arrived: Vec<Arrived>,
        now: Instant,
    ) {
        if !self.land(broker, ticket) {
            return;
        }
        let pause = self.limits.backoff;
        let Some(node) = self.nodes.get_mut(&broker) else { return };
        if !code.is_none() {
            node.session.handle_refusal(code);
            // Sessions come and go: only what goes on failing is waited for.
            let session = matches!(
                code,
                ErrorCode::FETCH_SESSION_ID_NOT_FOUND | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            );
            node.failures = node.failures.saturating_add(1);
            if !session || node.failures > 1 {
                node.not_before = Some(now + pause.after(node.failures, &mut self.dice));
            }
            self.stale |= !session;
            return;
        }
        node.failures = 0;
        let brought = arrived.iter().any(|part| !part.records.is_empty());
        node.empty = if brought { 0 } else { node.empty.saturating_add(1) };
        let mut seen = BTreeSet::new();
        let found: Vec<(Key, Spec, Arrived)> = arrived
            .into_iter()
            .filter_map(|part| {
                let (key, spec) = node.session.find(&part.topic, part.topic_id, part.partition)?;
                // What comes twice or was not asked for is passed over.
                seen.insert(key).then(|| (key, spec.clone(), part))
            })
            .collect();
        node.session.handle_answer(session_id);
        for (key, spec, part) in found {
            self.handle_part(key, &spec, broker, part, now);
        }
    }

    /// It is not known what became of the request, or it was not sent.
    pub(crate) fn handle_fetch_failed(&mut self, broker: i32, ticket: u64, now: Instant) {
        if !self.land(broker, ticket) {
            return;
        }
        let pause = self.limits.backoff;
        if let Some(node) = self.nodes.get_mut(&broker) {
            node.session.handle_failure();
            node.failures = node.failures.saturating_add(1);
            node.not_before = Some(now + pause.after(node.failures, &mut self.dice));
        }
        self.stale = true;
        self.handle_unreachable(broker, now);
    }

    fn land(&mut self, broker: i32, ticket: u64) -> bool {
        let Some(node) = self.nodes.get_mut(&broker) else { return false };
        match node.flight.take_if(|flight| flight.ticket == ticket) {
            Some(flight) => {
                self.reserved = self.reserved.saturating_sub(flight.reserved);
                true
            }
            None => false,
        }
    }

    fn handle_part(&mut self, key: Key, spec: &Spec, broker: i32, arrived: Arrived, now: Instant) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        // The application has gone elsewhere meanwhile, or somebody else leads, who may not have this.
        let now_led = part.leader.is_some_and(|(_, epoch)| epoch == spec.leader_epoch);
        let current = part.version == spec.version && part.position.offset == spec.offset;
        if !current || !now_led || part.home() != Some(broker) || part.state != State::Fetching {
            return;
        }
        if !arrived.code.is_none() {
            return self.handle_code(key, broker, &arrived, now);
        }
        part.marks = arrived.marks;
        if let Some(diverging) = arrived.diverging {
            return self.handle_truncation(key, diverging, now);
        }
        let preferred = self.limits.rack
            && arrived.preferred != broker
            && part.read_from.is_none()
            && self.brokers.contains(&arrived.preferred);
        if preferred {
            let until = preferred_until(now, self.limits.max_age);
            part.prefer(arrived.preferred, until);
            self.resting.insert((until, key));
        }
        if !arrived.records.is_empty() {
            return self.add_chunk(key, arrived, now);
        }
        if arrived.preferred < 0 {
            part.failures = 0;
        } else if !preferred {
            // Sent to where nobody is, and given nothing.
            return self.rest(key, now);
        }
        self.settle(key, now);
    }

    fn add_chunk(&mut self, key: Key, arrived: Arrived, now: Instant) {
        let limits = &self.limits;
        let Some(part) = self.parts.get_mut(&key) else { return };
        let aborted = (limits.isolation == Isolation::ReadCommitted).then_some(arrived.aborted);
        let check = limits.check_crcs;
        let (from, version) = (part.position, part.version);
        let mut chunk = Chunk::new(arrived.records, from, part.marks, version, aborted, check);
        if chunk.is_done() {
            // Not one whole batch fits in what it may have.
            let had = part.grown.unwrap_or(limits.partition_max);
            if had >= PARTITION_LIMIT {
                let words = format!("{} at offset {}: a batch that never ends", part.at, from.offset);
                part.error = Some(Error::corrupt(words));
                return self.rest(key, now);
            }
            part.grown = Some(had.saturating_mul(2).min(PARTITION_LIMIT));
            return self.settle(key, now);
        }
        // What will wait for long does not keep what came beside it.
        if part.paused || part.chunks.len() >= CHUNKS_SHARED {
            chunk.detach();
        }
        part.grown = None;
        part.position = chunk.next;
        part.buffered += chunk.size;
        self.buffered += chunk.size;
        part.chunks.push_back(chunk);
        self.settle(key, now);
    }

    /// The broker does not give this partition.
    fn handle_code(&mut self, key: Key, broker: i32, arrived: &Arrived, now: Instant) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        let code = arrived.code;
        let follower = part.prefers().is_some_and(|(id, _)| id == broker);
        if follower {
            // The leader knows better.
            part.read_from = None;
            if code == ErrorCode::OFFSET_OUT_OF_RANGE {
                part.check();
                return self.rest(key, now);
            }
        }
        match code {
            ErrorCode::OFFSET_OUT_OF_RANGE => return self.handle_out_of_range(key, now),
            ErrorCode::NOT_LEADER_OR_FOLLOWER
            | ErrorCode::REPLICA_NOT_AVAILABLE
            | ErrorCode::KAFKA_STORAGE_ERROR
            | ErrorCode::FENCED_LEADER_EPOCH
            | ErrorCode::UNKNOWN_LEADER_EPOCH
            | ErrorCode::OFFSET_NOT_AVAILABLE
            | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
            | ErrorCode::UNKNOWN_TOPIC_ID
            | ErrorCode::INCONSISTENT_TOPIC_ID
            | ErrorCode::LEADER_NOT_AVAILABLE => self.stale = true,
            code if code.is_retriable() || code == ErrorCode::UNKNOWN_SERVER_ERROR => self.stale = true,
            code => {
                let words = format!("{} at offset {}", part.at, part.position.offset);
                part.error = Some(Error::broker_said(code, words));
            }
        }
        self.rest(key, now);
    }

    /// The position is not in the log.
    fn handle_out_of_range(&mut self, key: Key, now: Instant) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        // What is here is still given first, and only then the position is looked for.
        if !part.chunks.is_empty() || part.out {
            return self.rest(key, now);
        }
        self.apply_policy(key, "its position is not in the log any more", now);
    }

    /// The log that was read from here on is not that of the leader.
    pub(super) fn handle_truncation(&mut self, key: Key, end: Position, now: Instant) {
        let Some(part) = self.parts.get_mut(&key) else { return };
        if end.offset >= part.position.offset {
            part.state = State::Fetching;
            part.position.epoch = end.epoch;
            return self.settle(key, now);
        }
        let dropped = part.drop_chunks();
        self.buffered = self.buffered.saturating_sub(dropped);
        let Some(part) = self.parts.get_mut(&key) else { return };
        if end.offset >= part.given.offset && end.offset >= 0 {
            // What was lost was not given to anybody.
            let given = part.given;
            return self.go_to(key, given, now);
        }
        if self.limits.reset == Reset::None {
            let words = format!(
                "{}: the log was cut at offset {}, and had been read to {}",
                part.at, end.offset, part.given.offset
            );
            part.error = Some(Error::broker_said(ErrorCode::OFFSET_OUT_OF_RANGE, words));
            return self.rest(key, now);
        }
        if end.offset < 0 {
            return self.apply_policy(key, "its leader does not know where logs part ways", now);
        }
        self.go_to(key, end, now);
    }

    /// What is alive of answers, or was copied out of them, and what requests in flight may bring.
    pub(crate) fn held(&self, live: usize) -> usize {
        self.reserved + live.max(self.buffered)
    }
}
