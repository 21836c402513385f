//! Authentication, for the first time and again (KIP-368).

use super::*;

fn begun(config: Config) -> Bed {
    let mut bed = Bed::start(Config { sasl: Some(Arc::new(Fake("FAKE"))), ..config }, None, 5);
    bed.tell_versions();
    bed
}

#[test]
fn the_mechanism_is_agreed_then_tokens_are_carried() {
    let mut bed = begun(Config::default());
    let asked = bed.asked();
    assert_eq!(asked.version, 1);
    assert_eq!(asked.body::<SaslHandshakeRequest>().mechanism.as_str(), "FAKE");
    bed.frame(asked.answer::<SaslHandshakeRequest>(&mechanisms(&["PLAIN", "FAKE"])));
    assert_eq!(bed.begin, 1);
    for round in 0..3_u8 {
        bed.say(Some(&[round; 2000]));
        let asked = bed.asked();
        assert_eq!(asked.version, 2);
        assert_eq!(asked.body::<SaslAuthenticateRequest>().auth_bytes[..], [round; 2000]);
        let auth_bytes = vec![round].into();
        let theirs = SaslAuthenticateResponse { auth_bytes, ..Default::default() };
        bed.frame(asked.answer::<SaslAuthenticateRequest>(&theirs));
        assert_eq!(bed.respond[usize::from(round)][..], [round]);
        assert!(bed.ready.is_none(), "not before the mechanism is content");
    }
    bed.say(None);
    assert!(bed.ready.is_some());
    assert_eq!(bed.authenticated, [false]);
}

#[test]
fn b38_no_other_mechanism_is_taken() {
    for (theirs, error_code) in [(&["PLAIN"][..], 33), (&["PLAIN"], 0), (&[], 0), (&["FAKE"], 33)] {
        let mut bed = begun(Config::default());
        bed.respond::<SaslHandshakeRequest>(&SaslHandshakeResponse { error_code, ..mechanisms(theirs) });
        assert!(bed.why().is_auth(), "{theirs:?} {error_code}");
        assert!(bed.sent.is_empty() && bed.begin == 0, "no secret leaves");
    }
    let mut bed = begun(Config::default());
    bed.respond::<SaslHandshakeRequest>(&mechanisms(&["a\nb"]));
    assert!(bed.why().to_string().contains("a\\nb"), "{}", bed.why());
}

#[test]
fn b40_rounds_and_tokens_are_bounded() {
    let mut bed = begun(Config::default());
    bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
    for _ in 0..10 {
        assert!(bed.dead.is_none());
        bed.say(Some(b"x"));
        bed.respond::<SaslAuthenticateRequest>(&SaslAuthenticateResponse::default());
    }
    assert!(bed.why().is_auth() && bed.why().to_string().contains("10 rounds"), "{}", bed.why());

    let mut bed = begun(Config::default());
    bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
    bed.say(Some(b"x"));
    let auth_bytes = vec![0; (64 << 10) + 1].into();
    bed.respond::<SaslAuthenticateRequest>(&SaslAuthenticateResponse { auth_bytes, ..Default::default() });
    assert!(bed.why().is_limit());

    let mut bed = begun(Config::default());
    bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
    bed.say(Some(&vec![0; (64 << 10) + 1]));
    assert!(bed.why().is_limit() && bed.sent.is_empty());
}

#[test]
fn a_refusal_is_told_in_the_brokers_words() {
    let mut bed = begun(Config::default());
    bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
    bed.say(Some(b"x"));
    let error_message = Some("wrong \x1b password".into());
    let no = SaslAuthenticateResponse { error_code: 58, error_message, ..Default::default() };
    bed.respond::<SaslAuthenticateRequest>(&no);
    assert!(bed.why().is_auth() && bed.why().to_string().contains("wrong \\u{1b} password"), "{}", bed.why());
    assert_eq!(bed.why().code(), Some(ErrorCode::SASL_AUTHENTICATION_FAILED));
}

#[test]
fn a_mechanism_that_fails_or_says_nothing_ends_the_connection() {
    for said in [Err(Error::auth("no token to be had")), Ok(None)] {
        let mut bed = begun(Config::default());
        bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
        bed.machine.handle_said(said, bed.now);
        bed.drain();
        assert!(bed.why().is_auth() && bed.sent.is_empty());
    }
}

#[test]
fn a_mechanism_that_takes_for_ever_is_bounded() {
    let mut bed = begun(Config::default());
    bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
    bed.advance(10 * SEC);
    assert!(bed.why().is_timeout());
}

