//! Balance first, and then that members keep what they had: what the two sticky assignors share, and the eager one.
//!
//! `Claims` settles who had what, from what members say of different generations. Where all members want the same,
//! `constrained` fills them up to their quotas; else `general` moves partitions while that evens things out.

use std::sync::Arc;

use bytes::Bytes;

use super::problem::{Problem, at, at_mut, racks_matter, set};
use super::{
    AssignError, Assignments, Assignor, ClusterView, Member, Received, TopicPartitions, constrained, general,
    java,
};
use crate::Result;

/// Balanced, and else as it was before: Java's `StickyAssignor` (KIP-54). Members say in their user data what they
/// had. Where members and brokers say their racks, partitions go to members that have a replica near, as far as
/// balance allows (KIP-881).
///
/// Eager: members give up their partitions before they join again, though most then get the same ones. See
/// [`CooperativeSticky`](super::CooperativeSticky).
///
/// Unlike Java's: members that subscribed to no topic get no partitions, nor do members get partitions of topics
/// that they have ceased to want; of what a member says it had, partitions that there are not are passed over; balance
/// is counted without overflow; and moving partitions ends in all groups.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sticky;

impl Assignor for Sticky {
    fn name(&self) -> &'static str {
        "sticky"
    }

    fn user_data(&self, _topics: &[Arc<str>], received: Option<Received<'_>>) -> Option<Bytes> {
        let received = received?;
        Some(write_user_data(received.partitions, received.generation))
    }

    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Assignments, AssignError> {
        let problem = Problem::new(cluster, members)?;
        let said = problem.members.iter().map(|member| {
            let (had, generation) = match member.subscription.user_data.as_deref() {
                None | Some([]) => (Vec::new(), None),
                // What cannot be read counts as nothing, and not as an error: it is how Java came from version 0 to 1.
                Some(data) => read_user_data(data).unwrap_or_else(|| (Vec::new(), Some(NO_GENERATION))),
            };
            Said { had: problem.numbers(&had).collect(), generation }
        });
        let said = said.collect();
        Ok(problem.answer(&assign(&problem, said)?.lists))
    }
}

/// Java's default for who says nothing.
pub(super) const NO_GENERATION: i32 = -1;

/// What a member says of its past.
pub(super) struct Said {
    /// The partitions that it had, as far as there are such.
    pub(super) had: Vec<u32>,
    pub(super) generation: Option<i32>,
}

/// The partitions of each member, and which of them change hands and can be given only in the next generation.
pub(super) struct Outcome {
    pub(super) lists: Vec<Vec<u32>>,
    /// `None` where that was not looked at.
    pub(super) moving: Option<Vec<(u32, u32)>>,
}

pub(super) fn assign(problem: &Problem<'_>, said: Vec<Said>) -> Result<Outcome> {
    let claims = Claims::new(problem, said);
    let racks = Racks::new(problem);
    if problem.alike {
        let (lists, moving) = constrained::assign(problem, &racks, &claims)?;
        return Ok(Outcome { lists, moving: Some(moving) });
    }
    Ok(Outcome { lists: general::assign(problem, &racks, claims), moving: None })
}

/// Who had what.
pub(super) struct Claims {
    pub(super) said: Vec<Said>,
    pub(super) newest: i32,
    /// What each member had, in the order of its words, no partition twice: of two that claim one, the one of the later
    /// generation had it, and of two of the same generation nobody.
    pub(super) held: Vec<Vec<u32>>,
    /// Partitions that two members of one generation have claimed.
    pub(super) disputed: Vec<bool>,
}

impl Claims {
    fn new(problem: &Problem<'_>, said: Vec<Said>) -> Self {
        let partitions = problem.partition_count() as usize;
        let mut disputed = vec![false; partitions];
        // Of each partition, who claimed it last with success, and the place in that one's list.
        let mut owner: Vec<Option<(u32, u32)>> = vec![None; partitions];
        let mut lists: Vec<Vec<Option<u32>>> = vec![Vec::new(); said.len()];
        let mut newest = NO_GENERATION;
        for (member, own) in (0..).zip(&said) {
            let generation = own.generation.unwrap_or(NO_GENERATION);
            newest = newest.max(generation);
            for partition in &own.had {
                let place = lists.get(member as usize).map_or(0, Vec::len) as u32;
                if let Some((other, before)) = at(&owner, *partition) {
                    // Java takes this one's generation from where the assignor keeps it, and that one's from the
                    // field of the subscription.
                    let others =
                        problem.members.get(other as usize).and_then(|of| of.subscription.generation);
                    let others = others.unwrap_or(NO_GENERATION);
                    if generation < others {
                        continue;
                    }
                    let remove = |list: &mut Vec<Option<u32>>| {
                        list.get_mut(before as usize).and_then(|slot| slot.take_if(|it| it == partition))
                    };
                    at_mut(&mut lists, other, remove);
                    set(&mut owner, *partition, Some((member, place)));
                    if generation == others {
                        set(&mut disputed, *partition, true);
                        continue;
                    }
                }
                at_mut(&mut lists, member, |list| list.push(Some(*partition)));
                set(&mut owner, *partition, Some((member, place)));
            }
        }
        let held = lists.into_iter().map(|list| list.into_iter().flatten().collect()).collect();
        Self { said, newest, held, disputed }
    }
}

