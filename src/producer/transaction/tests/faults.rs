//! The faults that other clients have met, by their number.

use super::*;

#[test]
fn t01_after_an_indefinite_commit_nothing_begins_before_the_epoch_is_raised() {
    let mut bench = Bench::begun(V1);
    bench.committing();
    bench.lose();
    bench.machine.handle_gave_up(Error::timeout("commit"));
    assert!(matches!(bench.outcome(), Some(Outcome::Unknown(_))));
    assert_eq!(bench.machine.handle_begin(V1).unwrap(), None);
    assert!(bench.machine.handle_abort().is_err(), "no abort after a commit that may have been done");
    // The same commit, until the coordinator says what became of it; then the epoch.
    assert_eq!(bench.ask().request, Request::End { identity: FIRST, level: Level::V1, commit: true });
    bench.answer(ended(ErrorCode::NONE));
    assert_eq!(bench.machine.handle_begin(V1).unwrap(), None);
    assert_eq!(bench.ask().request, Request::Init { identity: Some(FIRST) });
    bench.answer(init(ErrorCode::NONE, raised()));
    assert_eq!(bench.machine.handle_begin(V1).unwrap(), Some(2));
    assert_eq!(bench.machine.identity(), Some(raised()));
}

#[test]
fn t01_a_commit_that_is_answered_the_second_time_may_arrive_the_first() {
    for (abilities, next) in [(V1, Some(Request::Init { identity: Some(FIRST) })), (V2, None)] {
        let mut bench = Bench::begun(abilities);
        bench.committing();
        bench.lose();
        bench.ask();
        bench.answer(if abilities == V1 { ended(ErrorCode::NONE) } else { ended_v2() });
        assert!(matches!(bench.outcome(), Some(Outcome::Committed)));
        assert_eq!(bench.machine.poll_request(bench.now).map(|ask| ask.request), next);
    }
}

#[test]
fn t02_a_lost_answer_is_asked_for_again_and_brings_the_next_epoch() {
    let mut bench = Bench::begun(V2);
    bench.committing();
    bench.lose();
    let again = bench.ask();
    assert_eq!(again.request, Request::End { identity: FIRST, level: Level::V2, commit: true });
    assert!(again.find_again, "perhaps the coordinator has moved");
    bench.answer(ended_v2());
    assert!(matches!(bench.event(), Some(Event::Ended { outcome: Outcome::Committed, .. })));
    assert!(matches!(bench.event(), Some(Event::Ready(identity)) if identity == raised()));
}

#[test]
fn t02_an_end_without_a_next_epoch_is_followed_by_asking_for_it() {
    for (id, epoch) in [(-1, -1), (7, 3), (7, -4), (-7, 4), (7, i16::MAX)] {
        let mut bench = Bench::begun(V2);
        bench.committing();
        bench.answer(Answer::End { code: ErrorCode::NONE, id, epoch });
        assert!(matches!(bench.outcome(), Some(Outcome::Committed)));
        assert_eq!(bench.ask().request, Request::Init { identity: Some(FIRST) }, "{id} {epoch}");
    }
    let mut bench = Bench::begun(V2);
    bench.committing();
    bench.answer(Answer::End { code: ErrorCode::NONE, id: 8, epoch: 0 });
    assert_eq!(bench.machine.identity(), Some(Identity { id: 8, epoch: 0 }), "a new id begins at 0");
}

#[test]
fn t03_an_unknown_error_is_not_a_commit() {
    let mut bench = Bench::begun(V1);
    bench.committing();
    bench.answer(ended(ErrorCode::UNKNOWN_SERVER_ERROR));
    assert!(matches!(bench.outcome(), Some(Outcome::Unknown(_))));
    assert_eq!(bench.machine.handle_begin(V1).unwrap(), None);
    bench.ask();
    bench.answer(ended(ErrorCode::INVALID_TXN_STATE));
    assert_eq!(bench.ask().request, Request::Init { identity: Some(FIRST) });
}

