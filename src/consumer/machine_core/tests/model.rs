//! The core against brokers with logs: leaders move, logs are cut, answers are late or lost, the application seeks,
//! pauses and gives back. Whatever happens, it is given what is in the logs, once and in order, within the memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::*;
use crate::conn::seeds;
use crate::consumer::batch::Marks;
use crate::consumer::machine_session::tests::Broker;
use crate::consumer::machine_session::{Plan, Spec};
use crate::consumer::spare::Spares;

const PARTS: usize = 4;
/// What a batch of the log has at most, and is in bytes.
const BATCH_RECORDS: i64 = 5;
const BATCH_BYTES: usize = 61 + 5 * 16;

/// A defect that is done to the core from outside; the model must see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// The version of a position stays at a seek.
    KeepsVersion,
    /// Pausing drops what is here, and the position stays.
    PauseDrops,
    /// A chunk is lost, or given again.
    LosesChunk,
    DoublesChunk,
    /// No epoch is known of positions, so that nobody sees that a log was cut.
    ForgetsEpochs,
    /// A lost request is never given up.
    KeepsReserved,
    KeepsFlight,
    /// The broker is not told what has changed.
    ForgetsChanges,
    /// A failed question is taken for a reason to begin again.
    ResetsAtFailure,
    /// What waits is not counted.
    CountsNothing,
}

struct Entry {
    base: i64,
    count: i64,
    epoch: i32,
    serial: i64,
}

/// A partition, as it is.
struct Log {
    leader: i32,
    epoch: i32,
    start: i64,
    end: i64,
    entries: Vec<Entry>,
    epochs: Vec<(i32, i64)>,
    /// What the application may be given next, and why it may be something else.
    expect: i64,
    starts: BTreeSet<i64>,
    cuts: BTreeSet<i64>,
    have: BTreeMap<i64, i64>,
}

impl Log {
    fn end_of(&self, epoch: i32) -> Position {
        if epoch == self.epoch {
            return Position { epoch, offset: self.end };
        }
        let Some(next) = self.epochs.iter().find(|(of, _)| *of > epoch) else {
            return Position { epoch: -1, offset: -1 };
        };
        let floor = self.epochs.iter().rev().find(|(of, _)| *of <= epoch);
        Position { epoch: floor.map_or(epoch, |(of, _)| *of), offset: next.1 }
    }

    fn elect(&mut self, leader: i32) {
        self.leader = leader;
        self.epoch += 1;
        self.epochs.push((self.epoch, self.end));
    }

    fn cut(&mut self, entries: usize) {
        self.entries.truncate(self.entries.len().saturating_sub(entries));
        self.end = self.entries.last().map_or(self.start, |entry| entry.base + entry.count);
        let end = self.end;
        self.epochs.retain(|(_, start)| *start < end);
        self.cuts.insert(end);
    }
}

enum Flight {
    Fetch { fetch: Fetch, answer: Option<(ErrorCode, i32, Vec<Arrived>)> },
    Lookup(Lookup),
}

struct Model {
    seed: u64,
    dice: Dice,
    now: Instant,
    core: Core,
    logs: Vec<Log>,
    brokers: Vec<Broker>,
    flights: Vec<Flight>,
    taken: Option<Taken>,
    places: u64,
    serial: i64,
    planted: Planted,
    faults: bool,
    spares: Arc<Spares>,
    given: usize,
    wrong: Option<String>,
}

impl Model {
    fn new(seed: u64, planted: Planted) -> Self {
        let mut dice = Dice::new(seed);
        let now = crate::net::clock::now();
        let limits = Limits { memory: 2_500, partition_max: 400, fetch_max: 1_000, ..limits() };
        let mut core = Core::new(limits, dice.roll());
        core.brokers = [0, 1, 2].into();
        let log = |_| Log {
            leader: 0,
            epoch: 0,
            start: 0,
            end: 0,
            entries: vec![],
            epochs: vec![(0, 0)],
            expect: 0,
            starts: [0].into(),
            cuts: BTreeSet::new(),
            have: BTreeMap::new(),
        };
        let ids = dice.below(3) > 0;
        let broker = |_| {
            let mut broker = Broker::default();
            (broker.ids, broker.slots) = (ids, true);
            broker
        };
        let mut model = Self {
            seed,
            dice,
            now,
            core,
            logs: (0..PARTS).map(log).collect(),
            brokers: (0..3).map(broker).collect(),
            flights: vec![],
            taken: None,
            places: 0,
            serial: 0,
            planted,
            faults: true,
            spares: Arc::default(),
            given: 0,
            wrong: None,
        };
        for broker in 0..3 {
            model.connect(broker);
        }
        for part in 0..PARTS {
            model.core.assign(at(part as i32), 1, Start::Sought(Sought::Earliest), now);
        }
        model
    }

