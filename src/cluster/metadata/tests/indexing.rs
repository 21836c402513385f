//! What is taken from an answer, and what is not.

use super::*;
use crate::cluster::metadata::hints::{Hints, apply};
use crate::cluster::metadata::{Leader, TopicKey};
use crate::wire::Str;

#[test]
fn an_answer_is_looked_up_by_name_and_by_id() {
    let grown =
        Grown::from(vec![topic("a", id(1), &[(0, 1, 5), (1, 2, 6)]), topic("b", id(2), &[(0, 3, 0)])]);
    let snapshot = &grown.snapshot;
    assert_eq!(grown.leads("a", 1), (Some(2), 6));
    assert_eq!(snapshot.topic_by_id(id(2)).unwrap().name, "b");
    assert_eq!(snapshot.leader(&TopicKey::Id(id(1)), 0), Leader::Known { broker: 1, epoch: 5 });
    assert_eq!(snapshot.leader(&"a".into(), 2), Leader::Unknown);
    assert_eq!(snapshot.leader(&"c".into(), 0), Leader::Unknown);
    assert_eq!((snapshot.controller, snapshot.cluster_id().map(Str::as_str)), (Some(1), Some("c")));
    assert_eq!(snapshot.brokers().map(|broker| broker.id).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(grown.rejected, 0);
}

#[test]
fn m01_an_older_epoch_changes_nothing() {
    let mut grown = Grown::from(vec![topic("a", id(1), &[(0, 1, 5)])]);
    grown.hear(vec![topic("a", id(1), &[(0, 2, 4)])]);
    assert_eq!(grown.leads("a", 0), (Some(1), 5));
    grown.hear(vec![topic("a", id(1), &[(0, 2, 6)])]);
    assert_eq!(grown.leads("a", 0), (Some(2), 6));
    // The same epoch may lose its leader.
    grown.hear(vec![topic("a", id(1), &[(0, -1, 6)])]);
    assert_eq!(grown.leads("a", 0), (None, 6));
}

#[test]
fn c13_no_epoch_never_takes_the_place_of_one() {
    let mut grown = Grown::from(vec![topic("a", id(1), &[(0, 1, 5)])]);
    for _ in 0..10 {
        grown.hear(vec![topic("a", id(1), &[(0, 1, -1)])]);
        assert_eq!(grown.leads("a", 0), (Some(1), 5));
    }
    grown.hear(vec![topic("a", id(1), &[(0, 1, -7)])]);
    assert_eq!(grown.leads("a", 0), (Some(1), 5));
    // Where there was none, there may go on to be none.
    let old = Grown::from(vec![topic("a", Uuid::ZERO, &[(0, 1, -1)])]);
    assert_eq!(old.leads("a", 0), (Some(1), -1));
}

#[test]
fn a_topic_with_another_id_begins_again() {
    let mut grown = Grown::from(vec![topic("a", id(1), &[(0, 1, 50), (1, 1, 50)])]);
    grown.hear(vec![topic("a", id(2), &[(0, 2, 0)])]);
    assert_eq!(grown.leads("a", 0), (Some(2), 0));
    assert!(grown.topic("a").partition(1).is_none(), "the new one has one partition");
    assert!(grown.snapshot.topic_by_id(id(1)).is_none());
    // A broker that does not speak of ids does not take the id away.
    grown.hear(vec![topic("a", Uuid::ZERO, &[(0, 3, 1)])]);
    assert_eq!((grown.topic("a").id, grown.leads("a", 0)), (id(2), (Some(3), 1)));
}

#[test]
fn m02_an_error_keeps_the_last_good() {
    let mut grown = Grown::from(vec![topic("a", id(1), &[(0, 1, 5)])]);
    for code in [ErrorCode::LEADER_NOT_AVAILABLE, ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode(9999)] {
        grown.hear(vec![failed("a", id(1), code)]);
        assert_eq!((grown.topic("a").error, grown.leads("a", 0)), (code, (Some(1), 5)));
    }
    assert_eq!(grown.snapshot.leader(&"a".into(), 0), Leader::Refused(ErrorCode(9999)));
    grown.hear(vec![failed("a", Uuid::ZERO, ErrorCode::LEADER_NOT_AVAILABLE)]);
    assert_eq!(grown.snapshot.leader(&"a".into(), 0), Leader::Known { broker: 1, epoch: 5 });
    grown.hear(vec![topic("a", id(1), &[(0, 2, 6)])]);
    assert_eq!((grown.topic("a").error, grown.leads("a", 0)), (ErrorCode::NONE, (Some(2), 6)));
}

#[test]
fn p09_a_topic_that_a_broker_does_not_know_stays_for_a_while() {
    let mut grown = Grown::from(vec![topic("a", id(1), &[(0, 1, 5)])]);
    let unknown = || vec![failed("a", Uuid::ZERO, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)];
    grown.hear(unknown());
    assert_eq!(grown.topic("a").id, id(1));
    grown.now += FORGET / 2;
    // In an answer with all topics, it is enough that it is not there.
    grown.hear(vec![]);
    assert_eq!(grown.leads("a", 0), (Some(1), 5));
    grown.hear(vec![topic("a", id(1), &[(0, 1, 5)])]);
    assert!(grown.topic("a").gone.is_none(), "it is back, and the time begins again");
    grown.hear(unknown());
    grown.now += FORGET / 2;
    grown.hear(unknown());
    assert_eq!(grown.leads("a", 0), (Some(1), 5));
    grown.now += FORGET / 2;
    grown.hear(unknown());
    assert!(grown.snapshot.topic("a").is_none() && grown.snapshot.topic_by_id(id(1)).is_none());
}

#[test]
fn p10_no_partitions_is_an_unknown_topic() {
    let mut grown = Grown::from(vec![topic("a", id(1), &[(0, 1, 5)])]);
    grown.hear(vec![topic("a", id(1), &[])]);
    assert_eq!(grown.topic("a").error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(grown.topic("a").error.is_retriable());
    assert_eq!(grown.leads("a", 0), (Some(1), 5));
}

#[test]
fn p11_a_partition_that_one_broker_does_not_know_yet_stays() {
    let mut grown = Grown::from(vec![topic("a", id(1), &[(0, 1, 5), (1, 2, 5)])]);
    grown.hear(vec![topic("a", id(1), &[(0, 1, 5)])]);
    assert_eq!(grown.leads("a", 1), (Some(2), 5));
    // Without ids, it may be another topic.
    let mut old = Grown::from(vec![topic("a", Uuid::ZERO, &[(0, 1, 5), (1, 2, 5)])]);
    old.hear(vec![topic("a", Uuid::ZERO, &[(0, 1, 6)])]);
    assert!(old.topic("a").partition(1).is_none());
}

#[test]
fn p12_partitions_without_a_leader_are_kept_as_such() {
    let grown = Grown::from(vec![topic("a", id(1), &[(0, -1, 7), (1, -9, 7)])]);
    assert_eq!(grown.snapshot.leader(&"a".into(), 0), Leader::None);
    assert_eq!(grown.snapshot.leader(&"a".into(), 1), Leader::None);
    assert_eq!(grown.topic("a").partitions.len(), 2);
    assert_eq!(grown.rejected, 0);
}

#[test]
fn b14_brokers_that_cannot_be_are_left_out_and_the_last_good_stays() {
    let mut grown = Grown::from(vec![]);
    let odd = |id, host: &str, port| MetadataResponseBroker { host: host.into(), port, ..broker(id) };
    let mut response = answer(vec![]);
    response.brokers = vec![
        broker(1),
        odd(1, "twice", 9092),
        odd(2, "", 9092),
        odd(3, "b3", 70_000),
        odd(4, "b4", 0),
        odd(5, "b5", -1),
        odd(-1, "b-1", 9092),
        odd(6, "b6\n", 9092),
        odd(7, &"x".repeat(256), 9092),
        odd(i32::MAX, "far", 65_535),
    ];
    grown.hear_all(response);
    assert_eq!(grown.rejected, 8);
    let known: Vec<_> =
        grown.snapshot.brokers().map(|b| (b.id, b.address.host(), b.address.port())).collect();
    assert_eq!(known, [(1, "b1", 9092), (2, "b2", 9092), (3, "b3", 9092), (i32::MAX, "far", 65_535)]);
}

#[test]
fn b14_topics_and_partitions_that_cannot_be_are_left_out() {
    let mut grown = Grown::from(vec![topic("a", id(1), &[(0, 1, 5)]), topic("b", id(2), &[(0, 2, 5)])]);
    grown.hear(vec![
        topic("a", id(1), &[(0, 99, 6), (i32::MAX, 1, 1), (7, 1, 1), (7, 2, 2), (-1, 1, 1)]),
        topic("a", id(1), &[(0, 3, 9)]),
        topic("c", id(1), &[(0, 3, 9)]),
        topic("", id(3), &[(0, 1, 1)]),
        MetadataResponseTopic { name: None, ..topic("", id(4), &[(0, 1, 1)]) },
        topic("d", Uuid::ZERO, &[(0, 99, 1)]),
        topic("e", Uuid::ZERO, &[(0, 1, 1)]),
    ]);
    // The leader that is not listed, partition 7 again, partition -1, "a" again, the id again, two without
    // a name, the leader of "d".
    assert_eq!(grown.rejected, 8);
    assert_eq!(grown.leads("a", 0), (Some(1), 5), "the last good stays");
    assert_eq!(grown.leads("a", i32::MAX), (Some(1), 1));
    assert_eq!(grown.leads("a", 7), (Some(1), 1));
    assert_eq!(grown.topic("a").partitions.len(), 3);
    assert!(grown.snapshot.topic("c").is_none());
    assert_eq!(
        (grown.leads("b", 0), grown.topic("b").error),
        ((Some(2), 5), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    );
    assert_eq!(grown.leads("d", 0), (None, 1));
    assert_eq!(grown.leads("e", 0), (Some(1), 1));
    assert!(grown.snapshot.topic_by_id(Uuid::ZERO).is_none());
}

#[test]
fn an_answer_of_no_use_is_an_error() {
    let base = Snapshot::default();
    let read = |response| index(&base, response, &Scope::All, Instant::now(), FORGET).unwrap_err();
    assert!(read(MetadataResponse::default()).is_malformed());
    let told = MetadataResponse { error_code: ErrorCode::REBOOTSTRAP_REQUIRED.0, ..answer(vec![]) };
    assert_eq!(read(told).code(), Some(ErrorCode::REBOOTSTRAP_REQUIRED));
}

#[test]
fn what_did_not_change_is_shared() {
    let topics = || vec![topic("a", id(1), &[(0, 1, 5)]), topic("b", id(2), &[(0, 2, 5)])];
    let mut grown = Grown::from(topics());
    let (before, a) = (grown.snapshot.clone(), Arc::clone(grown.topic("a")));
    grown.hear(topics());
    assert!(Arc::ptr_eq(&before.topics, &grown.snapshot.topics));
    assert!(Arc::ptr_eq(&before.brokers, &grown.snapshot.brokers));
    grown.hear(vec![topic("a", id(1), &[(0, 1, 5)]), topic("b", id(2), &[(0, 3, 6)])]);
    assert!(Arc::ptr_eq(&a, grown.topic("a")));
}

#[test]
fn an_answer_to_some_topics_leaves_the_others() {
    let grown = Grown::from(vec![topic("a", id(1), &[(0, 1, 5)]), topic("b", id(2), &[(0, 2, 5)])]);
    let now = grown.now;
    let hear =
        |scope: &Scope, topics| index(&grown.snapshot, answer(topics), scope, now, FORGET).unwrap().snapshot;
    let c = || vec![topic("c", id(3), &[(0, 1, 0)])];
    let names =
        |snapshot: &Snapshot| snapshot.topics().map(|topic| topic.name.to_string()).collect::<Vec<_>>();
    let added = hear(&Scope::Added(vec!["c".into()]), c());
    assert_eq!(names(&added), ["a", "b", "c"]);
    assert!(Arc::ptr_eq(added.topic("a").unwrap(), grown.topic("a")));
    // What nobody wants any more goes; what is wanted and not told of stays.
    let wanted = hear(&Scope::Wanted(vec!["c".into(), TopicKey::Id(id(2))]), c());
    assert_eq!(names(&wanted), ["b", "c"]);
    assert_eq!(wanted.topic("b").unwrap().error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn hints_move_leaders_to_higher_epochs_only() {
    let grown =
        Grown::from(vec![topic("a", id(1), &[(0, 1, 5), (1, 1, 5)]), topic("b", id(2), &[(0, 2, 5)])]);
    let mut hints = Hints::default();
    hints.leader(TopicKey::Id(id(1)), 0, 2, 6);
    hints.leader("a".into(), 1, 2, 5);
    hints.leader("b".into(), 0, 9, 7);
    hints.leader("b".into(), 5, 1, 7);
    hints.leader("nobody".into(), 0, 1, 7);
    hints.leader("b".into(), 0, -1, -1);
    let (next, moved) = apply(&grown.snapshot, &hints).unwrap();
    assert_eq!(moved, 1, "an equal epoch, an unknown broker, topic or partition do not count");
    assert_eq!(next.leader(&"a".into(), 0), Leader::Known { broker: 2, epoch: 6 });
    assert_eq!(next.leader(&TopicKey::Id(id(1)), 0), Leader::Known { broker: 2, epoch: 6 });
    assert!(Arc::ptr_eq(next.topic("b").unwrap(), grown.topic("b")));
    assert!(apply(&next, &hints).is_none(), "taking them twice changes nothing");
    // With its address, a broker that was not known leads.
    hints.broker(9, "b9", 9092, None);
    hints.broker(8, "", 9092, None);
    let (next, moved) = apply(&next, &hints).unwrap();
    assert_eq!((moved, next.leader(&"b".into(), 0)), (1, Leader::Known { broker: 9, epoch: 7 }));
    assert_eq!(next.broker(9).unwrap().address.host(), "b9");
}
