//! Membership in a consumer group: which partitions are ours, and since when.
//!
//! Two protocols say so, each a machine with the same events: the classic one (`machine_classic`), in which
//! members assign partitions among themselves, and that of KIP-848 (`machine_heartbeat`), in which the
//! broker does. A machine hears what the application and the coordinator say and what time it is; it says what is to
//! be asked of the coordinator ([`Ask`]) and what has become of partitions ([`Event`]). The consumer's keeper
//! sends the one and acts on the other.

pub(crate) mod machine_classic;
pub(crate) mod machine_heartbeat;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::TopicPartition;
use crate::Error;
use crate::messages::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
};
use crate::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
use crate::messages::join_group::{JoinGroupRequest, JoinGroupResponse};
use crate::messages::leave_group::{LeaveGroupRequest, LeaveGroupResponse};
use crate::messages::sync_group::{SyncGroupRequest, SyncGroupResponse};
use crate::wire::Str;

/// A request to the group's coordinator. Each is ended by one `handle_answer` with its ticket.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) ticket: u64,
    pub(crate) request: Request,
    /// How long the request lets the coordinator wait, beside what an answer takes anyway.
    pub(crate) held: Duration,
}

#[derive(Debug, Clone)]
pub(crate) enum Request {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    Consumer(ConsumerGroupHeartbeatRequest),
}

#[derive(Debug, Clone)]
pub(crate) enum Response {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
    Heartbeat(HeartbeatResponse),
    Leave(LeaveGroupResponse),
    Consumer(ConsumerGroupHeartbeatResponse),
}

/// What has become of partitions. A revocation is answered by `handle_revoked` once the application has handed over;
/// until then the machine goes on telling the coordinator that the partitions are owned.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// These are ours too from now on. Also told, with none, when an assignment has brought nothing new, so that an
    /// application learns that it is a member.
    Assigned(BTreeSet<TopicPartition>),
    /// These are to be given back: what was taken of them may still be committed. Whoever has not handed over by then
    /// loses them.
    Revoke { partitions: BTreeSet<TopicPartition>, deadline: Instant },
    /// These are not ours any more, and may be somebody else's already: nothing can be committed.
    Lost { partitions: BTreeSet<TopicPartition>, why: Error },
    /// Something went wrong that the member outlives, and that its owner should know: an assignor that has no answer,
    /// bytes of other members that cannot be read.
    Troubled(Error),
    /// The group is left, as `handle_close` wanted; the machine has nothing more to say.
    Left,
    /// There is no going on: fenced, not authorized, or settings that the coordinator refuses. What was ours is
    /// lost before this is said.
    Failed(Error),
}

/// What becomes of the membership when the consumer is closed (KIP-1092).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leave {
    /// A static member stays, so that it may come back; any other leaves.
    #[default]
    Default,
    /// It leaves, static or not.
    Always,
    /// It stays until its session times out.
    Never,
}

/// How far a member is, for those who look.
#[cfg_attr(not(test), allow(dead_code, reason = "for health, which comes with the patterns"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In no group and not on the way into one.
    Unjoined,
    /// The application hands over before the member joins again.
    Preparing,
    Joining,
    Syncing,
    Stable,
    Leaving,
    /// Left for good.
    Closed,
    Failed,
}

/// What a commit says of who commits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) group: Str,
    pub(crate) member: Str,
    pub(crate) instance: Option<Str>,
    /// The generation of the classic protocol, or the member's epoch of KIP-848.
    pub(crate) generation: i32,
}

/// How long the application may leave a member alone, and the like: Kafka's settings of these names.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) group: Str,
    pub(crate) instance: Option<Str>,
    pub(crate) rack: Option<Str>,
    /// Classic only; with KIP-848 the broker says it.
    pub(crate) session_timeout: Duration,
    /// As above.
    pub(crate) heartbeat_interval: Duration,
    /// Kafka's `max.poll.interval.ms`, which is also how long handing over may take.
    pub(crate) max_poll_interval: Duration,
    /// KIP-848's server-side assignor, if not the group's own choice.
    pub(crate) remote_assignor: Option<Str>,
    pub(crate) backoff: crate::cluster::Backoff,
}