/// Whether racks are looked at, and how.
pub(super) struct Racks<'a> {
    problem: &'a Problem<'a>,
    pub(super) matter: bool,
    /// How many members each rack has; empty if no member has one.
    members_of: Vec<u32>,
}

impl<'a> Racks<'a> {
    fn new(problem: &'a Problem<'a>) -> Self {
        let of_members = || problem.member_rack.iter().flatten().copied();
        let mut members_of = vec![0; of_members().max().map_or(0, |most| most as usize + 1)];
        for rack in of_members() {
            at_mut(&mut members_of, rack, |count| *count += 1);
        }
        let of_partitions = (0..problem.partition_count()).map(|partition| problem.racks_of(partition));
        let matter = problem.knows_racks() && racks_matter(of_members(), of_partitions);
        Self { problem, matter, members_of }
    }

    /// The member has a rack, and the partition no replica there.
    pub(super) fn mismatch(&self, member: u32, partition: u32) -> bool {
        self.matter
            && at(&self.problem.member_rack, member)
                .is_some_and(|rack| !self.problem.racks_of(partition).contains(&rack))
    }

    /// The member has a rack, and the partition a replica there.
    pub(super) fn is_near(&self, member: u32, partition: u32) -> bool {
        self.matter
            && at(&self.problem.member_rack, member)
                .is_some_and(|rack| self.problem.racks_of(partition).contains(&rack))
    }

    /// Those first that have the fewest members near. Java does so even where racks do not matter otherwise.
    pub(super) fn sort(&self, partitions: &mut [u32]) {
        if self.members_of.is_empty() {
            return;
        }
        partitions.sort_by_cached_key(|partition| -> u32 {
            let racks = self.problem.racks_of(*partition).iter();
            racks.filter_map(|rack| self.members_of.get(*rack as usize)).sum()
        });
    }
}

/// Java's version 1: the partitions by topic, in the order of its map, and the generation.
fn write_user_data(partitions: &[TopicPartitions], generation: i32) -> Bytes {
    let mut topics: Vec<(&str, Vec<i32>)> = Vec::new();
    let mut places = std::collections::BTreeMap::new();
    let mut calls = Vec::new();
    for of in partitions.iter().filter(|of| !of.partitions.is_empty()) {
        let place = *places.entry(&*of.topic).or_insert_with(|| {
            topics.push((&of.topic, Vec::new()));
            topics.len() - 1
        });
        let Some((_, numbers)) = topics.get_mut(place) else { continue };
        calls.extend((0..of.partitions.len()).map(|n| n == 0 && numbers.is_empty()));
        numbers.extend(&of.partitions);
    }
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&(topics.len() as i32).to_be_bytes());
    for place in java::computed_map_order(topics.iter().map(|(topic, _)| *topic), calls) {
        let Some((topic, numbers)) = topics.get(place as usize) else { continue };
        bytes.extend_from_slice(&(topic.len() as i16).to_be_bytes());
        bytes.extend_from_slice(topic.as_bytes());
        bytes.extend_from_slice(&(numbers.len() as i32).to_be_bytes());
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_be_bytes()));
    }
    bytes.extend_from_slice(&generation.to_be_bytes());
    bytes.into()
}

/// Reads version 1, or version 0, which ends before the generation. `None` if it is neither.
fn read_user_data(data: &[u8]) -> Option<(Vec<TopicPartitions>, Option<i32>)> {
    let mut rest = data;
    let mut topics = Vec::new();
    for _ in 0..read_count(&mut rest)? {
        let (len, after) = rest.split_first_chunk()?;
        let (name, after) = after.split_at_checked(usize::try_from(i16::from_be_bytes(*len)).ok()?)?;
        rest = after;
        let count = read_count(&mut rest)?;
        let (numbers, after) = rest.split_at_checked(count.checked_mul(4)?)?;
        rest = after;
        let numbers = numbers.as_chunks().0.iter().map(|number| i32::from_be_bytes(*number));
        // As in Java, a name that is no UTF-8 is one that no topic has.
        topics.push(TopicPartitions::new(String::from_utf8_lossy(name), numbers));
    }
    let generation = rest.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
    Some((topics, generation))
}

/// The length of a list; there must be a byte at least for each element.
fn read_count(rest: &mut &[u8]) -> Option<usize> {
    let (count, after) = rest.split_first_chunk()?;
    *rest = after;
    usize::try_from(i32::from_be_bytes(*count)).ok().filter(|count| *count <= after.len())
}
