//! Before a connection is ready: versions, who it is, the time that it may take.

use super::*;

#[test]
fn versions_are_asked_in_the_newest_form_with_our_name() {
    let mut bed = Bed::start(Config::default(), None, 5);
    let asked = bed.asked();
    assert_eq!((asked.key, asked.version), (ApiKey::API_VERSIONS, 5));
    let body = asked.body::<ApiVersionsRequest>();
    assert_eq!(body.client_software_name.as_str(), "weir");
    assert_eq!(body.client_software_version.as_str(), env!("CARGO_PKG_VERSION"));
    assert_eq!((body.cluster_id, body.node_id), (None, -1), "nobody in particular is expected");
    bed.frame(asked.answer::<ApiVersionsRequest>(&versions(&[(3, 0, 9)])));
    assert_eq!(bed.ready.unwrap().version_of(ApiKey::METADATA).unwrap(), 9);
}

#[test]
fn an_older_broker_says_which_form_it_knows() {
    // Error 35 and a body of version 0, which names ApiVersions 0 to 2, or 0 to 0, or nothing at all.
    for (known, again) in [(Some(2), 2), (Some(0), 0), (None, 0), (Some(99), 4)] {
        let mut bed = Bed::start(Config::default(), None, 5);
        let mut body = versions(&known.map_or(vec![], |max| vec![(18, 0, max)]));
        body.error_code = ErrorCode::UNSUPPORTED_VERSION.0;
        let asked = bed.asked();
        bed.frame(answer(asked.correlation, false, &body.to_bytes(0).unwrap()));
        assert!(bed.dead.is_none(), "{:?}", bed.dead);
        let asked = bed.asked();
        assert_eq!((asked.key, asked.version), (ApiKey::API_VERSIONS, again));
        bed.frame(asked.answer::<ApiVersionsRequest>(&versions(&[(3, 0, 1), (18, 0, 2)])));
        assert!(bed.ready.is_some());
    }
}

#[test]
fn a_broker_that_knows_no_form_at_all_is_left() {
    let mut bed = Bed::start(Config::default(), None, 5);
    for _ in 0..6 {
        let asked = bed.asked();
        let mut body = versions(&[(18, 0, 99)]);
        body.error_code = ErrorCode::UNSUPPORTED_VERSION.0;
        bed.frame(answer(asked.correlation, false, &body.to_bytes(0).unwrap()));
    }
    assert_eq!(bed.why().code(), Some(ErrorCode::UNSUPPORTED_VERSION));
    assert!(bed.sent.is_empty(), "not asked for ever");
}

#[test]
fn m09_a_connection_broken_at_the_question_may_mean_an_old_broker() {
    for (version, old) in [(5, true), (0, false)] {
        let mut bed = Bed::start(Config::default(), None, version);
        bed.machine.handle_lost(Error::io("reset"));
        bed.drain();
        assert_eq!(bed.dead.as_ref().unwrap().1, old, "asked in version {version}");
    }
    // Not once it has answered.
    let mut bed = Bed::ready(Config::default());
    bed.machine.handle_lost(Error::io("reset"));
    bed.drain();
    assert!(!bed.dead.unwrap().1);
}

#[test]
fn m09_a_broker_that_broke_off_and_is_not_old_is_asked_for_its_features() {
    let mut bed = Bed::start(Config::default(), None, 0);
    assert_eq!(bed.respond::<ApiVersionsRequest>(&versions(&[(18, 0, 5)])).version, 0);
    assert!(bed.ready.is_none());
    assert_eq!(bed.respond::<ApiVersionsRequest>(&versions(&[(18, 0, 5)])).version, 3);
    assert!(bed.ready.is_some());
    // An old one is not.
    let mut bed = Bed::start(Config::default(), None, 0);
    bed.respond::<ApiVersionsRequest>(&versions(&[(18, 0, 2)]));
    assert!(bed.ready.is_some() && bed.sent.is_empty());
}

#[test]
fn the_broker_is_told_who_it_should_be() {
    let expected: Expected = Some(("cluster-7".into(), 3));
    let mut bed = Bed::start(Config::default(), expected.clone(), 5);
    let body = bed.asked().body::<ApiVersionsRequest>();
    assert_eq!((body.cluster_id.as_deref(), body.node_id), (Some("cluster-7"), 3));
    let mut bed = Bed::start(Config { check_identity: false, ..Config::default() }, expected, 5);
    let body = bed.asked().body::<ApiVersionsRequest>();
    assert_eq!((body.cluster_id, body.node_id), (None, -1), "not if that is switched off");
}

#[test]
fn a_broker_that_is_another_one_is_told_by_its_code() {
    let mut bed = Bed::start(Config::default(), Some(("cluster-7".into(), 3)), 5);
    let error_code = ErrorCode::REBOOTSTRAP_REQUIRED.0;
    bed.respond::<ApiVersionsRequest>(&ApiVersionsResponse { error_code, ..Default::default() });
    assert_eq!(bed.why().code(), Some(ErrorCode::REBOOTSTRAP_REQUIRED));
    assert!(!bed.dead.as_ref().unwrap().1, "it is not an old broker");
}

#[test]
fn a_pin_holds_for_the_question_too() {
    let mut pins = Pins::default();
    pins.set(ApiKey::API_VERSIONS, 0..=2);
    let mut bed = Bed::start(Config { pins, ..Config::default() }, None, 5);
    assert_eq!(bed.asked().version, 2);
}

#[test]
fn a_connection_that_does_not_become_ready_in_time_is_over() {
    let mut bed = Bed::start(Config::default(), None, 5);
    bed.advance(10 * SEC - MS);
    assert!(bed.dead.is_none());
    bed.advance(MS);
    assert!(bed.why().is_timeout());
    assert_eq!(bed.machine.poll_timeout(), None);
}

#[test]
fn requests_before_it_is_ready_are_not_taken() {
    let mut bed = Bed::start(Config::default(), None, 5);
    let (_, refused) = bed.submit_with(SEC, None);
    assert!(refused.unwrap().is_internal());
    assert_eq!(bed.sent.len(), 1);
}

#[test]
fn b13_an_answer_that_is_none_ends_the_connection() {
    for body in [&b""[..], b"\0", b"\0\0\xff\xff\xff\xff", b"\0\0\x7f", &[0xff; 64]] {
        let mut bed = Bed::start(Config::default(), None, 5);
        let asked = bed.asked();
        bed.frame(answer(asked.correlation, false, body));
        assert!(bed.ready.is_none() && !bed.why().is_retriable(), "{body:?}: {:?}", bed.dead);
    }
}

#[test]
fn p21_quiet_that_is_asked_for_with_the_versions_is_kept() {
    let mut bed = Bed::start(Config::default(), None, 5);
    let answer = ApiVersionsResponse { throttle_time_ms: 700, ..versions(&[(3, 0, 12)]) };
    bed.respond::<ApiVersionsRequest>(&answer);
    bed.submit();
    bed.advance(699 * MS);
    assert!(bed.sent.is_empty());
    bed.advance(MS);
    assert_eq!(bed.sent.len(), 1);
}

#[test]
fn closing_before_it_is_ready_is_at_once() {
    let mut bed = Bed::start(Config::default(), None, 5);
    bed.machine.close(bed.now);
    bed.drain();
    assert!(bed.why().is_closed());
}
