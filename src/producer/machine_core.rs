//! All lines of a producer, and what goes to which broker next. Pure: the pump gives it events and the time,
//! and drains requests, ends and wishes.
//!
//! A line that has something to send waits in the queue of its leader. A request takes one batch of each line
//! in the queue, in turn, up to its size; a broker has several requests in flight. An open batch whose linger
//! is over is closed when its broker can take it, and not before: until then it grows.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use super::machine_identity::Identity;
use super::machine_line::{Answer, Event, Line, Rules, Stamped, Ticket};
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
    /// It is in its leader's queue.
    queued: bool,
    /// It waits for its leader to be known.
    homeless: bool,
    /// Whether it may send at all: in a transaction, once the coordinator knows of it.
    open: bool,
    /// The earliest alarm that is set for it.
    alarm: Option<Instant>,
    /// Counts batches that were opened and closed; odd while there is an open one.
    openings: u64,
    /// Since when it has an open batch that should be closed when there is room.
    due: Option<Instant>,
}

/// Stands for the leader of partitions that have none.
const NOBODY: i32 = -1;

/// A broker, as producers see it.
#[derive(Debug, Default)]
struct Node {
    /// Names the connection; none while there is none.
    place: Option<u64>,
    in_flight: usize,
    queue: VecDeque<LineId>,
    /// Lines with open batches that are due, and since when.
    due: VecDeque<(Instant, LineId)>,
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
    nodes: BTreeMap<i32, Node>,
    /// Whose turn it is.
    turn: Option<i32>,
    identity: Option<Identity>,
    /// Open batches and when their linger is over, in that order, with the number of the opening.
    lingering: VecDeque<(Instant, LineId, u64)>,
    alarms: BinaryHeap<Reverse<(Instant, LineId)>>,
    /// Lines with batches that have no leader.
    homeless: BTreeSet<LineId>,
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
            nodes: BTreeMap::new(),
            turn: None,
            identity: None,
            lingering: VecDeque::new(),
            alarms: BinaryHeap::new(),
            homeless: BTreeSet::new(),
            broken: BTreeSet::new(),
            told: BTreeSet::new(),
            dice: Dice::new(seed),
        }
    }

    /// A line for one more partition.
    pub(crate) fn add_line(&mut self, open: bool) -> LineId {
        self.entries.push(Entry {
            line: Line::new(self.limits.rules),
            leader: None,
            queued: false,
            homeless: false,
            open,
            alarm: None,
            openings: 0,
            due: None,
        });
        self.entries.len() - 1
    }

    /// A batch was opened.
    pub(crate) fn handle_opened(&mut self, line: LineId, now: Instant) {
        let Some(entry) = self.entries.get_mut(line) else { return };
        entry.openings += 1;
        if self.limits.linger.is_zero() {
            self.make_due(line, now);
        } else {
            let openings = entry.openings;
            self.lingering.push_back((now + self.limits.linger, line, openings));
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
        let entry = self.entries.get_mut(line)?;
        entry.due = None;
        entry.openings += 1;
        Some(entry.line.push(batch, count, opened, deadline))
    }

    /// All open batches are due now: memory is wanted, or a flush.
    pub(crate) fn handle_pressure(&mut self, now: Instant) {
        for (_, line, openings) in std::mem::take(&mut self.lingering) {
            self.linger_over(line, openings, now);
        }
    }

    fn linger_over(&mut self, line: LineId, openings: u64, now: Instant) {
        // It may be another batch by now.
        if self.entries.get(line).is_some_and(|entry| entry.openings == openings) {
            self.make_due(line, now);
        }
    }

    fn make_due(&mut self, line: LineId, now: Instant) {
        let Some(entry) = self.entries.get_mut(line) else { return };
        if entry.due.is_some() {
            return;
        }
        entry.due = Some(now);
        let leader = entry.leader;
        self.nodes.entry(leader.unwrap_or(NOBODY)).or_default().due.push_back((now, line));
        if leader.is_none() {
            self.miss(line);
        }
        // It is closed when it can be sent, or when its time is over.
        self.set_alarm(line, now + self.limits.delivery_timeout);
    }

    /// It has no leader.
    fn miss(&mut self, line: LineId) {
        if let Some(entry) = self.entries.get_mut(line) {
            entry.homeless = true;
            self.homeless.insert(line);
        }
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
    pub(crate) fn handle_split(&mut self, line: LineId, ticket: Ticket, parts: Vec<(B, i32)>, now: Instant) -> Vec<Ticket> {
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
        if entry.leader == leader && !entry.homeless {
            return;
        }
        entry.leader = leader;
        entry.queued = false;
        let due = entry.due;
        if leader.is_some() {
            entry.homeless = false;
            self.homeless.remove(&id);
        }
        if let Some(since) = due {
            self.nodes.entry(leader.unwrap_or(NOBODY)).or_default().due.push_back((since, id));
            if leader.is_none() {
                self.miss(id);
            }
        }
        self.touch(id, now);
    }

    /// There is a connection to a broker, or none any more.
    pub(crate) fn handle_place(&mut self, broker: i32, place: Option<u64>, now: Instant) {
        let node = self.nodes.entry(broker).or_default();
        node.place = place;
        // What could not go before may go now.
        for id in std::mem::take(&mut node.queue) {
            if let Some(entry) = self.entries.get_mut(id) {
                entry.queued = false;
            }
            self.touch(id, now);
        }
    }

    /// The producer's identity from now on.
    pub(crate) fn handle_identity(&mut self, identity: Option<Identity>, now: Instant) {
        self.identity = identity;
        self.broken.clear();
        for id in 0..self.entries.len() {
            if let (Some(entry), Some(identity)) = (self.entries.get_mut(id), identity) {
                entry.line.handle_identity(identity);
            }
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

    /// Time has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, line, openings)) = self.lingering.front().copied().filter(|(at, ..)| *at <= now) {
            self.lingering.pop_front();
            self.linger_over(line, openings, now);
        }
        while let Some(Reverse((at, id))) = self.alarms.peek().copied().filter(|Reverse((at, _))| *at <= now) {
            self.alarms.pop();
            if let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.alarm == Some(at)) {
                entry.alarm = None;
                self.with(id, now, |line, _| line.handle_timeout(now));
            }
        }
    }

    fn with<T>(&mut self, id: LineId, now: Instant, hear: impl FnOnce(&mut Line<B>, &mut Dice) -> T) -> Option<T> {
        let heard = hear(&mut self.entries.get_mut(id)?.line, &mut self.dice);
        self.told.insert(id);
        self.touch(id, now);
        Some(heard)
    }

    /// Puts a line where it belongs, after whatever happened to it.
    fn touch(&mut self, id: LineId, now: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.line.wants_identity().is_some() {
            self.broken.insert(id);
        }
        if let Some(at) = entry.line.poll_timeout(now) {
            self.set_alarm(id, at);
        }
        let Some(entry) = self.entries.get_mut(id) else { return };
        let Some(leader) = entry.leader else {
            if entry.line.waiting() > 0 {
                self.miss(id);
            }
            return;
        };
        if entry.queued || !entry.open {
            return;
        }
        let node = self.nodes.entry(leader).or_default();
        // Without a connection it waits in the queue, which is why one is made.
        let sendable = match node.place {
            Some(place) => entry.line.is_sendable(now, place, self.identity),
            None => entry.line.waiting() > 0 && entry.line.in_flight() == 0,
        };
        if sendable {
            entry.queued = true;
            node.queue.push_back(id);
        }
    }

    fn set_alarm(&mut self, id: LineId, at: Instant) {
        let Some(entry) = self.entries.get_mut(id) else { return };
        if entry.alarm.is_none_or(|alarm| at < alarm) {
            entry.alarm = Some(at);
            self.alarms.push(Reverse((at, id)));
        }
    }

    /// A line whose open batch is to be closed now: its broker can take it, or its time is over.
    pub(crate) fn poll_close(&mut self, now: Instant) -> Option<LineId> {
        let Limits { in_flight_max, delivery_timeout, .. } = self.limits;
        for (broker, node) in &mut self.nodes {
            let room = node.place.is_some() && node.in_flight < in_flight_max;
            let late = |since: Instant| now >= since + delivery_timeout;
            if !room && !node.due.front().is_some_and(|(since, _)| late(*since)) {
                continue;
            }
            for _ in 0..node.due.len() {
                let Some((since, id)) = node.due.pop_front() else { break };
                let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.due == Some(since)) else {
                    continue;
                };
                if entry.leader.unwrap_or(NOBODY) != *broker {
                    continue;
                }
                // What waits already goes first, and the open batch grows.
                if (room && entry.open && entry.line.waiting() == 0) || late(since) {
                    entry.due = None;
                    return Some(id);
                }
                node.due.push_back((since, id));
            }
        }
        None
    }

    /// The next request: `None` if no broker can take one.
    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Outgoing> {
        let after = self.turn;
        let turns = self.nodes.keys().copied().filter(|id| Some(*id) > after);
        let turns: Vec<i32> = turns.chain(self.nodes.keys().copied().filter(|id| Some(*id) <= after)).collect();
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
        for _ in 0..node.queue.len() {
            let Some(id) = node.queue.pop_front() else { break };
            let Some(entry) = self.entries.get_mut(id) else { continue };
            if entry.leader != Some(broker) {
                continue;
            }
            if !entry.open {
                // It comes again when it is opened.
                entry.queued = false;
                continue;
            }
            let next = entry.line.peek(now, place, self.identity).map_or(0, Weighed::size);
            if size > 0 && size.saturating_add(next) > self.limits.request_size_max {
                node.queue.push_front(id);
                break;
            }
            entry.queued = false;
            if let Some(sending) = entry.line.poll_send(now, place, self.identity) {
                size = size.saturating_add(sending.batch.size());
                items.push(Item { line: id, ticket: sending.ticket, stamp: sending.stamp });
            }
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

    /// The brokers to which a connection is wanted.
    pub(crate) fn wanted_brokers(&self) -> impl Iterator<Item = i32> {
        let wanting = |(id, node): &(&i32, &Node)| **id != NOBODY && node.place.is_none() && !(node.queue.is_empty() && node.due.is_empty());
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
        let lingering = self.lingering.front().map(|(at, ..)| *at);
        let alarm = self.alarms.peek().map(|Reverse((at, _))| *at);
        lingering.into_iter().chain(alarm).min()
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
