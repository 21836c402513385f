//! A small model of a coordinator of KIP-848 groups, as far as members can tell: it counts epochs, draws up a target,
//! and gives a partition out only when nobody has it any more.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const SESSION: Duration = Duration::from_secs(45);

/// A topic's number and the partition's.
pub(super) type At = (u8, i32);

pub(super) fn topic_id(topic: u8) -> Uuid {
    Uuid::from_bytes([topic; 16])
}

pub(super) fn topic_name(topic: u8) -> Str {
    Str::from(format!("t{topic}"))
}

#[derive(Debug)]
pub(super) struct Known {
    epoch: i32,
    previous: i32,
    instance: Option<Str>,
    pub(super) topics: BTreeSet<Str>,
    rebalance: Duration,
    /// What it may have.
    assigned: BTreeSet<At>,
    /// What it is to give back, until it has said that it did.
    going: BTreeSet<At>,
    going_until: Option<Instant>,
    expires: Instant,
    /// It was told nothing of this yet.
    changed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Coordinator {
    pub(super) members: BTreeMap<Str, Known>,
    pub(super) counts: BTreeMap<u8, i32>,
    target: BTreeMap<Str, BTreeSet<At>>,
    epoch: i32,
    /// Gives new partitions while others are still to be given back.
    pub(super) mixes: bool,
    /// How often it has put a member out.
    pub(super) fenced: usize,
    /// A request that no broker would take.
    pub(super) refused: Option<String>,
}

fn refusal(code: ErrorCode) -> ConsumerGroupHeartbeatResponse {
    answer(code, 0, None)
}

impl Coordinator {
    pub(super) fn new(counts: BTreeMap<u8, i32>, mixes: bool) -> Self {
        Self { counts, mixes, ..Self::default() }
    }

    pub(super) fn apply(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        now: Instant,
    ) -> ConsumerGroupHeartbeatResponse {
        let id = request.member_id.clone();
        if request.member_epoch < JOIN {
            return self.leave(&id, request.instance_id.as_ref(), request.member_epoch, now);
        }
        if request.member_epoch == JOIN {
            let whole = request.topic_partitions.as_ref().is_some_and(Vec::is_empty)
                && request.rebalance_timeout_ms > 0
                && request.subscribed_topic_names.as_ref().is_some_and(|names| !names.is_empty());
            if !whole {
                self.refused = Some(format!("who joins says all and has nothing: {request:?}"));
                return refusal(ErrorCode::INVALID_REQUEST);
            }
            let instance = request.instance_id.as_ref();
            let held =
                self.members.values().find(|known| instance.is_some() && known.instance.as_ref() == instance);
            // As Kafka does: not even the holder itself may join again before it has left for a while.
            if held.is_some_and(|known| known.epoch != LEAVE_STATIC) {
                return refusal(ErrorCode::UNRELEASED_INSTANCE_ID);
            }
            self.join(&id, request, now);
        }
        let owned = request.topic_partitions.as_ref().map(|topics| {
            let all = topics.iter().flat_map(|it| it.partitions.iter().map(|one| (it.topic_id, *one)));
            let topic = |id| *self.counts.keys().find(|topic| topic_id(**topic) == id).expect("known");
            all.map(|(id, one)| (topic(id), one)).collect::<BTreeSet<At>>()
        });
        let holder = request.instance_id.as_ref().and_then(|it| self.holder(it));
        if holder.is_some_and(|holder| *holder != id) {
            return refusal(ErrorCode::FENCED_INSTANCE_ID);
        }
        let Some(known) = self.members.get_mut(&id) else { return refusal(ErrorCode::UNKNOWN_MEMBER_ID) };
        if request.member_epoch != JOIN && request.member_epoch != known.epoch {
            let subset = owned.as_ref().is_some_and(|owned| owned.is_subset(&known.assigned));
            if request.member_epoch != known.previous || !subset {
                return refusal(ErrorCode::FENCED_MEMBER_EPOCH);
            }
        }
        known.expires = now + SESSION;
        let mut whole = request.member_epoch == JOIN;
        if let Some(names) = &request.subscribed_topic_names {
            // A request that says all is answered with all.
            whole |= request.rebalance_timeout_ms > 0;
            let names: BTreeSet<Str> = names.iter().cloned().collect();
            if known.topics != names || request.member_epoch == JOIN && !self.target.contains_key(&id) {
                known.topics = names;
                self.draw_up();
            }
        }
        self.reconcile(&id, owned.as_ref(), now);
        self.tell(&id, whole)
    }

    /// Which member has the instance.
    pub(super) fn holder(&self, instance: &Str) -> Option<&Str> {
        self.members.iter().find(|(_, known)| known.instance.as_ref() == Some(instance)).map(|(id, _)| id)
    }

    fn join(&mut self, id: &Str, request: &ConsumerGroupHeartbeatRequest, now: Instant) {
        let instance = request.instance_id.clone();
        // Who comes in the place of a static member that has left for a while has what that one had.
        let before = instance.as_ref().and_then(|it| self.holder(it)).filter(|before| *before != id).cloned();
        if let Some(before) = before {
            let known = self.members.remove(&before).expect("it was found");
            self.members.insert(id.clone(), known);
            let target = self.target.remove(&before).unwrap_or_default();
            self.target.insert(id.clone(), target);
        }
        let fresh = !self.members.contains_key(id);
        let known = self.members.entry(id.clone()).or_insert_with(|| Known {
            epoch: JOIN,
            previous: JOIN,
            instance,
            topics: BTreeSet::new(),
            rebalance: Duration::ZERO,
            assigned: BTreeSet::new(),
            going: BTreeSet::new(),
            going_until: None,
            expires: now + SESSION,
            changed: true,
        });
        known.rebalance = Duration::from_millis(request.rebalance_timeout_ms as u64);
        if known.epoch == LEAVE_STATIC {
            (known.epoch, known.previous) = (JOIN, JOIN);
        }
        if fresh {
            known.topics = request.subscribed_topic_names.iter().flatten().cloned().collect();
            self.draw_up();
        }
    }

