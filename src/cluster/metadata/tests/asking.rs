//! When who is asked for what.

use super::*;
use crate::Error;
use crate::cluster::metadata::TopicKey;
use crate::cluster::metadata::hints::Hints;
use crate::cluster::metadata::machine::{Ask, Config, Machine};
use crate::cluster::metadata::request::request;
use crate::conn::Target;
use crate::observe::Event;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A machine on a clock of its own.
struct Bench {
    machine: Machine,
    now: Instant,
}

impl Bench {
    fn new(bootstraps: usize) -> Self {
        Self::with(Config::default(), bootstraps)
    }

    fn with(config: Config, bootstraps: usize) -> Self {
        Self { machine: Machine::new(config, bootstraps, 5), now: Instant::now() }
    }

    /// One that knows brokers 1 to 3 and topic "a".
    fn settled() -> Self {
        let mut bench = Self::new(2);
        bench.want("a");
        let ask = bench.ask().unwrap();
        bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]);
        bench.now += 2 * SECOND;
        bench
    }

    fn want(&mut self, name: &str) {
        self.machine.handle_want(name.into(), self.now);
    }

    fn ask(&mut self) -> Option<Ask> {
        self.machine.poll_request(self.now, &|_| Some(0))
    }

    /// Waits until there is something to be asked.
    fn next(&mut self) -> Ask {
        let at = self.machine.poll_timeout().unwrap();
        self.now = self.now.max(at);
        self.ask().unwrap()
    }

    fn answer(&mut self, ask: &Ask, topics: Vec<MetadataResponseTopic>) {
        let indexed = index(&ask.base, answer(topics), &ask.scope, self.now, FORGET).unwrap();
        self.machine.handle_answer(ask.ticket, indexed, self.now);
    }

    fn fail(&mut self, ask: &Ask) {
        self.machine.handle_failure(ask.ticket, &Error::io("refused"), self.now);
    }

    fn rebootstraps(&mut self) -> usize {
        let events = std::iter::from_fn(|| self.machine.poll_event());
        events.filter(|event| matches!(event, Event::Rebootstrapped { .. })).count()
    }
}

#[test]
fn only_what_is_wanted_is_asked_for_and_new_topics_alone() {
    let mut bench = Bench::new(1);
    assert!(bench.ask().is_none() && bench.machine.poll_timeout().is_none(), "nobody wants anything");
    bench.want("a");
    let ask = bench.ask().unwrap();
    assert_eq!((ask.target, &ask.scope), (Target::Bootstrap(0), &Scope::Added(vec!["a".into()])));
    bench.want("b");
    assert!(bench.ask().is_none(), "one at a time");
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]);
    // At once, although the backoff of refreshes has begun.
    let ask = bench.ask().unwrap();
    assert_eq!(ask.scope, Scope::Added(vec!["b".into()]));
    assert!(matches!(ask.target, Target::Broker(1..=3)));
    bench.answer(&ask, vec![topic("b", id(2), &[(0, 1, 5)])]);
    assert!(bench.ask().is_none());
    assert_eq!(bench.machine.snapshot().topics().len(), 2);
    // After five minutes all are asked for again; then only the one that was used meanwhile.
    bench.now += 299 * SECOND;
    assert!(bench.ask().is_none());
    bench.want("a");
    bench.now += 2 * SECOND;
    let ask = bench.ask().unwrap();
    assert_eq!(ask.scope, Scope::Wanted(vec!["a".into()]));
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]);
    assert!(bench.machine.snapshot().topic("b").is_none());
}

#[test]
fn all_topics_stay_wanted() {
    let mut bench = Bench::settled();
    bench.machine.handle_want_all(bench.now);
    bench.want("new");
    let ask = bench.ask().unwrap();
    assert_eq!(ask.scope, Scope::All);
    bench.answer(&ask, vec![topic("b", id(2), &[(0, 1, 5)])]);
    bench.now += 301 * SECOND;
    assert_eq!(bench.ask().unwrap().scope, Scope::All);
}

#[test]
fn m10_errors_that_bring_nothing_new_slow_refreshes_down() {
    let mut bench = Bench::settled();
    let (start, mut asked) = (bench.now, 0);
    while bench.now < start + 30 * SECOND {
        bench.machine.handle_stale(bench.now);
        if let Some(ask) = bench.ask() {
            asked += 1;
            bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]);
        }
        bench.now += MS;
    }
    // 100, 200, 400, 800 ms, then a second each.
    assert!((25..=42).contains(&asked), "{asked} requests in 30 s of errors");
    // Something new, and the next error is looked after soon.
    bench.machine.handle_stale(bench.now);
    let ask = bench.next();
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 2, 6)])]);
    bench.machine.handle_stale(bench.now);
    assert!(bench.machine.poll_timeout().unwrap() <= bench.now + 120 * MS);
}

