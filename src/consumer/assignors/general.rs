//! The sticky assignment where members want different topics.
//!
//! Members keep what they had. What is left goes to who has the least. Then partitions are moved, one at a time, to
//! members that have at least two fewer; those that are new are tried before those that members had.

use super::java;
use super::movements::{Movable, Movements};
use super::problem::{Problem, at, at_mut, set};
use super::sticky::{Claims, NO_GENERATION, Racks};

/// The partitions of each member.
pub(super) fn assign(problem: &Problem<'_>, racks: &Racks<'_>, claims: Claims) -> Vec<Vec<u32>> {
    let before = before(problem, &claims);
    let mut topics: Vec<u32> = (0..problem.topic_count()).collect();
    // They stand by name.
    topics.sort_by_key(|topic| problem.subscribers.get(*topic as usize).map_or(0, Vec::len));
    let mut balancing = Balancing {
        problem,
        racks,
        before,
        hashes: (0..problem.topic_count()).map(|topic| java::hash(problem.topic_name(topic))).collect(),
        owner: vec![None; problem.partition_count() as usize],
        lists: vec![Vec::new(); problem.members.len()],
        sizes: vec![0; problem.members.len()],
        movements: Movements::new(problem.partition_count()),
        swaps_left: 1024 + 8 * u64::from(problem.partition_count()),
    };
    let revoked = balancing.keep(claims.held);
    let all: Vec<u32> = topics.iter().flat_map(|topic| problem.of_topic(*topic)).collect();
    let left: Vec<u32> =
        all.iter().copied().filter(|partition| at(&balancing.owner, *partition).is_none()).collect();
    balancing.balance(&all, &left, revoked);
    balancing.lists
}

/// Who had each partition in a generation before the newest one, if it still wants it.
fn before(problem: &Problem<'_>, claims: &Claims) -> Vec<Option<u32>> {
    let mut before: Vec<Option<(u32, i32)>> = vec![None; problem.partition_count() as usize];
    for (member, said) in (0..).zip(&claims.said) {
        let generation = said.generation.unwrap_or(NO_GENERATION);
        if generation >= claims.newest {
            continue;
        }
        for partition in &said.had {
            let newer = at(&before, *partition).is_none_or(|(_, known)| generation > known);
            if newer {
                set(&mut before, *partition, Some((member, generation)));
            }
        }
    }
    let mut wanted = Vec::with_capacity(before.len());
    for (partition, before) in (0..).zip(before) {
        let member = before.map(|(member, _)| member);
        wanted.push(member.filter(|member| problem.wants(*member, problem.topic_of(partition))));
    }
    wanted
}

struct Balancing<'a> {
    problem: &'a Problem<'a>,
    racks: &'a Racks<'a>,
    before: Vec<Option<u32>>,
    /// Of the topics' names.
    hashes: Vec<u32>,
    owner: Vec<Option<u32>>,
    lists: Vec<Vec<u32>>,
    sizes: Vec<u32>,
    movements: Movements,
    /// How often another partition may be moved than the one that was to be. That may make a step less even, so that
    /// it could go on for ever; after so many, each step makes it more even, and it ends.
    swaps_left: u64,
}

