//! The rows of what goes wrong with groups of KIP-848, one by one.

mod coordinator;
mod model;
mod refusals;

use super::*;
use crate::consumer::group::Request;
use crate::messages::consumer_group_heartbeat::{
    Assignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ResponseTopicPartitions,
};

pub(super) const ID: Uuid = Uuid::from_bytes([1; 16]);
pub(super) const POLL: Duration = Duration::from_mins(5);

pub(super) fn settings(instance: Option<&str>) -> Settings {
    Settings {
        group: "g".into(),
        instance: instance.map(Str::from),
        rack: None,
        session_timeout: Duration::from_secs(45),
        heartbeat_interval: Duration::from_secs(3),
        max_poll_interval: POLL,
        remote_assignor: None,
        backoff: crate::cluster::Backoff::default(),
    }
}

pub(super) fn name(id: Uuid) -> Option<Str> {
    (id == ID).then(|| "t".into())
}

pub(super) fn answer(
    code: ErrorCode,
    epoch: i32,
    assigned: Option<&[i32]>,
) -> ConsumerGroupHeartbeatResponse {
    let topic = |partitions: &[i32]| ResponseTopicPartitions {
        topic_id: ID,
        partitions: partitions.into(),
        ..Default::default()
    };
    let assignment = assigned
        .map(|partitions| Assignment { topic_partitions: vec![topic(partitions)], ..Default::default() });
    ConsumerGroupHeartbeatResponse {
        error_code: code.0,
        member_epoch: epoch,
        heartbeat_interval_ms: 5000,
        assignment,
        ..Default::default()
    }
}

struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(instance: Option<&str>) -> Self {
        let now = crate::net::clock::now();
        let mut machine = Machine::new(settings(instance), "m".into(), 1);
        machine.handle_subscription(["t".into()].into(), None, now);
        Self { machine, now }
    }

    /// A member with those partitions and nothing to say.
    fn member(instance: Option<&str>, partitions: &[i32]) -> Self {
        let mut bench = Self::new(instance);
        bench.ask();
        bench.good(5, Some(partitions));
        // Before the topic has its name the application only learns that it is a member.
        assert_eq!(bench.events(), ["assigned []"]);
        bench.machine.handle_names(&name, bench.now);
        assert_eq!(bench.events(), [format!("assigned {partitions:?}")]);
        bench.ask();
        bench.good(5, None);
        bench
    }

    fn try_ask(&mut self) -> Option<ConsumerGroupHeartbeatRequest> {
        let ask = self.machine.poll_ask(self.now)?;
        let Request::Consumer(request) = ask.request else { panic!("{ask:?}") };
        Some(request)
    }

    fn ask(&mut self) -> ConsumerGroupHeartbeatRequest {
        self.try_ask().expect("a heartbeat")
    }

    fn good(&mut self, epoch: i32, assigned: Option<&[i32]>) {
        self.give(Ok(answer(ErrorCode::NONE, epoch, assigned)));
    }

    fn bad(&mut self, code: ErrorCode) {
        self.give(Ok(answer(code, 0, None)));
    }

    fn give(&mut self, answer: Result<ConsumerGroupHeartbeatResponse>) {
        let ticket = self.machine.tickets;
        self.machine.handle_answer(ticket, answer.map(Response::Consumer), self.now);
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    fn events(&mut self) -> Vec<String> {
        let numbers =
            |all: &BTreeSet<TopicPartition>| all.iter().map(TopicPartition::partition).collect::<Vec<_>>();
        let mut events = Vec::new();
        while let Some(event) = self.machine.poll_event() {
            events.push(match event {
                Event::Assigned(all) => format!("assigned {:?}", numbers(&all)),
                Event::Revoke { partitions, .. } => format!("revoke {:?}", numbers(&partitions)),
                Event::Lost { partitions, .. } => format!("lost {:?}", numbers(&partitions)),
                Event::Left => "left".to_owned(),
                Event::Troubled(error) => format!("troubled {error}"),
                Event::Failed(error) => format!("failed {:?}", error.code().unwrap_or_default()),
            });
        }
        events
    }
}