#[test]
fn an_error_seen_while_a_refresh_is_in_flight_has_one_of_its_own() {
    let mut bench = Bench::settled();
    bench.machine.handle_stale(bench.now);
    let first = bench.ask().unwrap();
    assert_eq!(bench.machine.next_refresh(), 2, "the one in flight may know nothing of it");
    for _ in 0..100 {
        bench.machine.handle_stale(bench.now);
        assert!(bench.ask().is_none() && bench.machine.poll_timeout().is_none(), "one in flight");
    }
    bench.answer(&first, vec![topic("a", id(1), &[(0, 2, 6)])]);
    assert_eq!(bench.machine.refreshed(), 1);
    assert!(bench.ask().is_none(), "not before the backoff");
    let began = bench.now;
    let second = bench.next();
    assert!(bench.now - began >= 80 * MS && bench.now - began <= 120 * MS, "{:?}", bench.now - began);
    assert_eq!(second.scope, Scope::Wanted(vec!["a".into()]));
    bench.answer(&second, vec![topic("a", id(1), &[(0, 2, 6)])]);
    assert_eq!(bench.machine.refreshed(), 2);
    // A hundred errors were one refresh more, and no other comes before the age.
    let quiet = bench.machine.poll_timeout().unwrap() - bench.now;
    assert!(quiet > 290 * SECOND, "{quiet:?}");
}

#[test]
fn who_waits_for_what_is_in_flight_asks_for_nothing_more() {
    let mut bench = Bench::new(1);
    bench.machine.handle_lacking(bench.now);
    let ask = bench.ask().unwrap();
    for _ in 0..100 {
        bench.machine.handle_lacking(bench.now);
    }
    bench.answer(&ask, vec![]);
    assert!(bench.machine.poll_timeout().is_none_or(|at| at > bench.now + 290 * SECOND));
    // It was not in the answer.
    bench.machine.handle_lacking(bench.now);
    assert!(bench.next().scope == Scope::Wanted(vec![]) && bench.now.elapsed() < SECOND);
}

#[test]
fn new_topics_are_no_refresh_of_the_others() {
    let mut bench = Bench::settled();
    bench.machine.handle_stale(bench.now);
    let ask = bench.ask().unwrap();
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]);
    // Held by the backoff, while a new topic is not.
    bench.machine.handle_stale(bench.now);
    let number = bench.machine.next_refresh();
    bench.want("b");
    let ask = bench.ask().unwrap();
    assert_eq!(ask.scope, Scope::Added(vec!["b".into()]));
    bench.answer(&ask, vec![topic("b", id(2), &[(0, 1, 5)])]);
    assert!(bench.machine.refreshed() < number);
    let ask = bench.next();
    assert_eq!(ask.scope, Scope::Wanted(vec!["a".into(), "b".into()]));
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)]), topic("b", id(2), &[(0, 1, 5)])]);
    assert_eq!(bench.machine.refreshed(), number);
    // Nor do they make the others younger.
    bench.now += 200 * SECOND;
    bench.want("c");
    let ask = bench.ask().unwrap();
    bench.answer(&ask, vec![topic("c", id(3), &[(0, 1, 5)])]);
    bench.now += 101 * SECOND;
    assert!(matches!(bench.ask().unwrap().scope, Scope::Wanted(_)));
}

#[test]
fn a_refresh_that_fails_stays_asked_for() {
    let mut bench = Bench::settled();
    bench.machine.handle_stale(bench.now);
    let ask = bench.ask().unwrap();
    bench.fail(&ask);
    assert_eq!(bench.machine.refreshed(), 1, "it was tried");
    let ask = bench.next();
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]);
    assert_eq!((bench.machine.refreshed(), bench.machine.error().is_none()), (2, true));
}

#[test]
fn m03_after_a_failure_another_broker_is_asked() {
    let mut bench = Bench::settled();
    bench.machine.handle_stale(bench.now);
    let mut asked = Vec::new();
    for _ in 0..3 {
        let ask = bench.next();
        asked.push(ask.target);
        // Silence: it ends by its deadline.
        bench.now += 10 * SECOND;
        bench.fail(&ask);
    }
    asked.sort();
    assert_eq!(asked, [Target::Broker(1), Target::Broker(2), Target::Broker(3)]);
    assert_eq!(bench.rebootstraps(), 0);
}

