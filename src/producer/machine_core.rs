//! All lines of a producer, and what goes to which broker next. Pure: the pump gives it events and the time,
//! and drains requests, ends and wishes.
//!
//! A line that has something to send waits in the queue of its leader. A request takes one batch of each line
//! in the queue, in turn, up to its size; a broker has several requests in flight. An open batch whose linger
//! is over is closed when its broker can take it, and not before: until then it grows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::machine_identity::Identity;
use super::machine_line::{Answer, Event, Line, Rules, Sequences, Stamped, Ticket};
use crate::Error;
use crate::conn::Dice;

/// A line's number: its place in the core.
pub(crate) type LineId = usize;

/// What the core is told once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) rules: Rules,
    /// Requests in flight to one broker.
    pub(crate) in_flight_max: usize,
    /// Bytes of batches in one request; one batch may be larger.
    pub(crate) request_size_max: usize,
    pub(crate) linger: Duration,
    pub(crate) delivery_timeout: Duration,
}

#[derive(Debug)]
struct Entry<B> {
    line: Line<B>,
    leader: Option<i32>,
    /// It is in its leader's queue, with that number.
    queued: Option<u64>,
    /// Whether it may send at all: in a transaction, once the coordinator knows of it.
    open: bool,
    /// The earliest alarm that is set for it.
    alarm: Option<Instant>,
    /// Its open batch.
    open_batch: Option<OpenBatch>,
}

/// What is known of a batch that still gets records.
#[derive(Debug, Clone, Copy)]
struct OpenBatch {
    /// When its linger is over.
    linger: Instant,
    /// When it is too late for it.
    deadline: Instant,
    /// It should be closed when there is room: it is in its leader's queue of those, with that number.
    due: Option<u64>,
}

/// Stands for the leader of partitions that have none.
const NOBODY: i32 = -1;

/// A broker, as producers see it.
#[derive(Debug, Default)]
struct Node {
    /// Names the connection; none while there is none.
    place: Option<u64>,
    in_flight: usize,
    /// Lines that can send, each once, in the order in which they came.
    queue: BTreeSet<(u64, LineId)>,
    /// Lines with open batches that are due.
    due: BTreeSet<(u64, LineId)>,
    /// Those of them that may send, and have nothing else to be sent before.
    closable: BTreeSet<(u64, LineId)>,
}

/// One batch of a request.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) line: LineId,
    pub(crate) ticket: Ticket,
    pub(crate) stamp: Option<Stamped>,
}

/// A request to be sent: the batches are in the lines.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) broker: i32,
    pub(crate) place: u64,
    pub(crate) items: Vec<Item>,
}

