//! The rules in force and how often each struck: one table for all links of a proxy, so that "the third
//! Produce" means the third of all.
//!
//! Pure. Chance is drawn from the seed, the rule and the number of the occasion, so it depends neither on
//! other rules nor on how the bytes came.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::frames::Frame;
use crate::proxy::RuleId;
use crate::proxy::log::{EventKind, Log};
use crate::proxy::rule::{At, BadRule, Direction, End, Fault, Point, Rule};

/// Rules that a proxy can have at a time.
const RULES_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct Rules {
    seed: u64,
    last: u64,
    table: BTreeMap<RuleId, Entry>,
    /// Open links, with the end that was ordered for them.
    links: BTreeMap<u64, Option<End>>,
    links_opened: u64,
    generation: u64,
    pub(crate) log: Log,
}

#[derive(Debug)]
struct Entry {
    rule: Rule,
    phase: Phase,
    seen: u64,
    struck: u64,
    /// Links that were struck as a whole.
    links: BTreeSet<u64>,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Waits { until: Instant },
    InForce { until: Option<Instant> },
}

/// A fault that is due at a point of a frame that begins.
#[derive(Debug)]
pub(crate) struct Due {
    pub(crate) rule: RuleId,
    pub(crate) fault: Fault,
    /// From the frame's first byte.
    pub(crate) offset: u64,
}

impl Rules {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.seed = seed;
    }

    /// Rises whenever links may have to look again.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    pub(crate) fn add(&mut self, rule: Rule, now: Instant) -> Result<RuleId, BadRule> {
        rule.check()?;
        if self.table.len() == RULES_MAX {
            return Err(too_many());
        }
        self.last += 1;
        let id = RuleId(self.last);
        let phase = Phase::Waits { until: now + Duration::from_millis(rule.start_ms) };
        self.table.insert(id, Entry { rule, phase, seen: 0, struck: 0, links: BTreeSet::new() });
        self.advance(now);
        Ok(id)
    }

    /// Adds all of them or none.
    pub(crate) fn add_all(&mut self, rules: &[Rule], now: Instant) -> Result<Vec<RuleId>, BadRule> {
        rules.iter().try_for_each(Rule::check)?;
        if self.table.len() + rules.len() > RULES_MAX {
            return Err(too_many());
        }
        rules.iter().map(|rule| self.add(rule.clone(), now)).collect()
    }

    pub(crate) fn remove(&mut self, id: RuleId) -> bool {
        self.generation += 1;
        self.table.remove(&id).is_some()
    }

    pub(crate) fn clear(&mut self) {
        self.generation += 1;
        self.table.clear();
    }

    /// Begins and ends what is due.
    pub(crate) fn advance(&mut self, now: Instant) {
        let before = self.table.len();
        self.table.retain(|_, entry| entry.ends().is_none_or(|until| until > now));
        let mut changed = self.table.len() != before;
        let links: Vec<u64> = self.links.keys().copied().collect();
        for (id, entry) in &mut self.table {
            let Phase::Waits { until } = entry.phase else { continue };
            if until > now {
                continue;
            }
            let until = entry.rule.for_ms.map(|ms| until + Duration::from_millis(ms));
            entry.phase = Phase::InForce { until };
            changed = true;
            for link in &links {
                entry.meet(self.seed, *id, *link, now, &mut self.log);
            }
        }
        self.generation += u64::from(changed);
    }

    /// When [`Rules::advance`] has something to do next.
    pub(crate) fn next_change(&self) -> Option<Instant> {
        let next = self.table.values().filter_map(|entry| match entry.phase {
            Phase::Waits { until } => Some(until),
            Phase::InForce { until } => until,
        });
        next.min()
    }

    /// A client connected: the number of its link.
    pub(crate) fn open_link(&mut self, now: Instant) -> u64 {
        self.links_opened += 1;
        let link = self.links_opened;
        self.log.add(now, link, EventKind::Opened);
        self.links.insert(link, None);
        for (id, entry) in &mut self.table {
            if matches!(entry.phase, Phase::InForce { .. }) {
                entry.meet(self.seed, *id, link, now, &mut self.log);
            }
        }
        link
    }

    pub(crate) fn close_link(&mut self, link: u64, end: Option<End>, now: Instant) {
        self.links.remove(&link);
        for entry in self.table.values_mut() {
            entry.links.remove(&link);
        }
        self.log.add(now, link, EventKind::Closed(end));
    }

    pub(crate) fn links_open(&self) -> usize {
        self.links.len()
    }

    /// Orders the end of every link that is open now.
    pub(crate) fn cut_open(&mut self, end: End) {
        self.generation += 1;
        for order in self.links.values_mut() {
            *order = Some(end);
        }
    }

    /// The end that was ordered for this link.
    pub(crate) fn cut_of(&self, link: u64) -> Option<End> {
        self.links.get(&link).copied().flatten()
    }

    /// Whether new connections are refused.
    pub(crate) fn refuses(&self) -> bool {
        let mut in_force = self.table.values().filter(|entry| matches!(entry.phase, Phase::InForce { .. }));
        in_force.any(|entry| entry.rule.fault == Fault::Refuse)
    }

    pub(crate) fn has(&self, id: RuleId) -> bool {
        self.table.contains_key(&id)
    }

    /// The rules that struck this link as a whole, oldest first.
    pub(crate) fn of_link(&self, link: u64) -> impl Iterator<Item = (RuleId, &Rule)> {
        let struck = self.table.iter().filter(move |(_, entry)| entry.links.contains(&link));
        struck.map(|(id, entry)| (*id, &entry.rule))
    }

    /// What is to happen at a frame that begins; each rule is asked once, and remembers.
    pub(crate) fn of_frame(&mut self, link: u64, direction: Direction, frame: &Frame) -> Vec<Due> {
        let mut due = Vec::new();
        for (id, entry) in &mut self.table {
            let At::Frame { api, point } = entry.rule.at else { continue };
            let offset = match point {
                Point::Start => 0,
                Point::Byte(offset) => offset,
                Point::End => frame.size,
            };
            if matches!(entry.phase, Phase::InForce { .. })
                && entry.rule.way.covers(direction)
                && entry.rule.link.is_none_or(|only| only == link)
                && (api.is_none() || api == frame.api)
                && (point == Point::End || offset < frame.size)
                && entry.strikes(self.seed, *id)
            {
                due.push(Due { rule: *id, fault: entry.rule.fault.clone(), offset });
            }
        }
        due
    }
}

