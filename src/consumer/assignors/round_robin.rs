//! Partitions dealt out one by one, around the members.

use super::problem::{Problem, at_mut, set};
use super::{AssignError, Assignments, Assignor, ClusterView, Member};

/// Deals out all partitions, by topic and number, to one member after the other that wants the topic: Java's
/// `RoundRobinAssignor`. Static members come first, by instance id, then the others by id (KIP-345).
///
/// Eager. Even where all members want the same topics; else it may be far from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoundRobin;

impl Assignor for RoundRobin {
    fn name(&self) -> &'static str {
        "roundrobin"
    }

    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Assignments, AssignError> {
        let problem = Problem::new(cluster, members)?;
        let count = problem.members.len();
        let mut circle: Vec<u32> = (0..count as u32).collect();
        problem.sort_static_first(&mut circle);
        let mut place = vec![0; count];
        for (at, member) in (0..).zip(&circle) {
            set(&mut place, *member, at);
        }
        let mut lists = vec![Vec::new(); count];
        // The place in the circle from which to look for the next member.
        let mut next = 0;
        for (topic, subscribers) in (0..).zip(&problem.subscribers) {
            let mut around: Vec<u32> =
                subscribers.iter().filter_map(|member| place.get(*member as usize).copied()).collect();
            around.sort_unstable();
            for partition in problem.of_topic(topic) {
                let found = around.partition_point(|at| *at < next);
                let Some(at) = around.get(found).or(around.first()) else { break };
                next = at + 1;
                if let Some(member) = circle.get(*at as usize) {
                    at_mut(&mut lists, *member, |list: &mut Vec<u32>| list.push(partition));
                }
            }
        }
        Ok(problem.answer(&lists))
    }
}