fn owned(request: &ConsumerGroupHeartbeatRequest) -> Option<Vec<i32>> {
    let topics = request.topic_partitions.as_ref()?;
    Some(topics.iter().flat_map(|topic| topic.partitions.to_vec()).collect())
}

#[test]
fn who_joins_says_everything_and_later_only_what_changed() {
    let mut bench = Bench::new(None);
    let join = bench.ask();
    assert_eq!((join.member_epoch, join.rebalance_timeout_ms), (0, 300_000));
    assert_eq!(join.subscribed_topic_names, Some(vec!["t".into()]));
    assert_eq!((owned(&join), join.subscribed_topic_regex), (Some(vec![]), None));
    bench.good(1, None);
    assert!(bench.try_ask().is_none());
    bench.wait(Duration::from_secs(5));
    let next = bench.ask();
    assert_eq!((next.member_epoch, next.rebalance_timeout_ms), (1, -1));
    assert_eq!((next.subscribed_topic_names, next.topic_partitions), (None, None));
    bench.give(Err(Error::io("cut")));
    assert!(bench.try_ask().is_none(), "a pause comes first");
    bench.wait(Duration::from_secs(1));
    let full = bench.ask();
    assert_eq!((full.member_epoch, full.rebalance_timeout_ms), (1, 300_000));
    assert!(full.subscribed_topic_names.is_some() && full.topic_partitions.is_some());
}

#[test]
fn n09_what_was_handed_over_is_said_at_once_and_only_then_is_more_taken() {
    let mut bench = Bench::member(None, &[0, 1]);
    bench.wait(Duration::from_secs(5));
    bench.ask();
    bench.good(6, Some(&[1, 2]));
    assert_eq!(bench.events(), ["revoke [0]"]);
    bench.wait(Duration::from_secs(5));
    assert_eq!(owned(&bench.ask()), None, "0 is owned still");
    bench.good(6, Some(&[1, 3]));
    assert!(bench.events().is_empty(), "a newer target waits");
    bench.machine.handle_revoked(bench.now);
    assert_eq!(bench.events(), ["assigned [3]"]);
    assert_eq!(owned(&bench.ask()), Some(vec![1, 3]));
}

#[test]
fn nothing_is_taken_between_saying_what_is_owned_and_the_answer() {
    let mut bench = Bench::new(None);
    bench.ask();
    bench.good(1, Some(&[0, 1]));
    assert_eq!(bench.events(), ["assigned []"]);
    assert_eq!(owned(&bench.ask()), Some(vec![]));
    bench.machine.handle_names(&name, bench.now);
    assert!(bench.events().is_empty(), "the coordinator hears that nothing is owned");
    bench.give(Err(Error::io("cut").maybe_done()));
    bench.machine.handle_names(&name, bench.now);
    assert!(bench.events().is_empty(), "it may have heard so");
    bench.wait(Duration::from_secs(1));
    assert_eq!(owned(&bench.ask()), Some(vec![]));
    bench.good(2, Some(&[1]));
    assert_eq!(bench.events(), ["assigned [1]"], "0 is another's");
}

#[test]
fn what_is_not_handed_over_in_time_is_lost() {
    let mut bench = Bench::member(None, &[0, 1]);
    bench.wait(Duration::from_secs(5));
    bench.ask();
    bench.good(6, Some(&[1]));
    assert_eq!(bench.events(), ["revoke [0]"]);
    bench.wait(POLL / 2);
    bench.machine.handle_poll(bench.now);
    bench.wait(POLL / 2);
    assert_eq!(owned(&bench.ask()), Some(vec![1]));
    assert_eq!(bench.events(), ["lost [0]", "assigned []"]);
}

#[test]
fn n01_answers_after_leaving_change_nothing() {
    let mut bench = Bench::member(None, &[0]);
    bench.wait(Duration::from_secs(5));
    bench.ask();
    let late = bench.machine.tickets;
    bench.machine.handle_close(Leave::Default, bench.now);
    let good = answer(ErrorCode::NONE, 9, Some(&[0, 1]));
    bench.machine.handle_answer(late, Ok(Response::Consumer(good)), bench.now);
    assert_eq!((bench.machine.state(), bench.machine.membership()), (State::Leaving, None));
    assert_eq!(bench.ask().member_epoch, -1);
    bench.good(-1, None);
    assert_eq!(bench.events(), ["left"]);
}

