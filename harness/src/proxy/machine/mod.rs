//! One link through the proxy as a machine: bytes that came, time and rules in; bytes to write, ends and
//! cuts out. No socket, no clock, no chance of its own.
//!
//! The driver gives it one input (`handle_*`), then takes what `Link::poll` has for each direction until it
//! has nothing, then waits for a socket, for `Link::timeout` or for a change of the rules.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::proxy::RuleId;
use crate::proxy::log::EventKind;
use crate::proxy::rule::{At, Direction, End, Fault};

/// One direction: its queue, marks and standing faults.
mod flow;
/// Where frames begin and end, and whose they are.
mod frames;
/// The table of rules.
mod rules;
/// Frames for tests.
#[cfg(test)]
pub(super) mod wire;

use flow::{Flow, Mark, Standing};
use frames::{Frames, Pair, Part};
pub(super) use rules::Rules;

pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Requests, Direction::Responses];

/// What the driver is to do next in a direction.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Out {
    /// Write these to the receiver.
    Bytes(Bytes),
    /// Tell the receiver that no more comes.
    Finish,
    /// End the link both ways.
    Cut(End),
}

#[derive(Debug)]
pub(super) struct Link {
    id: u64,
    frames: Frames,
    flows: Pair<Flow>,
    /// Rules that this link met already.
    known: BTreeSet<RuleId>,
    generation: Option<u64>,
    cut: Option<End>,
}

impl Link {
    /// A link that [`Rules::open_link`] numbered.
    pub(super) fn new(id: u64, rules: &mut Rules, now: Instant) -> Self {
        let flow = || Flow::new(rules.seed(), id);
        let flows = Pair { requests: flow(), responses: flow() };
        let mut link = Self {
            id,
            frames: Frames::default(),
            flows,
            known: BTreeSet::new(),
            generation: None,
            cut: None,
        };
        link.handle_rules(rules, now);
        link
    }

    /// Whether to read in this direction. While not, the sender's bytes stay where they are.
    pub(super) fn wants_bytes(&self, direction: Direction) -> bool {
        self.flows.of(direction).wants_bytes()
    }

    /// Bytes came.
    pub(super) fn handle_bytes(
        &mut self,
        rules: &mut Rules,
        direction: Direction,
        mut bytes: Bytes,
        now: Instant,
    ) {
        self.handle_rules(rules, now);
        while let Some(part) = self.frames.next(direction, &mut bytes) {
            self.pass(rules, direction, part, now);
        }
    }

    /// The sender of this direction closed its side.
    pub(super) fn handle_end(&mut self, rules: &mut Rules, direction: Direction, now: Instant) {
        self.handle_rules(rules, now);
        if let Some(rest) = self.frames.rest(direction) {
            self.pass(rules, direction, rest, now);
        }
        self.flows.of_mut(direction).end(now);
    }

    /// The sender's connection broke.
    pub(super) fn handle_reset(&mut self, rules: &mut Rules, direction: Direction, now: Instant) {
        self.handle_rules(rules, now);
        self.flows.of_mut(direction).break_off(now);
    }

    /// Looks at the rules again if they changed.
    pub(super) fn handle_rules(&mut self, rules: &mut Rules, now: Instant) {
        if self.generation == Some(rules.generation()) {
            return;
        }
        self.generation = Some(rules.generation());
        self.cut = self.cut.or(rules.cut_of(self.id));
        let met = rules.of_link(self.id).map(|(id, _)| id).collect();
        let known = std::mem::replace(&mut self.known, met);
        for direction in DIRECTIONS {
            let flow = self.flows.of_mut(direction);
            let was_in_hole = flow.in_hole();
            flow.standing = standing(rules, self.id, direction);
            if flow.settle(was_in_hole, |rule| rules.has(rule), now) {
                self.cut = Some(End::Reset);
            }
            for (id, rule) in rules.of_link(self.id) {
                // The table tells of rules that strike a link as a whole.
                let (at, told) = match rule.at {
                    At::Byte { offset } => (offset, false),
                    At::Link if matches!(rule.fault, Fault::Cut(_) | Fault::HalfClose) => {
                        (flow.position(), true)
                    }
                    _ => continue,
                };
                let new = !known.contains(&id) && rule.way.covers(direction);
                if new && at >= flow.position() {
                    let fault = rule.fault.clone();
                    flow.mark(Mark { rule: id, fault, at, api: None, correlation: None, size: 0, told });
                }
            }
            self.strike(rules, direction, now);
        }
    }

