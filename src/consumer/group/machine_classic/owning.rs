//! Which partitions are ours. Each that was told as assigned is told once as revoked or as lost.

use super::{
    BTreeSet, Error, Event, Instant, Machine, Rebalance, State, Str, TopicPartition, TopicPartitions,
};

/// Partitions that the application was told to give up.
#[derive(Debug)]
pub(super) struct Handing {
    /// Which revocation it is, counted from 1.
    pub(super) number: u64,
    pub(super) partitions: BTreeSet<TopicPartition>,
    pub(super) deadline: Instant,
}

impl Machine {
    /// The application has handed over what the oldest [`Event::Revoke`] that was not answered yet named. To be called
    /// once for each, also for those that came too late.
    pub(crate) fn handle_revoked(&mut self, now: Instant) {
        if self.handed < self.told {
            self.handed += 1;
        }
        let before = self.handing.len();
        let handed = self.handed;
        self.handing.retain(|handing| handing.number > handed);
        if self.handing.len() < before {
            self.handed_over(now);
        }
    }

    /// Whoever has not handed over in time has nothing to hand over any more.
    pub(super) fn expire_handing(&mut self, now: Instant) {
        let before = self.handing.len();
        self.handing.retain(|handing| handing.deadline > now);
        if self.handing.len() < before {
            self.handed_over(now);
        }
    }

    fn handed_over(&mut self, now: Instant) {
        const WHY: &str = "partitions were handed over";
        match self.state {
            State::Preparing { not_before } if !self.must_hand_over() => {
                self.state = State::ToJoin { not_before }
            }
            State::Parting if self.handing.is_empty() => self.part(now),
            // So that others get them at once (KIP-429).
            State::Stable if self.handing.is_empty() => self.prepare(WHY, now, now),
            // The join that is under way said that they are still owned.
            State::Joining { .. } | State::Leading { .. } | State::ToSync { .. } | State::Syncing { .. } => {
                self.again = Some(WHY);
            }
            _ => {}
        }
    }

    /// Tells that these are to be given back.
    pub(super) fn revoke(&mut self, partitions: BTreeSet<TopicPartition>, now: Instant) {
        if partitions.is_empty() {
            return;
        }
        // The coordinator counts from when it began to rebalance, of which we hear a heartbeat later.
        let longest = self.settings.max_poll_interval;
        let deadline = now + longest.saturating_sub(self.settings.heartbeat_interval.min(longest / 2));
        self.owned.retain(|owned| !partitions.contains(owned));
        self.told += 1;
        self.handing.push_back(Handing { number: self.told, partitions: partitions.clone(), deadline });
        self.events.push_back(Event::Revoke { partitions, deadline });
    }

    /// This is no member of its generation any more. What is being handed over was told already.
    pub(super) fn lose(&mut self, why: Error) {
        self.generation = None;
        self.led = None;
        self.heart = None;
        self.handing.clear();
        #[cfg(test)]
        if self.planted == super::tests::Planted::KeepsWhatIsLost {
            return;
        }
        let partitions = std::mem::take(&mut self.owned);
        #[cfg(test)]
        if self.planted == super::tests::Planted::LosesSilently {
            return;
        }
        if !partitions.is_empty() {
            self.events.push_back(Event::Lost { partitions, why });
        }
    }

    /// Goes on after [`Machine::lose`].
    pub(super) fn after_loss(&mut self, reason: &'static str, now: Instant) {
        match self.state {
            State::Parting => self.part(now),
            State::Preparing { not_before } | State::ToJoin { not_before } => {
                self.prepare(reason, not_before, now);
            }
            _ => self.prepare(reason, now, now),
        }
    }

    /// What the coordinator is to believe that we have: what is being handed over is still ours.
    pub(super) fn claimed(&self) -> BTreeSet<TopicPartition> {
        #[cfg(test)]
        if self.planted == super::tests::Planted::ForgetsHanding {
            return self.owned.clone();
        }
        let handing = self.handing.iter().flat_map(|handing| handing.partitions.iter());
        self.owned.iter().chain(handing).cloned().collect()
    }

    /// Whether something must be handed over before the group may be joined: everything when eager; what is
    /// not wanted any more when cooperative, because assignors look at nobody's claim to that.
    pub(super) fn must_hand_over(&self) -> bool {
        let unwanted = |handing: &Handing| handing.partitions.iter().any(|one| !self.wants(one.name()));
        match self.rebalance {
            Rebalance::Eager => !self.handing.is_empty(),
            Rebalance::Cooperative => self.handing.iter().any(unwanted),
        }
    }

    pub(super) fn wants(&self, topic: &Str) -> bool {
        self.topics.as_ref().is_some_and(|topics| topics.contains(topic))
    }

    /// Takes what the leader gave, in a group that is stable with it. Whether all of it was subscribed to in the
    /// join: a static member that comes back with another subscription is given what it had before (KIP-345).
    pub(super) fn take(&mut self, assigned: &[TopicPartitions], now: Instant) -> bool {
        let all: BTreeSet<TopicPartition> = assigned
            .iter()
            .flat_map(|of| of.partitions.iter().map(|number| TopicPartition::new(&*of.topic, *number)))
            .collect();
        let fits = all.iter().all(|one| self.joined_topics.contains(one.name()));
        // What is not wanted any more is not taken: the next join says so.
        let ours: BTreeSet<TopicPartition> = all
            .into_iter()
            .filter(|one| self.joined_topics.contains(one.name()) && self.wants(one.name()))
            .collect();
        let given_up = self.owned.difference(&ours).cloned().collect();
        self.revoke(given_up, now);
        let added: BTreeSet<TopicPartition> = ours.difference(&self.owned).cloned().collect();
        self.owned.extend(added.iter().cloned());
        self.events.push_back(Event::Assigned(added));
        fits
    }
}
