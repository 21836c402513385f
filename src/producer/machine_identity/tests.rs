//! An idempotent producer's identity: every code, epochs to their end, and answers that make no sense.

use super::*;

fn machine() -> Machine {
    Machine::new(Backoff::default(), 1)
}

fn ask(machine: &mut Machine, now: Instant) -> u64 {
    machine.poll_request(now).expect("a request").ticket
}

/// A machine that was given this identity.
fn known(id: i64, epoch: i16) -> Machine {
    let (mut machine, now) = (machine(), crate::net::clock::now());
    machine.handle_wanted();
    let ticket = ask(&mut machine, now);
    machine.handle_answer(ticket, ErrorCode::NONE, id, epoch, now);
    assert!(matches!(machine.poll_event(), Some(Event::Known(given)) if given == Identity { id, epoch }));
    machine
}

#[test]
fn it_is_asked_for_once_and_only_when_wanted() {
    let (mut machine, now) = (machine(), crate::net::clock::now());
    assert_eq!(machine.poll_request(now), None);
    machine.handle_wanted();
    machine.handle_wanted();
    let ticket = ask(&mut machine, now);
    assert_eq!(machine.poll_request(now), None, "one in flight");
    machine.handle_answer(ticket + 1, ErrorCode::NONE, 9, 9, now);
    assert_eq!(machine.identity(), None, "an answer to nothing");
    machine.handle_answer(ticket, ErrorCode::NONE, 7, 0, now);
    assert_eq!(machine.identity(), Some(Identity { id: 7, epoch: 0 }));
    machine.handle_wanted();
    assert_eq!((machine.poll_request(now), machine.poll_timeout()), (None, None));
}

#[test]
fn t09_t10_every_code_has_its_verdict() {
    for number in -1..=200 {
        let code = ErrorCode(number);
        let expected = match number {
            0 => Verdict::Done,
            51 => Verdict::Soon,
            15 | 16 => Verdict::Elsewhere,
            31 | 53 | 120 => Verdict::Refused,
            47 | 90 => Verdict::Fenced,
            _ if code.is_retriable() => Verdict::Again,
            _ => Verdict::Fatal,
        };
        assert_eq!(Verdict::of(code), expected, "{code}");
        let (mut machine, now) = (machine(), crate::net::clock::now());
        machine.handle_wanted();
        let ticket = ask(&mut machine, now);
        machine.handle_answer(ticket, code, 5, 3, now);
        let event = machine.poll_event();
        match expected {
            Verdict::Done => assert!(matches!(event, Some(Event::Known(_)))),
            Verdict::Again | Verdict::Soon | Verdict::Elsewhere => {
                assert!(event.is_none(), "{code}");
                let at = machine.poll_timeout().expect("a pause");
                assert_eq!(machine.poll_request(now), None);
                let soon = expected == Verdict::Soon;
                assert_eq!(at <= now + SOON * 2, soon, "{code} waits {:?}", at - now);
                assert!(machine.poll_request(at).is_some(), "{code} is asked again");
            }
            Verdict::Refused => {
                assert!(matches!(event, Some(Event::Refused(error)) if error.code() == Some(code)));
                assert_eq!(machine.poll_request(now), None, "{code} is not asked again by itself");
                machine.handle_wanted();
                assert!(machine.poll_request(now).is_some(), "{code} is asked again when wanted");
            }
            Verdict::Fenced | Verdict::Fatal => {
                assert!(matches!(event, Some(Event::Failed(error)) if error.code() == Some(code)));
                assert_eq!(machine.error().and_then(Error::code), Some(code));
                machine.handle_wanted();
                assert_eq!(machine.poll_request(now + Duration::from_hours(1)), None, "{code} is the end");
            }
        }
    }
    for named in [
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
        ErrorCode::NOT_ENOUGH_REPLICAS,
        ErrorCode::REQUEST_TIMED_OUT,
    ] {
        assert_eq!(Verdict::of(named), Verdict::Again, "{named}");
    }
    for named in [ErrorCode::UNSUPPORTED_VERSION, ErrorCode::INVALID_TRANSACTION_TIMEOUT] {
        assert_eq!(Verdict::of(named), Verdict::Fatal, "{named}");
    }
}

