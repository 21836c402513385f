//! Faults at frames and bytes: cut, held, swallowed, changed.

use std::io::{ErrorKind, Write as _};
use std::time::{Duration, Instant};

use weir_kafka_harness::proxy::{End, EventKind, Fault, Point, Proxy, Rule, Script};

use crate::peers::{Broker, Client, FETCH, METADATA, PATIENCE, PRODUCE, response, until};

const RESET: Result<(), ErrorKind> = Err(ErrorKind::ConnectionReset);

/// A broker, a proxy with these rules, and a client.
fn trio(rules: impl IntoIterator<Item = Rule>) -> (Broker, Proxy, Client) {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.address).expect("a free port");
    for rule in rules {
        proxy.add(rule).expect("a good rule");
    }
    let client = Client::connect(proxy.address());
    (broker, proxy, client)
}

#[test]
fn a_response_is_lost_after_its_request_was_applied() {
    let rule = Rule::new(Fault::Cut(End::Reset)).responses().api(PRODUCE).nth(2);
    let (broker, proxy, mut client) = trio([rule]);
    client.ask(PRODUCE, 1);
    client.ask(FETCH, 2);
    client.send(PRODUCE, 3, b"");
    assert_eq!(client.rest(), (Vec::new(), RESET));
    assert_eq!(broker.apis(), [PRODUCE, FETCH, PRODUCE]);
    let faults: Vec<EventKind> = proxy.log().events().map(|event| event.kind).collect();
    assert!(
        faults
            .iter()
            .any(|kind| matches!(kind, EventKind::Fault { api: Some(PRODUCE), correlation: Some(3), .. })),
        "{faults:?}"
    );
}

#[test]
fn the_link_is_cut_after_the_nth_response_of_an_api() {
    for (end, reads) in [(End::Reset, RESET), (End::Close, Ok(()))] {
        let rule = Rule::new(Fault::Cut(end)).responses().api(FETCH).point(Point::End).nth(2);
        let (_broker, _proxy, mut client) = trio([rule]);
        client.ask(FETCH, 1);
        client.ask(METADATA, 2);
        client.ask(FETCH, 3);
        assert_eq!(client.rest(), (Vec::new(), reads));
    }
}

#[test]
fn the_link_is_cut_inside_a_frame_and_at_a_byte() {
    let whole = response(1, b"0123456789");
    for rule in [
        Rule::new(Fault::Cut(End::Close)).responses().api(METADATA).point(Point::Byte(9)),
        Rule::new(Fault::Cut(End::Close)).responses().byte(9),
    ] {
        let (_broker, _proxy, mut client) = trio([rule]);
        client.send(METADATA, 1, b"0123456789");
        assert_eq!(client.rest(), (whole[..9].to_vec(), Ok(())));
    }
    // The other way: the broker has part of a request and never the rest.
    let rule = Rule::new(Fault::Cut(End::Reset)).requests().api(PRODUCE).point(Point::Byte(20));
    let (broker, _proxy, mut client) = trio([rule]);
    client.ask(METADATA, 1);
    client.send(PRODUCE, 2, &[1; 1000]);
    assert_eq!(client.rest(), (Vec::new(), RESET));
    until("the broker notices", || broker.ended() == [RESET]);
    assert_eq!(broker.apis(), [METADATA]);
}

#[test]
fn only_one_api_is_late() {
    let rule = Rule::new(Fault::Delay { ms: 80, jitter_ms: 0 }).responses().api(FETCH);
    let (_broker, proxy, mut client) = trio([rule]);
    client.ask(METADATA, 1);
    client.ask(PRODUCE, 2);
    let start = Instant::now();
    client.ask(FETCH, 3);
    assert!(start.elapsed() >= Duration::from_millis(80));
    assert_eq!(proxy.log().faults_total(), 1);
}

#[test]
fn a_request_is_held_until_released_and_others_on_other_links_go_on() {
    let broker = Broker::start();
    let proxy = Proxy::start(broker.address).expect("a free port");
    let hold = proxy.add(Rule::new(Fault::Hold).requests().api(FETCH)).expect("a good rule");
    let (mut first, mut second) = (Client::connect(proxy.address()), Client::connect(proxy.address()));
    first.ask(METADATA, 1);
    first.send(FETCH, 2, b"");
    first.send(METADATA, 3, b"");
    assert!(proxy.wait(PATIENCE, |log| log.faults(hold) == 1));
    second.ask(METADATA, 4);
    first.hears_nothing();
    assert_eq!(broker.apis(), [METADATA, METADATA]);
    proxy.remove(hold);
    assert_eq!((first.receive().0, first.receive().0), (2, 3));
}

#[test]
fn half_a_response_comes_and_the_rest_when_released() {
    let (_broker, proxy, mut client) = trio([]);
    let rule = Rule::new(Fault::Hold).responses().api(METADATA).point(Point::Byte(10));
    let hold = proxy.add(rule).expect("a good rule");
    client.send(METADATA, 1, b"0123456789");
    let mut half = [0; 10];
    std::io::Read::read_exact(&mut client.0, &mut half).expect("the first half");
    client.hears_nothing();
    proxy.remove(hold);
    client.finish();
    assert_eq!(client.rest(), (response(1, b"0123456789")[10..].to_vec(), Ok(())));
}

