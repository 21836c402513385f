//! The core against a model of brokers, with events drawn from a seed: answers are lost after records were
//! written, connections are cut and deliver late, leaders move and forget, batches are too large or refused.
//!
//! What is told must be so in the logs, in order and without duplicates; and when faults have stopped,
//! everything ends. Defects that are planted in what the core is told must be caught.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::world::{Connection, Load, Parcel, Partition, Said, Wire};
use crate::cluster::Backoff;
use crate::conn::{Dice, seeds};
use crate::error::Error;
use crate::producer::machine_core::{Core, Limits, LineId, Outgoing};
use crate::producer::machine_identity::Identity;
use crate::producer::machine_line::{Answer, End, Event, Rules, Ticket};

const BROKERS: i32 = 3;

/// What is done to what the core is told, so that it errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// What may be in the log counts as not in it: its numbers go to others (P02).
    ForgetsMaybe,
    /// A batch that failed goes behind those that followed it (P04).
    NoRewind,
    /// With one partition broken, all in flight is taken for failed (P07).
    BumpsInFlight,
    /// At a new leader nothing is waited for that is in flight at the old one.
    SendsElsewhere,
    /// What is out of order counts as written before.
    OutOfOrderIsWritten,
    /// The parts of a batch get new numbers, behind all others (P14).
    SplitsAsNew,
    /// A batch without an answer is told as failed.
    TellsMaybeAsFailed,
    /// With a line that is not used its sequences are forgotten (P09).
    LosesSequences,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Written,
    Maybe,
    Failed,
}

struct Model {
    core: Core<Load>,
    dice: Dice,
    now: Instant,
    planted: Planted,
    idempotent: bool,
    partitions: Vec<Partition>,
    links: BTreeMap<i32, Connection>,
    places: u64,
    /// Requests of connections that are gone, in order, with their brokers.
    late: Vec<(i32, Vec<Wire>)>,
    open: BTreeMap<LineId, (Instant, Vec<u64>)>,
    sealing: Vec<(LineId, Ticket)>,
    splitting: Vec<(LineId, Ticket, Load)>,
    identity: Option<Identity>,
    records: u64,
    told: BTreeMap<u64, Told>,
    calm: bool,
    wrong: BTreeSet<&'static str>,
    seen: BTreeMap<&'static str, usize>,
}

impl Model {
    fn new(seed: u64, idempotent: bool, planted: Planted) -> Self {
        let mut dice = Dice::new(seed);
        let limits = Limits {
            rules: Rules {
                idempotent,
                backoff: Backoff { first: Duration::from_millis(10), most: Duration::from_millis(100) },
            },
            in_flight_max: 1 + dice.below(5),
            request_size_max: 400 + dice.below(2000),
            linger: Duration::from_millis(dice.below(3) as u64 * 5),
            delivery_timeout: Duration::from_secs(2),
        };
        let strict = dice.below(3) == 0;
        let mut core = Core::new(limits, seed);
        let now = crate::net::clock::now();
        let count = 1 + dice.below(4);
        let partitions = (0..count).map(|line| {
            core.add_line(true, None);
            let leader = line as i32 % BROKERS;
            core.handle_leader(line, Some(leader), now);
            Partition { leader, largest: 8, strict, ..Partition::default() }
        });
        let partitions = partitions.collect();
        Self {
            core,
            dice,
            now,
            planted,
            idempotent,
            partitions,
            links: BTreeMap::new(),
            places: 0,
            late: Vec::new(),
            open: BTreeMap::new(),
            sealing: Vec::new(),
            splitting: Vec::new(),
            identity: None,
            records: 0,
            told: BTreeMap::new(),
            calm: false,
            wrong: BTreeSet::new(),
            seen: BTreeMap::new(),
        }
    }

    fn check(&mut self, right: bool, what: &'static str) {
        if !right {
            self.wrong.insert(what);
        }
    }