#[test]
fn n02_leaving_is_said_again_and_who_is_unknown_has_left() {
    for last in [ErrorCode::NONE, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::GROUP_ID_NOT_FOUND] {
        let mut bench = Bench::member(None, &[0]);
        bench.machine.handle_close(Leave::Default, bench.now);
        bench.ask();
        bench.bad(ErrorCode::NOT_COORDINATOR);
        bench.wait(Duration::from_secs(1));
        assert_eq!(bench.ask().member_epoch, -1);
        bench.bad(last);
        assert_eq!(bench.events(), ["left"], "{last}");
    }
}

#[test]
fn g11_who_closes_before_being_a_member_leaves_all_the_same() {
    let mut bench = Bench::new(None);
    bench.ask();
    bench.machine.handle_close(Leave::Default, bench.now);
    assert_eq!(bench.ask().member_epoch, -1);
    let mut never = Bench::new(None);
    never.machine.handle_close(Leave::Default, never.now);
    assert_eq!(never.events(), ["left"]);
}

#[test]
fn kip_1092_who_leaves_and_with_which_epoch() {
    for (instance, leave, epoch) in [
        (None, Leave::Default, Some(-1)),
        (None, Leave::Always, Some(-1)),
        (None, Leave::Never, None),
        (Some("i"), Leave::Default, Some(-2)),
        (Some("i"), Leave::Always, Some(-1)),
        (Some("i"), Leave::Never, Some(-2)),
    ] {
        let mut bench = Bench::member(instance, &[0]);
        bench.machine.handle_close(leave, bench.now);
        assert_eq!(bench.try_ask().map(|request| request.member_epoch), epoch, "{instance:?} {leave:?}");
    }
}

#[test]
fn n04_g02_who_is_fenced_loses_all_and_joins_with_the_same_id() {
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::GROUP_ID_NOT_FOUND]
    {
        let mut bench = Bench::member(None, &[0]);
        bench.wait(Duration::from_secs(5));
        bench.ask();
        bench.bad(code);
        assert_eq!(bench.events(), ["lost [0]"]);
        let join = bench.ask();
        assert_eq!((join.member_id.as_str(), join.member_epoch), ("m", 0));
        assert_eq!(owned(&join), Some(vec![]));
    }
    let mut bench = Bench::member(None, &[0]);
    let before = bench.machine.membership().expect("a member");
    bench.machine.handle_rejoin(&before, ErrorCode::UNKNOWN_MEMBER_ID, bench.now);
    assert_eq!(bench.events(), ["lost [0]"]);
    assert_eq!(bench.ask().member_epoch, 0);
    bench.good(9, Some(&[0]));
    bench.machine.handle_names(&name, bench.now);
    assert_eq!(bench.events(), ["assigned []", "assigned [0]"]);
    bench.machine.handle_rejoin(&before, ErrorCode::FENCED_MEMBER_EPOCH, bench.now);
    assert!(bench.events().is_empty(), "it was a member before that asked");
}

#[test]
fn n05_an_old_epoch_brings_a_heartbeat_soon() {
    let mut bench = Bench::member(None, &[0]);
    let of = bench.machine.membership().expect("a member");
    bench.machine.handle_rejoin(&of, ErrorCode::STALE_MEMBER_EPOCH, bench.now);
    bench.wait(Duration::from_millis(100));
    assert_eq!(bench.ask().member_epoch, 5);
    assert!(bench.events().is_empty());
}

#[test]
fn n06_what_has_no_name_yet_is_kept_until_it_has() {
    let mut bench = Bench::new(None);
    bench.ask();
    bench.good(1, Some(&[0, 1]));
    assert_eq!(bench.events(), ["assigned []"]);
    assert_eq!(bench.machine.unresolved(), [ID].into());
    bench.machine.handle_names(&|_| None, bench.now);
    assert!(bench.events().is_empty());
    bench.ask();
    bench.good(1, None);
    bench.machine.handle_names(&name, bench.now);
    assert_eq!(bench.events(), ["assigned [0, 1]"]);
    assert_eq!(owned(&bench.ask()), Some(vec![0, 1]));
}