    fn check(&mut self, so: bool, what: impl FnOnce() -> String) {
        if !so && self.wrong.is_none() {
            self.wrong = Some(what());
        }
    }

    fn connect(&mut self, broker: i32) {
        self.places += 1;
        let ids = self.brokers[broker as usize].ids;
        self.core.handle_place(broker, Some((self.places, ids)));
    }

    /// What is known of leaders becomes what is so.
    fn refresh(&mut self) {
        for part in 0..PARTS {
            let log = &self.logs[part];
            let leader = Some((log.leader, log.epoch));
            if let Some(key) = self.core.key(&at(part as i32)) {
                if self.faults && self.dice.below(6) == 0 {
                    self.core.handle_leader(key, None, id(1), self.now);
                } else {
                    self.core.handle_leader(key, leader, id(1), self.now);
                }
            }
        }
    }

    fn world(&mut self) {
        let part = self.dice.below(PARTS);
        let broker = self.dice.below(3) as i32;
        let (kind, entries) = (self.dice.below(40), self.dice.below(4));
        let count = 1 + self.dice.below(BATCH_RECORDS as usize) as i64;
        let log = &mut self.logs[part];
        match kind {
            0..8 if self.faults => {
                let (base, epoch, serial) = (log.end, log.epoch, self.serial);
                log.entries.push(Entry { base, count, epoch, serial });
                log.end += count;
                self.serial += count;
            }
            8 if self.faults => log.elect(broker),
            9 if self.faults => {
                log.cut(entries);
                log.elect(broker);
            }
            10 if self.faults && log.entries.len() > 2 => {
                log.start = log.entries[1].base + 1;
                log.entries.remove(0);
                log.starts.insert(log.start);
            }
            11 if self.faults => self.brokers[broker as usize].session = None,
            12..16 => self.refresh(),
            _ => {}
        }
        if self.core.take_stale() {
            self.refresh();
        }
    }

    /// What a broker says of one partition.
    fn read(&mut self, broker: i32, spec: &Spec, left: &mut usize, first: bool) -> Option<Arrived> {
        let room = (spec.max_bytes as usize).min(*left);
        let error = self.faults && self.dice.below(25) == 0;
        let spoilt = self.faults && self.dice.below(40) == 0;
        let codes = [
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
            ErrorCode::UNKNOWN_SERVER_ERROR,
            ErrorCode::OFFSET_NOT_AVAILABLE,
            ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ];
        let code = codes[self.dice.below(codes.len())];
        let log = &self.logs[spec.partition as usize];
        let mut arrived = said(spec.partition, ErrorCode::NONE, Bytes::new());
        (arrived.topic, arrived.topic_id) = (spec.topic.clone(), spec.topic_id);
        arrived.marks = Marks { high_watermark: log.end, last_stable: log.end, log_start: log.start };
        arrived.code = match spec.leader_epoch.cmp(&log.epoch) {
            _ if error => code,
            _ if log.leader != broker => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            std::cmp::Ordering::Less => ErrorCode::FENCED_LEADER_EPOCH,
            std::cmp::Ordering::Greater => ErrorCode::UNKNOWN_LEADER_EPOCH,
            std::cmp::Ordering::Equal if spec.offset < log.start => ErrorCode::OFFSET_OUT_OF_RANGE,
            std::cmp::Ordering::Equal => ErrorCode::NONE,
        };
        if !arrived.code.is_none() {
            return Some(arrived);
        }
        let end = log.end_of(spec.last_epoch);
        if spec.last_epoch >= 0 && (end.epoch < spec.last_epoch || end.offset < spec.offset) {
            arrived.diverging = Some(end);
            return Some(arrived);
        }
        if spec.offset > log.end {
            arrived.code = ErrorCode::OFFSET_OUT_OF_RANGE;
            return Some(arrived);
        }
        let mut bytes = Vec::new();
        for entry in log.entries.iter().filter(|entry| entry.base + entry.count > spec.offset) {
            if bytes.len() >= room.max(1) {
                break;
            }
            bytes.extend(batch(entry.base, entry.count, entry.epoch, entry.serial));
        }
        // The last one is cut, but for the first of all.
        bytes.truncate(if first { room.max(BATCH_BYTES) } else { room });
        *left -= bytes.len().min(*left);
        if spoilt && bytes.len() > 8 {
            // The base offset and the epoch, in front, are under no checksum: nobody can see those change.
            let places = [8, 9, 10, 11].into_iter().chain(16..70.min(bytes.len()));
            let places: Vec<usize> = places.filter(|place| *place < bytes.len()).collect();
            let place = places[self.dice.below(places.len())];
            bytes[place] ^= 1 << self.dice.below(8);
        }
        if bytes.is_empty() {
            return None;
        }
        arrived.records = bytes.into();
        Some(arrived)
    }

