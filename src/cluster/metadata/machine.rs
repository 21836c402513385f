//! When to ask whom for metadata, and for what.
//!
//! One request is in flight at most. It starts when somebody wants a topic that was not asked for yet,
//! when an error says that something has moved, or at an age; and never sooner after the last one than a
//! backoff that grows while requests fail or bring nothing new. An error that comes while a request is in
//! flight may be newer than its answer, so that another refresh follows. Who is asked: the known broker with the
//! least to do; after a failure another one; when no known broker answers, or none has for five minutes,
//! the bootstrap addresses again (KIP-899, KIP-1102).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hints::{Hints, apply};
use super::index::{Indexed, Scope};
use super::snapshot::{Broker, Snapshot, TopicKey};
use crate::cluster::backoff::Backoff;
use crate::conn::Dice;
use crate::conn::Target;
use crate::observe::{Event, Refreshed};
use crate::{Error, ErrorCode};

/// Hints kept while an answer is read; those beyond are applied all the same, but may be lost with it.
const LATE_MAX: usize = 1000;

/// Settings. The defaults are Java's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// How old metadata may be before it is asked for without a reason (`metadata.max.age.ms`).
    pub(crate) max_age: Duration,
    /// After how long without use a topic is not asked for any more (`metadata.max.idle.ms`).
    pub(crate) max_idle: Duration,
    pub(crate) backoff: Backoff,
    /// Whether to go back to the bootstrap addresses when no known broker answers
    /// (`metadata.recovery.strategy`).
    pub(crate) rebootstrap: bool,
    /// After how long without metadata to go back to them (`metadata.recovery.rebootstrap.trigger.ms`).
    pub(crate) rebootstrap_trigger: Duration,
    /// Whether asking for a topic may create it, where the broker allows that.
    pub(crate) auto_create_topics: bool,
    /// For how long a topic that brokers do not know any more is kept as it was.
    pub(crate) forget_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_age: Duration::from_mins(5),
            max_idle: Duration::from_mins(5),
            backoff: Backoff::default(),
            rebootstrap: true,
            rebootstrap_trigger: Duration::from_mins(5),
            auto_create_topics: false,
            forget_after: Duration::from_secs(30),
        }
    }
}

/// A request that is to be sent now. Each is ended by one of the `handle_` methods that take its ticket.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) ticket: u64,
    pub(crate) target: Target,
    pub(crate) scope: Scope,
    /// What the answer is to be read on top of.
    pub(crate) base: Arc<Snapshot>,
}

/// Whom to ask next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Search {
    /// The brokers that are known.
    Known,
    /// The bootstrap addresses, of which so many are left to be tried.
    Bootstrap { left: usize },
}

/// What was asked whom.
#[derive(Debug, Clone, Copy)]
struct Flight {
    ticket: u64,
    target: Target,
    /// All that is wanted, and not only what is new.
    full: bool,
}

#[derive(Debug)]
pub(crate) struct Machine {
    config: Config,
    dice: Dice,
    snapshot: Arc<Snapshot>,
    /// Topics that somebody uses, and until when they count as used.
    wanted: BTreeMap<TopicKey, Instant>,
    /// Those of them that were never asked for, and since when they are wanted.
    added: BTreeMap<TopicKey, Instant>,
    all: bool,
    /// Since when a refresh is asked for that was not sent yet: something has moved, or nothing was ever known.
    asked: Option<Instant>,
    in_flight: Option<Flight>,
    tickets: u64,
    /// Refreshes of all that is wanted that were sent, and how many of them have ended, well or not.
    sent: u64,
    refreshed: u64,
    /// Requests that have ended, well or not.
    rounds: u64,
    /// In a row, since the last success.
    failures: u32,
    /// Successes in a row that brought nothing new.
    futile: u32,
    not_before: Option<Instant>,
    updated: Option<Instant>,
    /// Since when it is tried in vain.
    trying: Option<Instant>,
    search: Search,
    bootstraps: usize,
    next_bootstrap: usize,
    /// Brokers that could not be reached since they last answered.
    failed: BTreeSet<i32>,
    /// Hints that came while an answer is on its way or being read.
    late: Hints,
    /// Why the last request failed, until one succeeds.
    error: Option<Error>,
    events: VecDeque<Event>,
}