    /// Whether the link is to end at once, whatever waits.
    pub(super) fn cut(&self) -> Option<End> {
        self.cut
    }

    /// What to do in this direction now. Ask again until there is nothing.
    pub(super) fn poll(&mut self, direction: Direction, now: Instant) -> Option<Out> {
        self.flows.of_mut(direction).poll(now)
    }

    /// When to poll again if nothing else happens before.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let timeouts = DIRECTIONS.into_iter().filter_map(|direction| self.flows.of(direction).timeout());
        timeouts.min()
    }

    /// Whether both sides are done with each other.
    pub(super) fn over(&self) -> bool {
        let (there, back) = (&self.flows.requests, &self.flows.responses);
        let done = |flow: &Flow| flow.finished() || (flow.ended() && flow.in_hole());
        done(there) && done(back)
    }

    /// Passes bytes on, stopping at each mark.
    fn pass(&mut self, rules: &mut Rules, direction: Direction, part: Part, now: Instant) {
        let Part { opens, mut bytes, ends } = part;
        if let Some(frame) = opens {
            rules.log.count(direction, frame.api);
            let start = self.flows.of(direction).position();
            for due in rules.of_frame(self.id, direction, &frame) {
                let (api, correlation, size) = (frame.api, frame.correlation, frame.size);
                let at = start.saturating_add(due.offset);
                let (rule, fault) = (due.rule, due.fault);
                let mark = Mark { rule, fault, at, api, correlation, size, told: false };
                self.flows.of_mut(direction).mark(mark);
            }
        }
        loop {
            self.strike(rules, direction, now);
            if bytes.is_empty() {
                break;
            }
            let flow = self.flows.of_mut(direction);
            let before = bytes.split_to(flow.before_mark(bytes.len()));
            flow.push(before, now);
        }
        if ends {
            self.flows.of_mut(direction).end_frame();
        }
    }

    /// The faults whose byte is reached.
    fn strike(&mut self, rules: &mut Rules, direction: Direction, now: Instant) {
        while let Some(mark) = self.flows.of_mut(direction).due_mark() {
            let (rule, api, correlation) = (mark.rule, mark.api, mark.correlation);
            if !mark.told {
                let kind = EventKind::Fault { rule, direction: Some(direction), api, correlation };
                rules.log.add(now, self.id, kind);
            }
            if mark.fault == (Fault::BlackHole { both: true }) {
                for direction in DIRECTIONS {
                    self.flows.of_mut(direction).hole = Some(rule);
                }
            }
            self.flows.of_mut(direction).strike(mark, now);
        }
    }
}

/// The faults that concern all bytes of this link's direction.
fn standing(rules: &Rules, link: u64, direction: Direction) -> Standing {
    let mut standing = Standing::default();
    for (_, rule) in rules.of_link(link) {
        if rule.at != At::Link {
            continue;
        }
        let covers = rule.way.covers(direction);
        match rule.fault {
            Fault::BlackHole { both } => standing.hole |= covers || both,
            _ if !covers => {}
            Fault::Delay { ms, jitter_ms } => {
                standing.delays.push((Duration::from_millis(ms), Duration::from_millis(jitter_ms)));
            }
            Fault::Bandwidth { bytes_per_second } => {
                let least = standing.rate.map_or(bytes_per_second, |rate| rate.min(bytes_per_second));
                standing.rate = Some(least);
            }
            Fault::Slice { bytes, pause_ms } => {
                let pause = Duration::from_millis(pause_ms);
                let (least, longest) = standing.slice.unwrap_or((bytes, pause));
                standing.slice = Some((least.min(bytes), longest.max(pause)));
            }
            Fault::Hold => standing.hold = true,
            _ => {}
        }
    }
    standing
}
