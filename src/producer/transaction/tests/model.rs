//! The machine against a small model of a coordinator, with events drawn from a seed: answers are lost,
//! requests arrive late or twice, another producer takes over, the coordinator runs out of patience.
//!
//! What the machine tells must be so in the model, and no request may act on a transaction that it was not
//! meant for. Defects planted from outside must be caught.

use std::collections::{BTreeMap, BTreeSet};

use super::super::machine::State;
use super::*;
use crate::conn::Dice;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Empty,
    Ongoing,
    Complete { commit: bool },
}

/// What a coordinator keeps of one transactional id.
#[derive(Debug)]
struct Coordinator {
    level: Level,
    epoch: i16,
    /// The epoch before, if the same producer had it raised.
    last: i16,
    phase: Phase,
    /// The last end was of the new kind.
    raised: bool,
    partitions: BTreeSet<i32>,
    group: bool,
    /// Whose records and offsets the ongoing transaction holds.
    content: BTreeSet<u64>,
    ends: BTreeMap<u64, bool>,
    wrong: Vec<String>,
}

impl Coordinator {
    fn apply(&mut self, request: &Request, transaction: u64) -> Answer {
        match request {
            Request::Init { identity } => {
                let (code, epoch) = self.init(identity.map(|identity| identity.epoch));
                Answer::Init { code, id: 7, epoch }
            }
            Request::AddPartitions { identity, partitions } => {
                let code = self.open(*identity);
                if code.is_none() {
                    self.partitions.extend(partitions.iter().map(|(_, partition)| *partition));
                }
                let all = partitions.iter().map(|(topic, partition)| (topic.clone(), *partition, code));
                Answer::AddPartitions(all.collect())
            }
            Request::AddOffsets { identity, .. } => {
                let code = self.open(*identity);
                self.group |= code.is_none();
                Answer::AddOffsets(code)
            }
            Request::CommitOffsets { identity, offsets, level, .. } => {
                let added = self.phase == Phase::Ongoing && self.group;
                let code = match level {
                    Level::V1 if identity.epoch == self.epoch && !added => ErrorCode::INVALID_TXN_STATE,
                    _ => self.open(*identity),
                };
                if code.is_none() {
                    self.group = true;
                    self.content.insert(transaction);
                }
                let all = offsets.iter().map(|offset| (offset.topic.clone(), offset.partition, code));
                Answer::CommitOffsets(all.collect())
            }
            Request::End { identity, level, commit } => {
                let code = self.end(identity.epoch, *level, *commit, transaction);
                let told = *level == Level::V2 && code.is_none();
                let (id, epoch) = if told { (7, self.epoch) } else { (-1, -1) };
                Answer::End { code, id, epoch }
            }
        }
    }

    fn open(&mut self, identity: Identity) -> ErrorCode {
        if identity.epoch != self.epoch {
            return ErrorCode::PRODUCER_FENCED;
        }
        self.phase = Phase::Ongoing;
        ErrorCode::NONE
    }

    /// A batch comes to the partition's leader.
    fn write(&mut self, identity: Identity, partition: i32, transaction: u64) -> bool {
        if identity.epoch != self.epoch {
            return false;
        }
        if self.level == Level::V1 && !(self.phase == Phase::Ongoing && self.partitions.contains(&partition))
        {
            self.wrong.push(format!("{transaction} writes to {partition}, which is in no transaction"));
        }
        self.phase = Phase::Ongoing;
        self.content.insert(transaction);
        true
    }

    fn init(&mut self, expected: Option<i16>) -> (ErrorCode, i16) {
        if self.phase == Phase::Ongoing {
            self.abort();
            return (ErrorCode::CONCURRENT_TRANSACTIONS, -1);
        }
        match expected {
            Some(epoch) if epoch == self.epoch => (self.last, self.epoch) = (epoch, epoch + 1),
            Some(epoch) if epoch == self.last => {}
            Some(_) => return (ErrorCode::PRODUCER_FENCED, -1),
            None => (self.last, self.epoch) = (-1, self.epoch + 1),
        }
        (self.phase, self.raised) = (Phase::Empty, false);
        (ErrorCode::NONE, self.epoch)
    }

