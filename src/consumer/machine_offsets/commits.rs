//! Commits that wait, the one in flight, and who is to be told of each.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{
    CommitId, CommitOffset, EPOCH_WAIT, Event, Machine, Membership, Origin, Pause, passes, shuts_out,
    wants_epoch,
};
use crate::consumer::TopicPartition;
use crate::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
};
use crate::wire::Str;
use crate::{Error, ErrorCode, Result};

/// What one commit still waits for, and what it has.
#[derive(Debug)]
struct Call {
    open: BTreeSet<TopicPartition>,
    results: BTreeMap<TopicPartition, Result<()>>,
    deadline: Instant,
}

/// What is to be written for a partition.
#[derive(Debug, Clone)]
struct Value {
    offset: CommitOffset,
    assignment: u64,
    /// Whose commits it stands for.
    calls: BTreeSet<CommitId>,
}

#[derive(Debug)]
struct Flight {
    ticket: u64,
    generation: i32,
    values: BTreeMap<TopicPartition, Value>,
}

#[derive(Debug, Default)]
pub(super) struct Commits {
    ids: u64,
    calls: BTreeMap<CommitId, Call>,
    waiting: BTreeMap<TopicPartition, Value>,
    flight: Option<Flight>,
    /// The last that was done, below which no automatic commit goes.
    done: BTreeMap<TopicPartition, i64>,
    /// The last assignment that a partition was taken from.
    closed: BTreeMap<TopicPartition, u64>,
    pause: Pause,
    #[cfg(test)]
    pub(super) mixes: bool,
}

impl Commits {
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub(super) fn is_in_flight(&self, ticket: u64) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.ticket == ticket)
    }

    pub(super) fn add(
        &mut self,
        offsets: BTreeMap<TopicPartition, CommitOffset>,
        assignment: u64,
        origin: Origin,
        deadline: Instant,
    ) -> (CommitId, Vec<Event>) {
        self.ids += 1;
        let id = CommitId(self.ids);
        let open = offsets.keys().cloned().collect();
        self.calls.insert(id, Call { open, results: BTreeMap::new(), deadline });
        let mut told = Vec::new();
        if offsets.is_empty() {
            told.extend(self.finish(id));
        }
        for (partition, offset) in offsets {
            let known = if self.is_closed(&partition, assignment) {
                Some(Err(refused(&partition)))
            } else if offset.offset < 0 {
                Some(Err(Error::invalid(format!("offset {} for {partition}", offset.offset))))
            } else {
                self.place(&partition, offset, assignment, origin, id)
            };
            if let Some(result) = known {
                told.extend(self.tell(id, &partition, result));
            }
        }
        (id, told)
    }

    /// Put a value where it belongs, or say what became of it.
    fn place(
        &mut self,
        partition: &TopicPartition,
        offset: CommitOffset,
        assignment: u64,
        origin: Origin,
        id: CommitId,
    ) -> Option<Result<()>> {
        let automatic = origin == Origin::Automatic;
        if let Some(value) = self.waiting.get_mut(partition) {
            value.calls.insert(id);
            if !automatic || offset.offset >= value.offset.offset {
                value.offset = offset;
                value.assignment = assignment;
            }
            return None;
        }
        // What was read in another assignment shares no fate: it may be refused as too late, and this may not.
        let same = |flying: &&mut Value| flying.assignment == assignment;
        #[cfg(test)]
        let same = |flying: &&mut Value| self.mixes || same(flying);
        let flying = self.flight.as_mut().and_then(|flight| flight.values.get_mut(partition));
        match flying.filter(same) {
            Some(flying) if automatic && offset.offset < flying.offset.offset => {
                flying.calls.insert(id);
                None
            }
            None if automatic && self.done.get(partition).is_some_and(|done| offset.offset < *done) => {
                Some(Ok(()))
            }
            _ => {
                let value = Value { offset, assignment, calls: [id].into() };
                self.waiting.insert(partition.clone(), value);
                None
            }
        }
    }

    fn is_closed(&self, partition: &TopicPartition, assignment: u64) -> bool {
        self.closed.get(partition).is_some_and(|closed| assignment <= *closed)
    }

    pub(super) fn close(&mut self, partitions: &BTreeSet<TopicPartition>, assignment: u64) -> Vec<Event> {
        let mut told = Vec::new();
        for partition in partitions {
            let closed = self.closed.entry(partition.clone()).or_default();
            *closed = assignment.max(*closed);
            self.done.remove(partition);
            if let Some(value) = self.waiting.remove(partition) {
                told.extend(self.tell_all(partition, &value.calls, &Err(refused(partition))));
            }
        }
        told
    }

    /// Give up what has waited too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Event> {
        let late = self.calls.iter().filter(|(_, call)| call.deadline <= now).map(|(id, _)| *id);
        let late: Vec<CommitId> = late.collect();
        let mut told = Vec::new();
        for id in late {
            let open = self.calls.get(&id).map(|call| call.open.clone()).unwrap_or_default();
            for partition in open {
                let error = Error::timeout(format!("the offset of {partition} was not committed in time"));
                told.extend(self.tell(id, &partition, Err(error.maybe_done())));
            }
        }
        let calls = &self.calls;
        self.waiting.retain(|_, value| {
            value.calls.retain(|id| calls.contains_key(id));
            !value.calls.is_empty()
        });
        told
    }

    pub(super) fn ask(
        &mut self,
        ticket: u64,
        membership: &Membership,
        now: Instant,
    ) -> Option<OffsetCommitRequest> {
        if self.flight.is_some() || self.waiting.is_empty() || !self.pause.allows(membership, now) {
            return None;
        }
        let values = std::mem::take(&mut self.waiting);
        let mut topics: BTreeMap<Str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (partition, value) in &values {
            topics.entry(partition.name().clone()).or_default().push(OffsetCommitRequestPartition {
                partition_index: partition.partition(),
                committed_offset: value.offset.offset,
                committed_leader_epoch: value.offset.leader_epoch,
                committed_metadata: Some(value.offset.metadata.clone()),
                ..Default::default()
            });
        }
        let generation = membership.generation;
        self.flight = Some(Flight { ticket, generation, values });
        let topics = topics.into_iter();
        Some(OffsetCommitRequest {
            group_id: membership.group.clone(),
            generation_id_or_member_epoch: generation,
            member_id: membership.member.clone(),
            group_instance_id: membership.instance.clone(),
            topics: topics
                .map(|(name, partitions)| OffsetCommitRequestTopic { name, partitions, ..Default::default() })
                .collect(),
            ..Default::default()
        })
    }

    /// When to ask, if something waits.
    pub(super) fn due(&self, generation: i32, now: Option<Instant>) -> Option<Instant> {
        let waits = self.flight.is_none() && !self.waiting.is_empty();
        if waits { self.pause.until(generation).or(now) } else { None }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.calls.values().map(|call| call.deadline).min()
    }

    fn tell_all(
        &mut self,
        partition: &TopicPartition,
        calls: &BTreeSet<CommitId>,
        result: &Result<()>,
    ) -> Vec<Event> {
        calls.iter().filter_map(|id| self.tell(*id, partition, result.clone())).collect()
    }

    fn tell(&mut self, id: CommitId, partition: &TopicPartition, result: Result<()>) -> Option<Event> {
        let call = self.calls.get_mut(&id)?;
        if call.open.remove(partition) {
            call.results.insert(partition.clone(), result);
        }
        if call.open.is_empty() { self.finish(id) } else { None }
    }

    fn finish(&mut self, id: CommitId) -> Option<Event> {
        let call = self.calls.remove(&id)?;
        Some(Event::Committed { id, results: call.results })
    }

    /// To be sent again, unless it is not ours any more or something newer waits already.
    fn retry(&mut self, partition: &TopicPartition, value: Value, keep_old: bool) -> Vec<Event> {
        if self.is_closed(partition, value.assignment) {
            return self.tell_all(partition, &value.calls, &Err(refused(partition).maybe_done()));
        }
        match self.waiting.get_mut(partition) {
            Some(newer) => {
                newer.calls.extend(value.calls);
                if keep_old {
                    newer.offset = value.offset;
                }
            }
            None => {
                self.waiting.insert(partition.clone(), value);
            }
        }
        Vec::new()
    }
}

