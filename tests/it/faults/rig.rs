//! Three brokers behind proxies, a client that came in by a door of its own, and the faults.
//!
//! What clients are told is the addresses of the proxies; the door is one more proxy, as a load balancer in
//! front of the bootstrap address would be. So a link can be cut without the broker, and all brokers can go
//! elsewhere while the door stays.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir::protocol::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::protocol::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use weir::protocol::metadata::MetadataResponsePartition;
use weir::{Call, Client, Result};
use weir_kafka_harness::proxy::{Fault, Proxies, Proxy, Rule};
use weir_kafka_harness::{Cluster, Failure, Listener, Node};

use super::job::{self, PARTITIONS, TOPIC};

pub(crate) const NODES: i32 = 3;
const PLAIN: Listener = Listener::plain();

/// How long a change of leaders may take.
const MOVE_MAX: Duration = Duration::from_mins(1);

pub(crate) struct Rig {
    pub(crate) cluster: Cluster,
    proxies: Proxies,
    door: Proxy,
}

impl Rig {
    pub(crate) fn start(version: &str) -> Result<Self, Failure> {
        let proxies = Proxies::for_nodes(NODES as usize).expect("there are free ports");
        let door = Proxy::start_unconnected().expect("there is a free port");
        let told = proxies.addresses();
        let cluster = Cluster::builder(version)
            .nodes(NODES as usize)
            .listener(PLAIN)
            .advertise(|id, _| told.get(id as usize - 1).copied())
            // Followers that are away leave the set of those in sync sooner.
            .property("replica.lag.time.max.ms", "5000")
            .start()?;
        let rig = Self { cluster, proxies, door };
        rig.connect_proxies();
        Ok(rig)
    }

    fn connect_proxies(&self) {
        let nodes: Vec<SocketAddr> =
            self.cluster.nodes().iter().filter_map(|node| node.address(PLAIN)).collect();
        self.door.set_upstream(nodes[0]);
        self.proxies.set_upstreams(nodes);
    }

    pub(crate) fn bootstrap(&self) -> String {
        self.door.address().to_string()
    }

    /// What clients are told now, in the order of the nodes.
    pub(crate) fn told(&self) -> Vec<SocketAddr> {
        self.proxies.addresses()
    }

    /// Nothing gets through to a broker any more, and nothing says so, until the guard is dropped.
    pub(crate) fn cut(&self, node: i32) -> impl Drop + '_ {
        struct Cut<'a>(&'a Proxy);
        impl Drop for Cut<'_> {
            fn drop(&mut self) {
                self.0.clear();
            }
        }
        let proxy = self.proxies.get(node as usize - 1).expect("one a node");
        proxy.add(Rule::new(Fault::BlackHole { both: true })).expect("a good rule");
        Cut(proxy)
    }

    /// All brokers end at once and come back elsewhere, and nothing answers where they were; the door leads to
    /// where they are.
    pub(crate) fn replace_all(&mut self) -> Result<(), Failure> {
        let proxies = Proxies::for_nodes(NODES as usize).expect("there are free ports");
        for (node, told) in self.cluster.nodes().iter().zip(proxies.addresses()) {
            node.move_elsewhere([(PLAIN, told)])?;
        }
        self.proxies = proxies;
        self.cluster.nodes().iter().try_for_each(Node::launch)?;
        self.connect_proxies();
        self.cluster.nodes().iter().try_for_each(Node::wait_until_ready)
    }
}

