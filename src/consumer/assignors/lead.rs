//! What the leader of a group does: reads what the members sent, asks the assignor, checks what it says, and writes
//! what is sent back. Nothing of it may be wrong silently: a partition that two members read, or none, is found late.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bytes::Bytes;

use super::{
    Assignment, Assignments, Assignor, ClusterView, CooperativeSticky, Member, Rebalance, Subscription,
};
use crate::error::quoted;
use crate::{Error, Result};

/// A member as the coordinator tells of it in the answer to `JoinGroup`.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    /// Its subscription, as bytes.
    pub(crate) metadata: Bytes,
}

/// How a member with these assignors rebalances: as all of them can. Eager if there are none.
pub(crate) fn shared_protocol<'a>(assignors: impl IntoIterator<Item = &'a dyn Assignor>) -> Rebalance {
    assignors.into_iter().map(Assignor::rebalance).min().unwrap_or(Rebalance::Eager)
}

/// The members with their subscriptions. A single one that cannot be read is an error, which names it (G10).
pub(crate) fn read_members(joined: &[Joined]) -> Result<Vec<Member>> {
    let read = |of: &Joined| {
        let subscription = Subscription::from_bytes(&of.metadata)
            .map_err(|error| error.within(format_args!("member {}", quoted(of.id.as_bytes()))))?;
        Ok(Member { id: Arc::clone(&of.id), instance_id: of.instance_id.clone(), subscription })
    };
    joined.iter().map(read).collect()
}

/// What the leader must know of the cluster before it can assign.
pub(crate) fn topics_of(members: &[Member]) -> BTreeSet<Arc<str>> {
    members.iter().flat_map(|member| member.subscription.topics.iter().cloned()).collect()
}

/// Asks the assignor, and gives what `SyncGroup` is to bring to each member, in the order of the members.
pub(crate) fn lead(
    assignor: &dyn Assignor,
    rebalance: Rebalance,
    cluster: &ClusterView,
    members: &[Member],
) -> Result<Vec<(Arc<str>, Bytes)>> {
    let place = || format!("assignor {}", quoted(assignor.name().as_bytes()));
    // It may be the user's, and without an answer the whole group would wait.
    let answer = catch_unwind(AssertUnwindSafe(|| assignor.assign(cluster, members)))
        .map_err(|_| Error::invalid("it panicked").within(place()))?;
    let mut answer = answer.map_err(|error| match error.downcast::<Error>() {
        Ok(ours) => ours.within(place()),
        Err(theirs) => Error::invalid(theirs.to_string()).within(place()),
    })?;
    check(cluster, members, &answer).map_err(|error| error.within(place()))?;
    // Ours gives away at once what was had by a member that missed a generation, as Java's does; it lost that anyway.
    if rebalance == Rebalance::Cooperative && assignor.name() != CooperativeSticky.name() {
        check_handing_over(members, &answer).map_err(|error| error.within(place()))?;
    }
    let write = |member: &Member| {
        let assignment = answer.remove(&member.id).unwrap_or_default();
        Ok((Arc::clone(&member.id), assignment.to_bytes()?))
    };
    members.iter().map(write).collect()
}

/// Each partition in an assignment, with its topic.
fn partitions(assignment: &Assignment) -> impl Iterator<Item = (&Arc<str>, i32)> {
    assignment.partitions.iter().flat_map(|of| of.partitions.iter().map(move |number| (&of.topic, *number)))
}

/// Only members get something, only what there is and what they want, and each partition goes to one.
fn check(cluster: &ClusterView, members: &[Member], answer: &Assignments) -> Result<()> {
    let wants: BTreeMap<&str, BTreeSet<&str>> = members
        .iter()
        .map(|member| (&*member.id, member.subscription.topics.iter().map(|topic| &**topic).collect()))
        .collect();
    let mut owners: BTreeMap<(&str, i32), &str> = BTreeMap::new();
    for (id, assignment) in answer {
        let Some(wants) = wants.get(&**id) else {
            return Err(Error::invalid(format!("no member has the id {}", quoted(id.as_bytes()))));
        };
        for (topic, number) in partitions(assignment) {
            let told = || format!("member {} got partition {number} of {topic}, ", quoted(id.as_bytes()));
            if !usize::try_from(number).is_ok_and(|number| number < cluster.partition_count(topic)) {
                return Err(Error::invalid(told() + "which is not there"));
            }
            if !wants.contains(&**topic) {
                return Err(Error::invalid(told() + "to which it did not subscribe"));
            }
            if let Some(other) = owners.insert((topic, number), id) {
                let other = quoted(other.as_bytes());
                return Err(Error::invalid(told() + &format!("which member {other} got too")));
            }
        }
    }
    Ok(())
}

/// What a member has to give up goes to nobody else in this generation (G03).
fn check_handing_over(members: &[Member], answer: &Assignments) -> Result<()> {
    let mut added: BTreeMap<(&str, i32), &str> = BTreeMap::new();
    let mut given_up: BTreeMap<(&str, i32), &str> = BTreeMap::new();
    for member in members {
        let owned = member.subscription.owned.iter();
        let has: BTreeSet<(&str, i32)> =
            owned.flat_map(|of| of.partitions.iter().map(|number| (&*of.topic, *number))).collect();
        let gets: BTreeSet<(&str, i32)> = answer.get(&member.id).map_or_else(BTreeSet::new, |assignment| {
            partitions(assignment).map(|(topic, number)| (&**topic, number)).collect()
        });
        added.extend(gets.difference(&has).map(|it| (*it, &*member.id)));
        given_up.extend(has.difference(&gets).map(|it| (*it, &*member.id)));
    }
    for ((topic, number), to) in &added {
        if let Some(from) = given_up.get(&(*topic, *number)) {
            let (to, from) = (quoted(to.as_bytes()), quoted(from.as_bytes()));
            let why =
                format!("member {to} got partition {number} of {topic} before member {from} gave it up");
            return Err(Error::invalid(why));
        }
    }
    Ok(())
}
