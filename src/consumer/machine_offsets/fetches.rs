//! Committed offsets that are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{CommitOffset, EPOCH_WAIT, Event, Machine, Membership, Pause, passes, shuts_out, wants_epoch};
use crate::consumer::TopicPartition;
use crate::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics, OffsetFetchResponse,
};
use crate::wire::{Ints, Str};
use crate::{Error, ErrorCode, Result};

#[derive(Debug)]
struct Flight {
    ticket: u64,
    group: Str,
    generation: i32,
    asked: BTreeMap<TopicPartition, u64>,
}

#[derive(Debug, Default)]
pub(super) struct Fetches {
    /// Each with the number of its question: a partition that went and came back is asked about anew.
    wanted: BTreeMap<TopicPartition, u64>,
    questions: u64,
    flight: Option<Flight>,
    pause: Pause,
}

/// What was answered for one partition.
struct Said {
    offset: i64,
    leader_epoch: i32,
    metadata: Option<Str>,
    code: ErrorCode,
}

impl Fetches {
    pub(super) fn add(&mut self, partitions: BTreeSet<TopicPartition>) {
        self.questions += 1;
        for partition in partitions {
            self.wanted.insert(partition, self.questions);
        }
    }

    pub(super) fn drop(&mut self, partitions: &BTreeSet<TopicPartition>) {
        self.wanted.retain(|partition, _| !partitions.contains(partition));
    }

    pub(super) fn is_in_flight(&self, ticket: u64) -> bool {
        self.flight.as_ref().is_some_and(|flight| flight.ticket == ticket)
    }

    pub(super) fn due(&self, generation: i32, now: Option<Instant>) -> Option<Instant> {
        let waits = self.flight.is_none() && !self.wanted.is_empty();
        if waits { self.pause.until(generation).or(now) } else { None }
    }

    pub(super) fn ask(
        &mut self,
        ticket: u64,
        membership: &Membership,
        now: Instant,
    ) -> Option<OffsetFetchRequest> {
        if self.flight.is_some() || self.wanted.is_empty() || !self.pause.allows(membership, now) {
            return None;
        }
        let mut topics: BTreeMap<Str, Ints> = BTreeMap::new();
        for partition in self.wanted.keys() {
            topics.entry(partition.name().clone()).or_default().push(partition.partition());
        }
        let topics = topics.into_iter().map(|(name, partition_indexes)| OffsetFetchRequestTopics {
            name,
            partition_indexes,
            ..Default::default()
        });
        let member = membership.generation >= 0;
        let group = OffsetFetchRequestGroup {
            group_id: membership.group.clone(),
            member_id: member.then(|| membership.member.clone()),
            member_epoch: membership.generation,
            topics: Some(topics.collect()),
            ..Default::default()
        };
        self.flight = Some(Flight {
            ticket,
            group: membership.group.clone(),
            generation: membership.generation,
            asked: self.wanted.clone(),
        });
        // What an open transaction is about to commit is not known yet (KIP-447, T14).
        Some(OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() })
    }
}

/// What was said of each partition, in whichever form, or the code for all of them. Nothing if it was not said of this group.
fn read(
    answer: OffsetFetchResponse,
    group: &Str,
) -> Result<BTreeMap<TopicPartition, Said>, Option<ErrorCode>> {
    let mut said = BTreeMap::new();
    let mut twice = BTreeSet::new();
    let mut add = |partition: TopicPartition, one: Said| {
        if said.insert(partition.clone(), one).is_some() {
            twice.insert(partition);
        }
    };
    if answer.groups.is_empty() {
        whole(ErrorCode(answer.error_code))?;
        for topic in answer.topics {
            for it in topic.partitions {
                let (offset, leader_epoch) = (it.committed_offset, it.committed_leader_epoch);
                let (metadata, code) = (it.metadata, ErrorCode(it.error_code));
                let partition = TopicPartition::of(&topic.name, it.partition_index);
                add(partition, Said { offset, leader_epoch, metadata, code });
            }
        }
    } else {
        let ours = answer.groups.into_iter().find(|it| it.group_id == *group).ok_or(None)?;
        whole(ErrorCode(ours.error_code))?;
        for topic in ours.topics {
            for it in topic.partitions {
                let (offset, leader_epoch) = (it.committed_offset, it.committed_leader_epoch);
                let (metadata, code) = (it.metadata, ErrorCode(it.error_code));
                let partition = TopicPartition::of(&topic.name, it.partition_index);
                add(partition, Said { offset, leader_epoch, metadata, code });
            }
        }
    }
    // Which of the two is right nobody knows (G12).
    said.retain(|partition, _| !twice.contains(partition));
    Ok(said)
}

fn whole(code: ErrorCode) -> Result<(), Option<ErrorCode>> {
    if code.is_none() { Ok(()) } else { Err(Some(code)) }
}

