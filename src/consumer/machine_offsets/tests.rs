//! The rows of what goes wrong with committed offsets, one by one.

mod model;

use super::*;
use crate::messages::offset_commit::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use crate::messages::offset_fetch::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

fn member(generation: i32) -> Membership {
    Membership { group: "g".into(), member: "m".into(), instance: None, generation }
}

struct Bench {
    machine: Machine,
    now: Instant,
    generation: i32,
}

impl Bench {
    fn new() -> Self {
        Self { machine: Machine::new(Backoff::default(), 1), now: crate::net::clock::now(), generation: 5 }
    }

    fn commit(&mut self, offsets: &[(i32, i64)], assignment: u64, origin: Origin) -> CommitId {
        let value = |offset| CommitOffset { offset, leader_epoch: 3, metadata: "x".into() };
        let offsets = offsets.iter().map(|(partition, offset)| (tp(*partition), value(*offset)));
        let deadline = self.now + Duration::from_mins(1);
        self.machine.handle_commit(offsets.collect(), assignment, origin, deadline, self.now)
    }

    fn try_ask(&mut self) -> Option<Request> {
        Some(self.machine.poll_ask(self.now, Some(&member(self.generation)))?.request)
    }

    /// The offsets of the next commit.
    fn sent(&mut self) -> Vec<(i32, i64)> {
        let Some(Request::Commit(request)) = self.try_ask() else { return Vec::new() };
        assert_eq!(request.generation_id_or_member_epoch, self.generation);
        let all = request.topics.iter().flat_map(|topic| &topic.partitions);
        all.map(|it| (it.partition_index, it.committed_offset)).collect()
    }

    fn committed(&mut self, codes: &[(i32, ErrorCode)]) {
        let one = |(partition_index, code): &(i32, ErrorCode)| OffsetCommitResponsePartition {
            partition_index: *partition_index,
            error_code: code.0,
            ..Default::default()
        };
        let partitions = codes.iter().map(one).collect();
        let topic = OffsetCommitResponseTopic { name: "t".into(), partitions, ..Default::default() };
        let answer = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
        self.machine.handle_answer(self.machine.tickets, Ok(Response::Commit(answer)), self.now);
    }

    fn asked(&mut self) -> Option<OffsetFetchRequest> {
        match self.try_ask()? {
            Request::Fetch(request) => Some(request),
            Request::Commit(request) => panic!("{request:?}"),
        }
    }