    fn serve(&mut self, broker: i32, plan: &Plan, max_bytes: usize) -> (ErrorCode, i32, Vec<Arrived>) {
        let (code, session) = self.brokers[broker as usize].answer(plan);
        if !code.is_none() {
            return (code, session, vec![]);
        }
        let specs = self.brokers[broker as usize].fetched();
        let mut left = max_bytes;
        let mut arrived = Vec::new();
        for spec in &specs {
            let first = left == max_bytes;
            arrived.extend(self.read(broker, spec, &mut left, first));
        }
        (code, session, arrived)
    }

    fn ask(&mut self) {
        let mut starved = false;
        while let Some(fetch) = self.core.poll_fetch(0, self.now, &mut starved) {
            self.flights.push(Flight::Fetch { fetch, answer: None });
        }
        while let Some(lookup) = self.core.poll_lookup(self.now) {
            self.flights.push(Flight::Lookup(lookup));
        }
        let held = self.core.held(0);
        self.check(held <= 2_500 + 400 + BATCH_BYTES * 3, || format!("{held} bytes are held"));
        let true_size: usize =
            self.core.parts.values().flat_map(|part| &part.chunks).map(|chunk| chunk.size).sum();
        let most = 2_500 + 400 + BATCH_BYTES * 3;
        self.check(true_size <= most, || format!("{true_size} bytes wait"));
    }

    fn network(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.dice.below(self.flights.len());
        let lost = self.faults && self.dice.below(12) == 0;
        match self.flights.swap_remove(at) {
            Flight::Lookup(lookup) => self.look_up(&lookup, lost),
            Flight::Fetch { fetch, .. } if lost => {
                if self.dice.below(2) == 0 {
                    self.serve(fetch.broker, &fetch.plan, fetch.max_bytes);
                }
                self.core.handle_place(fetch.broker, None);
                if self.planted != Planted::KeepsFlight {
                    self.core.handle_fetch_failed(fetch.broker, fetch.ticket, self.now);
                }
                if self.planted == Planted::KeepsReserved {
                    self.core.reserved += 1_000;
                }
                self.connect(fetch.broker);
            }
            Flight::Fetch { fetch, answer: None } => {
                let answer = Some(self.serve(fetch.broker, &fetch.plan, fetch.max_bytes));
                self.flights.push(Flight::Fetch { fetch, answer });
            }
            Flight::Fetch { fetch, answer: Some((code, session, arrived)) } => {
                self.core.handle_fetched(fetch.broker, fetch.ticket, code, session, arrived, self.now);
            }
        }
    }