/// Brokers before 1.0 take tokens as frames without a header.
fn raw() -> Bed {
    let mut bed = Bed::start(Config { sasl: Some(Arc::new(Fake("FAKE"))), ..Config::default() }, None, 5);
    bed.respond::<ApiVersionsRequest>(&versions(&[(3, 0, 5), (17, 0, 0), (18, 0, 1)]));
    let asked = bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
    assert_eq!(asked.version, 0);
    bed
}

#[test]
fn raw_tokens_are_carried_to_old_brokers() {
    let mut bed = raw();
    for round in 1..=2_u8 {
        bed.say(Some(&[round; 3]));
        assert_eq!(bed.sent.pop_front().unwrap()[..], [0, 0, 0, 3, round, round, round]);
        // The last token of a broker may be empty.
        bed.frame(Bytes::copy_from_slice([&[round][..], &[]][usize::from(round) - 1]));
        assert_eq!(bed.respond.len(), usize::from(round));
    }
    bed.say(None);
    assert!(bed.ready.is_some());
    bed.advance(500 * SEC);
    assert!(bed.dead.is_none() && bed.sent.is_empty(), "such a session does not end");
}

/// As the last token of Kerberos: Java has nothing to say to it, and an old broker then says nothing.
#[test]
fn an_old_broker_need_not_answer_the_last_token() {
    let mut bed = raw();
    bed.say(Some(b"last"));
    assert!(bed.ready.is_none());
    bed.say(None);
    assert!(bed.ready.is_some());
    assert_eq!(bed.sent.pop_front().unwrap()[4..], *b"last");
    // Newer ones answer each token, and are waited for.
    let mut bed = begun(Config::default());
    bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
    bed.say(Some(b"last"));
    bed.say(None);
    assert!(bed.ready.is_none());
    bed.respond::<SaslAuthenticateRequest>(&SaslAuthenticateResponse::default());
    bed.say(None);
    assert!(bed.ready.is_some());
}

#[test]
fn an_old_broker_that_breaks_off_at_a_token_may_have_refused_it() {
    let mut bed = raw();
    bed.say(Some(b"x"));
    bed.machine.handle_lost(Error::io("the broker closed the connection"));
    bed.drain();
    assert!(bed.why().to_string().contains("authenticating"), "{}", bed.why());
    // A token when it is not the broker's turn is no token.
    let mut bed = raw();
    bed.frame(Bytes::from_static(b"token"));
    assert!(bed.why().is_malformed());
}

#[test]
fn m08_a_renewal_costs_no_request_an_error() {
    let mut bed = Bed::authenticated(Config::default(), 100_000);
    // 90 hundredths of the lifetime, as drawn by the test's chance.
    bed.advance(90 * SEC - MS);
    assert!(bed.sent.is_empty());
    let (before, _) = (bed.submit(), bed.submit());
    bed.advance(MS);
    assert_eq!(bed.sent.len(), 3, "two requests and the first word of the renewal");
    let parked: Vec<i32> = (0..3).map(|_| bed.submit()).collect();
    assert_eq!(bed.sent.len(), 3, "parked meanwhile");
    // The broker takes longer over what came before than a renewal may.
    bed.advance(20 * SEC);
    bed.answer();
    bed.advance(20 * SEC);
    bed.answer();
    bed.advance(9 * SEC);
    bed.authenticate(100_000);
    assert_eq!((bed.begin, &bed.authenticated[..]), (2, &[false, true][..]));
    assert_eq!(bed.sent.len(), 3, "replayed");
    for _ in &parked {
        bed.answer();
    }
    assert_eq!(bed.answered(), [before, before + 1, parked[0], parked[1], parked[2]]);
    assert!(bed.failed().is_empty() && bed.dead.is_none());
    bed.advance(90 * SEC);
    assert_eq!(bed.asked().key, ApiKey::SASL_HANDSHAKE, "and so on");
}

#[test]
fn m08_a_renewal_that_gets_no_answer_is_bounded() {
    let mut bed = Bed::authenticated(Config::default(), 100_000);
    bed.advance(90 * SEC);
    bed.submit();
    bed.advance(10 * SEC);
    assert!(bed.why().is_timeout());
    assert_eq!(bed.failed(), [(1, false)]);
}

