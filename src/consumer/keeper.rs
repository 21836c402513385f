//! The consumer's task: what has to be waited for. It takes over metadata, makes connections, asks leaders for offsets,
//! and wakes when something is due. It ends when the consumer is closed; however it ends, nobody waits for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::batch::Position;
use super::machine_core::{Lookup, LookupKind};
use super::member::{Member, Subscription};
use super::pump::BY_ID;
use super::shared::{Link, Shared};
use crate::cluster::Options;
use crate::cluster::metadata::TopicKey;
use crate::conn::{Connection, Target};
use crate::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use crate::messages::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use crate::net::clock;
use crate::net::task::{self, Task};
use crate::wire::{ApiKey, Str};
use crate::{Error, ErrorCode, Result};

/// Topics are asked about for as long as they are named this often.
const WANT_EVERY: Duration = Duration::from_mins(1);

/// Lives as long as the consumer.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let end = End(&shared);
    let mut changes = shared.cluster.changes();
    let mut errands: Vec<Task> = Vec::new();
    let mut want_at = clock::now() + WANT_EVERY;
    loop {
        changes.mark_unchanged();
        shared.look();
        let now = clock::now();
        errands.retain(|errand| !errand.is_finished());
        errands.extend(shared.see_to_group(now));
        shared.pump();
        if shared.is_over(now) {
            break;
        }
        if now >= want_at {
            want_at = now + WANT_EVERY;
            shared.cluster.want(shared.topics());
        }
        errands.extend(shared.errands(now));
        let due = shared.due().map_or(want_at, |due| due.min(want_at));
        wait(&shared, &mut changes, due).await;
    }
    drop(end);
}