#[test]
fn t04_t05_a_failed_batch_leaves_nothing_but_an_abort() {
    let errors = [ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, ErrorCode::INVALID_PRODUCER_EPOCH];
    for (abilities, code) in [(V1, errors[0]), (V1, errors[1]), (V2, errors[0]), (V2, errors[1])] {
        for commit_first in [false, true] {
            let mut bench = Bench::begun(abilities);
            if commit_first {
                bench.machine.handle_commit().unwrap();
            }
            bench.machine.handle_batch_failed(&Error::broker_said(code, "Produce"));
            if !commit_first {
                assert!(bench.machine.handle_partition("t", 0).is_err(), "nothing more is sent");
                bench.machine.handle_commit().unwrap();
            }
            assert!(
                matches!(bench.outcome(), Some(Outcome::NotCommitted(error)) if error.code() == Some(code))
            );
            assert!(bench.machine.poll_request(bench.now).is_none(), "batches are still on their way");
            bench.machine.handle_flushed();
            assert!(matches!(bench.ask().request, Request::End { commit: false, identity: FIRST, .. }));
            bench.answer(if abilities == V1 { ended(ErrorCode::NONE) } else { ended_v2() });
            let next = bench.machine.poll_request(bench.now).map(|ask| ask.request);
            let raise = (abilities == V1).then_some(Request::Init { identity: Some(FIRST) });
            assert_eq!(next, raise, "the sequences are broken (KIP-360, KIP-588)");
        }
    }
}

