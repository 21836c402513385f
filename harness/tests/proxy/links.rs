//! Faults of whole links: late, slow, silent, refused, replaced.

use std::io::{ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use weir_kafka_harness::proxy::{End, Fault, Proxy, Rule};

use crate::peers::{Broker, Client, FETCH, METADATA, PATIENCE, PRODUCE, request, response, until};

fn pair() -> (Broker, Proxy) {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.address).expect("a free port");
    (broker, proxy)
}

fn elapsed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

#[test]
fn without_rules_frames_of_any_size_pass_both_ways() {
    let (_broker, proxy) = pair();
    let mut client = Client::connect(proxy.address());
    // The answer comes while the question is still being written, so both go on at once.
    let body: Vec<u8> = (0..3_000_000u32).map(|n| n as u8).collect();
    for (correlation, length) in [(1, 0), (2, 1), (3, 100_000), (4, 3_000_000)] {
        client.send(METADATA, correlation, &body[..length]);
        assert_eq!(client.receive(), (correlation, body[..length].to_vec()));
    }
    let log = proxy.log();
    assert_eq!((log.opened(), log.requests(METADATA), log.responses(METADATA)), (1, 4, 4));
    assert_eq!(log.faults_total(), 0);
}

#[test]
fn latency_adds_up_over_round_trips_and_ends_with_its_rule() {
    let (_broker, proxy) = pair();
    let mut client = Client::connect(proxy.address());
    let slow = proxy.add(Rule::new(Fault::Delay { ms: 20, jitter_ms: 5 })).expect("a good rule");
    let took = elapsed(|| (1..=3).for_each(|n| client.ask(METADATA, n)));
    assert!(took >= Duration::from_millis(3 * 40), "{took:?}");
    // Requests that are sent together are late together, and stay in order.
    let took = elapsed(|| {
        (10..60).for_each(|n| client.send(METADATA, n, b""));
        (10..60).for_each(|n| assert_eq!(client.receive().0, n));
    });
    assert!(took >= Duration::from_millis(40), "{took:?}");
    assert!(proxy.remove(slow));
    assert!(!proxy.remove(slow), "it is gone");
    client.ask(METADATA, 99);
}

#[test]
fn one_way_and_one_link_can_be_late() {
    let (broker, proxy) = pair();
    let rule = Rule::new(Fault::Delay { ms: 100, jitter_ms: 0 }).responses().on_link(2);
    proxy.add(rule).expect("a good rule");
    let mut first = Client::connect(proxy.address());
    first.ask(METADATA, 1);
    let mut second = Client::connect(proxy.address());
    let took = elapsed(|| {
        second.send(METADATA, 2, b"");
        until("the request is there long before its answer", || broker.asked().len() == 2);
        second.receive();
    });
    assert!(took >= Duration::from_millis(100), "{took:?}");
}

#[test]
fn bandwidth_holds_bytes_back() {
    let (_broker, proxy) = pair();
    proxy.add(Rule::new(Fault::Bandwidth { bytes_per_second: 100_000 }).requests()).expect("a good rule");
    let mut client = Client::connect(proxy.address());
    let took = elapsed(|| {
        client.send(METADATA, 1, &vec![1; 30_000]);
        client.receive();
    });
    // 300 ms, of which 100 ms may go ahead.
    assert!(took >= Duration::from_millis(190), "{took:?}");
}

#[test]
fn slices_come_one_by_one() {
    let (_broker, proxy) = pair();
    proxy.add(Rule::new(Fault::Slice { bytes: 2, pause_ms: 5 }).responses()).expect("a good rule");
    let mut client = Client::connect(proxy.address());
    client.send(METADATA, 1, b"0123456789");
    let mut read = Vec::new();
    let took = elapsed(|| {
        while read.len() < 18 {
            let mut piece = [0; 100];
            let length = client.0.read(&mut piece).expect("a piece");
            assert!(length > 0);
            read.extend_from_slice(&piece[..length]);
        }
    });
    assert_eq!(read, response(1, b"0123456789"));
    assert!(took >= Duration::from_millis(8 * 5 - 5), "{took:?}");
}

