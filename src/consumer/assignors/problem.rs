//! A group in numbers: members, topics and partitions as places in lists, so that assignors compare no names.
//!
//! Members stand in the order in which Java's leader walks through them, topics by name, and partitions topic by
//! topic: partition `p` of the topic at place `t` is number `first(t) + p`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Assignment, Assignments, ClusterView, Member, TopicPartitions, java};
use crate::{Error, Result};

/// What is to be assigned to whom.
#[derive(Debug)]
pub(super) struct Problem<'a> {
    pub(super) members: Vec<&'a Member>,
    /// Each member's place among all by id.
    pub(super) rank: Vec<u32>,
    topics: Vec<&'a Arc<str>>,
    /// The first partition of each topic, and behind the last one the number of all partitions.
    first: Vec<u32>,
    /// The topic of each partition.
    topic_of: Vec<u32>,
    /// The topics that Java's map gives, in its order.
    pub(super) map_order: Vec<u32>,
    /// The topics that each member wants, without those that have no partitions.
    pub(super) wanted: Vec<Vec<u32>>,
    /// The members that want each topic.
    pub(super) subscribers: Vec<Vec<u32>>,
    /// All members want the same, counting topics that have no partitions too.
    pub(super) alike: bool,
    /// Each member's rack.
    pub(super) member_rack: Vec<Option<u32>>,
    /// The racks of each partition, none twice. Empty if no member says its own.
    racks: Vec<Vec<u32>>,
    places: HashMap<&'a str, u32>,
}

impl<'a> Problem<'a> {
    pub(super) fn new(cluster: &'a ClusterView, members: &'a [Member]) -> Result<Self> {
        let order = java::map_order(members.iter().map(|member| &*member.id));
        let members: Vec<&Member> = order.iter().filter_map(|place| members.get(*place as usize)).collect();
        let rank = rank(&members)?;
        let Wishes { names, wanted, alike } = wishes(&members);
        // Java's set of names, and then its map of those that have partitions.
        let walked: Vec<(u32, &Arc<str>)> = java::map_order(names.iter().map(|name| &***name))
            .into_iter()
            .filter_map(|id| Some((id, *names.get(id as usize)?)))
            .filter(|(_, name)| cluster.partition_count(name) > 0)
            .collect();
        let walk = java::map_order(walked.iter().map(|(_, name)| &***name));
        let walked: Vec<(u32, &Arc<str>)> =
            walk.into_iter().filter_map(|place| walked.get(place as usize).copied()).collect();
        let mut by_name: Vec<u32> = (0..walked.len() as u32).collect();
        by_name.sort_by(|a, b| java::compare(name_at(&walked, *a), name_at(&walked, *b)));
        let mut topics = Vec::with_capacity(walked.len());
        let mut map_order = vec![0; walked.len()];
        let mut place_of: Vec<Option<u32>> = vec![None; names.len()];
        for (place, walk) in by_name.into_iter().enumerate() {
            let Some((id, name)) = walked.get(walk as usize) else { continue };
            topics.push(*name);
            set(&mut map_order, walk, place as u32);
            set(&mut place_of, *id, Some(place as u32));
        }
        let place_of = |id: &u32| place_of.get(*id as usize).copied().flatten();
        let wanted: Vec<Vec<u32>> =
            wanted.iter().map(|ids| ids.iter().filter_map(place_of).collect()).collect();
        let mut subscribers = vec![Vec::new(); topics.len()];
        for (member, wanted) in (0..).zip(&wanted) {
            for topic in wanted {
                at_mut(&mut subscribers, *topic, |of: &mut Vec<u32>| of.push(member));
            }
        }
        let (first, topic_of) = number(cluster, &topics)?;
        let places = topics.iter().zip(0..).map(|(name, place)| (&***name, place)).collect();
        let (member_rack, racks) = racks(cluster, &members, &topics);
        Ok(Self {
            members,
            rank,
            topics,
            first,
            topic_of,
            map_order,
            wanted,
            subscribers,
            alike,
            member_rack,
            racks,
            places,
        })
    }

    pub(super) fn partition_count(&self) -> u32 {
        self.topic_of.len() as u32
    }

    pub(super) fn topic_count(&self) -> u32 {
        self.topics.len() as u32
    }

    pub(super) fn topic_of(&self, partition: u32) -> u32 {
        at(&self.topic_of, partition)
    }

    /// The partitions of a topic.
    pub(super) fn of_topic(&self, topic: u32) -> std::ops::Range<u32> {
        at(&self.first, topic)..at(&self.first, topic + 1)
    }