#[test]
fn m08_a_renewal_that_is_refused_is_a_broken_connection_to_requests() {
    let mut bed = Bed::authenticated(Config::default(), 100_000);
    bed.submit();
    bed.advance(SEC);
    bed.answer();
    bed.advance(89 * SEC);
    let parked = bed.submit();
    bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
    bed.say(Some(b"old token"));
    let no = SaslAuthenticateResponse { error_code: 58, ..Default::default() };
    bed.respond::<SaslAuthenticateRequest>(&no);
    assert!(bed.why().is_auth());
    assert_eq!(bed.failed(), [(parked, false)]);
    assert!(bed.done[1].1.as_ref().unwrap().is_retriable());
}

#[test]
fn b17_lifetimes_of_any_size_are_taken() {
    for (lifetime_ms, first) in [
        (0, None),
        (-1, None),
        (i64::MIN, None),
        (1, Some(900)),
        (1000, Some(900)),
        (3_600_000, Some(3_240_000)),
    ] {
        let mut bed = Bed::authenticated(Config { idle_max: 10_000 * SEC, ..Config::default() }, lifetime_ms);
        let Some(first) = first else {
            bed.advance(9000 * SEC);
            assert!(bed.sent.is_empty() && bed.dead.is_none(), "{lifetime_ms}");
            continue;
        };
        bed.advance(first * MS - MS);
        assert!(bed.sent.is_empty(), "{lifetime_ms}");
        bed.advance(MS);
        assert_eq!(bed.asked().key, ApiKey::SASL_HANDSHAKE, "{lifetime_ms}");
    }
    let mut bed = Bed::authenticated(Config { idle_max: Duration::MAX, ..Config::default() }, i64::MAX);
    bed.advance(100_000 * SEC);
    assert!(bed.sent.is_empty() && bed.dead.is_none());
}

#[test]
fn renewals_do_not_keep_an_idle_connection() {
    let mut bed = Bed::authenticated(Config::default(), 200_000);
    for _ in 0..2 {
        bed.advance(180 * SEC);
        bed.authenticate(200_000);
    }
    assert!(bed.dead.is_none());
    bed.advance(180 * SEC);
    assert!(bed.why().is_closed(), "540 s without a request");
}

#[test]
fn a_renewal_waits_for_the_end_of_quiet_and_requests_wait_for_the_renewal() {
    let mut bed = Bed::authenticated(Config::default(), 100_000);
    bed.advance(80 * SEC);
    bed.machine.handle_throttle(60_000, bed.now);
    bed.submit();
    bed.advance(59 * SEC);
    assert!(bed.sent.is_empty() && bed.dead.is_none());
    // The alarm has not gone off yet.
    bed.now += SEC;
    bed.submit();
    assert!(bed.sent.is_empty(), "the session is over: not before it is renewed");
    bed.tick();
    bed.authenticate(100_000);
    bed.answer();
    bed.answer();
    assert_eq!(bed.answered(), [1, 2]);
}

#[test]
fn closing_in_a_renewal_sends_nothing_into_it() {
    let mut bed = Bed::authenticated(Config::default(), 100_000);
    bed.advance(90 * SEC);
    bed.submit();
    bed.machine.close(bed.now);
    bed.drain();
    assert!(bed.dead.is_none() && bed.sent.len() == 1);
    bed.authenticate(100_000);
    bed.answer();
    assert_eq!(bed.answered(), [1]);
    assert!(bed.why().is_closed());

    let mut bed = Bed::authenticated(Config::default(), 100_000);
    bed.advance(90 * SEC);
    bed.machine.close(bed.now);
    bed.drain();
    assert!(bed.why().is_closed(), "nobody waits, so nothing need be renewed");
}

#[test]
fn b40_tokens_are_overwritten_when_they_have_left() {
    // What a short token is copied into, and a long one that is shared, both end in the same owner.
    for len in [5, 5000] {
        let mut bed = begun(Config::default());
        bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
        bed.machine.handle_said(Ok(Some(Secret::from(vec![b's'; len]))), bed.now);
        let segments = bed.machine.poll_transmit().unwrap();
        let pieces: Vec<Bytes> = segments.iter().filter(|piece| piece.contains(&b's')).collect();
        drop(segments);
        assert_eq!(pieces.len(), 1);
        for piece in pieces {
            // Nobody else has it, and yet it cannot be taken back as plain memory: it has an owner, which
            // overwrites.
            assert!(piece.try_into_mut().is_err(), "{len}");
        }
        assert!(Bytes::from(vec![b's'; len]).try_into_mut().is_ok(), "plain bytes can");
    }
}
