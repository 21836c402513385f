//! Who gets which partition, in groups of the classic protocol: the leader's assignors, and the blobs that members
//! send each other through the coordinator.
//!
//! An [`Assignor`] is given what is known of the topics ([`ClusterView`]) and all members with their
//! [`Subscription`]s, and says each member's [`Assignment`]. The four of Kafka's Java client are here, with the
//! results of Java: [`Range`], [`RoundRobin`], [`Sticky`] and [`CooperativeSticky`]. Groups may be mixed, and it does
//! not matter who leads them. Where they differ on purpose, it says so at each; it is only where Java's answer would
//! give a partition to a member that does not want it, twice, or to nobody.
//!
//! Pure: no clock, no chance, no order of a hash map but Java's own (`java`). `problem` turns names into numbers,
//! the assignors work on these, `lead` reads and writes the blobs and checks what an assignor says.

mod blob;
mod constrained;
mod cooperative;
mod general;
mod java;
#[allow(dead_code, reason = "the consumer, which comes next, leads with it")]
mod lead;
mod movements;
mod problem;
mod range;
mod round_robin;
mod sticky;
#[cfg(test)]
mod tests;
mod view;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

pub use blob::{Assignment, Subscription, TopicPartitions};
pub use cooperative::CooperativeSticky;
#[allow(unused_imports, reason = "the consumer, which comes next, leads with it")]
pub(crate) use lead::{Joined, lead, read_members, shared_protocol, topics_of};
pub use range::Range;
pub use round_robin::RoundRobin;
pub use sticky::Sticky;
pub use view::ClusterView;

/// What becomes of a member's partitions while its group rebalances (KIP-429).
///
/// A group does what all of its members' assignors can: the least of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rebalance {
    /// Each member gives up all partitions before it joins again.
    Eager,
    /// Members keep their partitions, and give up those that they are told to. A partition that changes hands is
    /// given to nobody in the one generation, and to its new owner in the next.
    Cooperative,
}

/// A member of a group, as its leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member {
    /// The id that the coordinator gave it.
    pub id: Arc<str>,
    /// The id that its own settings give it, if it is a static member (KIP-345).
    pub instance_id: Option<Arc<str>>,
    /// What it wants and what it has.
    pub subscription: Subscription,
}

impl Member {
    /// A member without an instance id.
    pub fn new(id: impl Into<Arc<str>>, subscription: Subscription) -> Self {
        Self { id: id.into(), instance_id: None, subscription }
    }

    /// The same as a static member.
    #[must_use]
    pub fn with_instance_id(mut self, instance_id: impl Into<Arc<str>>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }
}

/// What a member was last given by an assignor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received<'a> {
    /// The partitions, in the order in which they came.
    pub partitions: &'a [TopicPartitions],
    /// The generation of the group in which that was.
    pub generation: i32,
}

impl<'a> Received<'a> {
    /// The partitions that were given in a generation.
    pub fn new(partitions: &'a [TopicPartitions], generation: i32) -> Self {
        Self { partitions, generation }
    }
}

/// Each member's part, by its id.
pub type Assignments = BTreeMap<Arc<str>, Assignment>;

/// Why an assignor has no answer.
pub type AssignError = Box<dyn std::error::Error + Send + Sync>;

/// Says who gets which partition: Kafka's `ConsumerPartitionAssignor` (KIP-54, KIP-429).
///
/// An assignor of your own has a name that all members of the group know it by. It is shared by all consumers that
/// it is given to, and called outside of locks, by the task that keeps the group: it must not block.
///
/// ```
/// use weir::consumer::assignors::{
///     AssignError, Assignment, Assignments, Assignor, ClusterView, Member, TopicPartitions,
/// };
///
/// /// Everything to the first member that wants it.
/// struct First;
///
/// impl Assignor for First {
///     fn name(&self) -> &str {
///         "first"
///     }
///
///     fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Assignments, AssignError> {
///         let mut assignments = Assignments::new();
///         for (topic, partitions) in cluster.topics() {
///             let wants = |member: &&Member| member.subscription.topics.contains(topic);
///             let Some(first) = members.iter().find(wants) else { continue };
///             let all = TopicPartitions::new(topic.clone(), 0..partitions as i32);
///             assignments.entry(first.id.clone()).or_insert_with(Assignment::default).partitions.push(all);
///         }
///         Ok(assignments)
///     }
/// }
/// ```
pub trait Assignor: Send + Sync {
    /// By which the members of a group agree on an assignor. Java's are `range`, `roundrobin`, `sticky` and
    /// `cooperative-sticky`.
    fn name(&self) -> &str;

    /// The most that it can do; one that is [`Cooperative`](Rebalance::Cooperative) must be able to do with
    /// eager members too. Eager unless it says otherwise.
    fn rebalance(&self) -> Rebalance {
        Rebalance::Eager
    }

    /// What a member tells the leader's assignor with its subscription: it is in
    /// [`Subscription::user_data`] there. `received` is what this member was last given, if it was given anything.
    fn user_data(&self, topics: &[Arc<str>], received: Option<Received<'_>>) -> Option<Bytes> {
        let _ = (topics, received);
        None
    }

    /// A member hears what the leader's assignor gave to it, in this generation of the group.
    fn on_assignment(&self, assignment: &Assignment, generation: i32) {
        let _ = (assignment, generation);
    }

    /// Says who gets what. Called on the leader alone. Members that are left out get nothing.
    ///
    /// Each partition may be given to one member, which must have subscribed to its topic; in a group that is
    /// [`Cooperative`](Rebalance::Cooperative) not to another one than the member that has it. What breaks these
    /// rules is not sent out: the leader's consumer gets an error instead.
    ///
    /// # Errors
    /// Fail where there is no answer; the leader's consumer gets the error.
    fn assign(&self, cluster: &ClusterView, members: &[Member]) -> Result<Assignments, AssignError>;
}