    fn look_up(&mut self, lookup: &Lookup, lost: bool) {
        if lost {
            self.core.handle_lookup_failed(lookup.ticket, &Error::io("it is cut"), self.now);
            if self.planted == Planted::ResetsAtFailure {
                let key = self.core.key(&at(0)).unwrap();
                self.core.go_to(key, Position { offset: self.logs[0].end, epoch: -1 }, self.now);
            }
            return;
        }
        let asked: Vec<(i32, i32, Option<i32>)> = match &lookup.kind {
            LookupKind::Offsets(asked) => {
                asked.iter().map(|(_, part, epoch, _)| (*part, *epoch, None)).collect()
            }
            LookupKind::Epochs(asked) => {
                asked.iter().map(|(_, part, epoch, of)| (*part, *epoch, Some(*of))).collect()
            }
        };
        let mut said = BTreeMap::new();
        for (part, epoch, of) in asked {
            let log = &self.logs[part as usize];
            let code = match epoch.cmp(&log.epoch) {
                _ if log.leader != lookup.broker => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                std::cmp::Ordering::Less => ErrorCode::FENCED_LEADER_EPOCH,
                std::cmp::Ordering::Greater => ErrorCode::UNKNOWN_LEADER_EPOCH,
                std::cmp::Ordering::Equal => ErrorCode::NONE,
            };
            let start = Position { offset: log.start, epoch: -1 };
            let position = of.map_or(start, |of| log.end_of(of));
            said.insert((at(part).name().clone(), part), (code, position));
        }
        self.core.handle_sought(lookup.ticket, &said, self.now);
    }

    fn application(&mut self) {
        let part = self.dice.below(PARTS);
        let place = at(part as i32);
        match self.dice.below(60) {
            0..30 => self.take_or_give(),
            30 if self.faults => {
                let log = &mut self.logs[part];
                let to = log.start + self.dice.below((log.end - log.start + 1) as usize) as i64;
                self.seek(part, to);
            }
            31..34 if self.faults => {
                self.core.set_paused(&place, true, self.now).unwrap();
                if self.planted == Planted::PauseDrops
                    && let Some(key) = self.core.key(&place)
                {
                    let dropped = self.core.parts.get_mut(&key).unwrap().drop_chunks();
                    self.core.buffered -= dropped;
                }
            }
            34..38 => self.core.set_paused(&place, false, self.now).unwrap(),
            38 if self.faults => {
                self.core.unassign(&place);
                self.core.assign(place, 1, Start::Sought(Sought::Earliest), self.now);
                let log = &mut self.logs[part];
                (log.expect, log.have) = (log.start, BTreeMap::new());
                self.refresh();
            }
            _ => {}
        }
    }

    fn seek(&mut self, part: usize, to: i64) {
        let before = self.core.find(&at(part as i32)).unwrap().version;
        let start = Start::At(Position { offset: to, epoch: -1 });
        self.core.seek(&at(part as i32), start, self.now).unwrap();
        if self.planted == Planted::KeepsVersion {
            self.core.part_mut(&at(part as i32)).unwrap().version = before;
        }
        let log = &mut self.logs[part];
        (log.expect, log.have) = (to, BTreeMap::new());
        log.cuts.clear();
    }

