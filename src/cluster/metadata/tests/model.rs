//! The machine against a small model of a cluster, with events drawn from a seed: leaders move, topics are
//! made again, brokers lag, answers fail. What must hold, holds after every event.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::Error;
use crate::cluster::metadata::machine::{Ask, Config, Machine};
use crate::cluster::metadata::{Leader, TopicKey};
use crate::conn::Dice;
use crate::wire::Str;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// The cluster as it is: for each topic its id, and its partition's leader and epoch.
type Truth = BTreeMap<&'static str, (u8, i32, i32)>;

struct World {
    dice: Dice,
    now: Instant,
    machine: Machine,
    truth: Truth,
    /// What some broker may still believe.
    past: Vec<Truth>,
    in_flight: Option<Ask>,
    wanted: BTreeSet<&'static str>,
    /// The id and the epoch that the snapshot last had for a name.
    seen: BTreeMap<Str, (Uuid, i32)>,
    refreshes: Vec<Instant>,
}

impl World {
    fn new(seed: u64) -> Self {
        let truth: Truth = NAMES.iter().zip(1..).map(|(name, n)| (*name, (n, 1, 0))).collect();
        Self {
            dice: Dice::new(seed),
            now: Instant::now(),
            machine: Machine::new(Config::default(), 2, seed),
            past: vec![truth.clone()],
            truth,
            in_flight: None,
            wanted: BTreeSet::new(),
            seen: BTreeMap::new(),
            refreshes: Vec::new(),
        }
    }

    fn step(&mut self) {
        let name = NAMES[self.dice.below(NAMES.len())];
        match self.dice.below(12) {
            0 => {
                self.wanted.insert(name);
                self.machine.handle_want(name.into(), self.now);
            }
            1 => self.change(name, |(id, leader, epoch)| (id, leader % 3 + 1, epoch + 1)),
            2 => self.change(name, |(id, leader, _)| (id.wrapping_add(16), leader, 0)),
            3 | 4 => self.machine.handle_stale(self.now),
            5 => self.machine.handle_unreachable(1 + self.dice.below(3) as i32),
            6 | 7 => self.end(),
            _ => self.now += Duration::from_millis(self.dice.below(400) as u64),
        }
        if let Some(ask) = self.machine.poll_request(self.now, &|_| Some(0)) {
            assert!(self.in_flight.is_none(), "one request at a time");
            if matches!(ask.scope, Scope::Wanted(_)) {
                self.refreshes.push(self.now);
            }
            self.in_flight = Some(ask);
        }
        self.check();
    }

    fn change(&mut self, name: &'static str, change: impl Fn((u8, i32, i32)) -> (u8, i32, i32)) {
        self.past.push(self.truth.clone());
        let now = change(self.truth[name]);
        self.truth.insert(name, now);
    }

    /// Ends the request in flight: with the truth, with what was true lately, or with an error.
    fn end(&mut self) {
        let Some(ask) = self.in_flight.take() else { return };
        let view = match self.dice.below(4) {
            0 => return self.machine.handle_failure(ask.ticket, &Error::io("cut"), self.now),
            1 => &self.past[self.past.len() - 1 - self.dice.below(self.past.len().min(2))],
            _ => &self.truth,
        };
        let (Scope::Wanted(keys) | Scope::Added(keys)) = &ask.scope else { panic!("{:?}", ask.scope) };
        let told = keys.iter().map(|key| {
            let TopicKey::Name(name) = key else { panic!("{key:?}") };
            let (n, leader, epoch) = view[name.as_str()];
            topic(name, id(n), &[(0, leader, epoch)])
        });
        let indexed = index(&ask.base, answer(told.collect()), &ask.scope, self.now, FORGET).unwrap();
        self.machine.handle_answer(ask.ticket, indexed, self.now);
    }

    fn check(&mut self) {
        let snapshot = Arc::clone(self.machine.snapshot());
        for topic in snapshot.topics() {
            assert!(self.wanted.contains(topic.name.as_str()), "only what is wanted");
            assert!(Arc::ptr_eq(snapshot.topic_by_id(topic.id).unwrap(), topic), "both ways lead to it");
            let Leader::Known { broker, epoch } = snapshot.leader(&TopicKey::Id(topic.id), 0) else {
                panic!("{topic:?}")
            };
            assert!(snapshot.broker(broker).is_some(), "leaders are known");
            // Whoever lags may bring back an id that was replaced; within one id, epochs rise.
            let last = self.seen.insert(topic.name.clone(), (topic.id, epoch));
            assert!(last.is_none_or(|(id, before)| id != topic.id || epoch >= before), "epochs rise");
        }
        assert_eq!(snapshot.topics.len(), snapshot.ids.len());
    }

    /// Nothing moves any more, and requests are answered: the snapshot comes to say what is.
    fn settle(&mut self) {
        for _ in 0..8 {
            for name in NAMES {
                self.wanted.insert(name);
                self.machine.handle_want(name.into(), self.now);
            }
            self.machine.handle_stale(self.now);
            while self.in_flight.is_none() {
                self.now = self.now.max(self.machine.poll_timeout().unwrap());
                self.in_flight = self.machine.poll_request(self.now, &|_| Some(0));
            }
            self.past = vec![self.truth.clone()];
            self.end();
        }
        if self.machine.error().is_some() {
            return self.settle();
        }
        for (name, (n, broker, epoch)) in &self.truth {
            let known = self.machine.snapshot().leader(&(*name).into(), 0);
            assert_eq!(known, Leader::Known { broker: *broker, epoch: *epoch }, "{name}");
            assert_eq!(self.machine.snapshot().topic(name).unwrap().id, id(*n));
        }
    }
}

#[test]
fn what_must_hold_holds_whatever_happens() {
    for seed in 0..200 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        for pair in world.refreshes.windows(2) {
            let apart = pair[1] - pair[0];
            assert!(apart >= Duration::from_millis(80), "seed {seed}: refreshes {apart:?} apart");
        }
        world.settle();
    }
}
