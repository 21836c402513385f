//! What each code of a coordinator brings about, for who joins and for who is a member, beside what the consumer of
//! Kafka 4.4 does (its `AbstractHeartbeatRequestManager` and `ConsumerHeartbeatRequestManager`).

use super::*;

/// What a member does about a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Asks again after a pause, and keeps what it has.
    Again,
    /// Tells the application too.
    Tells,
    /// Loses all and joins with the same id at once.
    Joins,
    /// As above, after a pause: it has only just tried to join.
    JoinsLater,
    Ends,
    /// Ends, and the classic protocol takes over.
    FallsBack,
    /// Leaves for a while and joins then.
    Releases,
}

use Does::{Again, Ends, FallsBack, Joins, JoinsLater, Releases, Tells};

/// Of a static member: what it has not, another has not either.
fn does(code: ErrorCode, member: bool, instance: Option<&str>) -> Does {
    let mut bench = if member { Bench::member(instance, &[0]) } else { Bench::new(instance) };
    bench.wait(Duration::from_secs(5));
    let asked = bench.ask();
    bench.bad(code);
    let owned = bench.machine.membership().is_some();
    let mut events = Vec::new();
    let mut errors = Vec::new();
    while let Some(event) = bench.machine.poll_event() {
        if let Event::Failed(error) | Event::Troubled(error) = &event {
            assert_eq!(error.code(), Some(code));
            errors.push(error.clone());
        }
        events.push(event);
    }
    if let Some(Event::Failed(error)) = events.last() {
        let fallback = bench.machine.fallback(error).is_some();
        bench.wait(POLL * 2);
        assert!(bench.try_ask().is_none() && bench.machine.poll_timeout().is_none(), "{code}");
        return if fallback { FallsBack } else { Ends };
    }
    let next = bench.try_ask();
    let at_once = next.is_some();
    bench.wait(Duration::from_secs(2));
    let next = next.or_else(|| bench.try_ask()).expect("it goes on");
    let lost = events.iter().any(|event| matches!(event, Event::Lost { .. }));
    match next.member_epoch {
        LEAVE_STATIC => Releases,
        JOIN if member => {
            assert!(lost && at_once, "{code}");
            Joins
        }
        epoch if epoch == asked.member_epoch && owned == member && !lost && !at_once => {
            assert!(next.subscribed_topic_names.is_some(), "{code}: all is said again");
            match (&errors[..], code.is_retriable()) {
                ([], true) => Again,
                ([], false) => JoinsLater,
                _ => Tells,
            }
        }
        epoch => panic!("{code}: {epoch}, {events:?}"),
    }
}

#[test]
fn each_refusal_brings_about_what_the_table_says() {
    // The code; who joins; who is a member; what Kafka's consumer does where it is something else.
    for (code, joining, member, _kafka) in [
        (ErrorCode::NOT_COORDINATOR, Again, Again, ""),
        (ErrorCode::COORDINATOR_NOT_AVAILABLE, Again, Again, ""),
        (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, Again, Again, ""),
        (ErrorCode::TOPIC_AUTHORIZATION_FAILED, Tells, Tells, ""),
        (ErrorCode::FENCED_MEMBER_EPOCH, JoinsLater, Joins, "who joins does so again without a pause"),
        (ErrorCode::UNKNOWN_MEMBER_ID, JoinsLater, Joins, "who joins does so again without a pause"),
        // Not an answer to heartbeats by Kafka's own coordinator.
        (ErrorCode::STALE_MEMBER_EPOCH, JoinsLater, Joins, "ends"),
        // Somebody has deleted the group: a join makes it anew. To who joins it says that the group is classic.
        (ErrorCode::GROUP_ID_NOT_FOUND, FallsBack, Joins, "ends"),
        (ErrorCode::UNSUPPORTED_VERSION, FallsBack, FallsBack, "ends, and says to set the classic protocol"),
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, Ends, Ends, ""),
        (ErrorCode::INVALID_REQUEST, Ends, Ends, ""),
        (ErrorCode::GROUP_MAX_SIZE_REACHED, Ends, Ends, ""),
        (ErrorCode::UNSUPPORTED_ASSIGNOR, Ends, Ends, ""),
        (ErrorCode::INVALID_REGULAR_EXPRESSION, Ends, Ends, ""),
        (ErrorCode::UNRELEASED_INSTANCE_ID, Ends, Ends, ""),
        (ErrorCode::FENCED_INSTANCE_ID, Ends, Ends, ""),
        (ErrorCode::INVALID_GROUP_ID, Ends, Ends, ""),
        (ErrorCode::UNKNOWN_SERVER_ERROR, Ends, Ends, ""),
    ] {
        for instance in [None, Some("i")] {
            assert_eq!(does(code, false, instance), joining, "{code} for who joins as {instance:?}");
            assert_eq!(does(code, true, instance), member, "{code} for a member as {instance:?}");
        }
    }
}