    fn see(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    /// As the pump does, until nothing is left to do.
    fn pump(&mut self) {
        for round in 0.. {
            self.core.handle_timeout(self.now);
            let mut busy = false;
            while let Some(line) = self.core.poll_close(self.now) {
                self.close(line);
                busy = true;
            }
            self.see_to_identity();
            while let Some(outgoing) = self.core.poll_request(self.now) {
                self.send(outgoing);
                busy = true;
            }
            while let Some((line, event)) = self.core.poll_event() {
                self.hear(line, event);
                busy = true;
            }
            if !busy {
                break;
            }
            if round > 200 {
                self.check(false, "the pump comes to rest");
                break;
            }
        }
        self.check(self.core.poll_timeout().is_none_or(|at| at > self.now), "time goes on");
    }

    fn see_to_identity(&mut self) {
        let next = match self.identity {
            None if self.idempotent && self.dice.below(3) == 0 => Identity { id: 7, epoch: 0 },
            Some(identity) if self.core.wants_identity() => {
                self.see("bumps");
                if self.planted == Planted::BumpsInFlight {
                    self.fail_in_flight(None);
                }
                identity.next().unwrap()
            }
            _ => return,
        };
        self.identity = Some(next);
        self.core.handle_identity(Some(next), self.now);
    }

    /// The core hears that what is in flight has failed, and it has not.
    fn fail_in_flight(&mut self, line: Option<LineId>) {
        let wires = self.links.values().flat_map(|link| &link.wires);
        let parcels =
            wires.flat_map(|wire| &wire.parcels).filter(|parcel| line.is_none_or(|line| line == parcel.line));
        let all: Vec<(LineId, Ticket)> = parcels.map(|parcel| (parcel.line, parcel.ticket)).collect();
        for (line, ticket) in all {
            let answer = Answer::UnknownProducer { error: Error::io("planted") };
            self.core.handle_answer(line, ticket, answer, self.now);
        }
    }

    fn close(&mut self, line: LineId) {
        let Some((opened, records)) = self.open.remove(&line) else {
            self.check(false, "only open batches are closed");
            return;
        };
        let count = records.len() as i32;
        let ticket = self.core.handle_closed(line, Load { records }, count, opened).unwrap();
        match self.dice.below(2) {
            0 => self.core.handle_sealed(line, ticket, self.now),
            _ => self.sealing.push((line, ticket)),
        }
    }

    fn send(&mut self, outgoing: Outgoing) {
        let Outgoing { broker, place, items } = outgoing;
        let lines: BTreeSet<LineId> = items.iter().map(|item| item.line).collect();
        self.check(lines.len() == items.len() && !items.is_empty(), "one batch of a line in a request");
        let elsewhere = self.links.iter().filter(|(other, _)| **other != broker);
        let elsewhere = elsewhere.flat_map(|(_, link)| &link.wires).flat_map(|wire| &wire.parcels);
        let mut elsewhere = elsewhere.map(|parcel| parcel.line);
        let apart = !elsewhere.any(|line| lines.contains(&line));
        self.check(apart, "a line is in flight at one place");
        let parcels = items.iter().map(|item| {
            let records = self.core.batch_mut(item.line, item.ticket).unwrap().records.clone();
            Parcel { line: item.line, ticket: item.ticket, stamp: item.stamp, records }
        });
        let wire = Wire { parcels: parcels.collect(), said: None };
        let stamped = wire.parcels.iter().all(|parcel| parcel.stamp.is_some() == self.idempotent);
        self.check(stamped, "batches are stamped");
        let Some(link) = self.links.get_mut(&broker).filter(|link| link.place == place) else {
            self.check(false, "there is a connection");
            return;
        };
        link.wires.push_back(wire);
        let few = link.wires.len() <= 5;
        self.check(few, "not more in flight than allowed");
    }

    fn hear(&mut self, line: LineId, event: Event<Load>) {
        match event {
            Event::Split { ticket, batch, .. } => {
                self.see("splits");
                self.splitting.push((line, ticket, batch));
            }
            Event::Ended { batch, end } => self.end(&batch, &end),
        }
    }

    fn end(&mut self, batch: &Load, end: &End) {
        let told = match end {
            End::Written { .. } => Told::Written,
            End::Failed { error, .. }
                if error.may_have_happened() && self.planted != Planted::TellsMaybeAsFailed =>
            {
                Told::Maybe
            }
            End::Failed { .. } => Told::Failed,
        };
        self.see(match told {
            Told::Written => "written",
            Told::Maybe => "maybe",
            Told::Failed => "failed",
        });
        for record in &batch.records {
            let before = self.told.insert(*record, told);
            self.check(before.is_none(), "each record ends once");
        }
    }

    /// The broker works on the next request of a connection.
    fn arrive(&mut self, broker: i32) {
        let Some(link) = self.links.get_mut(&broker) else { return };
        let Some(at) = link.wires.iter().position(|wire| wire.said.is_none()) else { return };
        let parcels = link.wires[at].parcels.clone();
        let said = parcels.iter().map(|parcel| self.work(broker, parcel)).collect();
        self.links.get_mut(&broker).unwrap().wires[at].said = Some(said);
    }

    fn work(&mut self, broker: i32, parcel: &Parcel) -> Said {
        let chance = if self.calm { 99 } else { self.dice.below(60) };
        let partition = &mut self.partitions[parcel.line];
        if partition.leader != broker {
            return Said::NotLeader;
        }
        match chance {
            0..4 => Said::NotNow,
            4 => Said::Never,
            5 => Said::Perhaps,
            6..9 => {
                let said = partition.append(parcel.stamp, &parcel.records);
                if said == Said::Written { Said::Perhaps } else { said }
            }
            _ => partition.append(parcel.stamp, &parcel.records),
        }
    }

    /// The next answer of a connection reaches the client.
    fn answer(&mut self, broker: i32) {
        let Some(link) = self.links.get_mut(&broker) else { return };
        if link.wires.front().is_none_or(|wire| wire.said.is_none()) {
            return;
        }
        let wire = link.wires.pop_front().unwrap();
        for (parcel, said) in wire.parcels.iter().zip(wire.said.unwrap()) {
            self.tell(parcel, said);
        }
        self.core.handle_done(broker);
    }

    fn tell(&mut self, parcel: &Parcel, said: Said) {
        let error = Error::io("told so");
        let written = Answer::Written { offset: Some(1), timestamp: None };
        let maybe = self.planted != Planted::ForgetsMaybe;
        let answer = match said {
            Said::Written => written,
            Said::OutOfOrder if self.planted == Planted::OutOfOrderIsWritten => written,
            Said::OutOfOrder => Answer::OutOfOrder { error },
            Said::UnknownProducer => Answer::UnknownProducer { error },
            Said::TooLarge => Answer::TooLarge { error },
            Said::NotLeader | Said::NotNow => Answer::Retry { error, maybe: false },
            Said::Perhaps => Answer::Retry { error, maybe },
            Said::Never => Answer::Refused { error, records: Vec::new() },
        };
        if said == Said::NotNow && self.planted == Planted::NoRewind && self.dice.below(3) == 0 {
            // It ends here, and comes again behind the others.
            let answer = Answer::Refused { error: Error::io("planted"), records: Vec::new() };
            self.core.handle_answer(parcel.line, parcel.ticket, answer, self.now);
            while let Some((line, event)) = self.core.poll_event() {
                match event {
                    Event::Ended { batch, .. } if batch.records == parcel.records => self.push(line, batch),
                    event => self.hear(line, event),
                }
            }
            return;
        }
        self.core.handle_answer(parcel.line, parcel.ticket, answer, self.now);
    }

    fn push(&mut self, line: LineId, batch: Load) {
        let count = batch.records.len() as i32;
        let ticket = self.core.handle_closed(line, batch, count, self.now).unwrap();
        self.core.handle_sealed(line, ticket, self.now);
    }

    /// A connection ends. Some of what was on its way may still arrive.
    fn cut(&mut self, broker: i32) {
        let Some(mut link) = self.links.remove(&broker) else { return };
        self.see("cuts");
        let unwritten = self.dice.below(3);
        for at in 0..link.wires.len() {
            let unsent = at + unwritten >= link.wires.len() && link.wires[at].said.is_none();
            for parcel in link.wires[at].parcels.clone() {
                let maybe = !unsent && self.planted != Planted::ForgetsMaybe;
                let answer = Answer::Retry { error: Error::io("cut"), maybe };
                self.core.handle_answer(parcel.line, parcel.ticket, answer, self.now);
            }
            self.core.handle_done(broker);
        }
        self.core.handle_place(broker, None, self.now);
        link.wires.truncate(link.wires.len().saturating_sub(unwritten));
        link.wires.retain(|wire| wire.said.is_none());
        link.wires.truncate(self.dice.below(6));
        if !link.wires.is_empty() {
            self.late.push((broker, link.wires.into()));
        }
    }

    /// Something arrives of a connection that is gone.
    fn arrive_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let at = self.dice.below(self.late.len());
        let (broker, wires) = &mut self.late[at];
        let (broker, wire) = (*broker, wires.remove(0));
        if wires.is_empty() {
            self.late.remove(at);
        }
        for parcel in &wire.parcels {
            self.see("late");
            self.work(broker, parcel);
        }
    }

