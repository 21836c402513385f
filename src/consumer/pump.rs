//! Sends fetches and takes what comes, without waiting for anything. Called by whoever has changed something: the
//! application that has taken a batch, an answer, the keeper. One pumps at a time; whoever comes meanwhile makes that
//! one look again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::batch::{Marks, Position};
use super::machine_core::{Arrived, Fetch};
use super::machine_session::Spec;
use super::shared::{Link, Shared, State};
use super::spare::charge;
use crate::cluster::metadata::TopicKey;
use crate::cluster::metadata::hints::Hints;
use crate::conn::{Connection, Patience};
use crate::messages::fetch::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, ForgottenTopic, PartitionData,
};
use crate::net::clock;
use crate::wire::{ApiKey, Ints, Str, Uuid};
use crate::{Error, ErrorCode, Result};

/// The first version that has topics by their ids (KIP-516).
pub(super) const BY_ID: i16 = 13;

impl Shared {
    /// See the module.
    pub(crate) fn pump(self: &Arc<Self>) {
        {
            let mut state = self.lock();
            if state.pumping {
                state.again = true;
                return;
            }
            state.pumping = true;
        }
        let end = Pumping(self);
        loop {
            let busy = self.send_all();
            let mut state = self.lock();
            if !busy && !state.again {
                state.pumping = false;
                break;
            }
            state.again = false;
        }
        std::mem::forget(end);
        self.arm();
    }

    fn send_all(self: &Arc<Self>) -> bool {
        let mut any = false;
        loop {
            let now = clock::now();
            let mut starved = false;
            let mut state = self.lock();
            state.core.handle_timeout(now);
            if self.is_closed() {
                return any;
            }
            // Said before it is looked at, so that whoever frees memory meanwhile tells it.
            self.spares.starved.store(true, Ordering::SeqCst);
            let live = self.spares.live.load(Ordering::SeqCst);
            let Some(fetch) = state.core.poll_fetch(live, now, &mut starved) else {
                if !starved {
                    self.spares.starved.store(false, Ordering::SeqCst);
                }
                return any;
            };
            let prepared = self.prepare(&state, &fetch);
            drop(state);
            any = true;
            let Fetch { ticket, broker, place, wait, .. } = fetch;
            let Ok((connection, version, request)) = prepared else {
                let mut state = self.lock();
                state.core.handle_fetch_failed(broker, ticket, clock::now());
                state.lose(broker, place);
                drop(state);
                self.kick.notify_one();
                continue;
            };
            self.counters.fetches.fetch_add(1, Ordering::Relaxed);
            let shared = Arc::clone(self);
            let patience = Patience { held: wait, ..Patience::default() };
            connection.begin(&request, version, true, patience, move |result| {
                shared.fetched(broker, place, ticket, result);
            });
        }
    }

