//! What a heartbeat says: everything when joining and after a lost answer, else only what has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::super::{Ask, Request};
use super::{Flight, Machine, Partition, Phase, Subscription};
use crate::messages::consumer_group_heartbeat::{ConsumerGroupHeartbeatRequest, RequestTopicPartitions};
use crate::wire::{Ints, Str, Uuid};

/// What changes and was said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sent {
    subscription: Subscription,
    owned: BTreeSet<Partition>,
}

impl Machine {
    pub(super) fn current(&self) -> Sent {
        let subscription = match &self.sent {
            // What is given up is kept until the group is left.
            Some(sent) if self.subscription.is_empty() => sent.subscription.clone(),
            _ => self.subscription.clone(),
        };
        Sent { subscription, owned: self.owned.keys().copied().collect() }
    }

    /// Whether the coordinator is yet to hear something.
    pub(super) fn has_changed(&self) -> bool {
        let Some(sent) = &self.sent else { return true };
        let subscription = &self.subscription;
        (!subscription.is_empty() && sent.subscription != *subscription)
            || !sent.owned.iter().eq(self.owned.keys())
    }

    pub(super) fn ask(&mut self, now: Instant) -> Ask {
        let leaves = match self.phase {
            Phase::Leaving { epoch, .. } | Phase::Stale { leave: Some(epoch) } => Some(epoch),
            _ => None,
        };
        let request = match leaves {
            Some(epoch) => self.bare(epoch),
            None => self.heartbeat(),
        };
        self.tickets += 1;
        let known = std::mem::replace(&mut self.known, true);
        self.flight = Some(Flight { ticket: self.tickets, leaves: leaves.is_some(), known, at: now });
        self.last_sent = Some(now);
        Ask { ticket: self.tickets, request: Request::Consumer(request), held: Duration::ZERO }
    }

    fn bare(&self, epoch: i32) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.settings.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: epoch,
            instance_id: self.settings.instance.clone(),
            ..Default::default()
        }
    }

    fn heartbeat(&mut self) -> ConsumerGroupHeartbeatRequest {
        let current = self.current();
        let before = self.sent.take();
        let mut request = self.bare(self.epoch);
        if before.is_none() {
            let most = i32::MAX.unsigned_abs().into();
            let timeout = self.settings.max_poll_interval.as_millis().clamp(1, most);
            request.rebalance_timeout_ms = timeout as i32;
            request.rack_id.clone_from(&self.settings.rack);
            request.server_assignor.clone_from(&self.settings.remote_assignor);
        }
        let said = before.as_ref().map(|sent| &sent.subscription);
        if said.is_none_or(|said| said.topics != current.subscription.topics) {
            request.subscribed_topic_names = Some(current.subscription.topics.iter().cloned().collect());
        }
        if said.is_none_or(|said| said.regex != current.subscription.regex) {
            // An empty one takes the last one back. It is not sent where none was: version 0 has no room for it.
            let none = self.regex_sent.then(Str::new);
            request.subscribed_topic_regex = current.subscription.regex.clone().or(none);
            self.regex_sent |= current.subscription.regex.is_some();
        }
        if self.acknowledge || before.is_none_or(|sent| sent.owned != current.owned) {
            request.topic_partitions = Some(by_topic(&current.owned));
            self.claimed = true;
        }
        self.acknowledge = false;
        self.nudged = false;
        self.sent = Some(current);
        request
    }
}

fn by_topic(partitions: &BTreeSet<Partition>) -> Vec<RequestTopicPartitions> {
    let mut topics: BTreeMap<Uuid, Ints> = BTreeMap::new();
    for (id, partition) in partitions {
        topics.entry(*id).or_default().push(*partition);
    }
    let all = topics.into_iter();
    all.map(|(topic_id, partitions)| RequestTopicPartitions { topic_id, partitions, ..Default::default() })
        .collect()
}
