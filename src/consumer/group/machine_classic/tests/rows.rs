//! The member by itself: what each answer of a coordinator makes it do.

use super::*;
use crate::consumer::assignors::{Assignment, CooperativeSticky, Range, Subscription};
use crate::messages::heartbeat::HeartbeatResponse;
use crate::messages::join_group::{JoinGroupResponse, JoinGroupResponseMember};
use crate::messages::leave_group::LeaveGroupResponse;
use crate::messages::sync_group::SyncGroupResponse;

const SECOND: Duration = Duration::from_secs(1);
const RETRIED: [ErrorCode; 3] = [
    ErrorCode::NOT_COORDINATOR,
    ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
    ErrorCode::COORDINATOR_NOT_AVAILABLE,
];

/// Where a member is when something happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Joining,
    /// With the id that was required.
    JoiningAgain,
    Syncing,
    Beating,
}

const STEPS: [Step; 4] = [Step::Joining, Step::JoiningAgain, Step::Syncing, Step::Beating];

struct Bench {
    machine: Machine,
    now: Instant,
}

fn topics(names: &[&str]) -> BTreeSet<Str> {
    names.iter().map(|name| Str::from(*name)).collect()
}

fn partitions(numbers: &[i32]) -> BTreeSet<TopicPartition> {
    numbers.iter().map(|number| TopicPartition::new("a", *number)).collect()
}

impl Bench {
    fn new(rebalance: Rebalance, instance: Option<&str>) -> Self {
        let now = crate::net::clock::now();
        let assignor: Arc<dyn Assignor> = match rebalance {
            Rebalance::Eager => Arc::new(Range),
            Rebalance::Cooperative => Arc::new(CooperativeSticky),
        };
        let mut machine = Machine::new(settings(instance.map(Str::from)), vec![assignor], 1);
        let mut view = ClusterView::new();
        view.insert("a", vec![Vec::new(); 3]);
        machine.handle_cluster(view, now);
        machine.handle_subscription(topics(&["a"]), now);
        Self { machine, now }
    }

    /// The next request, for which pauses are waited out; and that it is the only one.
    fn ask(&mut self) -> Ask {
        for _ in 0..20 {
            if let Some(ask) = self.machine.poll_ask(self.now) {
                assert!(self.machine.poll_ask(self.now).is_none(), "one at a time");
                return ask;
            }
            self.now = self.machine.poll_timeout().expect("something to wait for").max(self.now);
        }
        panic!("nothing is asked in {:?}", self.machine.phase());
    }

    fn answer(&mut self, ask: &Ask, answer: Result<Response>) {
        self.machine.handle_answer(ask.ticket, answer, self.now);
    }

    fn join_ok(&self, generation: i32, leader: &str) -> JoinGroupResponse {
        JoinGroupResponse {
            generation_id: generation,
            protocol_type: Some(Str::from("consumer")),
            protocol_name: Some(Str::from(self.machine.assignors[0].name())),
            leader: Str::from(leader),
            member_id: Str::from("m"),
            ..Default::default()
        }
    }

    fn sync_ok(numbers: &[i32]) -> SyncGroupResponse {
        let of = vec![TopicPartitions::new("a", numbers.iter().copied())];
        let assignment = Assignment::of(of).to_bytes().expect("short");
        SyncGroupResponse { assignment, ..Default::default() }
    }

    /// Joins as a follower, and is given these.
    fn joined(&mut self, generation: i32, numbers: &[i32]) {
        let ask = self.ask();
        assert!(matches!(ask.request, Request::Join(_)), "{ask:?}");
        self.answer(&ask, Ok(Response::Join(self.join_ok(generation, "other"))));
        let ask = self.ask();
        assert!(matches!(ask.request, Request::Sync(_)), "{ask:?}");
        self.answer(&ask, Ok(Response::Sync(Self::sync_ok(numbers))));
        assert_eq!(self.machine.phase(), Phase::Stable);
    }