#[test]
fn t10_it_is_tried_for_ever_with_pauses_that_grow() {
    let (mut machine, mut now) = (machine(), crate::net::clock::now());
    machine.handle_wanted();
    let mut pauses = Vec::new();
    for turn in 0..40 {
        let ticket = ask(&mut machine, now);
        match turn % 3 {
            0 => machine.handle_failure(ticket, Error::io("cut").maybe_done(), now),
            1 => machine.handle_failure(ticket, Error::timeout("late"), now),
            _ => machine.handle_answer(ticket, ErrorCode::NOT_ENOUGH_REPLICAS, -1, -1, now),
        }
        let at = machine.poll_timeout().expect("a pause");
        pauses.push(at - now);
        now = at;
    }
    assert!(pauses[0] <= Duration::from_millis(120) && pauses[39] >= Duration::from_millis(800));
    assert!(pauses.iter().all(|pause| *pause <= Duration::from_millis(1200)));
    let ticket = ask(&mut machine, now);
    machine.handle_answer(ticket, ErrorCode::NONE, 1, 0, now);
    assert!(machine.identity().is_some());
}

#[test]
fn p05_p06_p08_a_bump_is_local_and_happens_once_for_each_identity() {
    let mut machine = known(7, 0);
    let (first, second) = (Identity { id: 7, epoch: 0 }, Identity { id: 7, epoch: 1 });
    for _ in 0..5 {
        machine.bump(first);
    }
    assert_eq!(machine.identity(), Some(second));
    assert!(matches!(machine.poll_event(), Some(Event::Known(given)) if given == second));
    assert!(machine.poll_event().is_none() && machine.poll_request(crate::net::clock::now()).is_none());
}

#[test]
fn an_id_whose_epochs_are_used_up_is_replaced() {
    let mut machine = known(7, EPOCH_MAX - 1);
    machine.bump(Identity { id: 7, epoch: EPOCH_MAX - 1 });
    assert_eq!(machine.identity(), Some(Identity { id: 7, epoch: EPOCH_MAX }));
    assert!(machine.poll_event().is_some());
    machine.bump(Identity { id: 7, epoch: EPOCH_MAX });
    assert_eq!(machine.identity(), None);
    let now = crate::net::clock::now();
    let ticket = ask(&mut machine, now);
    machine.handle_answer(ticket, ErrorCode::NONE, 8, 0, now);
    assert_eq!(machine.identity(), Some(Identity { id: 8, epoch: 0 }));
}

#[test]
fn nonsense_from_the_broker_is_an_error() {
    for (id, epoch) in [(-1, 0), (i64::MIN, 3), (5, -1), (5, i16::MIN), (5, i16::MAX)] {
        assert!(Identity::read(id, epoch).expect_err("no identity").is_malformed());
        let (mut machine, now) = (machine(), crate::net::clock::now());
        machine.handle_wanted();
        let ticket = ask(&mut machine, now);
        machine.handle_answer(ticket, ErrorCode::NONE, id, epoch, now);
        assert!(matches!(machine.poll_event(), Some(Event::Failed(error)) if error.is_malformed()));
        assert_eq!(machine.poll_request(now), None);
    }
}

#[test]
fn what_will_not_pass_ends_it_and_what_may_pass_is_told() {
    let now = crate::net::clock::now();
    for (error, ends) in
        [(Error::unsupported("no"), true), (Error::auth("who"), false), (Error::closed("bye"), false)]
    {
        let mut machine = machine();
        machine.handle_wanted();
        let ticket = ask(&mut machine, now);
        machine.handle_failure(ticket, error, now);
        assert_eq!(matches!(machine.poll_event(), Some(Event::Failed(_))), ends);
        assert_eq!(machine.error().is_some(), ends);
    }
}