#[test]
fn t05_a_commit_waits_for_its_batches_and_offsets() {
    let mut bench = Bench::begun(V1);
    let call = bench.machine.handle_offsets(group(), vec![offset(0), offset(1)]).unwrap();
    bench.machine.handle_commit().unwrap();
    assert!(!bench.machine.handle_partition("t", 5).unwrap(), "a batch that was accepted before");
    assert!(matches!(bench.ask().request, Request::AddPartitions { .. }));
    bench.answer(added(&[5], ErrorCode::NONE));
    assert!(matches!(bench.event(), Some(Event::Added)));
    assert!(matches!(bench.ask().request, Request::AddOffsets { .. }));
    bench.answer(Answer::AddOffsets(ErrorCode::NONE));
    assert!(matches!(bench.ask().request, Request::CommitOffsets { .. }));
    bench.machine.handle_flushed();
    bench.answer(committed(&[(0, ErrorCode::NONE), (1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]));
    let Request::CommitOffsets { offsets, .. } = bench.ask().request else { panic!("the rest of them") };
    assert_eq!(offsets, [offset(1)]);
    bench.answer(committed(&[(1, ErrorCode::NONE)]));
    assert!(matches!(bench.event(), Some(Event::Offsets { call: done, result: Ok(()) }) if done == call));
    assert!(matches!(bench.ask().request, Request::End { commit: true, .. }));
}

#[test]
fn t07_partitions_that_were_added_stay_when_a_later_one_is_refused() {
    let mut bench = Bench::begun(V1);
    bench.machine.handle_partition("t", 1).unwrap();
    bench.ask();
    bench.answer(added(&[1], ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert!(matches!(bench.event(), Some(Event::Failing { .. })));
    bench.aborting();
    bench.answer(ended(ErrorCode::NONE));
    assert!(matches!(bench.outcome(), Some(Outcome::Aborted)));
}

#[test]
fn t08_partitions_that_trickle_in_are_all_added() {
    let mut bench = Bench::new(V1);
    bench.begin();
    assert!(!bench.machine.handle_partition("t", 0).unwrap());
    let mut asked = Vec::new();
    for turn in 0..10 {
        let Request::AddPartitions { partitions, .. } = bench.ask().request else { panic!("partitions") };
        for partition in turn * 5 + 1..=turn * 5 + 5 {
            assert!(!bench.machine.handle_partition("t", partition).unwrap());
        }
        let these: Vec<i32> = partitions.iter().map(|(_, partition)| *partition).collect();
        bench.answer(added(&these, ErrorCode::NONE));
        asked.extend(these);
    }
    assert_eq!(asked, (0..46).collect::<Vec<_>>(), "each once, five at a time");
    bench.ask();
    bench.answer(added(&[46, 47, 48, 49, 50], ErrorCode::NONE));
    assert!((0..=50).all(|partition| bench.machine.handle_partition("t", partition).unwrap()));
}

#[test]
fn t09_concurrent_transactions_are_waited_for_shortly() {
    let mut bench = Bench::new(V1);
    bench.begin();
    bench.machine.handle_partition("t", 0).unwrap();
    let started = bench.now;
    for turn in 0..20 {
        bench.ask();
        bench.answer(added(&[0], ErrorCode::CONCURRENT_TRANSACTIONS));
        let pause = bench.machine.poll_timeout().unwrap() - bench.now;
        assert!(pause <= Duration::from_millis(120), "{pause:?}");
        assert!(turn > 0 || pause <= Duration::from_millis(24), "{pause:?}");
    }
    bench.ask();
    assert!(bench.now - started < Duration::from_secs(3));
    bench.answer(added(&[0], ErrorCode::NONE));
    assert!(bench.machine.handle_partition("t", 0).unwrap());
    bench.committing();
    for _ in 0..20 {
        bench.answer(ended(ErrorCode::CONCURRENT_TRANSACTIONS));
        assert!(matches!(bench.ask().request, Request::End { commit: true, .. }));
    }
    bench.answer(ended(ErrorCode::NONE));
    assert!(matches!(bench.outcome(), Some(Outcome::Committed)));
}

#[test]
fn t10_t11_initializing_goes_on_whoever_waits_for_it() {
    let mut bench =
        Bench { machine: Machine::new(Backoff::default(), 3), now: Instant::now(), last: 0, abilities: V2 };
    bench.machine.handle_begin(V2).unwrap();
    for turn in 0..30 {
        assert_eq!(bench.ask().request, Request::Init { identity: None });
        assert_eq!(bench.machine.handle_begin(V2).unwrap(), None, "the call is made again");
        match turn % 3 {
            0 => bench.lose(),
            1 => bench.answer(init(ErrorCode::REQUEST_TIMED_OUT, FIRST)),
            _ => bench.answer(init(ErrorCode::NOT_ENOUGH_REPLICAS, FIRST)),
        }
    }
    bench.ask();
    bench.answer(init(ErrorCode::NONE, FIRST));
    assert_eq!(bench.machine.handle_begin(V2).unwrap(), Some(1));
}

#[test]
fn t12_both_coordinators_are_looked_for_again() {
    let mut bench = Bench::begun(V1);
    bench.machine.handle_offsets(group(), vec![offset(0)]).unwrap();
    assert!(!bench.ask().find_again);
    bench.answer(Answer::AddOffsets(ErrorCode::NOT_COORDINATOR));
    assert!(bench.ask().find_again);
    bench.answer(Answer::AddOffsets(ErrorCode::NONE));
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::REQUEST_TIMED_OUT] {
        assert!(matches!(bench.ask().request, Request::CommitOffsets { .. }));
        bench.answer(committed(&[(0, code)]));
    }
    assert!(bench.ask().find_again);
}

#[test]
fn t13_offsets_of_a_member_that_lost_its_place_abort() {
    for code in [
        ErrorCode::ILLEGAL_GENERATION,
        ErrorCode::UNKNOWN_MEMBER_ID,
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::STALE_MEMBER_EPOCH,
    ] {
        let mut bench = Bench::begun(V2);
        bench.machine.handle_offsets(group(), vec![offset(0)]).unwrap();
        bench.ask();
        bench.answer(committed(&[(0, code)]));
        assert!(matches!(bench.event(), Some(Event::Failing { .. })));
        assert!(
            matches!(bench.event(), Some(Event::Offsets { result: Err(error), .. }) if error.code() == Some(code))
        );
        bench.aborting();
    }
}

#[test]
fn t15_t20_a_fenced_producer_says_so_at_once_and_sends_nothing() {
    for code in [ErrorCode::PRODUCER_FENCED, ErrorCode::INVALID_PRODUCER_EPOCH] {
        let mut bench = Bench::begun(V2);
        bench.committing();
        bench.answer(ended(code));
        assert!(matches!(bench.outcome(), Some(Outcome::NotCommitted(_))), "no commit of it was ever lost");
        let error = bench.machine.handle_begin(V2).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::PRODUCER_FENCED));
        assert!(bench.machine.poll_request(bench.now + Duration::from_hours(1)).is_none());
        let mut bench = Bench::begun(V2);
        bench.committing();
        bench.lose();
        bench.ask();
        bench.answer(ended(code));
        assert!(matches!(bench.outcome(), Some(Outcome::Unknown(_))), "the first may have been done");
    }
}

