//! Groups as they come: of few or many members, alike or not, in racks or not, some of them static, some of old
//! clients; and what happens to them between generations.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use weir::consumer::assignors::{
    Assignment, Assignor, ClusterView, CooperativeSticky, Member, Range, Rebalance, Received, RoundRobin,
    Sticky, Subscription, TopicPartitions,
};

use super::super::draw::Random;
use super::flat;

pub(super) const ASSIGNORS: [&dyn Assignor; 4] = [&Range, &RoundRobin, &Sticky, &CooperativeSticky];

/// What a leader is told: the members, each with its subscription as it was sent.
#[derive(Debug, Clone)]
pub(super) struct Round {
    pub(super) cluster: ClusterView,
    pub(super) members: Vec<(Member, Bytes)>,
}

pub(super) struct Group {
    assignor: &'static dyn Assignor,
    cluster: ClusterView,
    people: Vec<Person>,
    /// Members that have left with what they knew, and may come back.
    away: Vec<Person>,
    alike: bool,
    racks: u64,
    generation: i32,
    named: u64,
}

/// A member as it knows itself.
#[derive(Debug, Clone)]
struct Person {
    id: String,
    instance_id: Option<String>,
    rack: Option<String>,
    topics: Vec<Arc<str>>,
    /// The version in which it writes.
    version: i16,
    /// What it was given last, and in which generation.
    received: Option<(Vec<TopicPartitions>, i32)>,
}

impl Group {
    pub(super) fn draw(random: &mut Random, assignor: &'static dyn Assignor) -> Self {
        let mut group = Self {
            assignor,
            cluster: ClusterView::new(),
            people: Vec::new(),
            away: Vec::new(),
            alike: random.chance(2),
            racks: if random.chance(2) { 0 } else { 1 + random.below(4) },
            generation: random.below(3) as i32,
            named: 0,
        };
        let topics = 1 + mostly(random, 6, 8, 40);
        for topic in 0..topics {
            group.grow(random, &format!("t{topic}"));
        }
        let members = 1 + mostly(random, 8, 10, 60);
        (0..members).for_each(|_| group.enter(random));
        group
    }

    /// Makes a topic, or adds partitions to it.
    fn grow(&mut self, random: &mut Random, topic: &str) {
        let had = self.cluster.partition_count(topic);
        let count = had + mostly(random, 9, 12, 80) as usize;
        // Topics of a group often have as many partitions.
        let count = if random.chance(3) { had.max(4) } else { count };
        let mut racks: Vec<Vec<Arc<str>>> =
            (0..had).map(|at| self.cluster.racks(topic, at).to_vec()).collect();
        let replicas = 1 + random.below(3);
        while racks.len() < count {
            let rack = |_| Arc::from(format!("rack-{}", random.below(self.racks)));
            racks.push(if self.racks == 0 { Vec::new() } else { (0..replicas).map(rack).collect() });
        }
        self.cluster.insert(topic, racks);
    }

    /// Some topics: all, if the group is alike. Some there are not.
    fn topics(&self, random: &mut Random) -> Vec<Arc<str>> {
        let all: Vec<Arc<str>> = self.cluster.topics().map(|(topic, _)| topic.clone()).collect();
        let mut topics: Vec<Arc<str>> = all.into_iter().filter(|_| self.alike || !random.chance(3)).collect();
        if !self.alike && random.chance(6) {
            topics.push("unheard-of".into());
        }
        if random.chance(60) {
            topics.clear();
        }
        topics
    }

    fn enter(&mut self, random: &mut Random) {
        self.named += 1;
        let name = ["consumer-", "c", "\u{1f511}-", "\u{ff5e}-", "a-very-long-client-id-of-somebody-"];
        let name = name[mostly(random, 2, 4, 5) as usize];
        let topics = self.topics(random);
        let aged = random.chance(8);
        self.people.push(Person {
            id: format!("{name}{:08x}-{}", random.next() as u32, self.named),
            instance_id: random.chance(4).then(|| format!("i{}", 1000 - self.named)),
            rack: (self.racks > 0 && !random.chance(5))
                .then(|| format!("rack-{}", random.below(self.racks + 1))),
            topics,
            version: if aged { random.below(3) as i16 } else { 3 },
            received: None,
        });
    }

    /// Something happens, and then all members join.
    pub(super) fn join(&mut self, random: &mut Random) -> Round {
        if self.generation > 2 {
            (0..=random.below(2)).for_each(|_| self.happen(random));
        }
        if self.people.is_empty() {
            self.enter(random);
        }
        let mut members: Vec<(Member, Bytes)> = Vec::new();
        for at in 0..self.people.len() {
            let person = self.people[at].clone();
            members.push(self.sent(random, &person));
        }
        // They come in any order.
        for at in (1..members.len()).rev() {
            members.swap(at, random.below(at as u64 + 1) as usize);
        }
        Round { cluster: self.cluster.clone(), members }
    }

