//! The sticky assignor for groups whose members keep their partitions meanwhile.

use std::sync::Arc;

use bytes::Bytes;

use super::problem::{Problem, at, at_mut, set};
use super::sticky::{self, NO_GENERATION, Outcome, Said};
use super::{AssignError, Assignments, Assignor, ClusterView, Member, Rebalance, Received};
use crate::Result;

/// As [`Sticky`](super::Sticky), for members that keep their partitions while the group rebalances: Java's
/// `CooperativeStickyAssignor` (KIP-429). A partition that one member has and another one is to get is given to nobody
/// in this generation. The first member gives it up when it sees that, joins again, and in the next generation
/// the other gets it.
///
/// What members have is in their subscriptions, with the generation since version 2 (KIP-792), before in user data.
///
/// Unlike Java's: as told at [`Sticky`](super::Sticky).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CooperativeSticky;

impl Assignor for CooperativeSticky {
    fn name(&self) -> &'static str {
        "cooperative-sticky"
    }

    fn rebalance(&self) -> Rebalance {
        Rebalance::Cooperative
    }

    fn user_data(&self, _topics: &[Arc<str>], received: Option<Received<'_>>) -> Option<Bytes> {
        let generation = received.map_or(NO_GENERATION, |received| received.generation);
        Some(Bytes::copy_from_slice(&generation.to_be_bytes()))
    }

    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Assignments, AssignError> {
        let problem = Problem::new(cluster, members)?;
        let said = problem.members.iter().map(|member| {
            let subscription = &member.subscription;
            let in_user_data = || {
                let data = subscription.user_data.as_ref()?;
                Some(data.first_chunk().map_or(NO_GENERATION, |bytes| i32::from_be_bytes(*bytes)))
            };
            Said {
                had: problem.numbers(&subscription.owned).collect(),
                generation: subscription.generation.or_else(in_user_data),
            }
        });
        let Outcome { mut lists, moving } = sticky::assign(&problem, said.collect())?;
        let moving = moving.unwrap_or_else(|| changing_hands(&problem, &lists));
        withhold(&problem, &mut lists, &moving);
        Ok(problem.answer(&lists))
    }
}

/// The partitions that a member is to get which says that it does not have them, while another says that it has them.
fn changing_hands(problem: &Problem<'_>, lists: &[Vec<u32>]) -> Vec<(u32, u32)> {
    let count = problem.partition_count() as usize;
    let mut owner: Vec<Option<u32>> = vec![None; count];
    for (member, list) in (0..).zip(lists) {
        for partition in list {
            set(&mut owner, *partition, Some(member));
        }
    }
    let (mut kept, mut given_up) = (vec![false; count], vec![false; count]);
    for (member, of) in (0..).zip(&problem.members) {
        for partition in problem.numbers(&of.subscription.owned) {
            let stays = at(&owner, partition) == Some(member);
            set(if stays { &mut kept } else { &mut given_up }, partition, true);
        }
    }
    let changes = |(partition, owner): (u32, &Option<u32>)| {
        let changes = at(&given_up, partition) && !at(&kept, partition);
        owner.filter(|_| changes).map(|owner| (partition, owner))
    };
    (0..).zip(&owner).filter_map(changes).collect()
}

/// Takes partitions from the lists of those that are to get them.
fn withhold(problem: &Problem<'_>, lists: &mut [Vec<u32>], moving: &[(u32, u32)]) {
    let mut withheld = vec![false; problem.partition_count() as usize];
    for (partition, _) in moving {
        set(&mut withheld, *partition, true);
    }
    for (_, member) in moving {
        // Once a member, since then nothing of it is left.
        at_mut(lists, *member, |list| {
            if list.iter().any(|partition| at(&withheld, *partition)) {
                list.retain(|partition| !at(&withheld, *partition));
            }
        });
    }
}