    fn connect(&mut self) {
        let wanted: Vec<i32> = self.core.wanted_brokers().collect();
        for broker in wanted {
            let needed = !self.links.contains_key(&broker);
            self.check(needed, "a connection is wanted where there is none");
            self.places += 1;
            self.links.insert(broker, Connection { place: self.places, wires: [].into() });
            self.core.handle_place(broker, Some(self.places), self.now);
        }
    }

    /// A leader moves, or the client hears of it, or loses sight of it.
    fn move_leader(&mut self, line: LineId) {
        let (leader, now) = (self.partitions[line].leader, self.now);
        match self.dice.below(4) {
            0 => self.partitions[line].leader = (leader + 1) % BROKERS,
            1 => self.core.handle_leader(line, None, now),
            _ => {
                if self.planted == Planted::SendsElsewhere {
                    self.fail_in_flight(Some(line));
                }
                self.core.handle_leader(line, Some(leader), now);
            }
        }
    }

    fn append(&mut self, line: LineId) {
        self.records += 1;
        let record = self.records;
        if let Some((_, records)) = self.open.get_mut(&line) {
            records.push(record);
        } else {
            self.open.insert(line, (self.now, vec![record]));
            self.core.handle_opened(line, self.now);
        }
        if self.open[&line].1.len() > 7 {
            self.close(line);
        }
    }