    fn happen(&mut self, random: &mut Random) {
        let any = random.below(self.people.len().max(1) as u64) as usize;
        match random.below(10) {
            0..=2 => self.enter(random),
            3..=4 if !self.people.is_empty() => {
                let gone = self.people.swap_remove(any);
                self.away.push(gone);
            }
            5..=6 if !self.away.is_empty() => {
                let back = self.away.swap_remove(random.below(self.away.len() as u64) as usize);
                self.people.push(back);
            }
            7 if !self.alike && !self.people.is_empty() => {
                let topics = self.topics(random);
                self.people[any].topics = topics;
            }
            8 => {
                let topic = format!("t{}", random.below(8));
                self.grow(random, &topic);
                if self.alike {
                    let topics = self.cluster.topics().map(|(topic, _)| topic.clone()).collect::<Vec<_>>();
                    let all = self.people.iter_mut().chain(&mut self.away);
                    all.filter(|person| !person.topics.is_empty())
                        .for_each(|person| person.topics.clone_from(&topics));
                }
            }
            // Somebody says the same as another.
            9 if self.people.len() > 1 => {
                let other = (any + 1) % self.people.len();
                self.people[any].received = self.people[other].received.clone();
            }
            _ => {}
        }
    }

    /// What a member sends, and what its leader reads.
    fn sent(&self, random: &mut Random, person: &Person) -> (Member, Bytes) {
        let mut received = person.received.clone();
        if let Some((partitions, _)) = &mut received {
            // A member that has given up a topic does not say that it had it.
            partitions.retain(|of| person.topics.contains(&of.topic));
        }
        let had = received.as_ref().map(|(partitions, generation)| Received::new(partitions, *generation));
        let mut subscription = Subscription::to(person.topics.iter().cloned());
        subscription.user_data = self.assignor.user_data(&person.topics, had);
        subscription.generation = received.as_ref().map(|(_, generation)| *generation);
        if self.assignor.rebalance() == Rebalance::Cooperative && person.version > 0 {
            subscription.owned = received.map(|(partitions, _)| partitions).unwrap_or_default();
        }
        subscription.rack = person.rack.as_deref().map(Arc::from);
        if let Some(data) = subscription.user_data.take() {
            // Version 0 of sticky's has no generation; other things cannot be read at all.
            let cut =
                if random.chance(20) { random.below(data.len() as u64 + 1) as usize } else { data.len() };
            let cut = if random.chance(12) { data.len().saturating_sub(4) } else { cut };
            subscription.user_data = Some(data.slice(..cut));
        }
        if person.version < 3 {
            subscription.rack = None;
        }
        let whole = subscription.to_bytes().expect("short names");
        // Rack, generation and owned partitions stand at the end, in this order.
        let end = match person.version {
            0 => whole.len() - 10,
            1 => whole.len() - 6,
            2 => whole.len() - 2,
            _ => whole.len(),
        };
        let mut blob = whole[..end].to_vec();
        let version = if person.version == 3 && random.chance(20) { 99 } else { person.version };
        blob[..2].copy_from_slice(&version.to_be_bytes());
        if version == 99 {
            blob.extend([7; 5]);
        }
        let blob = Bytes::from(blob);
        let read = Subscription::from_bytes(&blob).expect("we wrote it");
        let mut member = Member::new(person.id.as_str(), read);
        if let Some(instance_id) = &person.instance_id {
            member = member.with_instance_id(instance_id.as_str());
        }
        (member, blob)
    }

    /// Members hear what they were given; some do not. Says how many partitions changed hands.
    pub(super) fn receive(&mut self, blobs: Vec<(String, Bytes)>, random: &mut Random) -> usize {
        self.generation += 1;
        let mut moved = 0;
        for (id, blob) in blobs {
            let Some(person) = self.people.iter_mut().find(|person| person.id == id) else { continue };
            if random.chance(15) {
                continue;
            }
            let partitions = Assignment::from_bytes(&blob).expect("we wrote it").partitions;
            let had: BTreeSet<_> = person.received.iter().flat_map(|(had, _)| flat(had)).collect();
            moved += flat(&partitions).filter(|it| !had.contains(it)).count();
            person.received = Some((partitions, self.generation));
        }
        moved
    }
}

/// A number below a bound, and one time in so many below another.
fn mostly(random: &mut Random, bound: u64, out_of: u64, other: u64) -> u64 {
    let bound = if random.chance(out_of) { other } else { bound };
    random.below(bound)
}

/// The partitions in an assignment.
pub(super) fn assigned(blob: &Bytes) -> Vec<(String, i32)> {
    flat(&Assignment::from_bytes(blob).expect("an assignment").partitions).collect()
}

/// The same with a byte changed, or cut short.
pub(super) fn broken(random: &mut Random, blob: &Bytes) -> Bytes {
    let at = random.below(blob.len() as u64) as usize;
    if random.chance(2) {
        return blob.slice(..at);
    }
    let mut bytes = blob.to_vec();
    bytes[at] = random.next() as u8;
    bytes.into()
}
