//! Each topic cut into ranges, one a member.

use std::collections::BTreeMap;

use super::problem::{Problem, at, at_mut, racks_matter};
use super::{AssignError, Assignments, Assignor, ClusterView, Member};

/// Cuts each topic's partitions into ranges, and gives the first to the first member that wants the topic, and so
/// on: Java's `RangeAssignor`, and the default of Kafka's clients. Static members come first, by instance id, then
/// the others by id (KIP-345). Topics with as many partitions and the same members are cut alike, so that what
/// belongs together comes together.
///
/// Where members and brokers say their racks, partitions go to members that have a replica near, as far as that
/// changes neither how many a member has of a topic, nor that topics are cut alike (KIP-881).
///
/// Eager.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range;

impl Assignor for Range {
    fn name(&self) -> &'static str {
        "range"
    }

    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Assignments, AssignError> {
        let problem = Problem::new(cluster, members)?;
        let mut lists = vec![Vec::new(); problem.members.len()];
        let mut topics: Vec<Topic> =
            problem.map_order.iter().map(|topic| Topic::new(&problem, *topic)).collect();
        let by_racks = topics.iter().any(|topic| topic.by_racks);
        if by_racks {
            match_racks(&problem, &mut topics, &mut lists);
        }
        for topic in &mut topics {
            topic.cut(&problem, false, &mut lists);
        }
        if by_racks {
            lists.iter_mut().for_each(|list| list.sort_unstable());
        }
        Ok(problem.answer(&lists))
    }
}

/// A topic that is being cut.
struct Topic {
    first: u32,
    /// In the order in which they get their ranges, with the number of partitions that each has.
    consumers: Vec<(u32, u32)>,
    /// In order.
    unassigned: Vec<u32>,
    /// What each gets at the least, and how many get one more.
    each: u32,
    more: u32,
    knows_racks: bool,
    by_racks: bool,
}

impl Topic {
    fn new(problem: &Problem<'_>, topic: u32) -> Self {
        let mut consumers = problem.subscribers.get(topic as usize).cloned().unwrap_or_default();
        problem.sort_static_first(&mut consumers);
        let all = problem.of_topic(topic);
        let (len, count) = (all.len() as u32, consumers.len() as u32);
        let rack_of = |consumer: &u32| at(&problem.member_rack, *consumer);
        let knows_racks = consumers.iter().any(|consumer| rack_of(consumer).is_some());
        let of_partitions = all.clone().map(|partition| problem.racks_of(partition));
        let by_racks = knows_racks && racks_matter(consumers.iter().filter_map(rack_of), of_partitions);
        Self {
            first: all.start,
            consumers: consumers.into_iter().map(|consumer| (consumer, 0)).collect(),
            unassigned: all.collect(),
            each: len.checked_div(count).unwrap_or(0),
            more: len.checked_rem(count).unwrap_or(0),
            knows_racks,
            by_racks,
        }
    }

    /// How many partitions more a consumer may have, of which it has so many.
    fn room(&self, has: u32) -> u32 {
        (self.each + u32::from(self.more > 0)).saturating_sub(has)
    }

    fn count(&mut self, place: usize, got: u32) {
        let Some((_, has)) = self.consumers.get_mut(place) else { return };
        *has += got;
        if *has > self.each {
            self.more = self.more.saturating_sub(1);
        }
    }

    /// Gives each consumer what it has room for, in order: of all that is left, or of what is near it.
    fn cut(&mut self, problem: &Problem<'_>, near: bool, lists: &mut [Vec<u32>]) {
        let mut left = std::mem::take(&mut self.unassigned);
        let mut taken = 0;
        for place in 0..self.consumers.len() {
            let Some((consumer, has)) = self.consumers.get(place).copied() else { break };
            let room = self.room(has) as usize;
            if room == 0 || taken == left.len() {
                continue;
            }
            let got = at_mut(lists, consumer, |list| {
                let before = list.len();
                if near && at(&problem.member_rack, consumer).is_some() {
                    let mut room = room;
                    left.retain(|partition| {
                        let take = room > 0 && is_near(problem, consumer, *partition);
                        room -= usize::from(take);
                        if take {
                            list.push(*partition);
                        }
                        !take
                    });
                } else {
                    let end = left.len().min(taken + room);
                    list.extend(left.get(taken..end).unwrap_or_default());
                    taken = end;
                }
                // What is near may be anywhere, so nothing may be left in front.
                if near && taken > 0 {
                    left.drain(..taken);
                    taken = 0;
                }
                list.len() - before
            });
            if let Some(got @ 1..) = got {
                self.count(place, got as u32);
            }
        }
        left.drain(..taken);
        self.unassigned = left;
    }
}

fn is_near(problem: &Problem<'_>, consumer: u32, partition: u32) -> bool {
    at(&problem.member_rack, consumer).is_none_or(|rack| problem.racks_of(partition).contains(&rack))
}

/// Gives away what can be given to members that are near.
fn match_racks(problem: &Problem<'_>, topics: &mut [Topic], lists: &mut [Vec<u32>]) {
    // Topics that are to be cut alike: the same consumers, and as many partitions.
    let mut alike: BTreeMap<(Vec<u32>, usize), Vec<usize>> = BTreeMap::new();
    for (place, topic) in topics.iter().enumerate().filter(|(_, topic)| topic.knows_racks) {
        let consumers = topic.consumers.iter().map(|(consumer, _)| *consumer).collect();
        alike.entry((consumers, topic.unassigned.len())).or_default().push(place);
    }
    for ((consumers, count), places) in alike {
        match places[..] {
            [place] => {
                if let Some(topic) = topics.get_mut(place).filter(|topic| topic.by_racks) {
                    topic.cut(problem, true, lists);
                }
            }
            _ => match_together(problem, topics, &places, &consumers, count as u32, lists),
        }
    }
}

/// A partition's number goes, in all of these topics, to the first member that is near in all of them.
fn match_together(
    problem: &Problem<'_>,
    topics: &mut [Topic],
    places: &[usize],
    consumers: &[u32],
    count: u32,
    lists: &mut [Vec<u32>],
) {
    let mut remaining: Vec<usize> = (0..consumers.len()).collect();
    let mut given = Vec::new();
    // All of them have given the same to each consumer, so one speaks for all.
    let Some(speaker) = places.first().copied() else { return };
    let room = |topics: &[Topic], place: usize| {
        let topic = topics.get(speaker)?;
        Some(topic.room(topic.consumers.get(place)?.1))
    };
    for number in 0..count {
        let near_in_all = |place: &usize| {
            let Some(consumer) = consumers.get(*place) else { return false };
            room(topics, *place).is_some_and(|room| room > 0)
                && places
                    .iter()
                    .filter_map(|at| topics.get(*at))
                    .all(|topic| is_near(problem, *consumer, topic.first + number))
        };
        let Some(index) = remaining.iter().position(near_in_all) else { continue };
        let Some((place, consumer)) =
            remaining.get(index).and_then(|place| Some((*place, *consumers.get(*place)?)))
        else {
            continue;
        };
        given.push(number);
        for at in places {
            let Some(topic) = topics.get_mut(*at) else { continue };
            let partition = topic.first + number;
            at_mut(lists, consumer, |list| list.push(partition));
            topic.count(place, 1);
        }
        if room(topics, place) == Some(0) {
            remaining.remove(index);
            if remaining.is_empty() {
                break;
            }
        }
    }
    for place in places {
        let Some(topic) = topics.get_mut(*place) else { continue };
        let first = topic.first;
        topic.unassigned.retain(|partition| given.binary_search(&(partition - first)).is_err());
    }
}