    fn seal(&mut self) {
        if !self.sealing.is_empty() {
            let (line, ticket) = self.sealing.swap_remove(self.dice.below(self.sealing.len()));
            match self.calm || self.dice.below(40) > 0 {
                true => self.core.handle_sealed(line, ticket, self.now),
                false => self.core.handle_unsealed(line, ticket, Error::io("no codec"), self.now),
            }
        }
        if !self.splitting.is_empty() {
            let (line, ticket, batch) = self.splitting.remove(0);
            if !self.calm && self.dice.below(20) == 0 {
                self.core.handle_unsealed(line, ticket, Error::io("no codec"), self.now);
                return self.end(&batch, &End::failed(Error::io("no codec").maybe_done()));
            }
            let (first, second) = batch.records.split_at(batch.records.len().div_ceil(2));
            let parts =
                [first, second].map(|records| (Load { records: records.into() }, records.len() as i32));
            if self.planted == Planted::SplitsAsNew {
                self.core.handle_unsealed(line, ticket, Error::io("planted"), self.now);
                return parts.into_iter().for_each(|(part, _)| self.push(line, part));
            }
            let tickets = self.core.handle_split(line, ticket, parts.into(), self.now);
            self.sealing.extend(tickets.into_iter().map(|ticket| (line, ticket)));
        }
    }

    /// A leader forgets producers, long after the last of their batches.
    fn forget(&mut self, line: LineId) {
        let idle = self.core.load(line) == 0;
        let mut late = self.late.iter().flat_map(|(_, wires)| wires).flat_map(|wire| &wire.parcels);
        if idle && !late.any(|parcel| parcel.line == line) {
            self.see("forgets");
            self.partitions[line].forget();
        }
    }

    /// The producer forgets a line that it does not use, and then uses it again.
    fn leave(&mut self, line: LineId) {
        if !self.core.is_quiet(line) {
            return;
        }
        self.see("leaves");
        let kept = self.core.remove_line(line).filter(|_| self.planted != Planted::LosesSequences);
        let again = self.core.add_line(true, kept);
        self.check(again == line, "a line's place is used again");
        self.core.handle_leader(line, Some(self.partitions[line].leader), self.now);
    }