    /// A member that has asked something there.
    fn at(step: Step, instance: Option<&str>) -> (Self, Ask) {
        let mut bench = Self::new(Rebalance::Cooperative, instance);
        match step {
            Step::Joining => {}
            Step::JoiningAgain => {
                let ask = bench.ask();
                bench.refuse(&ask, ErrorCode::MEMBER_ID_REQUIRED);
            }
            Step::Syncing => {
                let ask = bench.ask();
                bench.answer(&ask, Ok(Response::Join(bench.join_ok(1, "other"))));
            }
            Step::Beating => {
                bench.joined(1, &[0, 1]);
                bench.events();
            }
        }
        let ask = bench.ask();
        (bench, ask)
    }

    fn refuse(&mut self, ask: &Ask, code: ErrorCode) {
        let error_code = code.0;
        let answer = match &ask.request {
            Request::Join(_) => Response::Join(JoinGroupResponse {
                error_code,
                member_id: Str::from("m"),
                ..Default::default()
            }),
            Request::Sync(_) => Response::Sync(SyncGroupResponse { error_code, ..Default::default() }),
            Request::Heartbeat(_) => {
                Response::Heartbeat(HeartbeatResponse { error_code, ..Default::default() })
            }
            _ => Response::Leave(LeaveGroupResponse { error_code, ..Default::default() }),
        };
        self.answer(ask, Ok(answer));
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.machine.poll_event()).collect()
    }
}

/// The id that a join says.
fn id_of(ask: &Ask) -> &str {
    match &ask.request {
        Request::Join(join) => &join.member_id,
        other => panic!("not a join: {other:?}"),
    }
}

fn is_lost(events: &[Event], code: ErrorCode, numbers: &[i32]) -> bool {
    let lost = |event: &Event| {
        matches!(event, Event::Lost { partitions: lost, why }
        if *lost == partitions(numbers) && why.code() == Some(code))
    };
    events.iter().filter(|event| lost(event)).count() == 1
}

