//! Starting, ending, clusters, waiting.

use std::io::{ErrorKind, Read as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use weir_kafka_harness::proxy::{EventKind, Fault, Proxies, Proxy, Rule, Script};

use crate::peers::{Broker, Client, METADATA, PATIENCE, until};

#[test]
fn a_dropped_proxy_closes_everything_at_once() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.address).expect("a free port");
    let address = proxy.address();
    proxy.add(Rule::new(Fault::Delay { ms: 60_000, jitter_ms: 0 }).responses()).expect("a good rule");
    let mut client = Client::connect(address);
    client.send(METADATA, 1, b"");
    until("the link is in use", || broker.asked().len() == 1);
    let start = Instant::now();
    drop(proxy);
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(matches!(client.0.read(&mut [0; 1]), Ok(0) | Err(_)), "no answer, but an end");
    until("the broker notices", || broker.ended().len() == 1);
    let refused = Client::try_connect(address).map(drop).map_err(|error| error.kind());
    assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
}

#[test]
fn proxies_listen_before_their_cluster_does() {
    let proxies = Proxies::for_nodes(3).expect("free ports");
    let addresses = proxies.addresses();
    assert_eq!(proxies.bootstrap().split(',').count(), 3);
    for address in &addresses {
        assert_eq!(Client::is_reset(*address), Some(ErrorKind::ConnectionReset), "there is no broker yet");
    }
    let brokers = [Broker::start(), Broker::start(), Broker::start()];
    proxies.set_upstreams(brokers.iter().map(|broker| broker.address));
    for (address, broker) in addresses.iter().zip(&brokers) {
        Client::connect(*address).ask(METADATA, 1);
        assert_eq!(broker.asked().len(), 1);
    }
    let swallow = Rule::new(Fault::Swallow).requests().any_frame().times(1);
    proxies.add(&swallow).expect("a good rule");
    for proxy in &proxies {
        let mut client = Client::connect(proxy.address());
        client.send(METADATA, 1, b"");
        client.ask(METADATA, 2);
    }
    proxies.clear();
    assert!(proxies.get(3).is_none());
    assert_eq!(proxies.get(2).map(|proxy| proxy.log().faults_total()), Some(1));
}

#[test]
fn a_broker_that_is_down_is_told_of() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    let proxy = Proxy::start(free.expect("a port")).expect("a free port");
    assert_eq!(Client::is_reset(proxy.address()), Some(ErrorKind::ConnectionReset));
    assert!(proxy.wait(PATIENCE, |log| log.open() == 0));
    let log = proxy.log();
    assert!(log.events().any(|event| event.kind == EventKind::Unreachable && event.link == 1));
}

#[test]
fn async_tests_wait_without_blocking() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let broker = Broker::start();
        let proxy = Proxy::start(broker.address).expect("a free port");
        let client = async {
            let socket = tokio::net::TcpStream::connect(proxy.address()).await.expect("the proxy listens");
            socket.writable().await.expect("it is open");
            socket.try_write(&crate::peers::request(METADATA, 1, b"")).expect("there is room");
            socket
        };
        let waits = tokio::time::timeout(PATIENCE, proxy.reached(|log| log.responses(METADATA) == 1));
        let (_socket, reached) = tokio::join!(client, waits);
        assert_eq!(reached, Ok(()));
        // A proxy may be dropped where it would be wrong to block.
        drop(proxy);
    });
}

#[test]
fn waiting_has_an_end() {
    let proxy = Proxy::start_unconnected().expect("a free port");
    assert!(!proxy.wait(Duration::from_millis(20), |log| log.opened() == 1));
}

#[test]
fn a_bad_rule_changes_nothing() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.address).expect("a free port");
    let bad = Rule::new(Fault::Swallow);
    assert!(proxy.add(bad.clone()).is_err());
    let script = Script { seed: 1, rules: vec![Rule::new(Fault::Hold), bad] };
    assert!(proxy.run(&script).is_err());
    Client::connect(proxy.address()).ask(METADATA, 1);
}