    /// The number that a partition has in its topic.
    pub(super) fn within_topic(&self, partition: u32) -> u32 {
        partition - at(&self.first, self.topic_of(partition))
    }

    pub(super) fn topic_name(&self, topic: u32) -> &str {
        self.topics.get(topic as usize).map_or("", |name| name)
    }

    pub(super) fn wants(&self, member: u32, topic: u32) -> bool {
        // The members that want a topic stand in order.
        self.subscribers.get(topic as usize).is_some_and(|of| of.binary_search(&member).is_ok())
    }

    pub(super) fn racks_of(&self, partition: u32) -> &[u32] {
        self.racks.get(partition as usize).map_or(&[], Vec::as_slice)
    }

    pub(super) fn knows_racks(&self) -> bool {
        !self.racks.is_empty()
    }

    /// The numbers of partitions that a member names, without those that there are not.
    pub(super) fn numbers<'b>(&'b self, named: &'b [TopicPartitions]) -> impl Iterator<Item = u32> + 'b {
        named.iter().filter_map(|of| Some((of, *self.places.get(&*of.topic)?))).flat_map(|(of, topic)| {
            let all = self.of_topic(topic);
            let start = all.start;
            let number = move |partition: &i32| start.checked_add(u32::try_from(*partition).ok()?);
            of.partitions.iter().filter_map(number).filter(move |partition| all.contains(partition))
        })
    }

    /// Members as Java sorts them where it does not go by id alone: those with an instance id first.
    pub(super) fn sort_static_first(&self, members: &mut [u32]) {
        let key = |member: &u32| self.members.get(*member as usize).and_then(|of| of.instance_id.as_deref());
        members.sort_by(|a, b| match (key(a), key(b)) {
            (Some(x), Some(y)) => java::compare(x, y),
            (None, None) => at(&self.rank, *a).cmp(&at(&self.rank, *b)),
            (x, y) => y.is_some().cmp(&x.is_some()),
        });
    }

    /// The answer in names: for each member the partitions in their order, each topic where it first stands.
    pub(super) fn answer(&self, lists: &[Vec<u32>]) -> Assignments {
        let mut place: Vec<u32> = vec![u32::MAX; self.topics.len()];
        let mut answer = Assignments::new();
        for (member, list) in self.members.iter().zip(lists) {
            let mut partitions: Vec<TopicPartitions> = Vec::new();
            for partition in list {
                let topic = self.topic_of(*partition);
                let number = self.within_topic(*partition) as i32;
                match partitions.get_mut(at(&place, topic) as usize) {
                    Some(of) => of.partitions.push(number),
                    None => {
                        set(&mut place, topic, partitions.len() as u32);
                        let name = self
                            .topics
                            .get(topic as usize)
                            .map_or_else(|| Arc::from(""), |name| Arc::clone(name));
                        partitions.push(TopicPartitions::new(name, [number]));
                    }
                }
            }
            for partition in list {
                set(&mut place, self.topic_of(*partition), u32::MAX);
            }
            answer.insert(Arc::clone(&member.id), Assignment::of(partitions));
        }
        answer
    }
}

/// The element at a place that this module has numbered.
pub(super) fn at<T: Copy + Default>(list: &[T], place: u32) -> T {
    debug_assert!((place as usize) < list.len());
    list.get(place as usize).copied().unwrap_or_default()
}

/// Changes the element at a place that this module has numbered.
pub(super) fn at_mut<T, R>(list: &mut [T], place: u32, change: impl FnOnce(&mut T) -> R) -> Option<R> {
    debug_assert!((place as usize) < list.len());
    list.get_mut(place as usize).map(change)
}

pub(super) fn set<T>(list: &mut [T], place: u32, value: T) {
    at_mut(list, place, |old| *old = value);
}

fn name_at<'a>(walked: &[(u32, &'a Arc<str>)], place: u32) -> &'a str {
    walked.get(place as usize).map_or("", |(_, name)| name)
}

/// Each member's place by id. No id may stand twice (B34).
fn rank(members: &[&Member]) -> Result<Vec<u32>> {
    let mut by_id: Vec<(&str, u32)> =
        members.iter().zip(0..).map(|(member, place)| (&*member.id, place)).collect();
    by_id.sort_by(|a, b| java::compare(a.0, b.0));
    if let Some([(id, _), ..]) = by_id.windows(2).find(|pair| matches!(pair, [a, b] if a.0 == b.0)) {
        return Err(Error::malformed(format!(
            "two members have the id {}",
            crate::error::quoted(id.as_bytes())
        )));
    }
    let mut rank = vec![0; members.len()];
    for (place, (_, member)) in by_id.into_iter().enumerate() {
        set(&mut rank, member, place as u32);
    }
    Ok(rank)
}