#[test]
fn g01_whoever_does_not_come_back_leaves_and_joins_again_when_it_does() {
    let mut bench = Bench::new(Rebalance::Cooperative, None);
    bench.joined(1, &[0, 1]);
    bench.events();
    let polled = bench.now;
    bench.machine.handle_poll(polled);
    for _ in 0..100 {
        let ask = bench.ask();
        match ask.request {
            Request::Heartbeat(_) => bench.refuse(&ask, ErrorCode::NONE),
            Request::Leave(leave) => {
                assert_eq!(leave.members[0].member_id, Str::from("m"));
                assert!(leave.members[0].reason.as_ref().expect("a reason").contains("max.poll.interval"));
                assert_eq!(bench.now, polled + 30 * SECOND);
                bench.machine.handle_answer(
                    ask.ticket,
                    Ok(Response::Leave(LeaveGroupResponse::default())),
                    bench.now,
                );
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    let events = bench.events();
    assert!(
        matches!(&events[..], [Event::Lost { partitions: lost, why }]
        if *lost == partitions(&[0, 1]) && why.to_string().contains("max.poll.interval of 30s")),
        "{events:?}"
    );
    assert_eq!((bench.machine.membership(), bench.machine.phase()), (None, Phase::Unjoined));
    let later = bench.now + 1000 * SECOND;
    assert!(bench.machine.poll_ask(later).is_none() && bench.machine.poll_timeout().is_none());
    bench.now = later;
    bench.machine.handle_poll(later);
    assert_eq!(id_of(&bench.ask()), "", "as a new member");
}

#[test]
fn g02_a_commit_that_was_refused_makes_the_member_join_again() {
    for code in
        [ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::REBALANCE_IN_PROGRESS]
    {
        let mut bench = Bench::new(Rebalance::Cooperative, None);
        bench.joined(1, &[0, 1]);
        bench.events();
        let membership = bench.machine.membership().expect("a member");
        let former = Membership { generation: 0, ..membership.clone() };
        bench.machine.handle_rejoin(&former, code, bench.now);
        assert_eq!(bench.machine.phase(), Phase::Stable, "of a generation before");
        bench.machine.handle_rejoin(&membership, code, bench.now);
        let (ask, events) = (bench.ask(), bench.events());
        let keeps = code == ErrorCode::REBALANCE_IN_PROGRESS;
        assert_eq!(id_of(&ask), if code == ErrorCode::UNKNOWN_MEMBER_ID { "" } else { "m" }, "{code}");
        assert_eq!(is_lost(&events, code, &[0, 1]), !keeps, "{code}: {events:?}");
        bench.machine.handle_rejoin(&membership, code, bench.now);
        assert!(bench.machine.poll_ask(bench.now).is_none(), "{code}: the join is on its way");
    }
}

#[test]
fn g06_what_passes_is_tried_again_at_each_step_and_one_at_a_time() {
    for step in STEPS {
        for turn in 0..RETRIED.len() + 2 {
            let (mut bench, ask) = Bench::at(step, None);
            match RETRIED.get(turn) {
                Some(code) => bench.refuse(&ask, *code),
                None if turn % 2 == 0 => bench.answer(&ask, Err(Error::io("cut").maybe_done())),
                None => bench.answer(&ask, Err(Error::timeout("late"))),
            }
            assert!(bench.machine.poll_ask(bench.now).is_none(), "{step:?} {turn}: a pause first");
            let again = bench.ask();
            match step {
                Step::Beating => assert!(matches!(again.request, Request::Heartbeat(_))),
                Step::Joining => assert_eq!(id_of(&again), ""),
                Step::JoiningAgain | Step::Syncing => assert_eq!(id_of(&again), "m", "G07"),
            }
            bench.answer(&ask, Err(Error::invalid("late")));
            assert!(bench.events().is_empty(), "{step:?} {turn}");
        }
    }
}

#[test]
fn what_a_rebalance_answers_is_read_as_java_does() {
    for step in STEPS {
        for code in
            [ErrorCode::REBALANCE_IN_PROGRESS, ErrorCode::ILLEGAL_GENERATION, ErrorCode::UNKNOWN_MEMBER_ID]
        {
            let (mut bench, ask) = Bench::at(step, None);
            bench.refuse(&ask, code);
            let again = bench.ask();
            let forgets = step == Step::Joining || code == ErrorCode::UNKNOWN_MEMBER_ID;
            assert_eq!(id_of(&again), if forgets { "" } else { "m" }, "{step:?} {code}");
            let events = bench.events();
            let loses = step == Step::Beating && code != ErrorCode::REBALANCE_IN_PROGRESS;
            assert_eq!(is_lost(&events, code, &[0, 1]), loses, "{step:?} {code}: {events:?}");
        }
    }
}

#[test]
fn g08_what_cannot_be_mended_is_the_end() {
    for code in [
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::GROUP_MAX_SIZE_REACHED,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode::INVALID_SESSION_TIMEOUT,
        ErrorCode::INVALID_GROUP_ID,
    ] {
        for step in STEPS {
            let (mut bench, ask) = Bench::at(step, Some("i"));
            bench.refuse(&ask, code);
            let events = bench.events();
            assert!(
                matches!(events.last(), Some(Event::Failed(error)) if error.code() == Some(code)),
                "{step:?} {code}"
            );
            assert_eq!(is_lost(&events, code, &[0, 1]), step == Step::Beating, "{step:?} {code}");
            assert!(bench.machine.poll_ask(bench.now + 1000 * SECOND).is_none(), "{step:?} {code}");
            assert_eq!(bench.machine.phase(), Phase::Failed);
        }
    }
}

#[test]
fn g08_a_static_leader_that_comes_back_assigns_nothing_but_looks_after_topics() {
    let mut bench = Bench::new(Rebalance::Eager, Some("i"));
    let ask = bench.ask();
    let metadata = Subscription::to(["a", "b"]).to_bytes().expect("short");
    let member = JoinGroupResponseMember { member_id: Str::from("m"), metadata, ..Default::default() };
    let response =
        JoinGroupResponse { skip_assignment: true, members: vec![member], ..bench.join_ok(4, "m") };
    bench.answer(&ask, Ok(Response::Join(response)));
    let ask = bench.ask();
    assert!(matches!(&ask.request, Request::Sync(sync) if sync.assignments.is_empty()));
    bench.answer(&ask, Ok(Response::Sync(Bench::sync_ok(&[0, 1, 2]))));
    assert_eq!(bench.machine.wanted_topics(), topics(&["a", "b"]));
    let mut view = ClusterView::new();
    view.insert("a", vec![Vec::new(); 3]);
    view.insert("b", vec![Vec::new(); 2]);
    bench.machine.handle_cluster(view.clone(), bench.now);
    assert_eq!(bench.machine.phase(), Phase::Stable, "the others were assigned b with it");
    view.insert("b", vec![Vec::new(); 3]);
    bench.machine.handle_cluster(view, bench.now);
    assert_eq!(bench.machine.phase(), Phase::Preparing);
}

#[test]
fn g09_a_subscription_that_changes_on_the_way_waits_for_its_end() {
    for step in [Step::Joining, Step::Syncing] {
        let (mut bench, ask) = Bench::at(step, None);
        bench.machine.handle_subscription(topics(&["a", "b"]), bench.now);
        assert!(bench.machine.poll_ask(bench.now).is_none(), "{step:?}: not a second");
        let sync = if step == Step::Joining {
            bench.answer(&ask, Ok(Response::Join(bench.join_ok(1, "other"))));
            bench.ask()
        } else {
            ask
        };
        bench.answer(&sync, Ok(Response::Sync(Bench::sync_ok(&[0]))));
        let again = bench.ask();
        let Request::Join(join) = &again.request else { panic!("{again:?}") };
        let said = Subscription::from_bytes(&join.protocols[0].metadata).expect("ours");
        assert_eq!(said.topics, ["a".into(), "b".into()]);
        assert_eq!((said.owned, said.generation), (vec![TopicPartitions::new("a", [0])], Some(1)));
    }
}

#[test]
fn g10_a_member_that_cannot_be_read_gets_nothing_and_it_is_told() {
    let mut bench = Bench::new(Rebalance::Eager, None);
    let ask = bench.ask();
    let good = Subscription::to(["a"]).to_bytes().expect("short");
    let members = [("m", good), ("bad", Bytes::from_static(b"\0"))].map(|(id, metadata)| {
        JoinGroupResponseMember { member_id: Str::from(id), metadata, ..Default::default() }
    });
    let response = JoinGroupResponse { members: members.into(), ..bench.join_ok(1, "m") };
    bench.answer(&ask, Ok(Response::Join(response)));
    assert!(matches!(&bench.events()[..], [Event::Troubled(error)] if error.is_malformed()));
    let ask = bench.ask();
    let Request::Sync(sync) = &ask.request else { panic!("{ask:?}") };
    let given = |id: &str| {
        let one = sync.assignments.iter().find(|one| one.member_id == *id).expect("listed");
        Assignment::from_bytes(&one.assignment).expect("ours").partitions
    };
    assert_eq!(given("m"), [TopicPartitions::new("a", 0..3)]);
    assert_eq!(given("bad"), []);
}

#[test]
fn g10_an_assignment_that_cannot_be_read_is_refused() {
    let (mut bench, ask) = Bench::at(Step::Syncing, None);
    let assignment = Bytes::from_static(&[0, 1, 0, 0, 0, 9]);
    bench.answer(&ask, Ok(Response::Sync(SyncGroupResponse { assignment, ..Default::default() })));
    assert!(matches!(&bench.events()[..], [Event::Troubled(error)] if error.is_malformed()));
    assert_eq!(id_of(&bench.ask()), "m");
}

#[test]
fn g11_whoever_closes_says_goodbye_from_every_step() {
    for step in STEPS {
        let (mut bench, ask) = Bench::at(step, None);
        bench.machine.handle_close(Leave::Default, bench.now);
        match step {
            Step::Joining => {
                assert!(bench.machine.poll_ask(bench.now).is_none(), "no id is known yet");
                bench.refuse(&ask, ErrorCode::MEMBER_ID_REQUIRED);
            }
            Step::Beating => {
                assert!(
                    matches!(&bench.events()[..], [Event::Revoke { partitions: all, .. }] if *all == partitions(&[0, 1]))
                );
                assert!(bench.machine.membership().is_some(), "it may still commit");
                bench.machine.handle_revoked(bench.now);
            }
            Step::JoiningAgain | Step::Syncing => {}
        }
        let mut leave = bench.ask();
        for code in RETRIED {
            bench.refuse(&leave, code);
            leave = bench.ask();
        }
        assert!(
            matches!(&leave.request, Request::Leave(leave) if leave.members[0].member_id == *"m"),
            "{step:?}"
        );
        bench.refuse(&leave, ErrorCode::UNKNOWN_MEMBER_ID);
        assert!(matches!(&bench.events()[..], [Event::Left]), "{step:?}");
        assert_eq!(bench.machine.phase(), Phase::Closed);
    }
}

#[test]
fn a_static_member_stays_unless_it_is_told_to_leave() {
    for (leave, says) in [(Leave::Default, false), (Leave::Never, false), (Leave::Always, true)] {
        let (mut bench, _) = Bench::at(Step::Syncing, Some("i"));
        bench.machine.handle_close(leave, bench.now);
        let ask = bench.machine.poll_ask(bench.now);
        assert_eq!(ask.is_some(), says, "{leave:?}");
        assert_eq!(matches!(&bench.events()[..], [Event::Left]), !says);
    }
}

#[test]
fn an_eager_member_gives_up_everything_before_it_joins() {
    let mut bench = Bench::new(Rebalance::Eager, None);
    bench.joined(1, &[0, 1]);
    bench.events();
    let beat = bench.ask();
    bench.refuse(&beat, ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(
        matches!(&bench.events()[..], [Event::Revoke { partitions: all, .. }] if *all == partitions(&[0, 1]))
    );
    let beat = bench.ask();
    assert!(matches!(beat.request, Request::Heartbeat(_)), "while the application hands over");
    bench.refuse(&beat, ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(bench.machine.phase(), Phase::Preparing);
    bench.machine.handle_revoked(bench.now);
    bench.joined(2, &[1]);
    assert!(matches!(&bench.events()[..], [Event::Assigned(all)] if *all == partitions(&[1])));
}

#[test]
fn g03_a_cooperative_member_gives_up_what_moved_and_joins_again_after_it() {
    let mut bench = Bench::new(Rebalance::Cooperative, None);
    bench.joined(1, &[0, 1]);
    bench.events();
    let beat = bench.ask();
    bench.refuse(&beat, ErrorCode::REBALANCE_IN_PROGRESS);
    bench.joined(2, &[1, 2]);
    let events = bench.events();
    assert!(
        matches!(&events[..], [Event::Revoke { partitions: gone, .. }, Event::Assigned(new)]
        if *gone == partitions(&[0]) && *new == partitions(&[2])),
        "{events:?}"
    );
    let beat = bench.ask();
    assert!(matches!(beat.request, Request::Heartbeat(_)), "not before it was handed over");
    bench.refuse(&beat, ErrorCode::NONE);
    bench.machine.handle_revoked(bench.now);
    assert_eq!(id_of(&bench.ask()), "m");
}

#[test]
fn a_session_without_an_answer_is_lost() {
    let (mut bench, beat) = Bench::at(Step::Beating, None);
    bench.answer(&beat, Err(Error::io("cut")));
    let joined = loop {
        let ask = bench.ask();
        if matches!(ask.request, Request::Join(_)) {
            break ask;
        }
        bench.answer(&ask, Err(Error::io("cut")));
    };
    assert_eq!(id_of(&joined), "m", "perhaps it is still known");
    let events = bench.events();
    assert!(
        matches!(&events[..], [Event::Lost { partitions: all, why }]
        if *all == partitions(&[0, 1]) && why.is_timeout()),
        "{events:?}"
    );
}

#[test]
fn kip_559_another_protocol_is_refused() {
    let (mut bench, ask) = Bench::at(Step::Joining, None);
    let protocol_type = Some(Str::from("connect"));
    let response = JoinGroupResponse { protocol_type, ..bench.join_ok(1, "other") };
    bench.answer(&ask, Ok(Response::Join(response)));
    let inconsistent = ErrorCode::INCONSISTENT_GROUP_PROTOCOL;
    assert!(matches!(&bench.events()[..], [Event::Failed(error)] if error.code() == Some(inconsistent)));
}

#[test]
fn an_assignment_of_before_makes_a_static_member_join_again() {
    let (mut bench, ask) = Bench::at(Step::Syncing, Some("i"));
    let of = vec![TopicPartitions::new("a", [0]), TopicPartitions::new("former", [0])];
    let assignment = Assignment::of(of).to_bytes().expect("short");
    bench.answer(&ask, Ok(Response::Sync(SyncGroupResponse { assignment, ..Default::default() })));
    assert!(matches!(&bench.events()[..], [Event::Assigned(all)] if *all == partitions(&[0])));
    assert_eq!(id_of(&bench.ask()), "m");
}
