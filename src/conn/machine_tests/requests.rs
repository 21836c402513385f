//! Requests on a ready connection: order, time, quiet, limits, and the end.

use super::*;

#[test]
fn answers_come_in_the_order_of_the_requests() {
    let mut bed = Bed::ready(Config::default());
    let ids: Vec<i32> = (0..5).map(|_| bed.submit()).collect();
    let on_the_way: Vec<i32> = bed.sent.iter().map(|frame| Asked::parse(frame).correlation).collect();
    assert_eq!(on_the_way, ids);
    for _ in 0..5 {
        bed.answer();
    }
    assert_eq!(bed.answered(), ids);
    assert_eq!(bed.machine.load(), 0);
}

#[test]
fn b05_answers_that_were_not_asked_for_end_the_connection() {
    // By the place of the correlation id among three in flight.
    for (name, correlation) in [("unknown", 77), ("out of order", 2), ("negative", -1)] {
        let mut bed = Bed::ready(Config::default());
        let ids: Vec<i32> = (0..3).map(|_| bed.submit()).collect();
        bed.frame(answer(correlation, true, b"x"));
        assert!(bed.why().is_malformed(), "{name}");
        assert_eq!(bed.failed(), ids.iter().map(|id| (*id, true)).collect::<Vec<_>>(), "{name}");
        assert!(bed.done.iter().all(|(_, error)| error.as_ref().unwrap().is_io()), "to them it is the line");
    }
    let mut bed = Bed::ready(Config::default());
    bed.submit();
    let asked = Asked::parse(&bed.sent[0]);
    bed.answer();
    let again = asked.answer::<MetadataRequest>(&MetadataResponse::default());
    bed.frame(again);
    assert!(bed.why().is_malformed(), "twice");
    let mut bed = Bed::ready(Config::default());
    bed.frame(Bytes::from_static(b"\0\0"));
    assert!(bed.why().is_malformed(), "nothing was asked");
}

#[test]
fn m06_a_silent_broker_ends_the_connection_after_one_timeout() {
    let mut bed = Bed::ready(Config { in_flight_max: 2, ..Config::default() });
    let ids: Vec<i32> = (0..4).map(|_| bed.submit()).collect();
    bed.advance(30 * SEC - MS);
    assert!(bed.dead.is_none());
    bed.advance(MS);
    assert!(bed.why().is_timeout() && bed.why().to_string().contains("Metadata"), "{}", bed.why());
    let expected: Vec<_> = ids.iter().zip([true, true, false, false]).map(|(id, out)| (*id, out)).collect();
    assert_eq!(bed.failed(), expected, "what was parked has not happened");
}

#[test]
fn m06_a_socket_that_takes_nothing_ends_the_connection_too() {
    // Nothing is in flight: only requests without answers.
    let mut bed = Bed::ready(Config::default());
    bed.writable = false;
    let silent = |bed: &mut Bed, id| {
        let segments = Segments::framed(Bytes::from_static(b"produce"));
        bed.submit_prepared(id, Prepared { segments, pending: None, timeout: SEC, deadline: None })
    };
    assert!(silent(&mut bed, 1).1.is_none() && silent(&mut bed, 2).1.is_none());
    assert_eq!(bed.done.len(), 1, "the second waits for the socket");
    bed.advance(30 * SEC);
    assert!(bed.why().is_timeout());
    assert_eq!(bed.failed(), [(2, false)]);
}

#[test]
fn what_waits_for_the_socket_goes_in_order_when_it_can() {
    let mut bed = Bed::ready(Config::default());
    bed.writable = false;
    let ids: Vec<i32> = (0..4).map(|_| bed.submit()).collect();
    assert_eq!(bed.sent.len(), 1);
    bed.writable = true;
    bed.drain();
    let on_the_way: Vec<i32> = bed.sent.iter().map(|frame| Asked::parse(frame).correlation).collect();
    assert_eq!(on_the_way, ids);
}

