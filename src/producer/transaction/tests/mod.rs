//! The machine of transactions without brokers: each code by request, each fault by name, and whatever may
//! happen against a model of a coordinator.

mod codes;
mod faults;
mod model;

use std::time::{Duration, Instant};

use super::machine::{Ask, Event, Machine, Outcome};
use super::machine_work::{Abilities, Answer, Group, Level, Offset, Request};
use crate::cluster::Backoff;
use crate::producer::machine_identity::Identity;
use crate::{Error, ErrorCode};

const V1: Abilities = Abilities { level: Level::V1, bumps: true };
const V2: Abilities = Abilities { level: Level::V2, bumps: true };
const FIRST: Identity = Identity { id: 7, epoch: 3 };

/// A machine, a clock, and what it said.
struct Bench {
    machine: Machine,
    now: Instant,
    /// The ticket of the request in flight.
    last: u64,
    abilities: Abilities,
}

impl Bench {
    /// Initialized as `FIRST`.
    fn new(abilities: Abilities) -> Self {
        let machine = Machine::new(Backoff::default(), 1);
        let mut bench = Self { machine, now: Instant::now(), last: 0, abilities };
        assert_eq!(bench.machine.handle_begin(abilities).unwrap(), None);
        assert_eq!(bench.ask().request, Request::Init { identity: None });
        bench.answer(init(ErrorCode::NONE, FIRST));
        assert!(matches!(bench.event(), Some(Event::Ready(FIRST))));
        bench
    }

    /// Within a transaction, to which partition 0 of `t` belongs.
    fn begun(abilities: Abilities) -> Self {
        let mut bench = Self::new(abilities);
        bench.begin();
        bench.add(0);
        bench
    }

    fn begin(&mut self) {
        assert!(self.machine.handle_begin(self.abilities).unwrap().is_some());
    }

    fn add(&mut self, partition: i32) {
        let at_once = self.machine.handle_partition("t", partition).unwrap();
        assert_eq!(at_once, self.abilities.level == Level::V2);
        if !at_once {
            assert!(matches!(self.ask().request, Request::AddPartitions { .. }));
            self.answer(added(&[partition], ErrorCode::NONE));
            assert!(matches!(self.event(), Some(Event::Added)));
            assert!(self.machine.handle_partition("t", partition).unwrap());
        }
    }

    /// The next request, however long it takes until it is sent.
    fn ask(&mut self) -> Ask {
        if let Some(at) = self.machine.poll_timeout() {
            self.now = self.now.max(at);
        }
        let ask = self.machine.poll_request(self.now).expect("a request");
        assert!(self.machine.poll_request(self.now).is_none(), "one in flight");
        self.last = ask.ticket;
        ask
    }

    fn answer(&mut self, answer: Answer) {
        self.machine.handle_answer(self.last, answer, self.now);
    }

    fn lose(&mut self) {
        self.machine.handle_lost(self.last, Error::io("cut").maybe_done(), self.now);
    }

    fn event(&mut self) -> Option<Event> {
        self.machine.poll_event()
    }

    /// How the transaction ended, passing over other events.
    fn outcome(&mut self) -> Option<Outcome> {
        std::iter::from_fn(|| self.machine.poll_event()).find_map(|event| match event {
            Event::Ended { outcome, .. } => Some(outcome),
            _ => None,
        })
    }

    /// Asks for a commit of what is flushed; the `EndTxn` is in flight then.
    fn committing(&mut self) {
        self.machine.handle_commit().unwrap();
        self.machine.handle_flushed();
        assert!(matches!(self.ask().request, Request::End { commit: true, .. }));
    }

    fn aborting(&mut self) {
        self.machine.handle_abort().unwrap();
        self.machine.handle_flushed();
        assert!(matches!(self.ask().request, Request::End { commit: false, .. }));
    }
}

fn init(code: ErrorCode, Identity { id, epoch }: Identity) -> Answer {
    Answer::Init { code, id, epoch }
}

fn added(partitions: &[i32], code: ErrorCode) -> Answer {
    Answer::AddPartitions(partitions.iter().map(|partition| ("t".into(), *partition, code)).collect())
}

fn ended(code: ErrorCode) -> Answer {
    Answer::End { code, id: -1, epoch: -1 }
}

fn raised() -> Identity {
    Identity { epoch: FIRST.epoch + 1, ..FIRST }
}

fn ended_v2() -> Answer {
    Answer::End { code: ErrorCode::NONE, id: raised().id, epoch: raised().epoch }
}

fn group() -> Group {
    Group { id: "g".into(), generation: 4, member: "m".into(), instance: None }
}

fn offset(partition: i32) -> Offset {
    Offset { topic: "in".into(), partition, offset: 10, leader_epoch: -1, metadata: None }
}

fn committed(partitions: &[(i32, ErrorCode)]) -> Answer {
    Answer::CommitOffsets(
        partitions.iter().map(|(partition, code)| ("in".into(), *partition, *code)).collect(),
    )
}