impl Machine {
    /// With so many bootstrap addresses, of which there must be one. The seed spreads who is asked first.
    pub(crate) fn new(config: Config, bootstraps: usize, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        Self {
            config,
            snapshot: Arc::default(),
            wanted: BTreeMap::new(),
            added: BTreeMap::new(),
            all: false,
            asked: None,
            in_flight: None,
            tickets: 0,
            sent: 0,
            refreshed: 0,
            rounds: 0,
            failures: 0,
            futile: 0,
            not_before: None,
            updated: None,
            trying: None,
            search: Search::Known,
            bootstraps,
            next_bootstrap: dice.below(bootstraps),
            failed: BTreeSet::new(),
            late: Hints::default(),
            error: None,
            events: VecDeque::new(),
            dice,
        }
    }

    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Why there is nothing newer, if the last request failed.
    pub(crate) fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Whether there is a topic that was never asked for.
    pub(crate) fn has_added(&self) -> bool {
        !self.added.is_empty()
    }

    /// Why there will never be metadata, as it seems: none was ever had, all bootstrap addresses were
    /// tried, and the last one failed in a way that another attempt would not change.
    pub(crate) fn hopeless(&self) -> Option<&Error> {
        let tried = self.updated.is_none() && self.failures as usize >= self.bootstraps;
        self.error.as_ref().filter(|error| tried && !error.is_retriable())
    }

    /// How many requests have ended. Whoever waits for something to change looks again when this has risen.
    pub(crate) fn rounds(&self) -> u64 {
        self.rounds
    }

    /// How many refreshes have ended. Whoever must have what is true from now on asks by
    /// [`handle_stale`](Self::handle_stale), and waits until this is [`next_refresh`](Self::next_refresh).
    pub(crate) fn refreshed(&self) -> u64 {
        self.refreshed
    }

    /// The number of the first refresh that is not sent yet. One that is in flight may have been answered
    /// before what the caller has seen.
    pub(crate) fn next_refresh(&self) -> u64 {
        self.sent + 1
    }

    /// Somebody uses that topic. Wanted is it from now on until it was not used for `max_idle`.
    pub(crate) fn handle_want(&mut self, topic: TopicKey, now: Instant) {
        let until = now + self.config.max_idle;
        if let Some(known) = self.wanted.get_mut(&topic) {
            *known = until;
            return;
        }
        if !self.all {
            self.added.insert(topic.clone(), now);
        }
        self.wanted.insert(topic, until);
    }