    /// Aborts by itself: patience has run out, or a producer begins anew.
    fn abort(&mut self) {
        if self.phase == Phase::Ongoing {
            self.epoch += 1;
            self.last = -1;
            self.complete(false, self.level);
        }
    }

    fn complete(&mut self, commit: bool, level: Level) {
        if self.content.len() > 1 {
            self.wrong.push(format!("{:?} are one transaction", self.content));
        }
        for transaction in std::mem::take(&mut self.content) {
            if self.ends.insert(transaction, commit).is_some() {
                self.wrong.push(format!("{transaction} is in two transactions"));
            }
        }
        self.partitions.clear();
        self.group = false;
        self.phase = Phase::Complete { commit };
        self.raised = level == Level::V2;
        if self.raised {
            (self.last, self.epoch) = (self.epoch, self.epoch + 1);
        }
    }

    fn end(&mut self, epoch: i16, level: Level, commit: bool, transaction: u64) -> ErrorCode {
        let again = self.raised && epoch + 1 == self.epoch;
        if epoch != self.epoch && !again {
            return ErrorCode::PRODUCER_FENCED;
        }
        match self.phase {
            Phase::Ongoing if again => ErrorCode::PRODUCER_FENCED,
            Phase::Ongoing => {
                if self.content.iter().any(|inside| *inside != transaction) {
                    self.wrong.push(format!("an end of {transaction} ends {:?}", self.content));
                }
                self.complete(commit, level);
                ErrorCode::NONE
            }
            Phase::Complete { commit: was } if (again || level == Level::V1) && was == commit => {
                ErrorCode::NONE
            }
            _ if level == Level::V2 && !commit && !again => {
                self.complete(false, level);
                ErrorCode::NONE
            }
            _ => ErrorCode::INVALID_TXN_STATE,
        }
    }
}

/// What is done to the machine from outside, so that it errs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Planted {
    Nothing,
    /// After an end of which an answer was lost, the next begins on the same epoch (K-17754).
    SameEpoch,
    /// A commit that may have been done is given up, and the next transaction begins.
    ForgetsCommit,
    /// A commit that may have been done is followed by an abort that is told.
    AbortsAfterCommit,
    /// What was added is forgotten, and no end is sent (franz-go).
    ForgetsPartitions,
    /// What is unknown counts as committed (T03).
    UnknownIsCommitted,
}

struct World {
    dice: Dice,
    bench: Bench,
    coordinator: Coordinator,
    planted: Planted,
    late: Vec<(Request, u64)>,
    current: Option<u64>,
    told: BTreeMap<u64, &'static str>,
    written: BTreeSet<u64>,
    wrong: Vec<String>,
}

impl World {
    fn new(abilities: Abilities, planted: Planted, seed: u64) -> Self {
        let coordinator = Coordinator {
            level: abilities.level,
            epoch: 2,
            last: -1,
            phase: Phase::Empty,
            raised: false,
            partitions: BTreeSet::new(),
            group: false,
            content: BTreeSet::new(),
            ends: BTreeMap::new(),
            wrong: Vec::new(),
        };
        let machine = Machine::new(Backoff::default(), seed);
        Self {
            dice: Dice::new(seed),
            bench: Bench { machine, now: Instant::now(), last: 0, abilities },
            coordinator,
            planted,
            late: Vec::new(),
            current: None,
            told: BTreeMap::new(),
            written: BTreeSet::new(),
            wrong: Vec::new(),
        }
    }

    /// Once in so often.
    fn once_in(&mut self, times: usize) -> bool {
        self.dice.below(times) == 0
    }

    fn step(&mut self) {
        let gave_up = || Error::timeout("nobody waits any more");
        match self.dice.below(16) {
            0 | 1 => self.begin(),
            2..=4 => self.write(),
            5 => {
                let partition = self.dice.below(3) as i32;
                let _ = self.bench.machine.handle_offsets(group(), vec![offset(partition)]);
            }
            6 => drop(self.bench.machine.handle_commit()),
            7 if self.once_in(2) => drop(self.bench.machine.handle_abort()),
            8 | 9 => self.bench.machine.handle_flushed(),
            10 if self.once_in(3) => self.bench.machine.handle_gave_up(gave_up()),
            11 => self.arrive(),
            12 if self.once_in(60) => self.coordinator.abort(),
            13 if self.once_in(150) => drop(self.coordinator.init(None)),
            _ => self.exchange(true),
        }
        self.drain();
    }