impl Entry {
    fn ends(&self) -> Option<Instant> {
        match self.phase {
            Phase::Waits { .. } => None,
            Phase::InForce { until } => until,
        }
    }

    /// A link is open while the rule is in force: an occasion, if the rule is about links or their bytes.
    fn meet(&mut self, seed: u64, id: RuleId, link: u64, now: Instant, log: &mut Log) {
        let concerns = match self.rule.at {
            At::Link => self.rule.fault != Fault::Refuse,
            At::Byte { .. } => true,
            At::Frame { .. } => false,
        };
        if !concerns || self.rule.link.is_some_and(|only| only != link) || !self.strikes(seed, id) {
            return;
        }
        self.links.insert(link);
        // A byte is told of when it comes.
        if self.rule.at == At::Link {
            let kind = EventKind::Fault { rule: id, direction: None, api: None, correlation: None };
            log.add(now, link, kind);
        }
    }

    /// Counts an occasion and decides it.
    fn strikes(&mut self, seed: u64, id: RuleId) -> bool {
        self.seen += 1;
        let strikes = self.seen > self.rule.skip
            && self.rule.times.is_none_or(|times| self.struck < times)
            && share(draw(seed, id.0, self.seen)) < self.rule.chance;
        self.struck += u64::from(strikes);
        strikes
    }
}

fn too_many() -> BadRule {
    BadRule(format!("more than {RULES_MAX} rules at a time"))
}

/// A number that looks drawn by chance and follows from the three: splitmix64 over each in turn.
pub(crate) fn draw(seed: u64, of: u64, nth: u64) -> u64 {
    [of, nth].into_iter().fold(mix(seed), |state, next| mix(state ^ mix(next)))
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// From 0 up to, and never, 1: so a chance of 1 always strikes, and 0 never.
#[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
fn share(drawn: u64) -> f64 {
    // 53 bits are what a double holds exactly.
    (drawn >> 11) as f64 / (1u64 << 53) as f64
}