#[test]
fn a_request_has_its_time_from_when_the_broker_could_answer_it() {
    let mut bed = Bed::ready(Config::default());
    // Joining a group may take minutes; a heartbeat behind it is not late for that.
    bed.submit_with(300 * SEC, None);
    bed.submit_with(30 * SEC, None);
    bed.advance(299 * SEC);
    bed.answer();
    bed.advance(29 * SEC);
    assert!(bed.dead.is_none());
    bed.advance(SEC);
    assert!(bed.why().is_timeout());
}

#[test]
fn a_callers_deadline_abandons_its_request_alone() {
    let mut bed = Bed::ready(Config { in_flight_max: 2, ..Config::default() });
    let deadline = Some(bed.now + SEC);
    bed.submit_with(30 * SEC, deadline);
    bed.submit();
    bed.submit_with(30 * SEC, deadline);
    bed.advance(SEC - MS);
    assert!(bed.done.is_empty());
    bed.advance(MS);
    assert_eq!(bed.failed(), [(1, true), (3, false)], "one was sent, one was not");
    assert!(bed.done.iter().all(|(_, error)| error.as_ref().unwrap().is_timeout()));
    bed.answer_anyone();
    bed.answer();
    assert_eq!(
        (bed.answered(), &bed.unclaimed[..]),
        (vec![2], &[700][..]),
        "it is read for its throttle time"
    );
    assert!(bed.dead.is_none());
    let (_, refused) = bed.submit_with(SEC, Some(bed.now));
    assert!(refused.unwrap().is_timeout(), "no time is left");
    assert!(bed.sent.is_empty());
}

impl Bed {
    /// An answer to one who has gone.
    fn answer_anyone(&mut self) {
        self.respond::<MetadataRequest>(&MetadataResponse { throttle_time_ms: 700, ..Default::default() });
    }
}

#[test]
fn p21_a_throttle_longer_than_the_timeout_times_nothing_out() {
    let mut bed = Bed::ready(Config::default());
    bed.submit();
    assert_eq!(bed.machine.handle_throttle(60_000, bed.now), Some(60 * SEC));
    bed.submit();
    bed.submit();
    assert_eq!(bed.sent.len(), 1, "nothing is sent while the broker wants quiet");
    bed.advance(60 * SEC - MS);
    assert!(bed.sent.len() == 1 && bed.dead.is_none(), "what was sent is not read until then either");
    bed.advance(MS);
    assert_eq!(bed.sent.len(), 3);
    bed.advance(29 * SEC);
    for _ in 0..3 {
        bed.answer();
    }
    assert_eq!(bed.answered(), [1, 2, 3]);
}

#[test]
fn b17_throttle_times_are_clamped() {
    for (time_ms, quiet) in [(0, 0), (-1, 0), (i32::MIN, 0), (1, 1), (i32::MAX, 300_000)] {
        let mut bed = Bed::ready(Config::default());
        let told = bed.machine.handle_throttle(time_ms, bed.now);
        assert_eq!(told, (quiet > 0).then_some(quiet as u32 * MS), "{time_ms}");
        bed.submit();
        if quiet > 0 {
            assert!(bed.sent.is_empty());
            bed.advance((quiet - 1) as u32 * MS);
            assert!(bed.sent.is_empty(), "{time_ms}");
            bed.advance(MS);
        }
        assert_eq!(bed.sent.len(), 1, "{time_ms}");
    }
}

#[test]
fn a_shorter_throttle_does_not_end_a_longer_one() {
    let mut bed = Bed::ready(Config::default());
    bed.machine.handle_throttle(1000, bed.now);
    bed.machine.handle_throttle(10, bed.now);
    bed.submit();
    bed.advance(999 * MS);
    assert!(bed.sent.is_empty());
}