#[test]
fn t16_what_may_have_reached_a_broker_is_ended_and_nothing_else() {
    // All produces failed.
    let mut bench = Bench::begun(V2);
    bench.machine.handle_batch_failed(&Error::timeout("delivery"));
    bench.aborting();
    bench.answer(ended_v2());
    assert!(matches!(bench.outcome(), Some(Outcome::Aborted)));
    for abilities in [V1, V2] {
        for commit in [true, false] {
            let mut bench = Bench::new(abilities);
            bench.begin();
            if commit {
                bench.machine.handle_commit().unwrap();
            } else {
                bench.machine.handle_abort().unwrap();
            }
            bench.machine.handle_flushed();
            assert!(bench.machine.poll_request(bench.now).is_none(), "nothing was added");
            assert!(matches!(
                (bench.outcome(), commit),
                (Some(Outcome::Committed), true) | (Some(Outcome::Aborted), false)
            ));
            bench.begin();
        }
    }
    // An addition whose answer was lost.
    let mut bench = Bench::new(V1);
    bench.begin();
    bench.machine.handle_partition("t", 0).unwrap();
    bench.ask();
    bench.lose();
    bench.aborting();
    bench.answer(ended(ErrorCode::INVALID_TXN_STATE));
    assert!(matches!(bench.outcome(), Some(Outcome::Aborted)), "it had never arrived");
    assert_eq!(bench.ask().request, Request::Init { identity: Some(FIRST) }, "and must not arrive later");
}

#[test]
fn t16_the_new_way_begins_with_a_new_epoch() {
    let mut bench = Bench::begun(V1);
    bench.committing();
    bench.answer(ended(ErrorCode::NONE));
    assert_eq!(bench.machine.handle_begin(V2).unwrap(), None);
    assert_eq!(bench.ask().request, Request::Init { identity: Some(FIRST) });
    bench.answer(init(ErrorCode::NONE, raised()));
    assert_eq!(bench.machine.handle_begin(V2).unwrap(), Some(2));
    assert!(bench.machine.handle_partition("t", 0).unwrap());
}

#[test]
fn t17_a_commit_after_the_coordinators_abort_is_told_as_not_committed() {
    let mut bench = Bench::begun(V2);
    bench.committing();
    bench.answer(ended(ErrorCode::INVALID_TXN_STATE));
    let Some(Outcome::NotCommitted(error)) = bench.outcome() else { panic!("it was not committed") };
    assert!(error.to_string().contains("not committed"), "{error}");
    assert_eq!(bench.ask().request, Request::Init { identity: Some(FIRST) });
    bench.answer(init(ErrorCode::NONE, raised()));
    assert_eq!(bench.machine.handle_begin(V2).unwrap(), Some(2), "and the producer goes on");
}

#[test]
fn t20_who_gives_up_leaves_a_state_that_goes_on() {
    // Before anything was sent: an abort.
    let mut bench = Bench::begun(V2);
    bench.machine.handle_commit().unwrap();
    bench.machine.handle_gave_up(Error::timeout("commit"));
    assert!(matches!(bench.outcome(), Some(Outcome::NotCommitted(_))));
    bench.machine.handle_flushed();
    assert!(matches!(bench.ask().request, Request::End { commit: false, .. }));
    bench.answer(ended_v2());
    bench.begin();
    // With the end on its way: unknown, and its answer still counts.
    let mut bench = Bench::begun(V2);
    bench.committing();
    bench.machine.handle_gave_up(Error::timeout("commit"));
    assert!(matches!(bench.outcome(), Some(Outcome::Unknown(_))));
    bench.answer(ended_v2());
    assert!(bench.outcome().is_none(), "told once");
    bench.begin();
    // Of an abort: it goes on.
    let mut bench = Bench::begun(V2);
    bench.aborting();
    bench.machine.handle_gave_up(Error::timeout("abort"));
    assert!(matches!(bench.outcome(), Some(Outcome::NotCommitted(_))));
    bench.lose();
    bench.ask();
    bench.answer(ended_v2());
    bench.begin();
}

#[test]
fn what_is_refused_for_now_is_asked_again_when_wanted() {
    let mut bench =
        Bench { machine: Machine::new(Backoff::default(), 3), now: Instant::now(), last: 0, abilities: V2 };
    bench.machine.handle_begin(V2).unwrap();
    bench.ask();
    bench.answer(init(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED, FIRST));
    assert!(matches!(bench.event(), Some(Event::Refused(_))));
    assert!(bench.machine.poll_request(bench.now + Duration::from_hours(1)).is_none());
    bench.machine.handle_begin(V2).unwrap();
    assert_eq!(bench.ask().request, Request::Init { identity: None });
    bench.answer(init(ErrorCode::NONE, Identity { id: -5, epoch: 0 }));
    assert!(bench.machine.error().is_some_and(Error::is_malformed), "nonsense is an error");
}