    fn prepare(&self, state: &State, fetch: &Fetch) -> Result<(Connection, i16, FetchRequest)> {
        let connection = match state.links.get(&fetch.broker) {
            Some(Link::Ready { connection, place }) if *place == fetch.place => connection.clone(),
            _ => return Err(Error::io("the connection is gone")),
        };
        let versions = connection.versions()?.usable(ApiKey::FETCH)?;
        let version = if fetch.plan.by_id { *versions.end() } else { (*versions.end()).min(BY_ID - 1) };
        let settings = &self.settings;
        let request = FetchRequest {
            max_wait_ms: i32::try_from(fetch.wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: i32::try_from(settings.min_bytes).unwrap_or(i32::MAX),
            max_bytes: i32::try_from(fetch.max_bytes).unwrap_or(i32::MAX),
            isolation_level: settings.isolation.code(),
            session_id: fetch.plan.session_id,
            session_epoch: fetch.plan.session_epoch,
            topics: topics(&fetch.plan.fetched, version),
            forgotten_topics_data: forgotten(&fetch.plan.forgotten),
            rack_id: settings.rack.clone().unwrap_or_default(),
            ..FetchRequest::default()
        };
        Ok((connection, version, request))
    }

    /// An answer, or why there is none. Called by the connection's task.
    fn fetched(self: &Arc<Self>, broker: i32, place: u64, ticket: u64, result: Result<FetchResponse>) {
        match result {
            Ok(response) => {
                let (code, session) = (ErrorCode(response.error_code), response.session_id);
                let (mut arrived, hints) = digest(response);
                charge(&self.spares, arrived.iter_mut().map(|part| &mut part.records));
                if !hints.leaders.is_empty() {
                    self.cluster.hint(&hints);
                }
                let mut state = self.lock();
                state.core.handle_fetched(broker, ticket, code, session, arrived, clock::now());
            }
            Err(error) => {
                let mut state = self.lock();
                state.core.handle_fetch_failed(broker, ticket, clock::now());
                if error.is_io() || error.is_timeout() || error.is_malformed() || error.is_closed() {
                    state.lose(broker, place);
                }
                drop(state);
                self.kick.notify_one();
            }
        }
        self.tell();
        self.pump();
    }
}

fn topics(specs: &[Spec], version: i16) -> Vec<FetchTopic> {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for spec in specs {
        let partition = FetchPartition {
            partition: spec.partition,
            current_leader_epoch: spec.leader_epoch,
            fetch_offset: spec.offset,
            last_fetched_epoch: if version >= 12 { spec.last_epoch } else { -1 },
            partition_max_bytes: spec.max_bytes,
            ..FetchPartition::default()
        };
        match topics.last_mut().filter(|topic| topic.topic == spec.topic && topic.topic_id == spec.topic_id) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic: spec.topic.clone(),
                topic_id: spec.topic_id,
                partitions: vec![partition],
                ..FetchTopic::default()
            }),
        }
    }
    topics
}

fn forgotten(list: &[(Str, Uuid, i32)]) -> Vec<ForgottenTopic> {
    let mut topics: BTreeMap<(Str, Uuid), Vec<i32>> = BTreeMap::new();
    for (topic, id, partition) in list {
        topics.entry((topic.clone(), *id)).or_default().push(*partition);
    }
    let topics = topics.into_iter().map(|((topic, topic_id), partitions)| ForgottenTopic {
        topic,
        topic_id,
        partitions: partitions.into_iter().collect::<Ints>(),
        ..ForgottenTopic::default()
    });
    topics.collect()
}

/// Takes an answer apart.
fn digest(response: FetchResponse) -> (Vec<Arrived>, Hints) {
    let mut hints = Hints::default();
    for node in &response.node_endpoints {
        hints.broker(node.node_id, &node.host, node.port, node.rack.clone());
    }
    let mut arrived = Vec::with_capacity(response.responses.len());
    for topic in response.responses {
        let (name, id) = (topic.topic, topic.topic_id);
        for data in topic.partitions {
            let leader = &data.current_leader;
            if leader.leader_id >= 0 {
                let key = TopicKey::of(id, &name);
                hints.leader(key, data.partition_index, leader.leader_id, leader.leader_epoch);
            }
            arrived.push(partition(&name, id, data));
        }
    }
    (arrived, hints)
}

fn partition(topic: &Str, topic_id: Uuid, data: PartitionData) -> Arrived {
    let diverging = (data.diverging_epoch.epoch >= 0 || data.diverging_epoch.end_offset >= 0)
        .then_some(Position { offset: data.diverging_epoch.end_offset, epoch: data.diverging_epoch.epoch });
    let aborted = data.aborted_transactions.unwrap_or_default();
    Arrived {
        topic: topic.clone(),
        topic_id,
        partition: data.partition_index,
        code: ErrorCode(data.error_code),
        marks: Marks {
            high_watermark: data.high_watermark,
            last_stable: if data.last_stable_offset < 0 {
                data.high_watermark
            } else {
                data.last_stable_offset
            },
            log_start: data.log_start_offset,
        },
        aborted: aborted.into_iter().map(|aborted| (aborted.producer_id, aborted.first_offset)).collect(),
        preferred: data.preferred_read_replica,
        diverging,
        records: data.records.unwrap_or_default(),
    }
}

/// Lets others pump if this one dies.
struct Pumping<'a>(&'a Arc<Shared>);

impl Drop for Pumping<'_> {
    fn drop(&mut self) {
        self.0.lock().pumping = false;
    }
}