#[test]
fn the_limits_of_in_flight_and_parked_hold() {
    let mut bed = Bed::ready(Config { in_flight_max: 2, parked_max: 3, ..Config::default() });
    for _ in 0..5 {
        bed.submit();
    }
    assert_eq!((bed.sent.len(), bed.machine.load()), (2, 5));
    let (_, refused) = bed.submit_with(SEC, None);
    assert!(refused.as_ref().unwrap().is_limit() && !refused.unwrap().may_have_happened());
    bed.answer();
    assert_eq!(bed.sent.len(), 2, "one came back, one went");
    bed.submit_with(30 * SEC, None);
    for _ in 0..5 {
        bed.answer();
    }
    assert_eq!(bed.answered(), [1, 2, 3, 4, 5, 7]);
}

#[test]
fn a_listener_that_may_want_sasl_is_told_of() {
    let cut = |config: Config, answers: usize, requests: usize| {
        let sasl = config.sasl.is_some();
        let mut bed = if sasl { Bed::authenticated(config, 0) } else { Bed::ready(config) };
        for _ in 0..requests {
            bed.submit();
        }
        (0..answers).for_each(|_| bed.answer());
        bed.machine.handle_lost(Error::io("reset by the peer"));
        bed.drain();
        assert!(bed.why().is_io() && bed.why().to_string().contains("reset by the peer"));
        assert!(bed.failed().iter().all(|(_, maybe)| *maybe));
        bed.why().to_string().contains("wants SASL")
    };
    assert!(cut(Config::default(), 0, 1));
    assert!(!cut(Config::default(), 0, 0), "nothing was asked");
    assert!(!cut(Config::default(), 1, 2), "it answers without");
    let config = Config { sasl: Some(Arc::new(Fake("FAKE"))), ..Config::default() };
    assert!(!cut(config, 0, 1), "it knows who we are");
}

#[test]
fn what_is_parked_is_bounded_in_bytes() {
    let one = encode_request(&MetadataRequest::default(), 12, 1, Some(&"weir".into())).unwrap().len();
    let config = Config { in_flight_max: 1, parked_bytes_max: 2 * one, ..Config::default() };
    let mut bed = Bed::ready(config.clone());
    let large = |bed: &mut Bed, id| {
        let segments = Segments::framed(Bytes::from(vec![0; 10 * one]));
        bed.submit_prepared(id, Prepared { segments, pending: None, timeout: SEC, deadline: None })
    };
    for _ in 0..2 {
        bed.submit();
    }
    let (_, refused) = large(&mut bed, 100);
    assert!(refused.as_ref().unwrap().is_limit() && !refused.unwrap().may_have_happened());
    let (gone, _) = bed.submit_with(SEC, None);
    assert!(bed.submit_with(SEC, None).1.unwrap().is_limit());
    gone.gone.store(true, Relaxed);
    assert!(bed.submit_with(SEC, Some(bed.now + SEC)).1.is_none(), "the room of one who has gone is free");
    bed.advance(SEC);
    assert!(bed.submit_with(SEC, None).1.is_none(), "so is that of one who has no time left");
    for _ in 0..3 {
        bed.answer();
    }
    assert_eq!(bed.machine.load(), 0);
    // One that is larger than all the room waits alone.
    bed.submit();
    assert!(large(&mut bed, 101).1.is_none());
    assert!(bed.submit_with(SEC, None).1.unwrap().is_limit());
    bed.answer();
    assert_eq!(bed.machine.load(), 0, "all that it took is given back");
}

#[test]
fn nobody_sends_for_who_has_gone() {
    let mut bed = Bed::ready(Config { in_flight_max: 1, parked_max: 2, ..Config::default() });
    bed.submit();
    let (gone, _) = bed.submit_with(SEC, None);
    bed.submit();
    gone.gone.store(true, Relaxed);
    let (_, refused) = bed.submit_with(SEC, None);
    assert!(refused.is_none(), "the place of one who has gone is free");
    bed.answer();
    assert_eq!(Asked::parse(&bed.sent[0]).correlation, 3, "the second was never sent");
}