impl Machine {
    pub(super) fn commits_answered(&mut self, answer: Result<OffsetCommitResponse>, now: Instant) {
        let Some(flight) = self.commits.flight.take() else { return };
        let mut codes = BTreeMap::new();
        let mut lost = None;
        match answer {
            Ok(answer) => {
                for topic in answer.topics {
                    for it in topic.partitions {
                        let partition = TopicPartition::of(&topic.name, it.partition_index);
                        codes.entry(partition).or_insert(ErrorCode(it.error_code));
                    }
                }
            }
            Err(error) => lost = Some(error),
        }
        let fatal = lost.filter(|error| !passes(error));
        let mut rejoin = BTreeSet::new();
        let mut again = false;
        for (partition, value) in flight.values {
            let code = codes.get(&partition).copied();
            if let Some(error) = &fatal {
                let told = self.commits.tell_all(&partition, &value.calls, &Err(error.clone()));
                self.events.extend(told);
            } else if self.commit_ended(&partition, value, code, flight.generation) {
                again = true;
            }
            rejoin.extend(code.filter(|code| wants_epoch(*code) || shuts_out(*code)));
        }
        if rejoin.iter().any(|code| wants_epoch(*code)) {
            self.commits.pause.stale = Some((flight.generation, now + EPOCH_WAIT));
        }
        self.events.extend(rejoin.into_iter().map(Event::Rejoin));
        if again {
            self.commits.pause.again(self.backoff, &mut self.dice, now);
        } else {
            self.commits.pause.ended();
        }
    }

    /// What one partition was answered; whether it has to be sent again. Without a code the answer is unknown, and
    /// a commit does no harm when done twice.
    fn commit_ended(
        &mut self,
        partition: &TopicPartition,
        value: Value,
        code: Option<ErrorCode>,
        generation: i32,
    ) -> bool {
        let member = generation >= 0;
        let retries = code.is_none_or(|code| code.is_retriable() || (member && wants_epoch(code)));
        if retries {
            #[cfg(test)]
            let keep_old = self.planted == Some(super::Planted::OldOverNew);
            #[cfg(not(test))]
            let keep_old = false;
            let told = self.commits.retry(partition, value, keep_old);
            self.events.extend(told);
            return true;
        }
        let result = match code {
            Some(code) if !code.is_none() => {
                Err(Error::broker_said(code, format!("the offset of {partition} was to be committed")))
            }
            _ => {
                if !self.commits.is_closed(partition, value.assignment) {
                    self.commits.done.insert(partition.clone(), value.offset.offset);
                }
                Ok(())
            }
        };
        #[cfg(test)]
        let value = self.forgetful(value);
        let told = self.commits.tell_all(partition, &value.calls, &result);
        self.events.extend(told);
        false
    }

    #[cfg(test)]
    fn forgetful(&self, mut value: Value) -> Value {
        if self.planted == Some(super::Planted::ForgetMerged) {
            value.calls = value.calls.pop_last().into_iter().collect();
        }
        value
    }
}

fn refused(partition: &TopicPartition) -> Error {
    Error::invalid(format!("{partition} is not assigned any more, so its offset is not committed"))
}
