//! Clusters that start, are hurt, come back and leave nothing.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use weir_kafka_harness::{Cluster, Failure, Listener, SEEN_TO_WORK, unless_skipped};

use crate::probe::{connect, speaks_kafka, told_addresses};

const PLAIN: Listener = Listener::plain();

#[test]
fn a_node_is_killed_paused_and_comes_back() {
    let Some(cluster) = unless_skipped("4.4.0", Cluster::builder("4.4.0").start()) else { return };
    let node = cluster.node(1);
    let address = cluster.bootstrap(PLAIN)[0];
    assert_eq!(Some(address), node.address(PLAIN));
    assert_eq!(told_addresses(address), [address.to_string()]);
    assert!(cluster.bootstrap(Listener::tls()).is_empty(), "nobody asked for TLS");

    let first = node.pid().expect("it runs");
    node.pause().unwrap();
    let mut held = connect(address);
    held.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    held.write_all(b"\0\0\0\x0e\x00\x12\x00\x00\x00\x00\x00\x2a\x00\x04weir").unwrap();
    let silence = held.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(silence.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{silence}");
    node.resume().unwrap();
    held.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert!(held.read(&mut [0; 1]).unwrap() > 0, "the answer comes after all");

    node.kill();
    assert_eq!(node.pid(), None);
    assert!(TcpStream::connect(address).is_err());
    node.start().unwrap();
    assert_ne!(node.pid().unwrap(), first);
    assert!(speaks_kafka(&mut connect(address)), "the same port");

    node.terminate().unwrap();
    assert!(node.log().contains("shut down completed"), "it ended in order: {}", node.log_tail());
    node.restart_elsewhere().unwrap();
    let moved = cluster.bootstrap(PLAIN)[0];
    assert_ne!(moved, address);
    assert_eq!(told_addresses(moved), [moved.to_string()]);
    assert!(TcpStream::connect(address).is_err());

    let dir = cluster.dir().to_owned();
    drop(cluster);
    assert!(!dir.exists());
    assert!(TcpStream::connect(moved).is_err());
}

#[test]
fn three_nodes_live_on_without_one() {
    // A proxy's port: nobody needs to listen there for the broker to tell it.
    let proxy = SocketAddr::from(([127, 0, 0, 1], 19_999));
    let builder = Cluster::builder("4.4.0")
        .nodes(3)
        .advertise(|id, listener| (id == 3 && listener == PLAIN).then_some(proxy));
    let Some(cluster) = unless_skipped("3 nodes of 4.4.0", builder.start()) else { return };
    let [one, two, told] = cluster.bootstrap(PLAIN)[..] else { panic!("three addresses") };
    assert_eq!(told, proxy);
    assert_ne!(cluster.node(3).address(PLAIN), Some(proxy), "the broker itself is behind it");
    let mut expected = [one, two, proxy].map(|address| address.to_string());
    expected.sort();
    assert_eq!(told_addresses(one), expected);
    cluster.node(1).kill();
    let survivors = |asked| told_addresses(asked).len();
    let deadline = Instant::now() + Duration::from_mins(1);
    while survivors(two) != 2 {
        assert!(Instant::now() < deadline, "its death is seen");
        weir_kafka_harness::wait_a_little();
    }
    cluster.node(1).start().unwrap();
    assert_eq!(told_addresses(one), expected);

    // All of them move, one after the other, and only what the test wished stays as it was.
    for node in cluster.nodes() {
        node.restart_elsewhere().unwrap();
    }
    let moved = cluster.bootstrap(PLAIN);
    assert!(!moved.contains(&one) && !moved.contains(&two), "{moved:?}");
    assert_eq!(moved[2], proxy);
    let mut expected: Vec<_> = moved.iter().map(ToString::to_string).collect();
    expected.sort();
    let deadline = Instant::now() + Duration::from_mins(1);
    while told_addresses(moved[0]) != expected {
        assert!(Instant::now() < deadline, "{:?} is not {expected:?}", told_addresses(moved[0]));
        weir_kafka_harness::wait_a_little();
    }
    assert!(TcpStream::connect(one).is_err());
}

#[test]
fn every_release_starts() {
    for version in SEEN_TO_WORK {
        let Some(cluster) = unless_skipped(version, Cluster::builder(version).start()) else { return };
        let address = cluster.bootstrap(PLAIN)[0];
        assert!(speaks_kafka(&mut connect(address)), "{version}");
        assert_eq!(told_addresses(address), [address.to_string()], "{version}");
    }
}

#[test]
fn a_port_that_somebody_has_is_told() {
    let somebody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = somebody.local_addr().unwrap().port();
    match Cluster::builder("4.4.0").port(port).start() {
        Ok(cluster) => panic!("two listen on {port}: {cluster:?}"),
        Err(Failure::NotHere(why)) => weir_kafka_harness::skip("4.4.0", &why),
        Err(Failure::Broken(why)) => assert!(why.contains("Address already in use"), "{why}"),
    }
}

#[test]
fn an_old_release_has_its_zookeeper() {
    let builder = Cluster::builder("0.11.0.3").property("num.partitions", "5");
    let Some(cluster) = unless_skipped("0.11.0.3", builder.start()) else { return };
    let node = cluster.node(1);
    let properties = std::fs::read_to_string(node.properties_file()).unwrap();
    assert!(properties.ends_with("num.partitions=5\n"), "the last line wins: {properties}");
    let address = cluster.bootstrap(PLAIN)[0];
    assert!(speaks_kafka(&mut connect(address)));
    node.restart().unwrap();
    assert!(speaks_kafka(&mut connect(address)));
    node.restart_elsewhere().unwrap();
    assert!(speaks_kafka(&mut connect(cluster.bootstrap(PLAIN)[0])));
}

#[test]
fn a_broker_that_cannot_start_says_why() {
    let started = Cluster::builder("3.9.2").property("num.partitions", "none").start();
    let Err(failure) = started else { panic!("it started") };
    match failure {
        Failure::NotHere(why) => weir_kafka_harness::skip("3.9.2", &why),
        Failure::Broken(why) => assert!(why.contains("num.partitions"), "{why}"),
    }
}
