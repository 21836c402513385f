//! What must hold: of what a member is told, at any time, and at rest.

use super::*;

impl World {
    pub(super) fn hear(&mut self, place: usize, event: Event) {
        let pause = if self.storms(10) { 50 * SECOND } else { 8 * SECOND };
        let until = self.now + self.within(pause);
        self.note(format!("{place} hears {event:?}"));
        let consumer = &mut self.consumers[place];
        let said_after_close = consumer.closing && !matches!(event, Event::Left);
        let wrong = match event {
            Event::Assigned(new) => {
                let twice = !new.is_disjoint(&consumer.owned);
                let early = consumer.handing.is_some();
                consumer.owned.extend(new);
                (twice || early).then(|| format!("given twice: {twice}, before handing over: {early}"))
            }
            Event::Revoke { partitions, .. } => {
                let had = partitions.is_subset(&consumer.owned) && !partitions.is_empty();
                consumer.owned.retain(|one| !partitions.contains(one));
                let before = consumer.handing.replace((partitions, until));
                let odd = !had || before.is_some();
                odd.then(|| format!("gives back what it has: {had}, while it gives back: {before:?}"))
            }
            Event::Lost { partitions, .. } => {
                let going = consumer.handing.take().map(|(going, _)| going).unwrap_or_default();
                let all: BTreeSet<_> = consumer.owned.union(&going).cloned().collect();
                let right = partitions == all || partitions == going;
                consumer.owned.retain(|one| !partitions.contains(one));
                (!right || partitions.is_empty()).then(|| format!("lost {partitions:?} of {all:?}"))
            }
            Event::Left => {
                consumer.left = true;
                consumer.alive = false;
                (!consumer.closing).then(|| "left, and was not closed".to_owned())
            }
            Event::Troubled(error) => {
                let forbidden = error.code() == Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
                (!forbidden).then(|| format!("is troubled: {error}"))
            }
            Event::Failed(error) => {
                consumer.alive = false;
                // Only of an instance that another has.
                let instance = consumer.instance.as_ref();
                let holder = instance.and_then(|it| self.coordinator.holder(it));
                let right = error.code() == Some(ErrorCode::UNRELEASED_INSTANCE_ID)
                    && holder.is_none_or(|holder| *holder != consumer.id);
                (!right).then(|| format!("failed: {error}, and {holder:?} has {instance:?}"))
            }
        };
        let wrong = wrong.or(said_after_close.then(|| "hears of partitions after it was closed".to_owned()));
        if let Some(wrong) = wrong {
            self.wrong(format!("{place} {wrong}"));
        }
    }

    pub(super) fn check(&mut self) {
        let mut owners: BTreeMap<&TopicPartition, usize> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (place, consumer) in self.consumers.iter().enumerate() {
            let known = self.coordinator.members.contains_key(&consumer.id);
            if consumer.left && known && consumer.instance.is_none() {
                wrong.push(format!("{place} has left, and the coordinator does not know"));
            }
            let membership = consumer.machine.membership();
            let idle = consumer.alive && consumer.open.is_none() && membership.is_some();
            let soon = consumer.ended + 2 * SECOND;
            if idle && consumer.asked.back().is_none_or(|at| (*at + INTERVAL).max(soon) < self.now) {
                wrong.push(format!("{place} is a member and sends no heartbeat"));
            }
            if consumer.closing && membership.is_some() {
                wrong.push(format!("{place} is closing and could commit"));
            }
            if self.weather == Weather::Calm && consumer.unsaid.is_some_and(|at| at + 4 * WAY < self.now) {
                wrong.push(format!("{place} has handed over, and the coordinator hears nothing of it"));
            }
            let counts = membership.is_some_and(|it| self.coordinator.counts_in(&consumer.id, it.generation));
            if !consumer.alive || !(counts || self.weather == Weather::Calm) {
                continue;
            }
            for one in consumer.owned.iter().chain(consumer.handing.iter().flat_map(|it| &it.0)) {
                if let Some(other) = owners.insert(one, place) {
                    wrong.push(format!("{other} and {place} both have {one}"));
                }
            }
        }
        for wrong in wrong {
            self.wrong(wrong);
        }
    }

    pub(super) fn rests(&self) -> bool {
        let lives = |id: &Str| self.consumers.iter().any(|one| one.alive && one.id == *id);
        let counted = self.coordinator.members.keys().all(lives) && !self.coordinator.waits();
        counted
            && self.consumers.iter().filter(|one| one.alive).all(|consumer| {
                let quiet = matches!(consumer.machine.state(), State::Stable | State::Idle);
                quiet && consumer.handing.is_none() && !consumer.closing
            })
    }

    pub(super) fn at_rest(&mut self) {
        let alive = || self.consumers.iter().filter(|consumer| consumer.alive);
        if !self.rests() {
            let states: Vec<_> = alive().map(|one| (one.machine.state(), one.closing)).collect();
            return self.wrong(format!("no rest: {states:?}"));
        }
        let mut wrong = Vec::new();
        for consumer in alive() {
            let known = self.coordinator.members.get(&consumer.id).map(|known| &known.topics);
            let wanted = Some(&consumer.machine.subscription.topics).filter(|it| !it.is_empty());
            // The place of a static member that has left for a while is kept.
            let kept = consumer.instance.is_some() && wanted.is_none();
            if known != wanted && !kept {
                wrong.push(format!("{} wants {wanted:?}, the coordinator knows {known:?}", consumer.id));
            }
        }
        for (topic, count) in &self.coordinator.counts {
            let name = topic_name(*topic);
            let wanted = alive().any(|it| it.machine.subscription.topics.contains(&name));
            for number in 0..*count {
                let one = TopicPartition::of(&name, number);
                let owners = alive().filter(|consumer| consumer.owned.contains(&one)).count();
                if owners != usize::from(wanted) {
                    wrong.push(format!("{one} has {owners} owners at rest"));
                }
            }
        }
        for wrong in wrong {
            self.wrong(wrong);
        }
    }
}
