//! A fetch session with one broker (KIP-227), without I/O: what the broker was told of partitions, what it is to be
//! told next, and which number goes with that.
//!
//! [`want`](Session::want) and [`unwant`](Session::unwant) say what is to be fetched;
//! [`begin`](Session::begin) makes the next request of what has changed since the one before. One is in flight at
//! most. After anything but an answer the next request says everything again.

use std::collections::{BTreeMap, BTreeSet};

use crate::ErrorCode;
use crate::wire::{Str, Uuid};

/// A partition of this consumer, by the number of its assignment.
pub(crate) type Key = u64;

/// What is to be fetched of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub(crate) topic: Str,
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// Of the leader, and of the last record that was fetched.
    pub(crate) leader_epoch: i32,
    pub(crate) last_epoch: i32,
    pub(crate) max_bytes: i32,
    /// Of the position: what is fetched for an older one is of no use.
    pub(crate) version: u64,
}

/// A request that is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) session_id: i32,
    pub(crate) session_epoch: i32,
    /// Whether topics are named by their ids.
    pub(crate) by_id: bool,
    pub(crate) fetched: Vec<Spec>,
    /// By topic and id.
    pub(crate) forgotten: Vec<(Str, Uuid, i32)>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Session {
    id: i32,
    /// 0 for a request that says everything.
    epoch: i32,
    by_id: bool,
    /// What the broker was told.
    known: BTreeMap<Key, Spec>,
    wanted: BTreeMap<Key, Spec>,
    /// Those that it has not been told so.
    changed: BTreeSet<Key>,
    /// Wanted partitions whose topic has no id.
    nameless: BTreeSet<Key>,
    places: BTreeMap<(Str, i32), Key>,
    ids: BTreeMap<(Uuid, i32), Key>,
}

impl Session {
    /// Fetches this of a partition from now on.
    pub(crate) fn want(&mut self, key: Key, spec: Spec) {
        if self.wanted.get(&key) == Some(&spec) {
            return;
        }
        if spec.topic_id.is_zero() {
            self.nameless.insert(key);
        } else {
            self.nameless.remove(&key);
        }
        self.wanted.insert(key, spec);
        self.changed.insert(key);
    }

    /// Fetches nothing of a partition from now on.
    pub(crate) fn unwant(&mut self, key: Key) {
        if self.wanted.remove(&key).is_some() {
            self.nameless.remove(&key);
            self.changed.insert(key);
        }
    }

    /// Whether anything is to be fetched.
    pub(crate) fn is_idle(&self) -> bool {
        self.wanted.is_empty()
    }

    /// The next request. `ids` tells whether the broker knows topics by their ids.
    pub(crate) fn begin(&mut self, ids: bool) -> Plan {
        let by_id = ids && self.nameless.is_empty();
        if by_id != self.by_id || self.epoch == 0 {
            self.by_id = by_id;
            self.start_over();
        }
        let mut plan = Plan {
            session_id: self.id,
            session_epoch: self.epoch,
            by_id,
            fetched: Vec::new(),
            forgotten: Vec::new(),
        };
        for key in std::mem::take(&mut self.changed) {
            match (self.wanted.get(&key), self.known.get(&key)) {
                (Some(wanted), known) if known != Some(wanted) => {
                    // A topic that was made anew under its name is another one to the broker.
                    // Where it goes by its name that is the same one, and forgetting it would undo this.
                    if let Some(known) = known.filter(|known| by_id && known.topic_id != wanted.topic_id) {
                        plan.forgotten.push((known.topic.clone(), known.topic_id, known.partition));
                        self.ids.remove(&(known.topic_id, known.partition));
                    }
                    plan.fetched.push(wanted.clone());
                    self.places.insert((wanted.topic.clone(), wanted.partition), key);
                    self.ids.insert((wanted.topic_id, wanted.partition), key);
                    self.known.insert(key, wanted.clone());
                }
                (None, Some(known)) => {
                    let Spec { topic, topic_id, partition, .. } = known.clone();
                    self.known.remove(&key);
                    if self.places.get(&(topic.clone(), partition)) == Some(&key) {
                        self.places.remove(&(topic.clone(), partition));
                        self.ids.remove(&(topic_id, partition));
                        plan.forgotten.push((topic, topic_id, partition));
                    }
                }
                _ => {}
            }
        }
        // Given back and taken again, under another key: the newer word counts.
        let places = &self.places;
        plan.forgotten.retain(|(topic, id, partition)| {
            let again = places.get(&(topic.clone(), *partition)).and_then(|key| self.known.get(key));
            again.is_none_or(|again| by_id && again.topic_id != *id)
        });
        plan
    }

    /// What was asked of a partition of the request in flight: the partition and its position's version.
    pub(crate) fn find(&self, topic: &Str, id: Uuid, partition: i32) -> Option<(Key, &Spec)> {
        let key = if self.by_id {
            self.ids.get(&(id, partition))
        } else {
            self.places.get(&(topic.clone(), partition))
        };
        let key = *key?;
        self.known.get(&key).map(|spec| (key, spec))
    }

    /// The request was answered: with a session or, if the number is 0, without one.
    pub(crate) fn handle_answer(&mut self, session_id: i32) {
        if session_id <= 0 || (self.epoch > 0 && session_id != self.id) {
            self.handle_failure();
            self.id = 0;
            return;
        }
        self.id = session_id;
        self.epoch = self.epoch.checked_add(1).unwrap_or(1);
    }

    /// The broker refused the session.
    pub(crate) fn handle_refusal(&mut self, code: ErrorCode) {
        if code == ErrorCode::FETCH_SESSION_ID_NOT_FOUND {
            self.id = 0;
        }
        self.handle_failure();
    }

    /// It is not known what became of the request: the session, if there is one, is ended by the next.
    pub(crate) fn handle_failure(&mut self) {
        self.epoch = 0;
    }

    fn start_over(&mut self) {
        self.epoch = 0;
        self.known.clear();
        self.places.clear();
        self.ids.clear();
        self.changed = self.wanted.keys().copied().collect();
    }
}

#[cfg(test)]
pub(super) mod tests;
