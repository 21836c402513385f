//! A member of a group, by whichever protocol; and the group's part of what a consumer's handles share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::TopicPartition;
use super::assignors::{Assignor, ClusterView};
use super::group::{Ask, Event, Leave, Membership, Response, Settings, machine_classic, machine_heartbeat};
use super::machine_offsets::{self, CommitId};
use crate::cluster::metadata::{Snapshot, TopicKey};
use crate::wire::Str;
use crate::{ErrorCode, Result};

/// What is subscribed to.
#[derive(Clone, Default)]
pub(crate) enum Subscription {
    #[default]
    None,
    Topics(BTreeSet<Str>),
    /// Topics that a function of ours picks by their names.
    Matching(Arc<dyn Fn(&str) -> bool + Send + Sync>),
    /// Topics that the coordinator picks by an RE2J expression (KIP-848).
    Expression(Str),
}

impl Subscription {
    /// The topics that are meant now, among those that are known.
    pub(crate) fn resolve(&self, snapshot: &Snapshot) -> BTreeSet<Str> {
        match self {
            Self::None | Self::Expression(_) => BTreeSet::new(),
            Self::Topics(topics) => topics.clone(),
            Self::Matching(matches) => {
                let usable = snapshot.topics().filter(|topic| !topic.internal && topic.gone.is_none());
                usable.map(|topic| topic.name.clone()).filter(|name| matches(name)).collect()
            }
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Topics(topics) => f.debug_tuple("Topics").field(topics).finish(),
            Self::Matching(_) => f.write_str("Matching"),
            Self::Expression(expression) => f.debug_tuple("Expression").field(expression).finish(),
        }
    }
}

/// A member, by whichever protocol.
pub(crate) enum Member {
    Classic(Box<machine_classic::Machine>),
    Heartbeat(Box<machine_heartbeat::Machine>),
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Member").field(&self.membership()).finish()
    }
}

impl Member {
    pub(crate) fn classic(settings: Settings, assignors: Vec<Arc<dyn Assignor>>, seed: u64) -> Self {
        Self::Classic(Box::new(machine_classic::Machine::new(settings, assignors, seed)))
    }

    pub(crate) fn heartbeat(settings: Settings, id: Str, seed: u64) -> Self {
        Self::Heartbeat(Box::new(machine_heartbeat::Machine::new(settings, id, seed)))
    }

    pub(crate) fn handle_subscription(&mut self, wanted: &Subscription, snapshot: &Snapshot, now: Instant) {
        let topics = wanted.resolve(snapshot);
        match self {
            Self::Classic(machine) => machine.handle_subscription(topics, now),
            Self::Heartbeat(machine) => {
                let regex = match wanted {
                    Subscription::Expression(expression) => Some(expression.clone()),
                    _ => None,
                };
                machine.handle_subscription(topics, regex, now);
            }
        }
    }

    pub(crate) fn handle_cluster(&mut self, snapshot: &Snapshot, now: Instant) {
        match self {
            Self::Classic(machine) => {
                let topics = machine.wanted_topics();
                machine.handle_cluster(view(snapshot, &topics), now);
            }
            Self::Heartbeat(machine) => {
                machine.handle_names(&|id| snapshot.topic_by_id(id).map(|topic| topic.name.clone()), now);
            }
        }
    }

    /// Topics that have to be known, by name or by id.
    pub(crate) fn wanted(&self) -> Vec<TopicKey> {
        match self {
            Self::Classic(machine) => machine.wanted_topics().into_iter().map(TopicKey::Name).collect(),
            Self::Heartbeat(machine) => machine.unresolved().into_iter().map(TopicKey::Id).collect(),
        }
    }

    pub(crate) fn handle_poll(&mut self, now: Instant) {
        match self {
            Self::Classic(machine) => machine.handle_poll(now),
            Self::Heartbeat(machine) => machine.handle_poll(now),
        }
    }

    pub(crate) fn handle_revoked(&mut self, now: Instant) {
        match self {
            Self::Classic(machine) => machine.handle_revoked(now),
            Self::Heartbeat(machine) => machine.handle_revoked(now),
        }
    }