#[test]
fn one_request_or_response_vanishes_and_the_link_goes_on() {
    let (broker, proxy, mut client) = trio([
        Rule::new(Fault::Swallow).requests().api(METADATA).nth(1),
        Rule::new(Fault::Swallow).responses().api(FETCH).nth(1),
    ]);
    client.send(METADATA, 1, &[1; 10_000]);
    client.send(METADATA, 2, b"");
    assert_eq!(client.receive().0, 2);
    client.send(FETCH, 3, &[1; 10_000]);
    client.send(FETCH, 4, b"");
    assert_eq!(client.receive().0, 4);
    assert_eq!(broker.apis(), [METADATA, FETCH, FETCH]);
    assert_eq!(proxy.log().responses(FETCH), 2);
}

#[test]
fn requests_without_response_do_not_confuse_the_count() {
    let rule = Rule::new(Fault::Cut(End::Close)).responses().api(PRODUCE).point(Point::End).nth(2);
    let (broker, proxy, mut client) = trio([rule]);
    for correlation in 1..=20 {
        client.send(PRODUCE, correlation, b"-");
    }
    client.ask(METADATA, 21);
    client.ask(PRODUCE, 22);
    client.ask(PRODUCE, 23);
    assert_eq!(client.rest(), (Vec::new(), Ok(())));
    assert_eq!(broker.asked().len(), 23);
    let log = proxy.log();
    assert_eq!((log.requests(PRODUCE), log.responses(PRODUCE)), (22, 2));
}

#[test]
fn bytes_of_a_response_are_changed() {
    let (_broker, _proxy, mut client) = trio([
        // The correlation id of the first, a byte of the body of the second.
        Rule::new(Fault::Replace(vec![0, 0, 0, 77])).responses().api(METADATA).point(Point::Byte(4)).nth(1),
        Rule::new(Fault::Flip(0x20)).responses().api(METADATA).point(Point::Byte(8)).nth(2),
    ]);
    for correlation in 1..=3 {
        client.send(METADATA, correlation, b"body");
    }
    assert_eq!(client.receive(), (77, b"body".to_vec()));
    assert_eq!(client.receive(), (2, b"Body".to_vec()));
    assert_eq!(client.receive(), (3, b"body".to_vec()));
}

#[test]
fn a_half_close_ends_one_way_only() {
    let rule = Rule::new(Fault::HalfClose).requests().api(PRODUCE).point(Point::End);
    let (broker, _proxy, mut client) = trio([rule]);
    client.send(PRODUCE, 1, b"last");
    client.send(METADATA, 2, b"late");
    // The broker reads the end, answers what it has and closes.
    assert_eq!(client.receive().0, 1);
    assert_eq!(client.rest(), (Vec::new(), Ok(())));
    assert_eq!((broker.apis(), broker.ended()), (vec![PRODUCE], vec![Ok(())]));
}

#[test]
fn a_response_opens_a_black_hole() {
    let rule = Rule::new(Fault::BlackHole { both: true }).responses().api(PRODUCE).nth(1).on_link(1);
    let (broker, proxy, mut client) = trio([rule]);
    client.ask(METADATA, 1);
    client.send(PRODUCE, 2, b"");
    assert!(proxy.wait(PATIENCE, |log| log.faults_total() == 1));
    client.send(METADATA, 3, b"");
    client.hears_nothing();
    assert_eq!(broker.apis(), [METADATA, PRODUCE], "applied, and nobody learns of it");
    Client::connect(proxy.address()).ask(PRODUCE, 4);
}

#[test]
fn tls_has_no_frames_but_bytes() {
    let (broker, proxy, mut client) =
        trio([Rule::new(Fault::Swallow).any_frame(), Rule::new(Fault::Cut(End::Close)).requests().byte(100)]);
    let hello = [&[0x16, 3, 1, 2, 0, 1][..], &[0xaa; 200]].concat();
    client.0.write_all(&hello).expect("the proxy takes it");
    assert_eq!(client.rest().1, Ok(()));
    assert!(proxy.wait(PATIENCE, |log| log.open() == 0 || log.faults_total() == 1));
    assert!(broker.apis().is_empty());
    let log = proxy.log();
    assert_eq!((log.faults_total(), log.requests_by_api().len()), (1, 0));
}

#[test]
fn a_script_strikes_the_same_requests_each_time() {
    let text = r#"{"seed": 42, "rules": [
        {"fault": "swallow", "way": "requests", "at": {"frame": {"api": 3}}, "chance": 0.4}
    ]}"#;
    let script = Script::from_json(text).expect("a good script");
    let run = || {
        let (broker, proxy, mut client) = trio([]);
        let rules = proxy.run(&script).expect("good rules");
        (1..=60).for_each(|n| client.send(METADATA, n, b""));
        client.send(PRODUCE, 61, b"");
        while client.receive().0 != 61 {}
        let passed: Vec<i32> = broker.asked().into_iter().map(|(_, correlation, _)| correlation).collect();
        assert_eq!(proxy.log().faults(rules[0]) as usize, 61 - passed.len());
        passed
    };
    let passed = run();
    assert_eq!(passed, run());
    assert!((20..50).contains(&passed.len()), "{passed:?}");
}