    fn take_or_give(&mut self) {
        if let Some(mut taken) = self.taken.take() {
            let unpacked = taken.chunk.unpack(&taken.at, 1, 1 + self.dice.below(200), &self.spares);
            let (at, size) = (taken.at.clone(), taken.chunk.size);
            let current = self.core.give_back(taken, unpacked.as_ref().err().cloned(), self.now);
            self.check(size > 0, || "an empty chunk".to_owned());
            match unpacked {
                Ok(Some(given)) if current => {
                    for record in &given {
                        let serial = record.value().and_then(|value| value.try_into().ok()).unwrap();
                        self.seen(at.partition() as usize, record.offset(), i64::from_be_bytes(serial));
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let quiet = !self.faults && current && self.flights.is_empty();
                    self.check(!quiet || error.is_corrupt() || error.is_unsupported(), || error.to_string());
                }
            }
            return;
        }
        if let Some(Ok(taken)) = self.core.take(None) {
            let paused = self.core.find(&taken.at).is_some_and(|part| part.paused);
            self.check(!paused, || "it is paused".to_owned());
            self.taken = Some(taken);
        }
    }

    /// The application is given a record.
    fn seen(&mut self, part: usize, offset: i64, serial: i64) {
        self.given += 1;
        let log = &mut self.logs[part];
        let expect = log.expect;
        let cut = offset < expect && log.cuts.contains(&offset);
        let begun = log.starts.contains(&offset) && (offset > expect || !log.cuts.is_empty());
        log.have.retain(|have, _| *have < offset);
        log.have.insert(offset, serial);
        log.expect = offset + 1;
        self.check(offset == expect || cut || begun, || format!("{part}: {offset} is given, not {expect}"));
    }

    fn sabotage(&mut self) {
        let key = self.core.key(&at(0)).unwrap();
        let rare = self.dice.below(20) == 0;
        match self.planted {
            Planted::LosesChunk | Planted::DoublesChunk if rare => {
                let part = self.core.parts.get_mut(&key).unwrap();
                let Some(chunk) = part.chunks.pop_front() else { return };
                let size = chunk.size;
                if self.planted == Planted::LosesChunk {
                    part.buffered -= size;
                    self.core.buffered -= size;
                } else {
                    // Its position lies, so the broker gives it again.
                    part.position = chunk.from;
                    part.chunks.push_front(chunk);
                    self.core.settle(key, self.now);
                }
            }
            Planted::ForgetsEpochs => {
                for part in self.core.parts.values_mut() {
                    part.position.epoch = -1;
                    part.given.epoch = -1;
                }
            }
            Planted::ForgetsChanges if rare => {
                for node in self.core.nodes.values_mut() {
                    let begun = node.session.begin(true);
                    drop(begun);
                }
            }
            Planted::CountsNothing => {
                self.core.buffered = 0;
            }
            _ => {}
        }
    }

    fn step(&mut self) {
        self.now += Duration::from_millis(self.dice.below(30) as u64);
        self.core.handle_timeout(self.now);
        self.world();
        self.sabotage();
        self.ask();
        self.network();
        self.application();
    }

    /// Whether the application was given all; it may have had more, which was cut off.
    fn is_at_end(&self, part: usize) -> bool {
        let log = &self.logs[part];
        let position = self.core.position(&at(part as i32)).map(|position| position.offset);
        log.start == log.end || log.expect >= log.end && position == Some(log.end)
    }

    /// Tells what was wrong, and how many records were given.
    fn run(mut self) -> (Option<String>, usize) {
        for _ in 0..600 {
            self.step();
        }
        self.faults = false;
        for part in 0..PARTS {
            self.core.set_paused(&at(part as i32), false, self.now).unwrap();
        }
        self.refresh();
        let done = |model: &Self| (0..PARTS).all(|part| model.is_at_end(part));
        for _ in 0..6_000 {
            if done(&self) || self.wrong.is_some() {
                break;
            }
            self.step();
        }
        for part in 0..PARTS {
            let at_end = self.is_at_end(part);
            let log = &self.logs[part];
            let (end, expect) = (log.end, log.expect);
            let state = format!("{:?}", self.core.find(&at(part as i32)));
            self.check(at_end, || format!("{part}: {expect} of {end} and no further: {state}"));
            let log = &self.logs[part];
            let is = |offset: i64| {
                let mut entries = log.entries.iter();
                let entry = entries.find(|entry| (entry.base..entry.base + entry.count).contains(&offset))?;
                Some(entry.serial + offset - entry.base)
            };
            let bad = log.have.iter().find(|(offset, serial)| {
                **offset >= log.start && is(**offset) != Some(**serial) && **offset < log.end
            });
            let bad = bad.map(|(offset, _)| *offset);
            self.check(bad.is_none(), || format!("{part}: what was given at {bad:?} is not in the log"));
        }
        (self.wrong.map(|wrong| format!("WEIR_SEED={}: {wrong}", self.seed)), self.given)
    }
}

#[test]
fn what_is_given_is_what_the_logs_have_whatever_happens() {
    let mut all = 0;
    for seed in seeds(2_000) {
        let (wrong, given) = Model::new(seed, Planted::Nothing).run();
        assert_eq!(wrong, None);
        all += given;
    }
    println!("{all} records given");
    assert!(all > 2_000 || std::env::var("WEIR_MODEL_SEEDS").is_ok());
}

#[test]
fn planted_defects_are_caught() {
    for planted in [
        Planted::KeepsVersion,
        Planted::PauseDrops,
        Planted::LosesChunk,
        Planted::DoublesChunk,
        Planted::ForgetsEpochs,
        Planted::KeepsReserved,
        Planted::KeepsFlight,
        Planted::ForgetsChanges,
        Planted::ResetsAtFailure,
        Planted::CountsNothing,
    ] {
        let caught = (0..300).find_map(|seed| Model::new(seed, planted).run().0);
        println!("{planted:?}: {caught:?}");
        assert!(caught.is_some(), "{planted:?} is not seen");
    }
}