    pub(crate) fn handle_rejoin(&mut self, of: &Membership, code: ErrorCode, now: Instant) {
        match self {
            Self::Classic(machine) => machine.handle_rejoin(of, code, now),
            Self::Heartbeat(machine) => machine.handle_rejoin(of, code, now),
        }
    }

    pub(crate) fn handle_close(&mut self, leave: Leave, now: Instant) {
        match self {
            Self::Classic(machine) => machine.handle_close(leave, now),
            Self::Heartbeat(machine) => machine.handle_close(leave, now),
        }
    }

    pub(crate) fn handle_answer(&mut self, ticket: u64, answer: Result<Response>, now: Instant) {
        match self {
            Self::Classic(machine) => machine.handle_answer(ticket, answer, now),
            Self::Heartbeat(machine) => machine.handle_answer(ticket, answer, now),
        }
    }

    pub(crate) fn poll_ask(&mut self, now: Instant) -> Option<Ask> {
        match self {
            Self::Classic(machine) => machine.poll_ask(now),
            Self::Heartbeat(machine) => machine.poll_ask(now),
        }
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        match self {
            Self::Classic(machine) => machine.poll_event(),
            Self::Heartbeat(machine) => machine.poll_event(),
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Classic(machine) => machine.poll_timeout(),
            Self::Heartbeat(machine) => machine.poll_timeout(),
        }
    }

    pub(crate) fn membership(&self) -> Option<Membership> {
        match self {
            Self::Classic(machine) => machine.membership(),
            Self::Heartbeat(machine) => machine.membership(),
        }
    }
}

/// What assignors may know of these topics.
fn view(snapshot: &Snapshot, topics: &BTreeSet<Str>) -> ClusterView {
    let mut view = ClusterView::new();
    for known in topics.iter().filter_map(|name| snapshot.topic(name)) {
        let racks = known.partitions.iter().map(|partition| {
            let racks = partition.replicas.iter().filter_map(|id| snapshot.broker(*id)?.rack.as_deref());
            racks.map(Arc::from).collect()
        });
        view.insert(&*known.name, racks.collect());
    }
    view
}

/// News for the application that are not records.
#[derive(Debug)]
pub(crate) enum News {
    Assigned(BTreeSet<TopicPartition>),
    /// With the number of the revocation.
    Revoked(BTreeSet<TopicPartition>, Instant, u64),
    Lost(BTreeSet<TopicPartition>, crate::Error),
}

/// Partitions on their way back to the group.
#[derive(Debug)]
pub(crate) struct Revoking {
    pub(crate) partitions: BTreeSet<TopicPartition>,
    pub(crate) deadline: Instant,
    /// Of the last revocation in here, and how many there are.
    pub(crate) number: u64,
    pub(crate) count: usize,
    /// The application has handed over.
    pub(crate) handed: bool,
    /// What was done of them is being committed.
    pub(crate) commit: Option<CommitId>,
    pub(crate) committed: bool,
}

/// The end, and by when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Closing {
    pub(crate) leave: Leave,
    pub(crate) deadline: Instant,
    pub(crate) commit: Option<CommitId>,
    /// What was done is committed, and the group was told.
    pub(crate) told: bool,
}

/// The group's part of a consumer's state.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) settings: Settings,
    pub(crate) member: Option<Member>,
    /// The one before, on its way out.
    pub(crate) parting: Option<Member>,
    pub(crate) subscription: Subscription,
    pub(crate) offsets: machine_offsets::Machine,
    /// As whom its requests were last made.
    pub(crate) asked_as: Option<Membership>,
    pub(crate) news: VecDeque<News>,
    pub(crate) revoking: Option<Revoking>,
    pub(crate) left: bool,
    /// How often what is done is committed, and when the next time is.
    pub(crate) auto_commit: Option<Duration>,
    pub(crate) next_commit: Option<Instant>,
    /// Those who wait for a commit.
    pub(crate) commits: BTreeMap<CommitId, oneshot::Sender<Result<()>>>,
    /// What was last committed by itself.
    pub(crate) committed: BTreeMap<TopicPartition, i64>,
    /// So many wait for records now.
    pub(crate) waiting: usize,
}
