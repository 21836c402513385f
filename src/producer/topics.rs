//! The topics of a producer by their names, and when they are forgotten: when nothing of them is under way, nobody has them
//! in hand, and they were not used for long. Where the sequence numbers of their partitions go on is kept for as long as
//! the producer's identity lives.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use smallvec::SmallVec;

use super::machine_core::LineId;
use super::shared::{Shared, State};
use super::topic::{TopicState, learn};
use super::transaction::Transactions;
use crate::cluster::metadata::TopicKey;
use crate::net::clock;
use crate::wire::Str;
use crate::{Error, Result};

/// The longest name that a topic can have, in bytes.
const TOPIC_NAME_MAX: usize = 249;

/// Topics by name. Programs send to few, so the first of them are found without a full look-up.
#[derive(Default)]
pub(super) struct Topics {
    first: SmallVec<[Arc<TopicState>; 4]>,
    all: BTreeMap<Str, Arc<TopicState>>,
}

impl Topics {
    fn get(&self, name: &str) -> Option<&Arc<TopicState>> {
        self.first.iter().find(|topic| *topic.name == *name).or_else(|| self.all.get(name))
    }

    fn insert(&mut self, topic: &Arc<TopicState>) {
        if self.first.len() < self.first.inline_size() {
            self.first.push(Arc::clone(topic));
        }
        self.all.insert(topic.name.clone(), Arc::clone(topic));
    }

    fn remove(&mut self, name: &str) {
        self.first.retain(|topic| *topic.name != *name);
        self.all.remove(name);
    }

    /// Whether nobody else has that topic in hand.
    fn is_loose(&self, topic: &Arc<TopicState>) -> bool {
        let ours = 1 + self.first.iter().filter(|first| Arc::ptr_eq(first, topic)).count();
        Arc::strong_count(topic) == ours
    }
}

impl Shared {
    /// The topic of that name.
    pub(crate) fn topic(&self, name: &str) -> Arc<TopicState> {
        if let Some(topic) = self.topics.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Arc::clone(topic);
        }
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(topic) = topics.get(name) {
            return Arc::clone(topic);
        }
        let mut state = self.lock();
        let (codec, seed) = (self.settings.compression_of(name), state.dice.roll());
        let topic = TopicState::new(name.into(), codec, seed, clock::now());
        // What is known already need not be waited for.
        learn(&topic, &state.snapshot);
        drop(state);
        topics.insert(&topic);
        drop(topics);
        self.cluster.want([TopicKey::Name(topic.name.clone())]);
        topic
    }

    /// The topic of that name, for a record of it.
    pub(crate) fn find_topic(&self, name: &str) -> Result<Arc<TopicState>> {
        if name.is_empty() || name.len() > TOPIC_NAME_MAX {
            return Err(Error::invalid(format!(
                "a topic name of {} bytes: 1 to {TOPIC_NAME_MAX}",
                name.len()
            )));
        }
        Ok(self.topic(name))
    }

    pub(crate) fn topics(&self) -> Vec<Arc<TopicState>> {
        self.topics.read().unwrap_or_else(PoisonError::into_inner).all.values().cloned().collect()
    }

    /// Forgets topics that nobody has in hand and that were not used for long, all but where their sequences go on.
    pub(crate) fn forget_idle(&self, now: Instant) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        // Nobody else can come to have one while this lock is held, so no batch of it can be opened either.
        let idle: Vec<Str> = (topics.all.values())
            .filter(|topic| topics.is_loose(topic) && topic.is_idle(now))
            .filter(|topic| !topic.lanes().any(|lane| lane.is_open()))
            .map(|topic| topic.name.clone())
            .collect();
        for name in idle {
            let forgotten = topics.all.get(&name).is_some_and(|topic| self.lock().forget(topic));
            if forgotten {
                topics.remove(&name);
            }
        }
    }
}

impl State {
    /// Forgets the lanes and lines of a topic, if nothing is on its way in any of them.
    fn forget(&mut self, topic: &TopicState) -> bool {
        let lines: Vec<LineId> = topic.lanes().map(|lane| lane.line).collect();
        let taken =
            |line: &LineId| self.transactions.as_ref().is_some_and(|all: &Transactions| all.has(*line));
        if lines.iter().any(|line| taken(line) || !self.core.is_quiet(*line)) {
            return false;
        }
        let identity = self.core.identity();
        self.kept.retain(|_, kept| Some(kept.identity) == identity);
        for line in lines {
            let kept = self.core.remove_line(line);
            if let Some(lane) = self.lanes.remove(&line)
                && let Some(kept) = kept.filter(|kept| Some(kept.identity) == identity)
            {
                self.kept.insert((lane.topic.name.clone(), lane.partition), kept);
            }
        }
        true
    }
}