    fn begin(&mut self) {
        if self.current.is_none()
            && let Ok(Some(transaction)) = self.bench.machine.handle_begin(self.bench.abilities)
        {
            self.current = Some(transaction);
        }
    }

    fn write(&mut self) {
        let (Some(transaction), Some(identity)) = (self.current, self.bench.machine.identity()) else {
            return;
        };
        let partition = self.dice.below(3) as i32;
        if !matches!(self.bench.machine.handle_partition("t", partition), Ok(true)) {
            return;
        }
        let failed = match self.dice.below(12) {
            // It expires before it is sent.
            0 => Some(Error::timeout("expired")),
            1 => {
                self.coordinator.write(identity, partition, transaction);
                Some(Error::timeout("expired").maybe_done())
            }
            _ if self.coordinator.write(identity, partition, transaction) => None,
            _ => Some(Error::broker_said(ErrorCode::INVALID_PRODUCER_EPOCH, "Produce")),
        };
        match failed {
            Some(error) => self.bench.machine.handle_batch_failed(&error),
            None => drop(self.written.insert(transaction)),
        }
    }

    /// A request that nobody waits for any more comes to the coordinator after all.
    fn arrive(&mut self) {
        if !self.late.is_empty() {
            let (request, transaction) = self.late.remove(self.dice.below(self.late.len()));
            self.coordinator.apply(&request, transaction);
        }
    }

    /// Sends a request, if there is one, and ends it in some way.
    fn exchange(&mut self, faults: bool) {
        let (machine, now) = (&mut self.bench.machine, &mut self.bench.now);
        *now = machine.poll_timeout().map_or(*now, |at| at.max(*now));
        let transaction = machine.work().map_or(0, |work| work.id);
        let Some(Ask { ticket, request, .. }) = machine.poll_request(*now) else { return };
        if machine.error().is_some() {
            self.wrong.push("it sends after its end".to_owned());
        }
        let lost = Error::io("cut").maybe_done();
        let now = *now;
        match if faults { self.dice.below(10) } else { 9 } {
            0 => {
                self.late.push((request, transaction));
                self.bench.machine.handle_lost(ticket, lost, now);
            }
            1 => {
                self.coordinator.apply(&request, transaction);
                self.bench.machine.handle_lost(ticket, lost, now);
            }
            2 => self.bench.machine.handle_lost(ticket, Error::io("refused"), now),
            3 => {
                let applied = self.once_in(2);
                if applied {
                    self.coordinator.apply(&request, transaction);
                }
                let code = match self.dice.below(4) {
                    0 if !applied => ErrorCode::CONCURRENT_TRANSACTIONS,
                    0 | 1 if matches!(request, Request::End { .. }) => ErrorCode::UNKNOWN_SERVER_ERROR,
                    _ => ErrorCode::NOT_COORDINATOR,
                };
                self.bench.machine.handle_answer(ticket, refusal(&request, code), now);
            }
            _ => {
                let answer = self.coordinator.apply(&request, transaction);
                self.bench.machine.handle_answer(ticket, answer, now);
            }
        }
    }

    fn drain(&mut self) {
        self.plant();
        while let Some(event) = self.bench.machine.poll_event() {
            let Event::Ended { transaction, outcome } = event else { continue };
            let told = match outcome {
                Outcome::Committed => "committed",
                Outcome::Unknown(_) if self.planted == Planted::UnknownIsCommitted => "committed",
                Outcome::Unknown(_) => "unknown",
                Outcome::Aborted | Outcome::NotCommitted(_) => "not committed",
            };
            if self.told.insert(transaction, told).is_some() || self.current != Some(transaction) {
                self.wrong.push(format!("{transaction} is told twice"));
            }
            self.current = None;
        }
    }