/// The topic of the stream, with a leader everywhere.
pub(crate) async fn create_topic(client: &Client) -> Result<()> {
    let topic = CreatableTopic {
        name: TOPIC.into(),
        num_partitions: PARTITIONS,
        replication_factor: NODES as i16,
        configs: vec![weir::protocol::create_topics::CreatableTopicConfig {
            name: "min.insync.replicas".into(),
            value: Some("2".into()),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = client.request(CreateTopicsRequest { topics: vec![topic], ..Default::default() }).await?;
    assert_eq!(answer.topics[0].error_code, 0, "{answer:?}");
    Ok(())
}

/// The partitions of a topic, as some broker sees them.
pub(crate) async fn partitions(client: &Client, topic: &str) -> Result<Vec<MetadataResponsePartition>> {
    let mut answer = client.request(job::metadata(topic)).await?;
    Ok(answer.topics.pop().map(|topic| topic.partitions).unwrap_or_default())
}

/// Who is to lead.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lead {
    /// The replica after the one that leads now.
    Next,
    /// As many partitions each.
    Even,
}

impl Lead {
    /// The replicas, beginning with who is to lead.
    fn order(self, partition: &MetadataResponsePartition) -> (i32, Vec<i32>) {
        let mut replicas = partition.replica_nodes.to_vec();
        let place = |id| replicas.iter().position(|replica| *replica == id).unwrap_or(0);
        let first = match self {
            Self::Next => (place(partition.leader_id) + 1) % replicas.len(),
            Self::Even => place(partition.partition_index % NODES + 1),
        };
        replicas.rotate_left(first);
        (partition.partition_index, replicas)
    }
}

/// Gives each partition of a topic to another of its replicas, and waits until they lead. What fails meanwhile
/// is tried again.
pub(crate) async fn move_leaders(client: &Client, topic: &str, lead: Lead) {
    let until = Instant::now() + MOVE_MAX;
    let before = loop {
        match partitions(client, topic).await {
            Ok(all) if !all.is_empty() => break all,
            other => assert!(Instant::now() < until, "{topic}: {other:?}"),
        }
    };
    let wanted: Vec<_> = before.iter().map(|partition| lead.order(partition)).collect();
    loop {
        let tried = push_leaders(client, topic, &wanted, None).await;
        let now = partitions(client, topic).await;
        let leads = |partition: &MetadataResponsePartition| {
            let wanted = wanted.iter().find(|(index, _)| *index == partition.partition_index);
            wanted.is_some_and(|(_, replicas)| replicas[0] == partition.leader_id)
        };
        if now.as_ref().is_ok_and(|now| now.len() == wanted.len() && now.iter().all(leads)) {
            return;
        }
        assert!(Instant::now() < until, "{topic}: {tried:?}, {now:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Who leads is to lead no more before this broker has what was written: all partitions go to the other of the
/// rest. Nothing is waited for, and what fails (the silent broker may be the controller) does not matter.
pub(crate) async fn pass_over(client: &Client, all: &[MetadataResponsePartition], node: i32) {
    let order = |partition| {
        let (index, mut replicas) = Lead::Next.order(partition);
        replicas.sort_by_key(|id| *id == node);
        (index, replicas)
    };
    let wanted: Vec<_> = all.iter().map(order).collect();
    drop(push_leaders(client, TOPIC, &wanted, Some(node % NODES + 1)).await);
}

/// Asks for new leaders; through the broker that is named, or the one that the client finds right.
async fn push_leaders(
    client: &Client,
    topic: &str,
    wanted: &[(i32, Vec<i32>)],
    through: Option<i32>,
) -> Result<()> {
    let partition = |(index, replicas): &(i32, Vec<i32>)| ReassignablePartition {
        partition_index: *index,
        replicas: Some(replicas.clone().into()),
        ..Default::default()
    };
    let partitions = wanted.iter().map(partition).collect();
    let moved = ReassignableTopic { name: topic.into(), partitions, ..Default::default() };
    let request = AlterPartitionReassignmentsRequest { topics: vec![moved], ..Default::default() };
    let call = client.request(request);
    through.into_iter().fold(call, Call::to).await?;
    let partitions = wanted.iter().map(|(index, _)| *index).collect();
    let preferred = TopicPartitions { topic: topic.into(), partitions, ..Default::default() };
    let request = ElectLeadersRequest { topic_partitions: Some(vec![preferred]), ..Default::default() };
    let call = client.request(request);
    through.into_iter().fold(call, Call::to).await.map(drop)
}