impl Machine {
    pub(super) fn fetches_answered(&mut self, answer: Result<OffsetFetchResponse>, now: Instant) {
        let Some(flight) = self.fetches.flight.take() else { return };
        let said = match answer {
            Ok(answer) => read(answer, &flight.group),
            Err(error) if passes(&error) => Err(None),
            Err(error) => return self.fetch_failed(&flight, error),
        };
        let member = flight.generation >= 0;
        let said = match said {
            Ok(said) => said,
            Err(Some(code)) if member && (wants_epoch(code) || shuts_out(code)) => {
                self.fetches.pause.stale = Some((flight.generation, now + EPOCH_WAIT));
                self.events.push_back(Event::Rejoin(code));
                BTreeMap::new()
            }
            Err(Some(code)) if !code.is_retriable() => {
                return self.fetch_failed(&flight, Error::broker_said(code, "fetched committed offsets"));
            }
            Err(_) => BTreeMap::new(),
        };
        self.fetched(&flight, said, now);
    }

    fn fetched(&mut self, flight: &Flight, mut said: BTreeMap<TopicPartition, Said>, now: Instant) {
        let mut known = BTreeMap::new();
        let mut again = false;
        for (partition, question) in &flight.asked {
            if !self.still_wants(partition, *question) {
                continue;
            }
            #[cfg(test)]
            if self.planted == Some(super::Planted::OmittedIsNone) && !said.contains_key(partition) {
                known.insert(partition.clone(), None);
                continue;
            }
            match said.remove(partition) {
                Some(said) if said.code.is_none() && said.offset >= -1 => {
                    let offset = CommitOffset {
                        offset: said.offset,
                        leader_epoch: said.leader_epoch.max(-1),
                        metadata: said.metadata.unwrap_or_default(),
                    };
                    known.insert(partition.clone(), (offset.offset >= 0).then_some(offset));
                }
                Some(said) if !said.code.is_none() && !said.code.is_retriable() => {
                    self.fetches.wanted.remove(partition);
                    let error = Error::broker_said(said.code, format!("fetched the offset of {partition}"));
                    let partitions = [partition.clone()].into();
                    self.events.push_back(Event::FetchFailed { partitions, error });
                }
                // What was left out or cannot be right is no word on what is committed (G12).
                _ => again = true,
            }
        }
        self.fetches.wanted.retain(|partition, _| !known.contains_key(partition));
        if !known.is_empty() {
            self.events.push_back(Event::Fetched(known));
        }
        if again {
            self.fetches.pause.again(self.backoff, &mut self.dice, now);
        } else {
            self.fetches.pause.ended();
        }
    }

    fn still_wants(&self, partition: &TopicPartition, question: u64) -> bool {
        let wanted = self.fetches.wanted.get(partition);
        #[cfg(test)]
        if self.planted == Some(super::Planted::AnyAnswer) {
            return wanted.is_some();
        }
        wanted == Some(&question)
    }

    fn fetch_failed(&mut self, flight: &Flight, error: Error) {
        let wanted =
            flight.asked.iter().filter(|(partition, question)| self.still_wants(partition, **question));
        let partitions: BTreeSet<TopicPartition> = wanted.map(|(partition, _)| partition.clone()).collect();
        self.fetches.drop(&partitions);
        self.fetches.pause.ended();
        if !partitions.is_empty() {
            self.events.push_back(Event::FetchFailed { partitions, error });
        }
    }
}

/// Asks what a group has committed, as none of its members.
pub(crate) fn question(group: &Str, partitions: &BTreeSet<TopicPartition>) -> OffsetFetchRequest {
    let mut topics: BTreeMap<Str, Ints> = BTreeMap::new();
    for at in partitions {
        topics.entry(at.name().clone()).or_default().push(at.partition());
    }
    let topics = topics.into_iter().map(|(name, partition_indexes)| OffsetFetchRequestTopics {
        name,
        partition_indexes,
        ..Default::default()
    });
    let group = OffsetFetchRequestGroup {
        group_id: group.clone(),
        topics: Some(topics.collect()),
        ..Default::default()
    };
    OffsetFetchRequest { groups: vec![group], require_stable: true, ..Default::default() }
}

/// The answer to a [`question`], where something is committed.
pub(crate) fn told(
    answer: OffsetFetchResponse,
    group: &Str,
    asked: &BTreeSet<TopicPartition>,
) -> Result<BTreeMap<TopicPartition, CommitOffset>> {
    let mut said = read(answer, group).map_err(|code| match code {
        Some(code) => Error::broker_said(code, "the group's offsets"),
        None => Error::malformed("the answer is about another group"),
    })?;
    let mut found = BTreeMap::new();
    for at in asked {
        let Some(Said { offset, leader_epoch, metadata, code }) = said.remove(at) else {
            return Err(Error::malformed(format!("the answer does not say what is committed of {at}")));
        };
        if !code.is_none() {
            return Err(Error::broker_said(code, format!("the committed offset of {at}")));
        }
        match offset {
            0.. => {
                let metadata = metadata.unwrap_or_default();
                let leader_epoch = leader_epoch.max(-1);
                found.insert(at.clone(), CommitOffset { offset, leader_epoch, metadata });
            }
            -1 => {}
            _ => return Err(Error::malformed(format!("{at} is committed at {offset}"))),
        }
    }
    Ok(found)
}