    fn leave(
        &mut self,
        id: &Str,
        instance: Option<&Str>,
        epoch: i32,
        now: Instant,
    ) -> ConsumerGroupHeartbeatResponse {
        let holder = instance.map(|it| self.holder(it));
        if let Some(Some(holder)) = holder
            && holder != id
        {
            return refusal(ErrorCode::FENCED_INSTANCE_ID);
        }
        let Some(known) = self.members.get_mut(id) else { return refusal(ErrorCode::UNKNOWN_MEMBER_ID) };
        if epoch == LEAVE_STATIC {
            known.epoch = LEAVE_STATIC;
            known.going.clear();
            known.going_until = None;
            known.expires = now + SESSION;
        } else {
            self.remove(id);
        }
        answer(ErrorCode::NONE, epoch, None)
    }

    /// Whoever it is, by an administrator or because it is thought dead.
    pub(super) fn remove(&mut self, id: &Str) {
        if self.members.remove(id).is_some() {
            self.draw_up();
        }
    }

    /// A new target: each topic's partitions in turn to those who want it, begun elsewhere each time.
    pub(super) fn draw_up(&mut self) {
        self.epoch += 1;
        self.target = self.members.keys().map(|id| (id.clone(), BTreeSet::new())).collect();
        for (topic, count) in &self.counts {
            let name = topic_name(*topic);
            let want: Vec<&Str> =
                self.members.iter().filter(|(_, it)| it.topics.contains(&name)).map(|(id, _)| id).collect();
            for partition in 0..*count {
                let turn = (partition + self.epoch / 3) as usize;
                if let Some(id) = want.get(turn % want.len().max(1)) {
                    self.target.get_mut(*id).expect("listed").insert((*topic, partition));
                }
            }
        }
    }

    /// One step of a member towards its target.
    fn reconcile(&mut self, id: &Str, owned: Option<&BTreeSet<At>>, now: Instant) {
        let others: BTreeSet<At> = self
            .members
            .iter()
            .filter(|(other, _)| *other != id)
            .flat_map(|(_, it)| it.assigned.iter().chain(&it.going).copied())
            .collect();
        let target = &self.target[id];
        let known = self.members.get_mut(id).expect("checked");
        let before = known.assigned.clone();
        if !known.going.is_empty() && owned.is_some_and(|owned| owned.is_disjoint(&known.going)) {
            known.going.clear();
            known.going_until = None;
        }
        if known.going.is_empty() {
            known.going = known.assigned.difference(target).copied().collect();
            known.assigned.retain(|at| target.contains(at));
            known.going_until = (!known.going.is_empty()).then(|| now + known.rebalance);
        }
        if known.going.is_empty() || self.mixes {
            let free = target.iter().filter(|at| !others.contains(at) && !known.going.contains(at));
            known.assigned.extend(free);
        }
        if known.going.is_empty() && known.epoch != self.epoch {
            (known.previous, known.epoch) = (known.epoch, self.epoch);
        } else if known.epoch == JOIN {
            // Who has just come back gives back in its epoch.
            known.epoch = self.epoch;
        }
        known.changed |= known.assigned != before;
    }

    fn tell(&mut self, id: &Str, whole: bool) -> ConsumerGroupHeartbeatResponse {
        let known = self.members.get_mut(id).expect("checked");
        let mut told = answer(ErrorCode::NONE, known.epoch, None);
        if whole || std::mem::take(&mut known.changed) {
            known.changed = false;
            let mut topics: BTreeMap<u8, Vec<i32>> = BTreeMap::new();
            for (topic, partition) in &known.assigned {
                topics.entry(*topic).or_default().push(*partition);
            }
            let topics = topics.into_iter().map(|(topic, partitions)| ResponseTopicPartitions {
                topic_id: topic_id(topic),
                partitions: partitions.as_slice().into(),
                ..Default::default()
            });
            told.assignment = Some(Assignment { topic_partitions: topics.collect(), ..Default::default() });
        }
        told
    }

    /// Whether it counts this member in, with this epoch.
    pub(super) fn counts_in(&self, id: &Str, epoch: i32) -> bool {
        self.members.get(id).is_some_and(|known| known.epoch == epoch || known.previous == epoch)
    }

    /// Whether it waits for somebody: to give back, or to come back.
    pub(super) fn waits(&self) -> bool {
        self.members.values().any(|known| known.epoch == LEAVE_STATIC || !known.going.is_empty())
    }

    /// When time brings something next.
    pub(super) fn timeout(&self) -> Option<Instant> {
        let all = self.members.values();
        all.flat_map(|known| [Some(known.expires), known.going_until]).flatten().min()
    }

    pub(super) fn tick(&mut self, now: Instant) {
        let late = |known: &Known| known.expires <= now || known.going_until.is_some_and(|at| at <= now);
        while let Some(id) = self.members.iter().find(|(_, it)| late(it)).map(|(id, _)| id.clone()) {
            self.fenced += 1;
            self.remove(&id);
        }
    }

    /// Another broker takes over: what is written stays, sessions begin anew.
    pub(super) fn moves(&mut self, now: Instant) {
        for known in self.members.values_mut() {
            known.expires = now + SESSION;
            known.going_until = known.going_until.map(|_| now + known.rebalance);
        }
    }
}