    fn plant(&mut self) {
        let machine = &mut self.bench.machine;
        match self.planted {
            Planted::SameEpoch => {
                machine.bump = false;
                if matches!(machine.state, State::Initializing) && machine.identity.is_some() {
                    machine.state = State::Ready;
                }
            }
            Planted::ForgetsCommit if matches!(machine.state, State::Indeterminate(_)) => {
                machine.bump = false;
                machine.state = State::Ready;
            }
            Planted::AbortsAfterCommit => machine.change(|machine, state| match state {
                State::Committing { work, unsure: true, .. } => {
                    machine.tell(work.id, Outcome::Aborted);
                    (State::Aborting { work, flushed: true, told: true }, ())
                }
                other => (other, ()),
            }),
            Planted::ForgetsPartitions => {
                if let State::Committing { work, .. } | State::Aborting { work, .. } = &mut machine.state {
                    work.open = false;
                }
            }
            _ => {}
        }
    }

    /// Faults stop: before long another transaction begins, or the producer is at its end.
    fn calm(&mut self) {
        while !self.late.is_empty() {
            self.arrive();
        }
        for _ in 0..40 {
            let _ = self.bench.machine.handle_abort();
            self.bench.machine.handle_flushed();
            self.exchange(false);
            self.drain();
            self.begin();
            if self.current.is_some() || self.bench.machine.error().is_some() {
                self.coordinator.abort();
                return;
            }
        }
        self.wrong.push(format!("stuck: {:?}", self.bench.machine.state));
    }

    /// What went wrong, and how many transactions came to each end.
    fn run(mut self) -> (Vec<String>, BTreeMap<&'static str, usize>) {
        for _ in 0..400 {
            self.step();
        }
        self.calm();
        let mut seen = BTreeMap::new();
        for (transaction, told) in &self.told {
            *seen.entry(*told).or_default() += 1;
            let end = self.coordinator.ends.get(transaction);
            let fits = match *told {
                "committed" => end == Some(&true) || (end.is_none() && !self.written.contains(transaction)),
                "not committed" => end != Some(&true),
                _ => true,
            };
            if !fits {
                self.wrong.push(format!("{transaction} was told {told}, and is {end:?}"));
            }
        }
        self.wrong.append(&mut self.coordinator.wrong);
        (self.wrong, seen)
    }
}

fn refusal(request: &Request, code: ErrorCode) -> Answer {
    match request {
        Request::Init { .. } => Answer::Init { code, id: -1, epoch: -1 },
        Request::AddPartitions { partitions, .. } => {
            Answer::AddPartitions(partitions.iter().map(|(topic, at)| (topic.clone(), *at, code)).collect())
        }
        Request::AddOffsets { .. } => Answer::AddOffsets(code),
        Request::CommitOffsets { offsets, .. } => {
            Answer::CommitOffsets(offsets.iter().map(|at| (at.topic.clone(), at.partition, code)).collect())
        }
        Request::End { .. } => ended(code),
    }
}

#[test]
fn what_is_told_is_so_whatever_happens() {
    for abilities in [V1, V2] {
        let mut ends = BTreeMap::<&str, usize>::new();
        for seed in 0..1000 {
            let (wrong, seen) = World::new(abilities, Planted::Nothing, seed).run();
            assert!(wrong.is_empty(), "{:?} seed {seed}: {wrong:?}", abilities.level);
            for (told, times) in seen {
                *ends.entry(told).or_default() += times;
            }
        }
        assert!(ends.len() == 3 && ends.values().all(|times| *times > 100), "every end was met: {ends:?}");
    }
}

#[test]
fn planted_defects_are_caught() {
    for (planted, abilities) in [
        (Planted::SameEpoch, V1),
        (Planted::ForgetsCommit, V1),
        (Planted::AbortsAfterCommit, V1),
        (Planted::AbortsAfterCommit, V2),
        (Planted::ForgetsPartitions, V1),
        (Planted::ForgetsPartitions, V2),
        (Planted::UnknownIsCommitted, V1),
        (Planted::UnknownIsCommitted, V2),
    ] {
        let caught =
            (0..300).filter(|seed| !World::new(abilities, planted, *seed).run().0.is_empty()).count();
        assert!(caught > 0, "{planted:?} at {:?}", abilities.level);
    }
}