    fn fetched(&mut self, group: ErrorCode, offsets: &[(i32, i64, ErrorCode)]) {
        let one = |(partition_index, committed_offset, code): &(i32, i64, ErrorCode)| {
            OffsetFetchResponsePartitions {
                partition_index: *partition_index,
                committed_offset: *committed_offset,
                error_code: code.0,
                ..Default::default()
            }
        };
        let partitions = offsets.iter().map(one).collect();
        let topic = OffsetFetchResponseTopics { name: "t".into(), partitions, ..Default::default() };
        let ours = OffsetFetchResponseGroup {
            group_id: "g".into(),
            topics: vec![topic],
            error_code: group.0,
            ..Default::default()
        };
        let answer = OffsetFetchResponse { groups: vec![ours], ..Default::default() };
        self.machine.handle_answer(self.machine.tickets, Ok(Response::Fetch(answer)), self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn events(&mut self) -> Vec<String> {
        let mut events = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            events.push(match event {
                Event::Committed { id, results } => {
                    let one = |(partition, result): (TopicPartition, Result<()>)| {
                        let word = if result.is_ok() { "ok" } else { "no" };
                        format!(" {}={word}", partition.partition())
                    };
                    format!("{}:{}", id.0, results.into_iter().map(one).collect::<String>())
                }
                Event::Fetched(all) => {
                    let one = |(partition, it): (TopicPartition, Option<CommitOffset>)| {
                        format!(" {}={:?}", partition.partition(), it.map(|it| it.offset))
                    };
                    format!("fetched{}", all.into_iter().map(one).collect::<String>())
                }
                Event::FetchFailed { partitions, error } => {
                    format!("failed {partitions:?} {:?}", error.code().unwrap_or_default())
                }
                Event::Rejoin(code) => format!("rejoin {code}"),
            });
        }
        events
    }
}

#[test]
fn g13_commits_go_one_by_one_and_each_is_answered_once() {
    let mut bench = Bench::new();
    bench.commit(&[(0, 5), (1, 5)], 1, Origin::Explicit);
    assert_eq!(bench.sent(), [(0, 5), (1, 5)]);
    bench.commit(&[(0, 6)], 1, Origin::Explicit);
    bench.commit(&[(0, 7)], 1, Origin::Automatic);
    assert_eq!(bench.sent(), [], "one in flight");
    bench.committed(&[(0, ErrorCode::NONE), (1, ErrorCode::OFFSET_METADATA_TOO_LARGE), (9, ErrorCode::NONE)]);
    assert_eq!(bench.events(), ["1: 0=ok 1=no"]);
    assert_eq!(bench.sent(), [(0, 7)]);
    bench.committed(&[(0, ErrorCode::NONE)]);
    assert_eq!(bench.events(), ["2: 0=ok", "3: 0=ok"]);
}

#[test]
fn c18_a_retry_never_overwrites_what_is_newer() {
    let mut bench = Bench::new();
    bench.commit(&[(0, 5), (1, 5)], 1, Origin::Automatic);
    bench.sent();
    bench.commit(&[(0, 9)], 1, Origin::Automatic);
    bench.committed(&[(0, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS), (1, ErrorCode::NONE)]);
    assert_eq!(bench.sent(), [], "a pause comes first");
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.sent(), [(0, 9)]);
    bench.committed(&[(0, ErrorCode::NONE)]);
    assert_eq!(bench.events(), ["1: 0=ok 1=ok", "2: 0=ok"]);
    bench.commit(&[(0, 7)], 1, Origin::Automatic);
    assert_eq!(bench.sent(), [], "automatic commits never go back");
    assert_eq!(bench.events(), ["3: 0=ok"]);
    bench.commit(&[(0, 7)], 1, Origin::Explicit);
    assert_eq!(bench.sent(), [(0, 7)], "the application may");
}

#[test]
fn c17_c18_what_was_revoked_is_refused_even_when_it_is_back() {
    let mut bench = Bench::new();
    bench.commit(&[(0, 5)], 1, Origin::Explicit);
    bench.machine.handle_unassigned(&[tp(0)].into(), 1);
    assert_eq!((bench.events(), bench.sent()), (vec!["1: 0=no".to_owned()], vec![]));
    bench.commit(&[(0, 5), (1, 5)], 1, Origin::Explicit);
    assert_eq!(bench.sent(), [(1, 5)]);
    bench.committed(&[(1, ErrorCode::NONE)]);
    assert_eq!(bench.events(), ["2: 0=no 1=ok"]);
    bench.commit(&[(0, 2)], 2, Origin::Automatic);
    assert_eq!(bench.sent(), [(0, 2)]);
    bench.machine.handle_unassigned(&[tp(0)].into(), 2);
    bench.machine.handle_answer(bench.machine.tickets, Err(Error::io("cut")), bench.now);
    assert_eq!(bench.events(), ["3: 0=no"], "not sent again");
}

#[test]
fn n05_an_old_epoch_waits_for_the_next_one() {
    let mut bench = Bench::new();
    bench.commit(&[(0, 5)], 1, Origin::Explicit);
    bench.sent();
    bench.committed(&[(0, ErrorCode::STALE_MEMBER_EPOCH)]);
    assert_eq!(bench.events(), ["rejoin STALE_MEMBER_EPOCH"]);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.sent(), []);
    bench.generation = 6;
    assert_eq!(bench.sent(), [(0, 5)]);
    // The pause after a refusal is short with the new epoch, however long it would be with the old one.
    bench.committed(&[(0, ErrorCode::STALE_MEMBER_EPOCH)]);
    bench.generation = 7;
    assert_eq!(bench.sent(), []);
    assert!(bench.machine.poll_timeout().is_some_and(|at| at <= bench.now + Duration::from_secs(1)));
}

