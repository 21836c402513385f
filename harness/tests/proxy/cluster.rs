//! Proxies before a real cluster, whose nodes tell clients the proxies' addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use weir_kafka_harness::proxy::{End, Fault, Proxies, Rule};
use weir_kafka_harness::{Cluster, Listener, unless_skipped};

use crate::peers::{Client, METADATA, PATIENCE};

/// Metadata, version 0: no client id, no topic named.
const ASK_METADATA: [u8; 6] = [0xff, 0xff, 0, 0, 0, 0];

/// The brokers of a Metadata response, version 0: id and port. Hosts are all the loopback here.
fn ports(body: &[u8]) -> BTreeMap<i32, u16> {
    let number = |at: usize| i32::from_be_bytes(body[at..at + 4].try_into().expect("four bytes"));
    let mut at = 4;
    let broker = |_| {
        let id = number(at);
        at += 6 + usize::from(u16::from_be_bytes([body[at + 4], body[at + 5]]));
        let port = u16::try_from(number(at)).expect("a port");
        at += 4;
        (id, port)
    };
    (0..number(0)).map(broker).collect()
}

#[test]
fn a_real_cluster_is_reached_through_its_proxies_alone() {
    let proxies = Proxies::for_nodes(3).expect("free ports");
    let addresses = proxies.addresses();
    let node = |id: i32| addresses.get(id as usize - 1).copied();
    let builder = Cluster::builder("4.4.0").nodes(3).advertise(|id, _| node(id));
    let Some(cluster) = unless_skipped("3 nodes behind proxies", builder.start()) else { return };
    let behind = cluster.nodes().iter().filter_map(|node| node.address(Listener::plain()));
    proxies.set_upstreams(behind);

    let expected: BTreeMap<i32, u16> = (1..=3).zip(addresses.iter().map(SocketAddr::port)).collect();
    for proxy in &proxies {
        let mut client = Client::connect(proxy.address());
        client.send(METADATA, 7, &ASK_METADATA);
        let (correlation, body) = client.receive();
        assert_eq!((correlation, ports(&body)), (7, expected.clone()));
    }

    // A fault of one node is a fault of no other.
    let first = proxies.get(0).expect("there are three");
    let rule = Rule::new(Fault::Cut(End::Reset)).responses().api(METADATA).times(1);
    let cut = first.add(rule).expect("a good rule");
    let mut client = Client::connect(addresses[0]);
    client.send(METADATA, 8, &ASK_METADATA);
    assert!(client.rest().1.is_err());
    assert!(first.wait(PATIENCE, |log| log.faults(cut) == 1));
    let mut client = Client::connect(addresses[1]);
    client.send(METADATA, 9, &ASK_METADATA);
    assert_eq!(client.receive().0, 9);
}
