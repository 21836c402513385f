//! From what is owned to what the coordinator wants to be owned: first give back, then take.

use std::collections::BTreeSet;
use std::time::Instant;

use super::{Event, JOIN, Machine, Partition, Phase, Then, TopicPartition};
use crate::messages::consumer_group_heartbeat::Assignment;

/// What the application is to hand over.
#[derive(Debug)]
pub(super) struct Revoking {
    partitions: BTreeSet<Partition>,
    pub(super) deadline: Instant,
}

impl Machine {
    /// The coordinator has said what it wants. What names no topic or no partition is left out, what comes
    /// twice counts once (N08).
    pub(super) fn assigned(&mut self, assignment: &Assignment) {
        let mut target = BTreeSet::new();
        for topic in assignment.topic_partitions.iter().filter(|topic| !topic.topic_id.is_zero()) {
            let partitions = topic.partitions.iter().filter(|partition| **partition >= 0);
            target.extend(partitions.map(|partition| (topic.topic_id, *partition)));
        }
        self.fresh |= self.target.as_ref() != Some(&target);
        for ((id, _), name) in &self.owned {
            self.names.entry(*id).or_insert_with(|| name.clone());
        }
        self.names.retain(|id, _| target.range((*id, 0)..=(*id, i32::MAX)).next().is_some());
        self.target = Some(target);
    }

    /// Go as far as can be gone now.
    pub(super) fn reconcile(&mut self, now: Instant) {
        let unsubscribed = self.subscription.is_empty();
        if unsubscribed && self.phase == Phase::Joining {
            self.resign();
        }
        if self.phase != Phase::Member || self.revoking.is_some() {
            return;
        }
        let nothing = BTreeSet::new();
        let Some(target) =
            self.target.as_ref().filter(|_| !unsubscribed).or(unsubscribed.then_some(&nothing))
        else {
            return;
        };
        let go: BTreeSet<Partition> = self.owned.keys().filter(|it| !target.contains(it)).copied().collect();
        #[cfg(test)]
        if self.planted == Some(super::Planted::TakeFirst) {
            self.take();
        }
        if !go.is_empty() {
            let deadline = now + self.settings.max_poll_interval;
            let partitions = self.by_name(&go);
            self.revoking = Some(Revoking { partitions: go, deadline });
            self.events.push_back(Event::Revoke { partitions, deadline });
        } else if unsubscribed {
            self.resign();
        } else {
            self.take();
        }
    }

    /// These are not ours any more. The coordinator hears it at once, whatever comes next (N09).
    pub(super) fn release(&mut self, revoking: &Revoking) -> BTreeSet<TopicPartition> {
        let partitions = self.by_name(&revoking.partitions);
        self.owned.retain(|partition, _| !revoking.partitions.contains(partition));
        self.acknowledge = true;
        #[cfg(test)]
        if self.planted == Some(super::Planted::LateAcknowledgement) {
            self.acknowledge = false;
            self.sent = Some(self.current());
        }
        partitions
    }

    /// Take what the target has and we have not, as far as it has names. Not while the coordinator may be hearing that
    /// we have it not: it may want it for another.
    fn take(&mut self) {
        if self.claimed {
            return;
        }
        // A topic that was made anew has two ids for a while, and its partitions are given out under one.
        let mut taken: BTreeSet<TopicPartition> =
            self.owned.iter().map(|((_, partition), name)| TopicPartition::of(name, *partition)).collect();
        let mut new = BTreeSet::new();
        for (id, partition) in self.target.iter().flatten() {
            let Some(name) = self.names.get(id).filter(|_| !self.owned.contains_key(&(*id, *partition)))
            else {
                continue;
            };
            let named = TopicPartition::of(name, *partition);
            if taken.insert(named.clone()) {
                self.owned.insert((*id, *partition), name.clone());
                new.insert(named);
            }
        }
        // What is owned is said even if it is as before: the coordinator may wait for less than that, such as
        // partitions that it has taken back before they had a name here.
        self.acknowledge |= self.fresh || !new.is_empty();
        if self.fresh || !new.is_empty() {
            self.fresh = false;
            self.events.push_back(Event::Assigned(new));
        }
    }

    /// Leave the group, since nothing is wanted of it.
    pub(super) fn resign(&mut self) {
        self.forget();
        if self.known {
            self.leave(self.leave_epoch(), Then::Idle);
        } else {
            self.phase = Phase::Idle;
            self.epoch = JOIN;
            self.flight = None;
        }
    }

    fn by_name(&self, partitions: &BTreeSet<Partition>) -> BTreeSet<TopicPartition> {
        let named = |it: &Partition| self.owned.get(it).map(|name| TopicPartition::of(name, it.1));
        partitions.iter().filter_map(named).collect()
    }
}