#[test]
fn an_idle_connection_is_closed_and_one_in_use_is_not() {
    let mut bed = Bed::ready(Config::default());
    bed.advance(500 * SEC);
    bed.submit_with(1000 * SEC, None);
    bed.advance(539 * SEC);
    assert!(bed.dead.is_none(), "a request is under way");
    bed.answer();
    bed.advance(540 * SEC - MS);
    assert!(bed.dead.is_none());
    bed.advance(MS);
    assert!(bed.why().is_closed());
}

#[test]
fn closing_finishes_what_is_under_way() {
    let mut bed = Bed::ready(Config { in_flight_max: 1, ..Config::default() });
    bed.submit();
    bed.submit();
    bed.machine.close(bed.now);
    bed.drain();
    assert!(!bed.machine.is_open() && bed.dead.is_none());
    let (_, refused) = bed.submit_with(SEC, None);
    assert!(refused.unwrap().is_io(), "L02: it is told, and may go elsewhere");
    bed.answer();
    bed.answer();
    assert_eq!(bed.answered(), [1, 2]);
    assert!(bed.why().is_closed());
}

#[test]
fn closing_waits_for_bytes_that_have_not_left_and_for_no_answer_that_nobody_wants() {
    let mut bed = Bed::ready(Config::default());
    bed.writable = false;
    let segments = Segments::framed(Bytes::from_static(b"produce"));
    bed.submit_prepared(1, Prepared { segments, pending: None, timeout: SEC, deadline: None });
    bed.machine.close(bed.now);
    bed.drain();
    assert!(bed.dead.is_none());
    bed.writable = true;
    bed.drain();
    assert!(bed.why().is_closed());

    let mut bed = Bed::ready(Config::default());
    let deadline = Some(bed.now + SEC);
    bed.submit_with(30 * SEC, deadline);
    bed.machine.close(bed.now);
    bed.advance(SEC);
    assert!(bed.why().is_closed(), "the only one who waited has given up");
}

#[test]
fn a_request_without_an_answer_that_did_not_get_out_is_not_told_as_sent() {
    let mut bed = Bed::ready(Config::default());
    let who = Who { id: 7, gone: Arc::default() };
    let segments = Segments::framed(Bytes::from_static(b"produce"));
    let request = Prepared { segments, pending: None, timeout: SEC, deadline: None };
    bed.machine.submit(who, request, bed.now).unwrap();
    // Writing it fails.
    bed.machine.handle_lost(Error::io("reset by the peer"));
    bed.drain();
    let (id, why) = bed.done.pop().unwrap();
    let why = why.unwrap();
    assert!(id == 7 && why.is_io() && why.may_have_happened(), "{why}");
    assert!(bed.done.is_empty(), "told once");
}

#[test]
fn times_beyond_all_clocks_are_taken() {
    let forever = Duration::MAX;
    let config = Config {
        request_timeout: forever,
        setup_timeout: forever,
        idle_max: forever,
        throttle_max: forever,
        ..Config::default()
    };
    let mut bed = Bed::ready(config);
    bed.submit_with(forever, None);
    bed.machine.handle_throttle(i32::MAX, bed.now);
    bed.advance(1000 * SEC);
    bed.answer();
    assert_eq!(bed.answered(), [1]);
}

#[test]
fn l05_after_an_hour_asleep_there_is_one_late_alarm() {
    let mut bed = Bed::ready(Config::default());
    bed.machine.handle_throttle(1000, bed.now);
    bed.submit();
    bed.now += 3600 * SEC;
    bed.tick();
    assert!(bed.sent.is_empty() || bed.dead.is_none(), "no false end");
    assert_eq!(bed.sent.len(), 1, "it was parked, its time begins now");
    bed.answer();
    assert_eq!(bed.answered(), [1]);
}