#[test]
fn the_least_loaded_broker_is_asked() {
    let mut bench = Bench::settled();
    bench.machine.handle_stale(bench.now);
    let load = |id| [None, Some(7), Some(2), None][id as usize];
    assert_eq!(bench.machine.any(&load), Some(2));
    assert_eq!(bench.machine.poll_request(bench.now, &load).unwrap().target, Target::Broker(2));
    bench.machine.handle_unreachable(2);
    assert_eq!(bench.machine.any(&load), Some(1));
    bench.machine.handle_unreachable(1);
    assert_eq!(bench.machine.any(&load), Some(3));
    bench.machine.handle_unreachable(3);
    assert_eq!(bench.machine.any(&load), Some(2), "with none left, it is tried all the same");
    let none = Bench::new(1).machine.any(&load);
    assert_eq!(none, None);
    // Of equals, each has its turn.
    let mut seen: Vec<_> = (0..50).map(|_| Bench::settled).map(|_| bench.machine.any(&|_| Some(0))).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 3);
}

#[test]
fn m04_with_all_brokers_gone_the_bootstrap_addresses_are_asked() {
    let mut bench = Bench::settled();
    (1..=3).for_each(|id| bench.machine.handle_unreachable(id));
    bench.machine.handle_stale(bench.now);
    let mut asked = Vec::new();
    for _ in 0..2 {
        let ask = bench.next();
        asked.push(ask.target);
        bench.fail(&ask);
    }
    asked.sort();
    assert_eq!(asked, [Target::Bootstrap(0), Target::Bootstrap(1)], "each once");
    assert_eq!(bench.rebootstraps(), 1);
    // Neither answered: the known brokers may be back; then the bootstrap addresses again.
    for _ in 0..3 {
        let ask = bench.next();
        assert!(matches!(ask.target, Target::Broker(_)), "{:?}", ask.target);
        bench.fail(&ask);
    }
    let ask = bench.next();
    assert!(matches!(ask.target, Target::Bootstrap(_)));
    assert_eq!(bench.machine.snapshot().topics().len(), 1, "what was known stays");
    // The cluster has moved to other brokers.
    let mut moved = answer(vec![topic("a", id(1), &[(0, 11, 6)])]);
    moved.brokers = vec![broker(11), broker(12)];
    let indexed = index(&ask.base, moved, &ask.scope, bench.now, FORGET).unwrap();
    bench.machine.handle_answer(ask.ticket, indexed, bench.now);
    bench.machine.handle_stale(bench.now);
    assert!(matches!(bench.next().target, Target::Broker(11 | 12)));
}

#[test]
fn m04_a_bootstrap_that_leads_nowhere_is_no_hot_loop() {
    let mut bench = Bench::settled();
    let (start, mut asked) = (bench.now, 0);
    while bench.now < start + 60 * SECOND {
        // The bootstrap address answers with brokers that cannot be reached.
        (1..=3).for_each(|id| bench.machine.handle_unreachable(id));
        bench.machine.handle_stale(bench.now);
        let ask = bench.next();
        asked += 1;
        match ask.target {
            Target::Bootstrap(_) => bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]),
            Target::Broker(_) => bench.fail(&ask),
        }
    }
    assert!(asked < 100, "{asked} requests in a minute");
}

#[test]
fn without_a_way_back_only_known_brokers_are_asked() {
    let mut bench = Bench::with(Config { rebootstrap: false, ..Config::default() }, 1);
    bench.want("a");
    let ask = bench.ask().unwrap();
    bench.fail(&ask);
    let ask = bench.next();
    assert_eq!(ask.target, Target::Bootstrap(0), "until one was known");
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]);
    bench.machine.handle_stale(bench.now);
    for _ in 0..10 {
        let ask = bench.next();
        assert!(matches!(ask.target, Target::Broker(_)));
        bench.fail(&ask);
    }
}

#[test]
fn five_minutes_in_vain_lead_back_to_the_bootstrap_addresses() {
    let config = Config { max_age: 3600 * SECOND, max_idle: 7200 * SECOND, ..Config::default() };
    let mut bench = Bench::with(config, 1);
    bench.want("a");
    let ask = bench.ask().unwrap();
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]);
    bench.machine.handle_stale(bench.now);
    let start = bench.next();
    bench.now += 301 * SECOND;
    bench.fail(&start);
    // Two brokers are left that might answer, but it has taken too long.
    let ask = bench.next();
    assert_eq!(ask.target, Target::Bootstrap(0));
    assert_eq!(bench.rebootstraps(), 1);
    bench.fail(&ask);
    assert!(matches!(bench.next().target, Target::Broker(_)), "and then the time begins again");
}