#[test]
fn g02_who_is_unknown_is_told_and_told_to_the_group() {
    let mut bench = Bench::new();
    bench.commit(&[(0, 5)], 1, Origin::Explicit);
    bench.sent();
    bench.committed(&[(0, ErrorCode::UNKNOWN_MEMBER_ID)]);
    assert_eq!(bench.events(), ["1: 0=no", "rejoin UNKNOWN_MEMBER_ID"]);
}

#[test]
fn what_takes_too_long_fails_once_and_may_have_happened() {
    let mut bench = Bench::new();
    bench.commit(&[(0, 5)], 1, Origin::Explicit);
    bench.sent();
    bench.wait(Duration::from_mins(1));
    bench.try_ask();
    let Some(Event::Committed { results, .. }) = bench.machine.poll_event() else { panic!("no end") };
    assert!(results[&tp(0)].as_ref().is_err_and(|error| error.is_timeout() && error.may_have_happened()));
    bench.committed(&[]);
    bench.wait(Duration::from_secs(1));
    assert_eq!((bench.events(), bench.sent()), (vec![], vec![]));
    assert_eq!(bench.machine.poll_timeout(), None);
}

#[test]
fn t14_n07_what_is_not_known_is_asked_until_it_is() {
    let mut bench = Bench::new();
    bench.machine.handle_fetch([tp(0), tp(1)].into(), bench.now);
    assert!(bench.asked().is_some_and(|request| request.require_stable));
    bench.fetched(ErrorCode::NONE, &[(0, -1, ErrorCode::UNSTABLE_OFFSET_COMMIT), (1, -1, ErrorCode::NONE)]);
    assert_eq!(bench.events(), ["fetched 1=None"]);
    for round in 0..200 {
        bench.wait(Duration::from_secs(2));
        assert!(bench.asked().is_some(), "{round}");
        bench.fetched(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, &[]);
    }
    bench.wait(Duration::from_secs(2));
    bench.asked();
    bench.fetched(ErrorCode::NONE, &[(0, 7, ErrorCode::NONE)]);
    assert_eq!(bench.events(), ["fetched 0=Some(7)"]);
    assert!(bench.asked().is_none());
}

#[test]
fn g12_what_is_left_out_or_cannot_be_right_is_no_answer() {
    let good = ErrorCode::NONE;
    for odd in [&[][..], &[(1, 5, good)], &[(0, 5, good), (0, 6, good)], &[(0, -2, good)]] {
        let mut bench = Bench::new();
        bench.machine.handle_fetch([tp(0)].into(), bench.now);
        bench.asked();
        bench.fetched(good, odd);
        assert!(bench.events().is_empty(), "{odd:?}");
        bench.wait(Duration::from_secs(1));
        assert!(bench.asked().is_some(), "{odd:?}");
    }
}

#[test]
fn an_answer_to_an_older_question_counts_no_more() {
    let mut bench = Bench::new();
    bench.machine.handle_fetch([tp(0)].into(), bench.now);
    bench.asked();
    bench.machine.handle_unassigned(&[tp(0)].into(), 1);
    bench.machine.handle_fetch([tp(0)].into(), bench.now);
    bench.fetched(ErrorCode::NONE, &[(0, 5, ErrorCode::NONE)]);
    assert!(bench.events().is_empty());
    assert!(bench.asked().is_some());
}

#[test]
fn rights_that_are_missing_end_a_fetch() {
    let mut bench = Bench::new();
    bench.machine.handle_fetch([tp(0), tp(1)].into(), bench.now);
    bench.asked();
    bench
        .fetched(ErrorCode::NONE, &[(0, -1, ErrorCode::TOPIC_AUTHORIZATION_FAILED), (1, 4, ErrorCode::NONE)]);
    assert_eq!(bench.events(), ["failed {t-0} TOPIC_AUTHORIZATION_FAILED", "fetched 1=Some(4)"]);
    bench.machine.handle_fetch([tp(0)].into(), bench.now);
    bench.asked();
    bench.fetched(ErrorCode::GROUP_AUTHORIZATION_FAILED, &[]);
    assert_eq!(bench.events(), ["failed {t-0} GROUP_AUTHORIZATION_FAILED"]);
}