#[test]
fn n08_what_cannot_be_right_is_not_believed() {
    for epoch in [-1, 0, 4] {
        let mut bench = Bench::member(None, &[0]);
        bench.wait(Duration::from_secs(5));
        bench.ask();
        bench.good(epoch, Some(&[]));
        assert!(bench.events().is_empty(), "{epoch}");
        assert_eq!(bench.machine.membership().map(|it| it.generation), Some(5));
        assert!(bench.try_ask().is_none());
    }
    for (millis, least, most) in
        [(0, 5000, 5000), (-7, 5000, 5000), (1, 100, 100), (i32::MAX, 60_000, 60_000)]
    {
        let mut bench = Bench::member(None, &[0]);
        bench.wait(Duration::from_secs(5));
        bench.ask();
        let mut odd = answer(ErrorCode::NONE, 5, Some(&[0, 0, -3]));
        odd.heartbeat_interval_ms = millis;
        bench.give(Ok(odd));
        assert!(bench.events().is_empty(), "twice is once, and -3 is none");
        bench.wait(Duration::from_millis(least - 1));
        assert!(bench.try_ask().is_none(), "{millis}");
        bench.wait(Duration::from_millis(1 + most - least));
        bench.ask();
    }
}

#[test]
fn n10_g01_who_stays_away_leaves_and_joins_on_coming_back() {
    for (instance, epoch) in [(None, -1), (Some("i"), -2)] {
        let mut bench = Bench::member(instance, &[0]);
        bench.wait(POLL);
        assert_eq!(bench.ask().member_epoch, epoch);
        assert_eq!(bench.events(), ["lost [0]"]);
        bench.good(epoch, None);
        bench.wait(POLL);
        assert!(bench.try_ask().is_none());
        bench.machine.handle_poll(bench.now);
        assert_eq!(bench.ask().member_epoch, 0);
    }
}

#[test]
fn who_wants_nothing_any_more_hands_over_and_leaves() {
    let mut bench = Bench::member(None, &[0]);
    bench.machine.handle_subscription(BTreeSet::new(), None, bench.now);
    assert_eq!(bench.events(), ["revoke [0]"]);
    assert!(bench.try_ask().is_none());
    bench.machine.handle_revoked(bench.now);
    assert_eq!(bench.ask().member_epoch, -1);
    bench.good(-1, None);
    assert_eq!(bench.machine.state(), State::Idle);
    bench.machine.handle_subscription(["t".into()].into(), None, bench.now);
    assert_eq!(bench.ask().member_epoch, 0);
}

#[test]
fn who_stayed_away_and_wants_nothing_any_more_still_leaves() {
    let mut bench = Bench::member(None, &[0]);
    bench.machine.handle_subscription(BTreeSet::new(), None, bench.now);
    bench.wait(POLL);
    assert_eq!(bench.ask().member_epoch, -1);
    assert_eq!(bench.events(), ["revoke [0]", "lost [0]"]);
    bench.bad(ErrorCode::NOT_COORDINATOR);
    bench.machine.handle_poll(bench.now);
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.ask().member_epoch, -1);
    bench.good(-1, None);
    assert_eq!((bench.machine.state(), bench.try_ask().is_none()), (State::Idle, true));
}

#[test]
fn an_expression_is_taken_back_by_an_empty_one() {
    let mut bench = Bench::new(None);
    bench.machine.handle_subscription(BTreeSet::new(), Some("t.*".into()), bench.now);
    assert_eq!(bench.ask().subscribed_topic_regex.as_deref(), Some("t.*"));
    bench.good(1, None);
    bench.machine.handle_subscription(["t".into()].into(), None, bench.now);
    assert_eq!(bench.ask().subscribed_topic_regex.as_deref(), Some(""));
    bench.give(Err(Error::io("cut")));
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.ask().subscribed_topic_regex.as_deref(), Some(""));
}