    fn step(&mut self) {
        let line = self.dice.below(self.partitions.len());
        let broker = self.dice.below(BROKERS as usize) as i32;
        match self.dice.below(64) {
            0..16 => self.append(line),
            16..30 => self.arrive(broker),
            30..44 => self.answer(broker),
            44..48 => self.seal(),
            48 => self.cut(broker),
            49 => self.move_leader(line),
            50..52 => self.arrive_late(),
            52 => self.forget(line),
            53 => self.partitions[line].largest = 1 + self.dice.below(12),
            54 => self.core.handle_pressure(self.now),
            55..58 => self.connect(),
            _ => self.now += Duration::from_millis(1 + self.dice.below(40) as u64),
        }
        if self.dice.below(300) == 0 {
            self.now += Duration::from_secs(1);
        }
        if self.dice.below(16) == 0 {
            self.leave(line);
        }
        self.pump();
    }

    /// Faults stop: everything ends.
    fn calm_down(&mut self) {
        self.calm = true;
        for _ in 0..300 {
            for line in 0..self.partitions.len() {
                self.partitions[line].largest = 8;
                self.core.handle_leader(line, Some(self.partitions[line].leader), self.now);
            }
            self.connect();
            while !self.late.is_empty() {
                self.arrive_late();
            }
            self.seal();
            for broker in 0..BROKERS {
                self.arrive(broker);
                self.answer(broker);
            }
            self.pump();
            if self.core.is_idle() && self.open.is_empty() && self.splitting.is_empty() {
                return;
            }
            let next = self.now + Duration::from_millis(1);
            self.now =
                self.core.poll_timeout().map_or(next, |at| at.min(self.now + Duration::from_millis(20)));
        }
        self.check(false, "everything ends");
    }

    fn run(mut self, steps: usize) -> (BTreeSet<&'static str>, BTreeMap<&'static str, usize>) {
        for _ in 0..steps {
            self.step();
        }
        self.calm_down();
        for record in 1..=self.records {
            let times = self
                .partitions
                .iter()
                .flat_map(|partition| &partition.log)
                .filter(|at| **at == record)
                .count();
            let Some(told) = self.told.get(&record).copied() else {
                self.check(false, "each record ends");
                continue;
            };
            self.check(told != Told::Written || times > 0, "what is told as written is in the log");
            self.check(told != Told::Failed || times == 0, "what is told as failed is not in the log");
            self.check(times <= 1 || !self.idempotent, "nothing is twice in the log");
        }
        let sorted = self.partitions.iter().all(|partition| partition.log.is_sorted());
        self.check(sorted || !self.idempotent, "the order is kept");
        (self.wrong, self.seen)
    }
}

fn try_all(count: u64, idempotent: bool) -> BTreeMap<&'static str, usize> {
    let mut all = BTreeMap::<&str, usize>::new();
    for seed in seeds(count) {
        let (wrong, seen) = Model::new(seed, idempotent, Planted::Nothing).run(400);
        assert!(wrong.is_empty(), "WEIR_SEED={seed}: not so: {wrong:?}");
        for (what, times) in seen {
            *all.entry(what).or_default() += times;
        }
    }
    println!("{all:?}");
    all
}

#[test]
fn what_is_told_is_so_in_the_logs_whatever_happens() {
    let seen = try_all(1000, true);
    if std::env::var("WEIR_MODEL_SEEDS").is_err() {
        for what in ["written", "maybe", "failed", "splits", "cuts", "bumps", "late", "forgets", "leaves"] {
            assert!(seen.get(what).is_some_and(|times| *times > 100), "{what}: {seen:?}");
        }
    }
}

#[test]
fn without_idempotence_every_batch_ends_as_told() {
    let seen = try_all(300, false);
    assert!(seen.get("written").is_some_and(|times| *times > 0), "{seen:?}");
    assert_eq!(seen.get("bumps"), None);
}

#[test]
fn planted_defects_are_caught() {
    for planted in [
        Planted::ForgetsMaybe,
        Planted::NoRewind,
        Planted::BumpsInFlight,
        Planted::SendsElsewhere,
        Planted::OutOfOrderIsWritten,
        Planted::SplitsAsNew,
        Planted::TellsMaybeAsFailed,
        Planted::LosesSequences,
    ] {
        let mut wrong = BTreeSet::new();
        let caught = (0..100).filter(|seed| {
            let found = Model::new(*seed, true, planted).run(400).0;
            let any = !found.is_empty();
            wrong.extend(found);
            any
        });
        let caught = caught.count();
        println!("{planted:?}: {caught} of 100, {wrong:?}");
        assert!(caught > 0, "{planted:?}");
    }
}
