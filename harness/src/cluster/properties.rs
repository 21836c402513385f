//! What a node is told: the text of its `server.properties`.
//!
//! Pure functions of the plan. Later lines win in Java's properties, so the user's come last.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

use super::plan::{INTERNAL, Plan, Ports, Quorum};
use super::security;
use crate::listener::Listener;

/// Timeouts of a quorum, so that it sees a dead node within seconds. A single node gains too: killed, it counts
/// as alive for so long, and cannot come back.
const QUICK_FAILOVER: [(&str, &str); 3] = [
    ("broker.session.timeout.ms", "4000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("controller.quorum.election.timeout.ms", "1000"),
];

/// The whole text for one node, which keeps its data in `data`.
pub(crate) fn server_properties(plan: &Plan, id: i32, ports: &Ports, data: &Path) -> String {
    let mut lines = common(plan);
    let mut add = |key: &str, value: String| lines.push((key.to_owned(), value));
    add("log.dirs", data.display().to_string());
    let (mut bound, mut told, mut map) = listeners(plan, id, ports);
    match &plan.quorum {
        Quorum::Kraft { voters, .. } => {
            let own = voters.iter().find(|(voter, _)| *voter == id).map(|(_, port)| *port);
            let all: Vec<_> =
                voters.iter().map(|(voter, port)| format!("{voter}@127.0.0.1:{port}")).collect();
            add("process.roles", if own.is_some() { "broker,controller" } else { "broker" }.to_owned());
            add("node.id", id.to_string());
            add("controller.quorum.voters", all.join(","));
            add("controller.listener.names", "CONTROLLER".to_owned());
            bound.extend(own.map(|port| format!("CONTROLLER://127.0.0.1:{port}")));
            map.push("CONTROLLER:PLAINTEXT".to_owned());
        }
        Quorum::ZooKeeper { port } => {
            add("broker.id", id.to_string());
            add("zookeeper.connect", format!("127.0.0.1:{port}"));
            add("zookeeper.connection.timeout.ms", "60000".to_owned());
            // So long does a killed broker count as alive, and cannot come back.
            add("zookeeper.session.timeout.ms", "4000".to_owned());
        }
    }
    add("listeners", bound.join(","));
    add("advertised.listeners", std::mem::take(&mut told).join(","));
    add("listener.security.protocol.map", map.join(","));
    add("inter.broker.listener.name", INTERNAL.to_owned());
    lines.extend(security::lines(plan));
    let own =
        plan.properties.iter().map(|(key, value)| (key.clone(), value.replace("{node}", &id.to_string())));
    lines.extend(own);
    lines.iter().fold(String::new(), |mut text, (key, value)| {
        let _ = writeln!(text, "{key}={value}");
        text
    })
}

/// What listens where, what clients are told, and which protocol it is.
fn listeners(plan: &Plan, id: i32, ports: &Ports) -> (Vec<String>, Vec<String>, Vec<String>) {
    let internal = format!("{INTERNAL}://127.0.0.1:{}", ports.internal);
    let (mut bound, mut told) = (vec![internal.clone()], vec![internal]);
    let mut map = vec![format!("{INTERNAL}:PLAINTEXT")];
    for (listener, port) in &ports.listeners {
        let name = listener.name();
        bound.push(format!("{name}://127.0.0.1:{port}"));
        told.push(format!("{name}://{}", told_address(plan, id, *listener, ports)));
        map.push(format!("{name}:{}", listener.protocol()));
    }
    (bound, told, map)
}

/// The proxy's address if there is one. A loopback address is told by the listener's host, which is a name where
/// the protocol wants one.
fn told_address(plan: &Plan, id: i32, listener: Listener, ports: &Ports) -> String {
    let address = plan.advertised(id, listener, ports);
    if address.ip() == Ipv4Addr::LOCALHOST {
        return format!("{}:{}", listener.host(), address.port());
    }
    address.to_string()
}

/// What every broker of ours has in common: quick groups, and nothing deleted for its age, since the timestamps
/// of tests are often years old.
fn common(plan: &Plan) -> Vec<(String, String)> {
    let copies = plan.nodes.min(3).to_string();
    let in_sync = if plan.nodes >= 3 { "2" } else { "1" };
    let mut lines = BTreeMap::from([
        ("num.partitions", "1"),
        ("default.replication.factor", &copies),
        ("offsets.topic.replication.factor", &copies),
        ("offsets.topic.num.partitions", "8"),
        ("transaction.state.log.replication.factor", &copies),
        ("transaction.state.log.min.isr", in_sync),
        ("transaction.state.log.num.partitions", "8"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("log.retention.ms", "-1"),
        ("auto.create.topics.enable", "false"),
        ("delete.topic.enable", "true"),
    ]);
    if plan.version.at_least(4, 0) {
        lines.insert("share.coordinator.state.topic.replication.factor", &copies);
        lines.insert("share.coordinator.state.topic.min.isr", in_sync);
    }
    if matches!(plan.quorum, Quorum::Kraft { .. }) {
        lines.extend(QUICK_FAILOVER);
    }
    lines.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What the cluster's `ZooKeeper` is told.
pub(crate) fn zookeeper_properties(port: u16, data: &Path) -> String {
    format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\nmaxClientCnxns=0\n\
         tickTime=1000\n",
        data.display()
    )
}

/// The log4j settings of the old releases, which bring that logger along.
pub(crate) const LOG4J: &str = "log4j.rootLogger=INFO,out
log4j.appender.out=org.apache.log4j.ConsoleAppender
log4j.appender.out.layout=org.apache.log4j.PatternLayout
log4j.appender.out.layout.ConversionPattern=%d %p %c %m%n
";

#[cfg(test)]
pub(super) mod tests {
    use std::net::SocketAddr;

    use super::super::security::Security;
    use super::*;

    pub(crate) fn plan(version: &str, nodes: usize, quorum: Quorum, listeners: &[Listener]) -> Plan {
        Plan {
            version: version.parse().unwrap(),
            jars: "jars".into(),
            dir: "run".into(),
            listeners: listeners.to_vec(),
            properties: vec![("num.partitions".to_owned(), "3".to_owned())],
            advertised: BTreeMap::new(),
            quorum,
            nodes,
            security: Security::default(),
            certificates: None,
            stores: None,
        }
    }

    fn lines(plan: &Plan, id: i32) -> BTreeMap<String, String> {
        let first = 9000 + id as u16 * 10;
        let listeners = plan.listeners.iter().copied().zip(first + 1..).collect();
        let text = server_properties(
            plan,
            id,
            &Ports { internal: first, listeners, told: BTreeMap::new() },
            Path::new("data"),
        );
        text.lines().map(|line| line.split_once('=').unwrap()).map(|(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn three_nodes_are_a_quorum() {
        let voters = vec![(1, 8001), (2, 8002), (3, 8003)];
        let quorum = Quorum::Kraft { voters, cluster_id: "x".to_owned() };
        let mut plan = plan("4.4.0", 3, quorum, &[Listener::plain()]);
        let told: SocketAddr = "127.0.0.1:7777".parse().unwrap();
        plan.advertised.insert((2, Listener::plain()), told);
        let two = lines(&plan, 2);
        assert_eq!(two["process.roles"], "broker,controller");
        assert_eq!(two["controller.quorum.voters"], "1@127.0.0.1:8001,2@127.0.0.1:8002,3@127.0.0.1:8003");
        assert_eq!(
            two["listeners"],
            "INTERNAL://127.0.0.1:9020,PLAINTEXT://127.0.0.1:9021,CONTROLLER://127.0.0.1:8002"
        );
        assert_eq!(two["advertised.listeners"], "INTERNAL://127.0.0.1:9020,PLAINTEXT://127.0.0.1:7777");
        assert_eq!(two["transaction.state.log.min.isr"], "2");
        assert_eq!(two["share.coordinator.state.topic.replication.factor"], "3");
        assert_eq!(two["num.partitions"], "3", "the user's line wins");
        assert_eq!(
            lines(&plan, 1)["advertised.listeners"],
            "INTERNAL://127.0.0.1:9010,PLAINTEXT://127.0.0.1:9011"
        );
        let moved = Ports {
            internal: 9020,
            listeners: BTreeMap::from([(Listener::plain(), 9021)]),
            told: BTreeMap::from([(Listener::plain(), "127.0.0.1:8888".parse().unwrap())]),
        };
        let text = server_properties(&plan, 2, &moved, Path::new("data"));
        assert!(
            text.contains(",PLAINTEXT://127.0.0.1:8888\n"),
            "what it was told when it moved wins: {text}"
        );
        let four = lines(&plan, 4);
        assert_eq!(four["process.roles"], "broker", "who is no voter is a broker only");
        assert!(!four["listeners"].contains("CONTROLLER"));
    }

    #[test]
    fn old_releases_have_a_zookeeper() {
        let plan = plan("1.1.1", 1, Quorum::ZooKeeper { port: 2181 }, &[Listener::plain()]);
        let one = lines(&plan, 1);
        assert_eq!(one["zookeeper.connect"], "127.0.0.1:2181");
        assert_eq!(one["listener.security.protocol.map"], "INTERNAL:PLAINTEXT,PLAINTEXT:PLAINTEXT");
        assert_eq!(one["offsets.topic.replication.factor"], "1");
        for absent in ["process.roles", "broker.session.timeout.ms", "share.coordinator.state.topic.min.isr"]
        {
            assert!(!one.contains_key(absent), "{absent}");
        }
    }
}