impl Balancing<'_> {
    /// Lets members keep what they had, if they still want it and are near. Says whether one had to give up something.
    fn keep(&mut self, held: Vec<Vec<u32>>) -> bool {
        let mut revoked = false;
        for (member, mut held) in (0..).zip(held) {
            held.retain(|partition| {
                let wanted = self.problem.wants(member, self.problem.topic_of(*partition));
                let stays = wanted && !self.racks.mismatch(member, *partition);
                revoked |= !stays;
                stays
            });
            for partition in &held {
                set(&mut self.owner, *partition, Some(member));
            }
            set(&mut self.sizes, member, held.len() as u32);
            set(&mut self.lists, member, held);
        }
        revoked
    }

    fn balance(&mut self, all: &[u32], left: &[u32], revoked: bool) {
        let nobody_had = self.sizes.iter().all(|size| *size == 0);
        if self.racks.matter {
            self.give(left, true);
        }
        self.give(left, false);
        // Where only one wants a topic, there is nothing to move.
        let movable = |partition: &u32| self.subscribers(self.problem.topic_of(*partition)).len() > 1;
        let (all, left): (Vec<u32>, Vec<u32>) =
            (all.iter().copied().filter(movable).collect(), left.iter().copied().filter(movable).collect());
        let members: Vec<u32> =
            (0..self.lists.len() as u32).filter(|member| self.takes_part(*member)).collect();
        let (lists, owner, sizes) = (self.lists.clone(), self.owner.clone(), self.sizes.clone());
        if !revoked {
            self.even_out(&left);
        }
        let moved = self.even_out(&all);
        if !nobody_had && moved && unevenness(&self.sizes, &members) >= unevenness(&sizes, &members) {
            (self.lists, self.owner, self.sizes) = (lists, owner, sizes);
        }
    }

    fn subscribers(&self, topic: u32) -> &[u32] {
        self.problem.subscribers.get(topic as usize).map_or(&[], Vec::as_slice)
    }

    /// Who has the least of those that want the topic.
    fn least(&self, topic: u32, fits: impl Fn(u32) -> bool) -> Option<u32> {
        let members = self.subscribers(topic).iter().copied().filter(|member| fits(*member));
        members.min_by_key(|member| (at(&self.sizes, *member), at(&self.problem.rank, *member)))
    }

    /// Gives each partition that nobody has to who has the least, if asked so of those that are not far from it.
    fn give(&mut self, left: &[u32], near: bool) {
        for partition in left {
            if at(&self.owner, *partition).is_some() {
                continue;
            }
            let topic = self.problem.topic_of(*partition);
            let fits = |member| !near || !self.racks.mismatch(member, *partition);
            if let Some(member) = self.least(topic, fits) {
                self.put(*partition, member);
            }
        }
    }

    fn put(&mut self, partition: u32, member: u32) {
        set(&mut self.owner, partition, Some(member));
        at_mut(&mut self.lists, member, |list| list.push(partition));
        at_mut(&mut self.sizes, member, |size| *size += 1);
    }

    /// Whether anything could be moved from or to this member.
    fn takes_part(&self, member: u32) -> bool {
        let wanted = self.problem.wanted.get(member as usize).map_or(&[][..], Vec::as_slice);
        wanted.iter().any(|topic| self.subscribers(*topic).len() > 1)
    }

    /// Moves partitions until no single movement makes it more even. Says whether there was any.
    fn even_out(&mut self, partitions: &[u32]) -> bool {
        let mut moved = false;
        loop {
            let mut again = false;
            for partition in partitions {
                let Some(owner) = at(&self.owner, *partition) else { continue };
                let least_for = |to: u32| at(&self.sizes, owner) > at(&self.sizes, to) + 1;
                let before = at(&self.before, *partition).filter(|before| least_for(*before));
                let least = || self.least(self.problem.topic_of(*partition), |_| true);
                if let Some(to) = before.or_else(|| least().filter(|to| least_for(*to))) {
                    self.shift(*partition, owner, to);
                    again = true;
                }
            }
            if !again {
                return moved;
            }
            moved = true;
        }
    }

    fn movable(&self, partition: u32) -> Movable {
        let topic = self.problem.topic_of(partition);
        let hash = java::partition_hash(at(&self.hashes, topic), self.problem.within_topic(partition));
        Movable { partition, topic, hash }
    }

    fn shift(&mut self, partition: u32, owner: u32, to: u32) {
        let mut actual = partition;
        if self.swaps_left > 0 {
            actual = self.movements.instead(self.movable(partition), owner, to);
            self.swaps_left -= u64::from(actual != partition);
        }
        let Some(from) = at(&self.owner, actual) else { return };
        self.movements.note(self.movable(actual), from, to);
        at_mut(&mut self.lists, from, |list| {
            if let Some(place) = list.iter().position(|of| *of == actual) {
                list.remove(place);
            }
        });
        at_mut(&mut self.sizes, from, |size| *size -= 1);
        self.put(actual, to);
    }
}

/// The differences of all pairs of members, added up.
fn unevenness(sizes: &[u32], members: &[u32]) -> u128 {
    let mut sizes: Vec<u128> = members.iter().map(|member| u128::from(at(sizes, *member))).collect();
    sizes.sort_unstable();
    let (mut sum, mut before) = (0, 0);
    for (count, size) in (0..).zip(sizes) {
        sum += count * size - before;
        before += size;
    }
    sum
}