/// What is known of a batch's size.
pub(crate) trait Weighed {
    fn size(&self) -> usize;
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Core<B> {
    limits: Limits,
    entries: Vec<Entry<B>>,
    /// Places of lines that were forgotten.
    free: Vec<LineId>,
    nodes: BTreeMap<i32, Node>,
    /// Whose turn it is.
    turn: Option<i32>,
    identity: Option<Identity>,
    /// Numbers for queues.
    numbers: u64,
    /// Open batches and when their linger is over.
    lingering: BTreeSet<(Instant, LineId)>,
    /// Open batches whose linger is over, and when it is too late for them.
    expiring: BTreeSet<(Instant, LineId)>,
    alarms: BTreeSet<(Instant, LineId)>,
    /// Lines with batches that have no leader.
    homeless: BTreeSet<LineId>,
    /// Another line has come to want a leader.
    wishes: bool,
    /// Lines that cannot go on under their identity.
    broken: BTreeSet<LineId>,
    /// Lines that have told something.
    told: BTreeSet<LineId>,
    dice: Dice,
}

impl<B: Weighed> Core<B> {
    pub(crate) fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            free: Vec::new(),
            nodes: BTreeMap::new(),
            turn: None,
            identity: None,
            numbers: 0,
            lingering: BTreeSet::new(),
            expiring: BTreeSet::new(),
            alarms: BTreeSet::new(),
            homeless: BTreeSet::new(),
            wishes: false,
            broken: BTreeSet::new(),
            told: BTreeSet::new(),
            dice: Dice::new(seed),
        }
    }

    /// A line for one more partition, whose sequences go on there if it had one before.
    pub(crate) fn add_line(&mut self, open: bool, kept: Option<Sequences>) -> LineId {
        if let Some(id) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(id)
        {
            entry.line.restart(kept);
            entry.open = open;
            return id;
        }
        let mut line = Line::new(self.limits.rules);
        line.restart(kept);
        self.entries.push(Entry { line, leader: None, queued: None, open, alarm: None, open_batch: None });
        self.entries.len() - 1
    }

    /// Whether nothing is on its way on a line.
    pub(crate) fn is_quiet(&self, id: LineId) -> bool {
        self.entries.get(id).is_some_and(|entry| entry.open_batch.is_none() && entry.line.is_quiet())
    }

    /// Forgets a quiet line: its number is another's from now on. Gives where its sequences go on.
    pub(crate) fn remove_line(&mut self, id: LineId) -> Option<Sequences> {
        self.forget_open(id);
        for set in [&mut self.homeless, &mut self.broken, &mut self.told] {
            set.remove(&id);
        }
        let entry = self.entries.get_mut(id)?;
        if let Some(at) = entry.alarm.take() {
            self.alarms.remove(&(at, id));
        }
        let former = entry.leader.take();
        if let Some(number) = entry.queued.take()
            && let Some(node) = self.nodes.get_mut(&former.unwrap_or(NOBODY))
        {
            node.queue.remove(&(number, id));
        }
        entry.open = false;
        let kept = entry.line.sequences();
        entry.line.restart(None);
        self.free.push(id);
        kept
    }

    /// A batch was opened.
    pub(crate) fn handle_opened(&mut self, line: LineId, now: Instant) {
        self.forget_open(line);
        let Some(entry) = self.entries.get_mut(line) else { return };
        let Limits { linger, delivery_timeout, .. } = self.limits;
        let batch = OpenBatch {
            linger: now + linger.min(delivery_timeout),
            deadline: now + delivery_timeout,
            due: None,
        };
        entry.open_batch = Some(batch);
        if linger.is_zero() {
            self.make_due(line, now);
        } else {
            self.lingering.insert((batch.linger, line));
        }
    }

    /// A batch gets no more records; `opened` is when it got the first.
    pub(crate) fn handle_closed(
        &mut self,
        line: LineId,
        batch: B,
        count: i32,
        opened: Instant,
    ) -> Option<Ticket> {
        let deadline = opened + self.limits.delivery_timeout;
        self.forget_open(line);
        let ticket = self.entries.get_mut(line)?.line.push(batch, count, opened, deadline);
        self.told.insert(line);
        Some(ticket)
    }

    /// There is no open batch on the line any more.
    fn forget_open(&mut self, id: LineId) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(batch) = entry.open_batch.take() else { return };
        self.lingering.remove(&(batch.linger, id));
        self.expiring.remove(&(batch.deadline, id));
        if let Some(due) = batch.due
            && let Some(node) = self.nodes.get_mut(&entry.leader.unwrap_or(NOBODY))
        {
            node.due.remove(&(due, id));
            node.closable.remove(&(due, id));
        }
    }

    /// All open batches are due now: memory is wanted, or a flush.
    pub(crate) fn handle_pressure(&mut self, now: Instant) {
        for (_, line) in std::mem::take(&mut self.lingering) {
            self.make_due(line, now);
        }
    }

    /// The open batch is to be closed when it can be sent, or when its time is over.
    fn make_due(&mut self, id: LineId, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(batch) = entry.open_batch.as_mut().filter(|batch| batch.due.is_none()) else { return };
        self.numbers += 1;
        batch.due = Some(self.numbers);
        self.expiring.insert((batch.deadline, id));
        let node = self.nodes.entry(entry.leader.unwrap_or(NOBODY)).or_default();
        node.due.insert((self.numbers, id));
        self.touch(id, now);
    }

    /// A batch can be sent.
    pub(crate) fn handle_sealed(&mut self, line: LineId, ticket: Ticket, now: Instant) {
        self.with(line, now, |line, _| line.handle_sealed(ticket));
    }

    /// A batch cannot be sent.
    pub(crate) fn handle_unsealed(&mut self, line: LineId, ticket: Ticket, error: Error, now: Instant) {
        self.with(line, now, |line, _| line.handle_unsealed(ticket, error));
    }

    /// The parts of a batch that was too large.
    pub(crate) fn handle_split(
        &mut self,
        line: LineId,
        ticket: Ticket,
        parts: Vec<(B, i32)>,
        now: Instant,
    ) -> Vec<Ticket> {
        self.with(line, now, |line, _| line.replace(ticket, parts)).unwrap_or_default()
    }

    /// What an attempt came to.
    pub(crate) fn handle_answer(&mut self, line: LineId, ticket: Ticket, answer: Answer, now: Instant) {
        self.with(line, now, |line, dice| line.handle_answer(ticket, answer, now, dice));
    }

    /// A request to a broker has ended, and all its batches were answered.
    pub(crate) fn handle_done(&mut self, broker: i32) {
        if let Some(node) = self.nodes.get_mut(&broker) {
            node.in_flight = node.in_flight.saturating_sub(1);
        }
    }

    /// Who leads the partition of a line now.
    pub(crate) fn handle_leader(&mut self, id: LineId, leader: Option<i32>, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.leader == leader {
            return;
        }
        let due = entry.open_batch.and_then(|batch| batch.due);
        let former = std::mem::replace(&mut entry.leader, leader).unwrap_or(NOBODY);
        let queued = entry.queued.take();
        if let Some(node) = self.nodes.get_mut(&former) {
            queued.map(|number| node.queue.remove(&(number, id)));
            if let Some(number) = due {
                node.due.remove(&(number, id));
                node.closable.remove(&(number, id));
            }
        }
        if let Some(number) = due {
            self.nodes.entry(leader.unwrap_or(NOBODY)).or_default().due.insert((number, id));
        }
        self.touch(id, now);
    }

    /// There is a connection to a broker, or none any more.
    pub(crate) fn handle_place(&mut self, broker: i32, place: Option<u64>, now: Instant) {
        let node = self.nodes.entry(broker).or_default();
        node.place = place;
        // What could not go before may go now.
        for (_, id) in std::mem::take(&mut node.queue) {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.queued = None;
            }
            self.touch(id, now);
        }
    }

    /// The producer's identity from now on.
    pub(crate) fn handle_identity(&mut self, identity: Option<Identity>, now: Instant) {
        self.identity = identity;
        for id in 0..self.entries.len() {
            self.touch(id, now);
        }
    }

    /// Whether a line may send.
    pub(crate) fn handle_gate(&mut self, id: LineId, open: bool, now: Instant) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.open = open;
        }
        self.touch(id, now);
    }

    /// Fails what is not in flight, and with `all` what is.
    pub(crate) fn fail(&mut self, error: &Error, all: bool, now: Instant) {
        for id in 0..self.entries.len() {
            self.with(id, now, |line, _| line.fail(error, all));
        }
    }

    /// Fails what is not in flight of one line.
    pub(crate) fn fail_line(&mut self, id: LineId, error: &Error, now: Instant) {
        self.with(id, now, |line, _| line.fail(error, false));
    }

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some(first) = self.lingering.first().copied().filter(|(at, _)| *at <= now) {
            self.lingering.remove(&first);
            self.make_due(first.1, now);
        }
        while let Some((at, id)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            self.alarms.remove(&(at, id));
            if let Some(entry) = self.entries.get_mut(id) {
                entry.alarm = None;
            }
            self.with(id, now, |line, _| line.handle_timeout(now));
        }
    }

    fn with<T>(
        &mut self,
        id: LineId,
        now: Instant,
        hear: impl FnOnce(&mut Line<B>, &mut Dice) -> T,
    ) -> Option<T> {
        let heard = hear(&mut self.entries.get_mut(id)?.line, &mut self.dice);
        self.told.insert(id);
        self.touch(id, now);
        Some(heard)
    }

    /// Puts a line where it belongs, after whatever happened to it.
    fn touch(&mut self, id: LineId, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Some(identity) = self.identity {
            // Another line may have got it before this one came to want it (P05).
            entry.line.handle_identity(identity);
        }
        match entry.line.wants_identity() {
            Some(_) => self.broken.insert(id),
            None => self.broken.remove(&id),
        };
        let waits = entry.line.waiting() > 0 || entry.open_batch.is_some_and(|batch| batch.due.is_some());
        if waits && entry.leader.is_none() {
            self.wishes |= self.homeless.insert(id);
        } else {
            self.homeless.remove(&id);
        }
        if let Some(at) = entry.line.poll_timeout(now) {
            self.set_alarm(id, at);
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        if let Some(number) = entry.open_batch.and_then(|batch| batch.due) {
            let node = self.nodes.entry(entry.leader.unwrap_or(NOBODY)).or_default();
            if entry.open && entry.line.waiting() == 0 {
                node.closable.insert((number, id));
            } else {
                node.closable.remove(&(number, id));
            }
        }
        let Some(leader) = entry.leader.filter(|_| entry.open && entry.queued.is_none()) else { return };
        let node = self.nodes.entry(leader).or_default();
        // Without a connection it waits in the queue, which is why one is made.
        let sendable = match node.place {
            Some(place) => entry.line.is_sendable(now, place, self.identity),
            None => entry.line.waiting() > 0 && entry.line.in_flight() == 0,
        };
        if sendable {
            self.numbers += 1;
            entry.queued = Some(self.numbers);
            node.queue.insert((self.numbers, id));
        }
    }

    fn set_alarm(&mut self, id: LineId, at: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.alarm.is_none_or(|alarm| at < alarm) {
            if let Some(former) = entry.alarm.replace(at) {
                self.alarms.remove(&(former, id));
            }
            self.alarms.insert((at, id));
        }
    }

    /// A line whose open batch is to be closed now: its broker can take it, or its time is over.
    pub(crate) fn poll_close(&mut self, now: Instant) -> Option<LineId> {
        let late = self.expiring.first().filter(|(at, _)| *at <= now).map(|(_, id)| *id);
        let id = late.or_else(|| self.nodes.values().find_map(|node| self.closable(node)))?;
        self.forget_open(id);
        Some(id)
    }

    /// A line whose open batch this broker can take. What waits already goes first, and the open batch grows.
    fn closable(&self, node: &Node) -> Option<LineId> {
        if node.place.is_none() || node.in_flight >= self.limits.in_flight_max {
            return None;
        }
        node.closable.first().map(|(_, id)| *id)
    }

    /// The next request: `None` if no broker can take one.
    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Outgoing> {
        let after = self.turn;
        let turns = self.nodes.keys().copied().filter(|id| Some(*id) > after);
        let turns: Vec<i32> =
            turns.chain(self.nodes.keys().copied().filter(|id| Some(*id) <= after)).collect();
        turns.into_iter().find_map(|broker| {
            let outgoing = self.request_to(broker, now)?;
            self.turn = Some(broker);
            Some(outgoing)
        })
    }

    fn request_to(&mut self, broker: i32, now: Instant) -> Option<Outgoing> {
        let node = self.nodes.get_mut(&broker)?;
        let place = node.place?;
        if node.in_flight >= self.limits.in_flight_max {
            return None;
        }
        let mut items = Vec::new();
        let mut size = 0_usize;
        let mut again = Vec::new();
        while let Some((number, id)) = node.queue.first().copied() {
            let Some(entry) = self.entries.get_mut(id) else { break };
            if !entry.open {
                // It comes again when it is opened.
                node.queue.remove(&(number, id));
                entry.queued = None;
                continue;
            }
            let next = entry.line.peek(now, place, self.identity).map_or(0, Weighed::size);
            if size > 0 && size.saturating_add(next) > self.limits.request_size_max {
                break;
            }
            node.queue.remove(&(number, id));
            entry.queued = None;
            if let Some(sending) = entry.line.poll_send(now, place, self.identity) {
                size = size.saturating_add(sending.batch.size());
                items.push(Item { line: id, ticket: sending.ticket, stamp: sending.stamp });
            }
            // It comes back behind all others, with its next batch, once this request is complete.
            again.push(id);
        }
        if !items.is_empty() {
            node.in_flight += 1;
        }
        for id in again {
            self.touch(id, now);
        }
        (!items.is_empty()).then_some(Outgoing { broker, place, items })
    }

    /// The batch of an item.
    pub(crate) fn batch_mut(&mut self, line: LineId, ticket: Ticket) -> Option<&mut B> {
        self.entries.get_mut(line)?.line.batch_mut(ticket)
    }

    /// What has become of batches.
    pub(crate) fn poll_event(&mut self) -> Option<(LineId, Event<B>)> {
        while let Some(id) = self.told.first().copied() {
            if let Some(event) = self.entries.get_mut(id).and_then(|entry| entry.line.poll_event()) {
                return Some((id, event));
            }
            self.told.remove(&id);
        }
        None
    }

    /// Whether another line has come to want a leader since this was asked last.
    pub(crate) fn take_wishes(&mut self) -> bool {
        std::mem::take(&mut self.wishes)
    }

    /// The brokers to which a connection is wanted.
    pub(crate) fn wanted_brokers(&self) -> impl Iterator<Item = i32> {
        let wanting = |(id, node): &(&i32, &Node)| {
            **id != NOBODY && node.place.is_none() && !(node.queue.is_empty() && node.due.is_empty())
        };
        self.nodes.iter().filter(wanting).map(|(id, _)| *id)
    }

    /// The lines that have something to send and no leader.
    pub(crate) fn homeless(&self) -> impl Iterator<Item = LineId> {
        self.homeless.iter().copied()
    }

    /// Lines that wait for another identity than the present one.
    pub(crate) fn wants_identity(&self) -> bool {
        !self.broken.is_empty()
    }

    /// Why a line waits for another identity, if one does.
    pub(crate) fn trouble(&self) -> Option<Error> {
        let line = &self.entries.get(*self.broken.first()?)?.line;
        let lost = || Error::io("sequence numbers of a partition were lost");
        Some(line.error().cloned().unwrap_or_else(lost))
    }

    /// Whether there is work that waits for an identity.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.identity
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let sets = [&self.lingering, &self.expiring, &self.alarms];
        sets.into_iter().filter_map(|set| set.first().map(|(at, _)| *at)).min()
    }

    /// Requests in flight, to all brokers.
    pub(crate) fn in_flight(&self) -> usize {
        self.nodes.values().map(|node| node.in_flight).sum()
    }

    /// How many batches wait on a line, for the choice among partitions.
    pub(crate) fn load(&self, line: LineId) -> usize {
        self.entries.get(line).map_or(0, |entry| entry.line.len())
    }

    /// Whether a line has had something to send for so long without sending it.
    pub(crate) fn is_stuck(&self, line: LineId, now: Instant, patience: Duration) -> bool {
        let Some(entry) = self.entries.get(line) else { return false };
        entry.line.waiting_since().is_some_and(|since| now.saturating_duration_since(since) >= patience)
    }

    /// Whether no batch is left that was closed.
    pub(crate) fn is_idle(&self) -> bool {
        self.entries.iter().all(|entry| entry.line.len() == 0)
    }
}

#[cfg(test)]
mod tests;
