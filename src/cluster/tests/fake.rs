//! A small cluster behind scripted connections: it answers a few APIs as Kafka does, and fails as told.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::cluster::brokers::{Brokers, Link};
use crate::cluster::split::Routed;
use crate::conn::{Lane, Target};
use crate::messages::create_topics::{CreateTopicsRequest, CreateTopicsResponse};
use crate::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};
use crate::messages::find_coordinator::{Coordinator, FindCoordinatorRequest, FindCoordinatorResponse};
use crate::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use crate::messages::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use crate::messages::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use crate::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestTopic, OffsetFetchResponse, OffsetFetchResponsePartition,
    OffsetFetchResponseTopic,
};
use crate::messages::produce::{
    LeaderIdAndEpoch, PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use crate::net::{Address, clock};
use crate::wire::{ApiKey, Str};
use crate::{Error, ErrorCode, Result};

/// How long an answer takes.
const LATENCY: Duration = Duration::from_millis(1);

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fault {
    /// The connection breaks before the request is sent.
    Refused,
    /// The connection breaks when it was sent, and done.
    Cut,
    /// No answer comes.
    Silence,
    /// The broker holds it for so long, and what comes after it by the same connection too.
    Held(Duration),
    /// The answer is a second on its way.
    Late,
    /// What handles the answer panics.
    Panic,
    /// The broker does not accept who we are.
    Denied,
    /// It is not the broker that was meant (KIP-1242).
    Another,
}

#[derive(Default)]
pub(super) struct World {
    /// Brokers that run.
    pub(super) up: BTreeSet<i32>,
    /// Brokers that metadata lists besides.
    pub(super) listed: BTreeSet<i32>,
    /// Behind each bootstrap address.
    pub(super) bootstrap: Vec<i32>,
    /// For each topic the leader and the epoch of its partitions.
    pub(super) topics: BTreeMap<String, Vec<(i32, i32)>>,
    pub(super) groups: BTreeMap<String, i32>,
    /// Each connection: whose turn it is there.
    lines: BTreeMap<(i32, Lane), Arc<tokio::sync::Mutex<()>>>,
    pub(super) faults: BTreeMap<(i32, ApiKey), VecDeque<Fault>>,
    pub(super) versions: BTreeMap<ApiKey, RangeInclusive<i16>>,
    /// Each request that reached a broker.
    pub(super) log: Vec<(i32, ApiKey)>,
    /// Answers that said that something is elsewhere.
    pub(super) misplaced: usize,
    pub(super) addresses: BTreeMap<i32, Address>,
    /// Leaders say that they are none.
    pub(super) quarrel: bool,
    /// An answer to a request for all topics that was made before, so that making it takes no time.
    pub(super) prepared: Option<MetadataResponse>,
}

#[derive(Clone)]
pub(super) struct Fake(pub(super) Arc<Mutex<World>>);

impl Fake {
    /// Brokers 1 to 3; topic "a" with four partitions led by 1, 2, 3 and 1; groups "g1" to "g3" there.
    pub(super) fn new() -> Self {
        let topics = [("a".to_owned(), vec![(1, 0), (2, 0), (3, 0), (1, 0)])].into();
        let groups = (1..=3).map(|id| (format!("g{id}"), id)).collect();
        let up = (1..=3).collect();
        Self(Arc::new(Mutex::new(World { up, topics, groups, bootstrap: vec![1], ..World::default() })))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    pub(super) fn fail(&self, broker: i32, api: ApiKey, faults: &[Fault]) {
        self.world().faults.entry((broker, api)).or_default().extend(faults.iter().copied());
    }

    /// How many requests of an API have reached a broker.
    pub(super) fn count(&self, api: ApiKey) -> usize {
        self.world().log.iter().filter(|(_, seen)| *seen == api).count()
    }
}

impl Brokers for Fake {
    type Link = Wire;

    async fn connection(&self, to: Target, lane: Lane) -> Result<Wire> {
        let broker = {
            let world = self.world();
            match to {
                Target::Broker(id) if world.addresses.contains_key(&id) => id,
                Target::Broker(id) => return Err(Error::io(format!("no address of {id}"))),
                Target::Bootstrap(place) => world.bootstrap[place],
            }
        };
        tokio::time::sleep(LATENCY).await;
        let mut world = self.world();
        if world.up.contains(&broker) {
            let queue = Arc::clone(world.lines.entry((broker, lane)).or_default());
            return Ok(Wire { fake: self.clone(), broker, line: queue });
        }
        Err(Error::io("connection refused"))
    }

    fn load(&self, to: Target) -> Option<usize> {
        matches!(to, Target::Broker(_)).then_some(0)
    }

    fn address(&self, to: Target) -> Option<String> {
        Some(format!("{to:?}"))
    }

    fn bootstrap_len(&self) -> usize {
        self.world().bootstrap.len()
    }

    fn set_brokers(&self, brokers: BTreeMap<i32, Address>, _cluster: Option<Str>) {
        self.world().addresses = brokers;
    }
}

pub(super) struct Wire {
    fake: Fake,
    broker: i32,
    line: Arc<tokio::sync::Mutex<()>>,
}

impl Link for Wire {
    fn usable(&self, api: ApiKey) -> Result<RangeInclusive<i16>> {
        let pinned = self.fake.world().versions.get(&api).cloned();
        pinned.or(api.stable_versions()).ok_or_else(|| Error::unsupported("no such API"))
    }

    async fn call<R: Routed>(&self, request: &R, version: i16, deadline: Instant) -> Result<R::Response> {
        crate::wire::Message::to_bytes(request, version)?;
        tokio::time::sleep(LATENCY).await;
        // A broker answers the requests of one connection in their order.
        let turn = self.line.lock().await;
        let fault = {
            let mut world = self.fake.world();
            if !world.up.contains(&self.broker) {
                return Err(Error::io("reset").maybe_done());
            }
            let fault = world.faults.get_mut(&(self.broker, R::KEY)).and_then(VecDeque::pop_front);
            if !matches!(fault, Some(Fault::Refused)) {
                world.log.push((self.broker, R::KEY));
            }
            fault
        };
        match fault {
            Some(Fault::Refused) => return Err(Error::io("refused")),
            Some(Fault::Cut) => return Err(Error::io("cut").maybe_done()),
            Some(Fault::Denied) => return Err(Error::auth("denied")),
            Some(Fault::Another) => return Err(Error::broker_said(ErrorCode::REBOOTSTRAP_REQUIRED, "")),
            Some(Fault::Panic) => panic!("planted"),
            Some(Fault::Silence) => {
                // As if it were alone on its connection.
                drop(turn);
                clock::sleep_until(deadline).await;
                return Err(Error::timeout("no answer").maybe_done());
            }
            Some(Fault::Held(time)) => tokio::time::sleep(time).await,
            Some(Fault::Late) | None => {}
        }
        let answer = self.fake.world().answer(self.broker, request, version);
        let answer = *answer.downcast::<R::Response>().expect("an answer of its type");
        if matches!(fault, Some(Fault::Late)) {
            tokio::time::sleep(1000 * LATENCY).await;
        }
        Ok(answer)
    }
}

impl World {
    fn answer(&mut self, broker: i32, request: &dyn Any, version: i16) -> Box<dyn Any> {
        if let Some(request) = request.downcast_ref::<MetadataRequest>() {
            if let Some(prepared) = self.prepared.take() {
                return Box::new(prepared);
            }
            return Box::new(self.metadata(request));
        }
        if let Some(request) = request.downcast_ref::<FindCoordinatorRequest>() {
            return Box::new(self.coordinator(request, version));
        }
        if let Some(request) = request.downcast_ref::<ListOffsetsRequest>() {
            return Box::new(self.offsets(broker, request));
        }
        if let Some(request) = request.downcast_ref::<ProduceRequest>() {
            return Box::new(self.produce(broker, request));
        }
        if let Some(request) = request.downcast_ref::<DescribeGroupsRequest>() {
            return Box::new(self.describe(broker, request));
        }
        if request.is::<ListGroupsRequest>() {
            let mine = self.groups.iter().filter(|(_, at)| **at == broker);
            let group = |(id, _): (&String, _)| ListedGroup {
                group_id: id.as_str().into(),
                ..ListedGroup::default()
            };
            let groups = mine.map(group).collect();
            return Box::new(ListGroupsResponse { groups, ..ListGroupsResponse::default() });
        }
        if let Some(request) = request.downcast_ref::<OffsetFetchRequest>() {
            return Box::new(self.committed(broker, request));
        }
        if request.is::<CreateTopicsRequest>() {
            return Box::new(CreateTopicsResponse::default());
        }
        panic!("an API that this cluster does not have")
    }

    pub(super) fn prepare_metadata(&mut self) {
        let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
        self.prepared = Some(self.metadata(&all));
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let broker = |id: &i32| MetadataResponseBroker {
            node_id: *id,
            host: "b".into(),
            port: 9000 + id,
            ..MetadataResponseBroker::default()
        };
        let names: Vec<String> = match &request.topics {
            Some(topics) => topics.iter().map(|topic| topic.name.clone().unwrap().to_string()).collect(),
            None => self.topics.keys().cloned().collect(),
        };
        let brokers: BTreeSet<i32> = self.up.union(&self.listed).copied().collect();
        MetadataResponse {
            controller_id: *brokers.first().unwrap(),
            brokers: brokers.iter().map(broker).collect(),
            topics: names.iter().map(|name| self.topic(name)).collect(),
            ..MetadataResponse::default()
        }
    }

    fn topic(&self, name: &str) -> MetadataResponseTopic {
        let topic = MetadataResponseTopic { name: Some(name.into()), ..MetadataResponseTopic::default() };
        let Some(partitions) = self.topics.get(name) else {
            return MetadataResponseTopic { error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, ..topic };
        };
        let partition = |(index, (leader_id, leader_epoch)): (i32, &(i32, i32))| MetadataResponsePartition {
            partition_index: index,
            leader_id: *leader_id,
            leader_epoch: *leader_epoch,
            ..MetadataResponsePartition::default()
        };
        MetadataResponseTopic { partitions: (0..).zip(partitions).map(partition).collect(), ..topic }
    }

    fn coordinator(&self, request: &FindCoordinatorRequest, version: i16) -> FindCoordinatorResponse {
        let find = |key: &Str| {
            let at = self.groups.get(key.as_str()).copied();
            let code = if at.is_some() { ErrorCode::NONE } else { ErrorCode::COORDINATOR_NOT_AVAILABLE };
            (at.unwrap_or(-1), code.0)
        };
        if version < 4 {
            let (node_id, error_code) = find(&request.key);
            let (host, port) = ("b".into(), 9000 + node_id);
            return FindCoordinatorResponse {
                error_code,
                node_id,
                host,
                port,
                ..FindCoordinatorResponse::default()
            };
        }
        let one = |key: &Str| {
            let (node_id, error_code) = find(key);
            let (key, host, port) = (key.clone(), "b".into(), 9000 + node_id);
            Coordinator { key, node_id, host, port, error_code, ..Coordinator::default() }
        };
        let coordinators = request.coordinator_keys.iter().map(one).collect();
        FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() }
    }

    /// The error of a partition at a broker, and its leader.
    fn leads(&mut self, broker: i32, topic: &str, index: i32) -> (ErrorCode, (i32, i32)) {
        let at = self.topics.get(topic).and_then(|partitions| partitions.get(index as usize)).copied();
        match at {
            None => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, (-1, -1)),
            Some(leader) if leader.0 == broker && !self.quarrel => (ErrorCode::NONE, leader),
            Some(leader) => {
                self.misplaced += 1;
                (ErrorCode::NOT_LEADER_OR_FOLLOWER, leader)
            }
        }
    }

    fn offsets(&mut self, broker: i32, request: &ListOffsetsRequest) -> ListOffsetsResponse {
        let mut topics = Vec::new();
        for topic in &request.topics {
            let partitions = topic.partitions.iter().map(|partition| {
                let index = partition.partition_index;
                let (code, _) = self.leads(broker, &topic.name, index);
                let offset = if code.is_none() { 100 + i64::from(index) } else { -1 };
                let error_code = code.0;
                ListOffsetsPartitionResponse {
                    partition_index: index,
                    error_code,
                    offset,
                    ..Default::default()
                }
            });
            let (name, partitions) = (topic.name.clone(), partitions.collect());
            topics.push(ListOffsetsTopicResponse { name, partitions, ..Default::default() });
        }
        ListOffsetsResponse { topics, ..ListOffsetsResponse::default() }
    }

    fn produce(&mut self, broker: i32, request: &ProduceRequest) -> ProduceResponse {
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let partitions = topic.partition_data.iter().map(|partition| {
                let (code, (leader_id, leader_epoch)) = self.leads(broker, &topic.name, partition.index);
                let current_leader = LeaderIdAndEpoch { leader_id, leader_epoch, ..Default::default() };
                let (index, error_code) = (partition.index, code.0);
                let base_offset = if error_code == 0 { 0 } else { -1 };
                PartitionProduceResponse {
                    index,
                    error_code,
                    base_offset,
                    current_leader,
                    ..Default::default()
                }
            });
            let (name, partition_responses) = (topic.name.clone(), partitions.collect());
            responses.push(TopicProduceResponse { name, partition_responses, ..Default::default() });
        }
        ProduceResponse { responses, ..ProduceResponse::default() }
    }

    /// Of one group, as before Kafka 3.0: 42, wherever it is asked for.
    fn committed(&mut self, broker: i32, request: &OffsetFetchRequest) -> OffsetFetchResponse {
        let here = self.groups.get(request.group_id.as_str()) == Some(&broker);
        self.misplaced += usize::from(!here);
        if !here {
            let error_code = ErrorCode::NOT_COORDINATOR.0;
            return OffsetFetchResponse { error_code, ..OffsetFetchResponse::default() };
        }
        let topic = |asked: &OffsetFetchRequestTopic| OffsetFetchResponseTopic {
            name: asked.name.clone(),
            partitions: vec![OffsetFetchResponsePartition { committed_offset: 42, ..Default::default() }],
            ..OffsetFetchResponseTopic::default()
        };
        let topics = request.topics.iter().flatten().map(topic).collect();
        OffsetFetchResponse { topics, ..OffsetFetchResponse::default() }
    }

    fn describe(&mut self, broker: i32, request: &DescribeGroupsRequest) -> DescribeGroupsResponse {
        let mut groups = Vec::new();
        for id in &request.groups {
            let here = self.groups.get(id.as_str()) == Some(&broker);
            self.misplaced += usize::from(!here);
            let code = if here { ErrorCode::NONE } else { ErrorCode::NOT_COORDINATOR };
            groups.push(DescribedGroup {
                group_id: id.clone(),
                error_code: code.0,
                ..DescribedGroup::default()
            });
        }
        DescribeGroupsResponse { groups, ..DescribeGroupsResponse::default() }
    }
}