    /// All topics are wanted, for good.
    pub(crate) fn handle_want_all(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.all, true) {
            self.added.clear();
            self.handle_stale(now);
        }
    }

    /// Something has moved, as an error says. A request in flight may be too old to know of it.
    pub(crate) fn handle_stale(&mut self, now: Instant) {
        self.asked.get_or_insert(now);
    }

    /// Somebody waits for what is not known, and looks again when a request ends: the one in flight may
    /// bring it.
    pub(crate) fn handle_lacking(&mut self, now: Instant) {
        if self.in_flight.is_none() {
            self.handle_stale(now);
        }
    }

    /// A broker says that what the client knows is of another time (KIP-1102).
    pub(crate) fn handle_rebootstrap(&mut self, now: Instant) {
        self.handle_stale(now);
        if self.config.rebootstrap {
            self.enter_bootstrap("a broker asks for it");
        }
    }

    /// A broker could not be reached, whatever for.
    pub(crate) fn handle_unreachable(&mut self, broker: i32) {
        self.failed.insert(broker);
    }

    /// Leaders that came with an error. Says how many partitions they moved.
    pub(crate) fn handle_hints(&mut self, hints: &Hints) -> usize {
        let Some((next, moved)) = apply(&self.snapshot, hints) else { return 0 };
        self.take(next, 0);
        if self.in_flight.is_some() && self.late.leaders.len() < LATE_MAX {
            self.late.leaders.extend_from_slice(&hints.leaders);
            self.late.brokers.extend_from_slice(&hints.brokers);
        }
        moved
    }

    /// A broker of which another answer than one to a metadata request told, such as a coordinator's.
    /// What metadata says of the same broker weighs more.
    pub(crate) fn handle_broker(&mut self, broker: Broker) {
        if self.snapshot.broker(broker.id).is_none() {
            let mut next = Snapshot::clone(&self.snapshot);
            Arc::make_mut(&mut next.brokers).insert(broker.id, broker);
            self.take(next, 0);
        }
    }

    /// The request of that ticket was answered.
    pub(crate) fn handle_answer(&mut self, ticket: u64, mut indexed: Indexed, now: Instant) {
        let Some(flight) = self.end(ticket) else { return };
        indexed.snapshot.version = self.snapshot.version;
        let changed = indexed.snapshot != *self.snapshot;
        if changed {
            self.take(indexed.snapshot, indexed.rejected);
        }
        let late = std::mem::take(&mut self.late);
        if let Some((next, _)) = apply(&self.snapshot, &late) {
            self.take(next, 0);
        }
        (self.failures, self.trying) = (0, None);
        (self.search, self.error) = (Search::Known, None);
        self.failed.clear();
        self.futile = if changed { 0 } else { self.futile.saturating_add(1) };
        // New topics alone make the others no younger.
        if flight.full || self.updated.is_none() {
            self.updated = Some(now);
        }
        self.not_before = Some(now + self.config.backoff.after(self.futile.max(1), &mut self.dice));
    }

    /// The request of that ticket failed, or its answer was of no use.
    pub(crate) fn handle_failure(&mut self, ticket: u64, error: &Error, now: Instant) {
        let Some(flight) = self.end(ticket) else { return };
        self.late = Hints::default();
        self.handle_stale(now);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + self.config.backoff.after(self.failures, &mut self.dice));
        match (flight.target, self.search) {
            (Target::Broker(id), _) => {
                self.failed.insert(id);
            }
            (_, Search::Bootstrap { left }) => match left.saturating_sub(1) {
                // All were tried: the brokers that were known may be back.
                0 => {
                    self.search = Search::Known;
                    self.failed.clear();
                }
                left => self.search = Search::Bootstrap { left },
            },
            _ => {}
        }
        if error.code() == Some(ErrorCode::REBOOTSTRAP_REQUIRED) && self.config.rebootstrap {
            self.enter_bootstrap("a broker asks for it");
        }
        self.error = Some(error.clone());
        self.events.push_back(Event::MetadataFailed { why: error.clone() });
    }

    /// The request that is to be sent now, if one is. `load` says how much each broker has to do, or
    /// nothing if there is no connection to it.
    pub(crate) fn poll_request(&mut self, now: Instant, load: &dyn Fn(i32) -> Option<usize>) -> Option<Ask> {
        if self.poll_timeout().is_none_or(|at| at > now) {
            return None;
        }
        self.wanted.retain(|_, until| *until > now);
        let added = std::mem::take(&mut self.added).into_keys();
        let added: Vec<TopicKey> = added.filter(|topic| self.wanted.contains_key(topic)).collect();
        let scope = match () {
            () if self.all => Scope::All,
            () if self.full_at().is_some_and(|at| at <= now) => {
                let wanted = self.wanted.keys().cloned().collect();
                Scope::Wanted(self.without_unknown_ids(wanted, now))
            }
            () if added.is_empty() => return None,
            () => Scope::Added(self.without_unknown_ids(added, now)),
        };
        let trying = *self.trying.get_or_insert(now);
        if self.config.rebootstrap && now.saturating_duration_since(trying) >= self.config.rebootstrap_trigger
        {
            self.trying = Some(now);
            self.enter_bootstrap("no metadata for too long");
        }
        let target = self.target(load);
        let full = !matches!(scope, Scope::Added(_));
        if full {
            // Who asks from now on asks for the next one.
            self.asked = None;
            self.sent += 1;
        }
        self.tickets += 1;
        self.in_flight = Some(Flight { ticket: self.tickets, target, full });
        Some(Ask { ticket: self.tickets, target, scope, base: Arc::clone(&self.snapshot) })
    }

    /// When there is a request to be sent, if nothing else happens before.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if self.in_flight.is_some() {
            return None;
        }
        // A new topic does not wait for the backoff of refreshes that brought nothing new.
        let held = |since| if self.failures == 0 { since } else { self.held(since) };
        let added = self.added.values().min();
        let added_at = added.map(|since| held(*since));
        added_at.into_iter().chain(self.full_at()).min()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A broker for a request that any can answer: the one with the least to do. None while none is known.
    pub(crate) fn any(&mut self, load: &dyn Fn(i32) -> Option<usize>) -> Option<i32> {
        let reachable = self.least_loaded(load, |machine, id| !machine.failed.contains(&id));
        reachable.or_else(|| self.least_loaded(load, |_, _| true))
    }

    /// Topics that can be asked for in one request. A broker that sees an id in it looks at no name, so ids
    /// whose names are not known stay for the next request, unless there is nothing else.
    fn without_unknown_ids(&mut self, topics: Vec<TopicKey>, now: Instant) -> Vec<TopicKey> {
        let (unknown, named): (Vec<_>, Vec<_>) = topics.into_iter().partition(|topic| match topic {
            TopicKey::Id(id) => self.snapshot.topic_by_id(*id).is_none(),
            TopicKey::Name(_) => false,
        });
        if named.is_empty() {
            return unknown;
        }
        self.added.extend(unknown.into_iter().map(|topic| (topic, now)));
        named
    }

    /// When all that is wanted is to be asked for again.
    fn full_at(&self) -> Option<Instant> {
        let aged = self.updated.map(|updated| updated + self.config.max_age);
        self.asked.into_iter().chain(aged).min().map(|at| self.held(at))
    }

    fn held(&self, at: Instant) -> Instant {
        self.not_before.map_or(at, |not_before| at.max(not_before))
    }

    /// The request of that ticket, if it is in flight; it is not any more.
    fn end(&mut self, ticket: u64) -> Option<Flight> {
        let flight = self.in_flight.take_if(|flight| flight.ticket == ticket)?;
        self.rounds += 1;
        if flight.full {
            self.refreshed = self.sent;
        }
        Some(flight)
    }

    fn take(&mut self, mut next: Snapshot, rejected: usize) {
        next.version = self.snapshot.version + 1;
        let (brokers, topics) = (next.brokers().len(), next.topics().len());
        self.snapshot = Arc::new(next);
        self.events.push_back(Event::MetadataChanged(Refreshed { brokers, topics, rejected }));
    }

    fn enter_bootstrap(&mut self, why: &'static str) {
        if self.search == Search::Known && !self.snapshot.brokers.is_empty() {
            self.events.push_back(Event::Rebootstrapped { why });
        }
        self.search = Search::Bootstrap { left: self.bootstraps };
    }

    /// Whom to ask for metadata.
    fn target(&mut self, load: &dyn Fn(i32) -> Option<usize>) -> Target {
        if self.search == Search::Known {
            match self.least_loaded(load, |machine, id| !machine.failed.contains(&id)) {
                Some(id) => return Target::Broker(id),
                None if self.config.rebootstrap || self.snapshot.brokers.is_empty() => {
                    self.enter_bootstrap("no known broker answers");
                }
                None => {
                    self.failed.clear();
                    let known = self.least_loaded(load, |_, _| true);
                    return known.map_or(Target::Bootstrap(self.next_bootstrap), Target::Broker);
                }
            }
        }
        let at = self.next_bootstrap;
        self.next_bootstrap = (at + 1) % self.bootstraps.max(1);
        Target::Bootstrap(at)
    }

    /// The broker with the least to do of those that may be taken. Those with a connection come first,
    /// and of equals one by lot.
    fn least_loaded(
        &mut self,
        load: &dyn Fn(i32) -> Option<usize>,
        may: impl Fn(&Self, i32) -> bool,
    ) -> Option<i32> {
        let ids: Vec<i32> = self.snapshot.brokers.keys().copied().filter(|id| may(self, *id)).collect();
        let (later, first) = ids.split_at(self.dice.below(ids.len()));
        let from_lot = first.iter().chain(later).copied();
        from_lot.min_by_key(|id| load(*id).map_or((true, 0), |load| (false, load)))
    }
}