#[test]
fn a_broker_may_ask_for_a_rebootstrap() {
    let mut bench = Bench::settled();
    bench.machine.handle_stale(bench.now);
    let ask = bench.next();
    let told = Error::broker_said(ErrorCode::REBOOTSTRAP_REQUIRED, "");
    bench.machine.handle_failure(ask.ticket, &told, bench.now);
    assert!(matches!(bench.next().target, Target::Bootstrap(_)));
    assert_eq!(bench.rebootstraps(), 1);
}

#[test]
fn hints_that_come_while_an_answer_is_read_are_not_lost() {
    let mut bench = Bench::settled();
    bench.machine.handle_stale(bench.now);
    let ask = bench.next();
    let mut hints = Hints::default();
    hints.leader("a".into(), 0, 2, 6);
    assert_eq!(bench.machine.handle_hints(&hints), 1);
    let version = bench.machine.snapshot().version;
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)])]);
    let snapshot = bench.machine.snapshot();
    assert_eq!(snapshot.topic("a").unwrap().partition(0).unwrap().leader, Some(2));
    assert!(snapshot.version >= version);
}

#[test]
fn an_answer_to_no_request_is_not_taken() {
    let mut bench = Bench::settled();
    bench.machine.handle_stale(bench.now);
    let ask = bench.next();
    bench.fail(&ask);
    let rounds = bench.machine.rounds();
    bench.answer(&ask, vec![topic("b", id(2), &[(0, 1, 5)])]);
    bench.fail(&ask);
    assert!(bench.machine.snapshot().topic("b").is_none());
    assert_eq!(bench.machine.rounds(), rounds);
}

#[test]
fn requests_say_what_their_version_can() {
    let base = Grown::from(vec![topic("known", id(9), &[(0, 1, 1)])]).snapshot;
    let some = Scope::Added(vec!["a".into(), TopicKey::Id(id(9)), TopicKey::Id(id(8))]);
    let said = |scope: &Scope, version| {
        let request = request(scope, &base, false, version);
        // Every version can be encoded.
        crate::wire::Message::to_bytes(&request, version).unwrap();
        let names = |topics: Vec<crate::messages::metadata::MetadataRequestTopic>| {
            let name = |topic: crate::messages::metadata::MetadataRequestTopic| {
                topic.name.map(|name| name.to_string())
            };
            topics.into_iter().map(name).collect::<Vec<_>>()
        };
        (request.topics.map(names), request.allow_auto_topic_creation)
    };
    let (a, known) = (Some("a".to_owned()), Some("known".to_owned()));
    assert_eq!(said(&some, 0), (Some(vec![a.clone(), known.clone()]), true));
    assert_eq!(said(&some, 4), (Some(vec![a, known.clone()]), false));
    let ids = Scope::Added(vec![TopicKey::Id(id(8))]);
    assert_eq!(said(&ids, 11), (Some(vec![]), false));
    assert_eq!(said(&ids, 13), (Some(vec![None]), false));
    let named = Scope::Wanted(vec![TopicKey::Id(id(9))]);
    assert_eq!(said(&named, 13), (Some(vec![known]), false), "by name, since that is known");
    assert_eq!(said(&Scope::All, 0).0, Some(vec![]), "all, in version 0");
    assert_eq!(said(&Scope::All, 1).0, None);
    assert_eq!(said(&Scope::Wanted(vec![]), 1).0, Some(vec![]), "none");
}

#[test]
fn ids_without_a_name_are_not_asked_for_beside_names() {
    let mut bench = Bench::settled();
    let (known, new) = (TopicKey::Id(id(1)), TopicKey::Id(id(9)));
    bench.want("b");
    bench.machine.handle_want(new.clone(), bench.now);
    let ask = bench.ask().unwrap();
    assert_eq!(ask.scope, Scope::Added(vec!["b".into()]));
    bench.answer(&ask, vec![topic("b", id(2), &[(0, 1, 5)])]);
    let ask = bench.ask().unwrap();
    assert_eq!(ask.scope, Scope::Added(vec![new.clone()]), "at once, by itself");
    bench.answer(&ask, vec![]);
    assert!(bench.ask().is_none(), "it is not asked for again and again");

    bench.machine.handle_want(known.clone(), bench.now);
    bench.machine.handle_stale(bench.now);
    bench.now += 2 * SECOND;
    let ask = bench.ask().unwrap();
    assert_eq!(ask.scope, Scope::Wanted(vec!["a".into(), "b".into(), known]));
    bench.answer(&ask, vec![topic("a", id(1), &[(0, 1, 5)]), topic("b", id(2), &[(0, 1, 5)])]);
    assert_eq!(bench.next().scope, Scope::Added(vec![new]));
}