/// What members want, by the place of a name in `names`, which stand in the order of their coming.
struct Wishes<'a> {
    names: Vec<&'a Arc<str>>,
    wanted: Vec<Vec<u32>>,
    alike: bool,
}

fn wishes<'a>(members: &[&'a Member]) -> Wishes<'a> {
    let mut ids: HashMap<&str, u32> = HashMap::new();
    let mut names: Vec<&Arc<str>> = Vec::new();
    let mut wanted: Vec<Vec<u32>> = Vec::with_capacity(members.len());
    // By whom a name was last named, so that nobody names it twice.
    let mut named_by: Vec<u32> = Vec::new();
    let mut before: Option<&[Arc<str>]> = None;
    let mut alike = true;
    for (member, place) in members.iter().zip(0..) {
        let topics = &member.subscription.topics[..];
        // Most groups are alike, and comparing is cheaper than looking up.
        if let Some(same) = wanted.last().filter(|_| before == Some(topics)) {
            wanted.push(same.clone());
            continue;
        }
        before = Some(topics);
        let mut own = Vec::with_capacity(topics.len());
        for topic in topics {
            let id = *ids.entry(topic).or_insert_with(|| {
                names.push(topic);
                named_by.push(u32::MAX);
                names.len() as u32 - 1
            });
            if at(&named_by, id) != place {
                set(&mut named_by, id, place);
                own.push(id);
            }
        }
        // Whoever wants what the first wants, and as much, wants the same: those were numbered first.
        let first = wanted.first().map_or(own.len(), Vec::len);
        alike &= own.len() == first && own.iter().all(|id| (*id as usize) < first);
        wanted.push(own);
    }
    Wishes { names, wanted, alike }
}

/// The first partition of each topic, and the topic of each partition.
fn number(cluster: &ClusterView, topics: &[&Arc<str>]) -> Result<(Vec<u32>, Vec<u32>)> {
    let (mut first, mut topic_of) = (vec![0], Vec::new());
    for (topic, place) in topics.iter().zip(0..) {
        topic_of.resize(topic_of.len() + cluster.partition_count(topic), place);
        // So that every number of a partition is one of Kafka's too.
        let end =
            i32::try_from(topic_of.len()).map_err(|_| Error::limit("more than 2147483647 partitions"))?;
        first.push(end as u32);
    }
    Ok((first, topic_of))
}

/// Each member's rack, and each partition's; the latter only if some member has one.
fn racks<'a>(
    cluster: &'a ClusterView,
    members: &[&'a Member],
    topics: &[&Arc<str>],
) -> (Vec<Option<u32>>, Vec<Vec<u32>>) {
    let mut ids: BTreeMap<&str, u32> = BTreeMap::new();
    let mut id = |rack: &'a Arc<str>| {
        let next = ids.len() as u32;
        *ids.entry(rack).or_insert(next)
    };
    let rack = |member: &&'a Member| member.subscription.rack.as_ref().filter(|rack| !rack.is_empty());
    let of_members: Vec<Option<u32>> = members.iter().map(|member| rack(member).map(&mut id)).collect();
    if of_members.iter().all(Option::is_none) {
        return (of_members, Vec::new());
    }
    let mut of_partitions = Vec::new();
    for partition in topics.iter().flat_map(|topic| cluster.partitions(topic)) {
        let mut racks: Vec<u32> = partition.iter().map(&mut id).collect();
        racks.sort_unstable();
        racks.dedup();
        of_partitions.push(racks);
    }
    (of_members, of_partitions)
}

/// Whether going by racks can help: some of the members' are among those of the partitions, and not every partition
/// is in all of them (KIP-881).
pub(super) fn racks_matter<'a>(
    of_members: impl Iterator<Item = u32>,
    of_partitions: impl Iterator<Item = &'a [u32]> + Clone,
) -> bool {
    let mut all: Vec<u32> = of_partitions.clone().flatten().copied().collect();
    all.sort_unstable();
    all.dedup();
    let mut of_members = of_members;
    of_members.any(|rack| all.binary_search(&rack).is_ok())
        && of_partitions.clone().any(|racks| racks.len() != all.len())
}