#[test]
fn an_instance_that_may_be_held_by_the_member_itself_is_released_once() {
    // The join was heard, the answer was not; or the member was fenced and the instance is its own still.
    let lost = |bench: &mut Bench| {
        bench.ask();
        bench.give(Err(Error::io("cut").maybe_done()));
        bench.wait(Duration::from_secs(1));
    };
    let fenced = |bench: &mut Bench| {
        bench.ask();
        bench.good(5, None);
        bench.wait(Duration::from_secs(5));
        bench.ask();
        bench.bad(ErrorCode::FENCED_MEMBER_EPOCH);
    };
    for before in [&lost as &dyn Fn(&mut Bench), &fenced] {
        let mut bench = Bench::new(Some("i"));
        before(&mut bench);
        assert_eq!(bench.ask().member_epoch, JOIN);
        bench.bad(ErrorCode::UNRELEASED_INSTANCE_ID);
        let leave = bench.ask();
        assert_eq!((leave.member_id.as_str(), leave.member_epoch), ("m", LEAVE_STATIC));
        bench.good(LEAVE_STATIC, None);
        let join = bench.ask();
        assert_eq!((join.member_epoch, owned(&join)), (JOIN, Some(vec![])));
        bench.good(6, Some(&[]));
        assert_eq!(bench.machine.membership().map(|it| it.generation), Some(6));
    }
    // It is another's.
    let mut bench = Bench::new(Some("i"));
    lost(&mut bench);
    assert_eq!(bench.ask().member_epoch, JOIN);
    bench.bad(ErrorCode::UNRELEASED_INSTANCE_ID);
    assert_eq!(bench.ask().member_epoch, LEAVE_STATIC);
    bench.bad(ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(bench.ask().member_epoch, JOIN);
    bench.bad(ErrorCode::UNRELEASED_INSTANCE_ID);
    assert_eq!(bench.events(), ["failed UNRELEASED_INSTANCE_ID"]);
}

#[test]
fn an_expression_that_only_coordinators_match_is_no_reason_to_fall_back() {
    for code in [ErrorCode::UNSUPPORTED_VERSION, ErrorCode::GROUP_ID_NOT_FOUND] {
        let mut bench = Bench::new(None);
        bench.machine.handle_subscription(BTreeSet::new(), Some("t.*".into()), bench.now);
        bench.ask();
        bench.bad(code);
        let Some(Event::Failed(error)) = bench.machine.poll_event() else { panic!("{code}") };
        assert_eq!(bench.machine.fallback(&error), None);
    }
    let mut bench = Bench::new(None);
    bench.ask();
    bench.give(Err(Error::unsupported("no such request")));
    let Some(Event::Failed(error)) = bench.machine.poll_event() else { panic!("it goes on") };
    assert_eq!(bench.machine.fallback(&error), Some(Fallback::NoSuchProtocol));
}