/// Waits for a kick, for memory, for news of the cluster, or until `due`.
async fn wait(shared: &Shared, changes: &mut watch::Receiver<u64>, due: Instant) {
    let mut kicked = pin!(shared.kick.notified());
    let mut freed = pin!(shared.spares.freed.notified());
    let mut changed = pin!(changes.changed());
    let mut sleep = pin!(clock::sleep_until(due));
    poll_fn(|cx| {
        let ready = kicked.as_mut().poll(cx).is_ready()
            || freed.as_mut().poll(cx).is_ready()
            || changed.as_mut().poll(cx).is_ready()
            || Pin::new(&mut sleep).as_mut().poll(cx).is_ready();
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Shared {
    /// Takes over what is known of the cluster now.
    fn look(&self) {
        let snapshot = self.cluster.snapshot();
        let mut state = self.lock();
        if state.snapshot.version == snapshot.version {
            return;
        }
        let now = clock::now();
        state.snapshot = Arc::clone(&snapshot);
        state.core.handle_cluster(&snapshot, now);
        if let Some(group) = &mut state.group
            && let Some(member) = &mut group.member
        {
            if matches!(group.subscription, Subscription::Matching(_)) {
                member.handle_subscription(&group.subscription, &snapshot, now);
            }
            member.handle_cluster(&snapshot, now);
        }
    }

    /// Whether nothing is left to be done.
    fn is_over(&self, now: Instant) -> bool {
        let state = self.lock();
        state.has_left(now) || (self.is_closed() && state.closing.is_none())
    }

    fn topics(&self) -> BTreeSet<TopicKey> {
        let state = self.lock();
        let mut topics: BTreeSet<TopicKey> =
            state.core.parts().map(|part| TopicKey::Name(part.at.name().clone())).collect();
        if let Some(group) = &state.group {
            topics.extend(group.subscription.resolve(&state.snapshot).into_iter().map(TopicKey::Name));
            topics.extend(group.member.iter().flat_map(Member::wanted));
        }
        topics
    }

    /// When something is due, which is then armed.
    fn due(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.armed = state.core.poll_timeout();
        state.armed.into_iter().chain(state.group_due()).min()
    }

    /// What has to be waited for, each in a task of its own.
    fn errands(self: &Arc<Self>, now: Instant) -> Vec<Task> {
        let mut state = self.lock();
        let mut tasks = Vec::new();
        let wanted: Vec<i32> = state.core.wanted_brokers().collect();
        for broker in wanted {
            if let std::collections::btree_map::Entry::Vacant(link) = state.links.entry(broker) {
                link.insert(Link::Wanted);
                tasks.push(task::spawn(connect(Arc::clone(self), broker)));
            }
        }
        while let Some(lookup) = state.core.poll_lookup(now) {
            tasks.push(task::spawn(look_up(Arc::clone(self), lookup)));
        }
        let homeless: BTreeSet<TopicKey> =
            state.core.homeless().map(|name| TopicKey::Name(name.clone())).collect();
        let stale = state.core.take_stale();
        drop(state);
        if !homeless.is_empty() {
            self.cluster.lacking(homeless);
        } else if stale {
            self.cluster.stale();
        }
        tasks
    }

    /// There is a connection: gives its place.
    fn linked(&self, broker: i32, connection: Connection) -> u64 {
        let ids = connection.versions().and_then(|versions| versions.usable(ApiKey::FETCH));
        let ids = ids.is_ok_and(|versions| *versions.end() >= BY_ID);
        let mut state = self.lock();
        state.places += 1;
        let place = state.places;
        state.links.insert(broker, Link::Ready { connection, place });
        state.core.handle_place(broker, Some((place, ids)));
        place
    }
}

async fn connect(shared: Arc<Shared>, broker: i32) {
    match shared.cluster.fetching(broker, shared.lane).await {
        Ok(connection) => {
            let place = shared.linked(broker, connection.clone());
            shared.pump();
            // What comes after its end is not sent there first, to find out.
            connection.ended().await;
            shared.lock().lose(broker, place);
        }
        Err(error) => {
            // The pool pauses before it tries again; here only so that nothing spins if it fails at once.
            clock::sleep_until(clock::now() + shared.settings.backoff.first).await;
            if error.is_closed() || error.is_auth() {
                shared.shut(Some(error));
            }
            shared.cluster.stale();
            let mut state = shared.lock();
            state.links.remove(&broker);
            state.core.handle_unreachable(broker, clock::now());
        }
    }
    shared.kick.notify_one();
}

/// Asks a leader where to read.
async fn look_up(shared: Arc<Shared>, lookup: Lookup) {
    let Lookup { ticket, broker, kind } = lookup;
    let said = match kind {
        LookupKind::Offsets(asked) => {
            let today = clock::time_of_day().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
            let today = i64::try_from(today.as_millis()).unwrap_or(i64::MAX);
            let asked = asked
                .into_iter()
                .map(|(topic, partition, epoch, sought)| (topic, partition, epoch, sought.timestamp(today)));
            shared.ask_offsets(broker, asked.collect()).await
        }
        LookupKind::Epochs(asked) => shared.ask_epochs(broker, asked).await,
    };
    let now = clock::now();
    {
        let mut state = shared.lock();
        match said {
            Ok(said) => state.core.handle_sought(ticket, &said, now),
            Err(error) => state.core.handle_lookup_failed(ticket, &error, now),
        }
    }
    shared.tell();
    shared.pump();
    shared.kick.notify_one();
}

type Said = BTreeMap<(Str, i32), (ErrorCode, Position)>;

impl Shared {
    fn options(&self) -> (Options, Instant) {
        let deadline = clock::now() + self.settings.request_timeout;
        (Options { once: true, deadline: Some(deadline), ..Options::default() }, deadline)
    }

    async fn ask_offsets(&self, broker: i32, asked: Vec<(Str, i32, i32, i64)>) -> Result<Said> {
        let mut topics: BTreeMap<Str, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (topic, partition_index, current_leader_epoch, timestamp) in asked {
            topics.entry(topic).or_default().push(ListOffsetsPartition {
                partition_index,
                current_leader_epoch,
                timestamp,
                ..ListOffsetsPartition::default()
            });
        }
        let topics = topics.into_iter();
        let request = ListOffsetsRequest {
            replica_id: -1,
            isolation_level: self.settings.isolation.code(),
            topics: topics
                .map(|(name, partitions)| ListOffsetsTopic {
                    name,
                    partitions,
                    ..ListOffsetsTopic::default()
                })
                .collect(),
            ..ListOffsetsRequest::default()
        };
        let (options, deadline) = self.options();
        let answer = self.cluster.attempt(Target::Broker(broker), &request, &options, deadline).await?;
        let mut said = Said::new();
        for topic in answer.topics {
            for one in topic.partitions {
                let old = one.old_style_offsets.first().copied();
                let offset = old.unwrap_or(one.offset);
                let position = Position { offset, epoch: one.leader_epoch };
                said.entry((topic.name.clone(), one.partition_index))
                    .or_insert((ErrorCode(one.error_code), position));
            }
        }
        Ok(said)
    }

    async fn ask_epochs(&self, broker: i32, asked: Vec<(Str, i32, i32, i32)>) -> Result<Said> {
        let mut topics: BTreeMap<Str, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
        for (topic, partition, current_leader_epoch, leader_epoch) in asked {
            topics.entry(topic).or_default().push(OffsetForLeaderPartition {
                partition,
                current_leader_epoch,
                leader_epoch,
                ..OffsetForLeaderPartition::default()
            });
        }
        let topics = topics.into_iter().map(|(topic, partitions)| OffsetForLeaderTopic {
            topic,
            partitions,
            ..OffsetForLeaderTopic::default()
        });
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: topics.collect(),
            ..OffsetForLeaderEpochRequest::default()
        };
        let (mut options, deadline) = self.options();
        // Before version 3 it is for brokers alone.
        options.versions = Some(3..=i16::MAX);
        let answer = self.cluster.attempt(Target::Broker(broker), &request, &options, deadline).await?;
        let mut said = Said::new();
        for topic in answer.topics {
            for one in topic.partitions {
                let position = Position { offset: one.end_offset, epoch: one.leader_epoch };
                said.entry((topic.topic.clone(), one.partition))
                    .or_insert((ErrorCode(one.error_code), position));
            }
        }
        Ok(said)
    }
}

/// Whatever ends the task, nobody waits for ever.
struct End<'a>(&'a Arc<Shared>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let why = if std::thread::panicking() {
            Error::internal("the consumer's task panicked")
        } else {
            Error::closed("the consumer was closed, or its runtime has ended")
        };
        let asked = self.0.is_closed() || self.0.lock().closing.is_some();
        self.0.shut((!asked).then_some(why));
        self.0.drop_waiters();
    }
}