#[test]
fn a_silent_network_loses_nothing_and_pushes_back() {
    let (broker, proxy) = pair();
    let mut client = Client::connect(proxy.address());
    client.ask(METADATA, 1);
    let silence = proxy.add(Rule::new(Fault::Hold)).expect("a good rule");
    client.send(METADATA, 2, b"");
    client.hears_nothing();
    assert_eq!(broker.asked().len(), 1);
    proxy.remove(silence);
    assert_eq!(client.receive().0, 2);

    // With nobody reading, the sender's writes come to a stand.
    proxy.add(Rule::new(Fault::Hold).requests()).expect("a good rule");
    client.0.set_nonblocking(true).expect("a flag");
    let mut taken = 0usize;
    let mut still = Instant::now();
    while still.elapsed() < Duration::from_millis(60) {
        match client.0.write(&[0; 16 << 10]) {
            Ok(length) => (taken, still) = (taken + length, Instant::now()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(taken < 64 << 20, "the proxy must not take everything");
        std::thread::yield_now();
    }
    assert!(taken > 0);
}

#[test]
fn a_slow_reader_slows_the_writer_down() {
    // The answers are not read, so they fill everything up to the broker, which then stops to read.
    let (broker, proxy) = pair();
    let mut client = Client::connect(proxy.address());
    client.0.set_nonblocking(true).expect("a flag");
    let question = request(METADATA, 1, &vec![1; 1 << 20]);
    let (mut taken, mut still) = (0usize, Instant::now());
    while still.elapsed() < Duration::from_millis(100) {
        match client.0.write(&question[taken % question.len()..]) {
            Ok(length) => (taken, still) = (taken + length, Instant::now()),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(taken < 128 << 20, "somebody takes everything");
        std::thread::yield_now();
    }
    assert!(!broker.asked().is_empty());
    // And nothing of it is lost.
    client.0.set_nonblocking(false).expect("a flag");
    for _ in 0..taken / question.len() {
        assert_eq!(client.receive().1.len(), 1 << 20);
    }
}

#[test]
fn a_black_hole_takes_bytes_and_the_news_of_their_end() {
    let (broker, proxy) = pair();
    let mut client = Client::connect(proxy.address());
    client.ask(METADATA, 1);
    let hole = proxy.add(Rule::new(Fault::BlackHole { both: true })).expect("a good rule");
    client.send(METADATA, 2, b"");
    client.hears_nothing();
    assert_eq!(broker.asked().len(), 1);
    // A new link falls into it too.
    let mut second = Client::connect(proxy.address());
    second.send(METADATA, 3, b"");
    second.hears_nothing();
    let third = Client::connect(proxy.address());
    assert!(proxy.wait(PATIENCE, |log| log.opened() == 3));
    drop(third);
    assert_eq!(broker.ended(), []);
    // When it closes, what has a gap is reset, and a new link works.
    proxy.remove(hole);
    assert_eq!(client.rest(), (Vec::new(), Err(ErrorKind::ConnectionReset)));
    Client::connect(proxy.address()).ask(METADATA, 4);
    assert_eq!(proxy.log().faults(hole), 3);
}

#[test]
fn links_are_cut_by_fin_or_rst_at_once() {
    for (end, client_reads, broker_reads) in [
        (End::Close, Ok(()), Ok(())),
        (End::Reset, Err(ErrorKind::ConnectionReset), Err(ErrorKind::ConnectionReset)),
    ] {
        let (broker, proxy) = pair();
        let mut clients = [Client::connect(proxy.address()), Client::connect(proxy.address())];
        for client in &mut clients {
            client.ask(METADATA, 1);
        }
        // A link whose receiver takes nothing is cut as soon as any other.
        proxy.add(Rule::new(Fault::Hold).requests().on_link(1)).expect("a good rule");
        proxy.cut_links(end);
        for client in &mut clients {
            assert_eq!(client.rest(), (Vec::new(), client_reads));
        }
        until("the broker notices", || broker.ended().len() == 2);
        assert_eq!(broker.ended(), [broker_reads, broker_reads]);
        drop(clients);
        assert!(proxy.wait(PATIENCE, |log| log.open() == 0));
        Client::connect(proxy.address()).ask(METADATA, 2);
    }
}

#[test]
fn links_can_be_cut_as_they_open() {
    let (_broker, proxy) = pair();
    let rule = proxy.add(Rule::new(Fault::Cut(End::Reset)).skip(1).times(2)).expect("a good rule");
    Client::connect(proxy.address()).ask(METADATA, 1);
    for _ in 0..2 {
        assert_eq!(Client::is_reset(proxy.address()), Some(ErrorKind::ConnectionReset));
    }
    Client::connect(proxy.address()).ask(METADATA, 1);
    assert_eq!(proxy.log().faults(rule), 2);
}

#[test]
fn connections_are_refused_while_told_so_and_open_ones_go_on() {
    let (_broker, proxy) = pair();
    let mut client = Client::connect(proxy.address());
    client.ask(METADATA, 1);
    let refusal = proxy.add(Rule::new(Fault::Refuse)).expect("a good rule");
    for _ in 0..3 {
        let refused = Client::try_connect(proxy.address()).map(drop).map_err(|error| error.kind());
        assert_eq!(refused, Err(ErrorKind::ConnectionRefused));
    }
    client.ask(METADATA, 2);
    proxy.remove(refusal);
    Client::connect(proxy.address()).ask(METADATA, 3);
    assert_eq!(proxy.log().opened(), 2, "a refused client is no link");
}

#[test]
fn a_refusal_ends_by_itself() {
    let (_broker, proxy) = pair();
    proxy.add(Rule::new(Fault::Refuse).for_ms(50)).expect("a good rule");
    let took = elapsed(|| until("the port opens", || Client::try_connect(proxy.address()).is_ok()));
    assert!(took >= Duration::from_millis(40), "{took:?}");
}

#[test]
fn the_broker_behind_can_be_replaced() {
    let (old, proxy) = pair();
    let new = Broker::start();
    let mut client = Client::connect(proxy.address());
    client.ask(PRODUCE, 1);
    proxy.set_upstream(new.address);
    client.ask(PRODUCE, 2);
    let mut late = Client::connect(proxy.address());
    late.ask(FETCH, 3);
    assert_eq!((old.apis(), new.apis()), (vec![PRODUCE, PRODUCE], vec![FETCH]));
}

#[test]
fn half_open_links_stay_half_open() {
    let (broker, proxy) = pair();
    let mut client = Client::connect(proxy.address());
    proxy.add(Rule::new(Fault::Delay { ms: 20, jitter_ms: 0 })).expect("a good rule");
    client.send(METADATA, 1, b"");
    client.finish();
    assert_eq!(client.receive().0, 1, "the answer comes after our side is closed");
    assert_eq!(client.rest(), (Vec::new(), Ok(())));
    assert_eq!(broker.ended(), [Ok(())]);
    assert!(proxy.wait(PATIENCE, |log| log.open() == 0));
}
