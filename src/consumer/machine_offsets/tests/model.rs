//! The machine and a group's offsets, with events drawn from a seed: commits of the application and by themselves, some of
//! an assignment that is over; partitions that go, are read and committed by another, and come back; epochs that pass;
//! requests and answers that are lost, cut short, doubled or refused.
//!
//! Each commit is told of once, with its partitions, and by its deadline; it has happened if that is said, it is
//! refused as too late only if it is. What is sent was asked for in an assignment that is not over, is never older
//! than what was sent before, and by itself never less than what was done. What is said to be committed is what the
//! group had when it was asked, after the question. One request of each kind at a time, and nothing spins.

use super::*;
use crate::conn::seeds;

const SECOND: Duration = Duration::from_secs(1);
const PARTITIONS: usize = 3;
/// More requests than this in ten seconds are a loop.
const MOST_IN_TEN_SECONDS: usize = 60;
const PATIENCE: Duration = Duration::from_mins(1);

/// A commit that was asked for.
#[derive(Debug, Clone)]
struct Asked {
    assignment: u64,
    origin: Origin,
    offsets: BTreeMap<i32, i64>,
    deadline: Instant,
    told: bool,
}

/// What the group knows of a partition.
#[derive(Debug, Clone, Default)]
struct Stored {
    /// The offset, and which of our commits it was.
    now: Option<(i64, Option<usize>)>,
    /// The last of our commits that was written, and the greatest offset by assignment.
    last: Option<usize>,
    most: BTreeMap<u64, i64>,
}

#[derive(Debug, Default)]
struct Ours {
    /// The assignment in which we have it.
    assignment: Option<u64>,
    /// The one before, of which commits may still come.
    before: Option<u64>,
    /// The newest commit that was sent of it in this assignment.
    sent: Option<usize>,
    /// Which commit was done last in this assignment, as far as we were told.
    done: Option<usize>,
    /// It is being asked for: since which ticket, and what the group had when such a request arrived.
    question: Option<(u64, Vec<Option<i64>>)>,
}

enum Mail {
    Commit(OffsetCommitRequest),
    Fetch(OffsetFetchRequest),
    Answer(Result<Response>),
}

struct World {
    dice: Dice,
    now: Instant,
    start: Instant,
    machine: Machine,
    faults: bool,
    assignments: u64,
    /// Ours, and what the coordinator goes by.
    epoch: i32,
    group_epoch: i32,
    member: bool,
    ours: Vec<Ours>,
    stored: Vec<Stored>,
    asked: Vec<Asked>,
    mail: Vec<(Instant, u64, Mail)>,
    /// Tickets in flight, of commits and of fetches, with their epochs.
    flights: [Option<(u64, i32)>; 2],
    /// Epochs that were refused as old, and until when they are not to be tried again.
    stale: [Option<(i32, Instant)>; 2],
    /// What the group was to hear of since the last answer.
    rejoins: BTreeSet<ErrorCode>,
    often: VecDeque<Instant>,
    wrong: Vec<String>,
    trace: VecDeque<String>,
}

impl World {
    fn new(planted: Option<Planted>, seed: u64) -> Self {
        let now = crate::net::clock::now();
        let mut machine = Machine::new(Backoff::default(), seed);
        machine.planted = planted;
        Self {
            dice: Dice::new(seed),
            now,
            start: now,
            machine,
            faults: true,
            assignments: 0,
            epoch: 1,
            group_epoch: 1,
            member: true,
            ours: (0..PARTITIONS).map(|_| Ours::default()).collect(),
            stored: vec![Stored::default(); PARTITIONS],
            asked: Vec::new(),
            mail: Vec::new(),
            flights: [None; 2],
            stale: [None; 2],
            rejoins: BTreeSet::new(),
            often: VecDeque::new(),
            wrong: Vec::new(),
            trace: VecDeque::new(),
        }
    }

    fn wrong(&mut self, what: impl Into<String>) {
        let at = self.now - self.start;
        self.wrong.push(format!("{at:?}: {}", what.into()));
    }

    fn note(&mut self, what: impl Into<String>) {
        let at = self.now - self.start;
        self.trace.push_back(format!("{at:?}: {}", what.into()));
        if self.trace.len() > 40 {
            self.trace.pop_front();
        }
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.faults && self.dice.below(one_in) == 0
    }

    fn within(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.dice.below(most.as_millis() as usize + 1) as u64)
    }

    fn post(&mut self, ticket: u64, mail: Mail, most: Duration) {
        let at = self.now + self.within(most);
        self.mail.push((at, ticket, mail));
    }

    fn take(&mut self, at: usize) {
        self.assignments += 1;
        self.note(format!("{at} is ours in {}", self.assignments));
        self.ours[at] = Ours { assignment: Some(self.assignments), ..Ours::default() };
        self.question(at);
    }

    fn question(&mut self, at: usize) {
        self.ours[at].question = Some((self.machine.tickets, Vec::new()));
        self.machine.handle_fetch([tp(at as i32)].into(), self.now);
    }

    fn give(&mut self, at: usize) {
        self.note(format!("{at} goes"));
        let before = self.ours[at].assignment;
        self.ours[at] = Ours { before, ..Ours::default() };
        self.machine.handle_unassigned(&[tp(at as i32)].into(), self.assignments);
    }

    /// Mostly onwards, and mostly of what is ours.
    fn commit(&mut self) {
        let explicit = self.dice.below(3) == 0;
        let origin = if explicit { Origin::Explicit } else { Origin::Automatic };
        let old = self.dice.below(10) == 0;
        let mut offsets = BTreeMap::new();
        // Of partitions that were given at once, as a batch of commits is.
        let mut assignment = None;
        for at in 0..PARTITIONS {
            let ours = &self.ours[at];
            let Some(has) = ours.assignment.or(ours.before.filter(|_| old)) else { continue };
            if self.dice.below(2) == 0 && *assignment.get_or_insert(has) == has {
                offsets.insert(at as i32, self.dice.below(30) as i64);
            }
        }
        let Some(assignment) = assignment else { return };
        let patience = if self.chance(8) { 3 * SECOND } else { PATIENCE };
        let number = self.asked.len();
        self.note(format!("commit {number} of {offsets:?} in {assignment}, {origin:?}"));
        let deadline = self.now + patience;
        let metadata = Str::from(number.to_string());
        let value =
            |offset: &i64| CommitOffset { offset: *offset, leader_epoch: 3, metadata: metadata.clone() };
        let all = offsets.iter().map(|(at, offset)| (tp(*at), value(offset))).collect();
        self.asked.push(Asked { assignment, origin, offsets, deadline, told: false });
        let id = self.machine.handle_commit(all, assignment, origin, deadline, self.now);
        if id.0 as usize != number + 1 {
            self.wrong("commits are not counted");
        }
    }

    fn happen(&mut self) {
        let at = self.dice.below(PARTITIONS);
        match self.dice.below(12) {
            0..5 => self.commit(),
            5 | 6 if self.ours[at].assignment.is_none() => self.take(at),
            5 => self.give(at),
            6 if self.ours[at].question.is_none() => self.question(at),
            7 => self.group_epoch += 1,
            8 | 9 => self.epoch = self.group_epoch,
            10 => self.member = self.dice.below(3) > 0,
            // Another has it and commits.
            11 if self.ours[at].assignment.is_none() => {
                let offset = self.dice.below(30) as i64;
                self.stored[at].now = Some((offset, None));
            }
            _ => {}
        }
    }

    fn drain(&mut self) {
        let membership = self.member.then(|| member(self.epoch));
        while let Some(ask) = self.machine.poll_ask(self.now, membership.as_ref()) {
            self.often.push_back(self.now);
            let ticket = ask.ticket;
            let (kind, mail) = match ask.request {
                Request::Commit(request) => {
                    self.sends(&request);
                    (0, Mail::Commit(request))
                }
                Request::Fetch(request) => (1, Mail::Fetch(request)),
            };
            if self.flights[kind].replace((ticket, self.epoch)).is_some() {
                self.wrong("two requests of a kind at a time");
            }
            if self.stale[kind].is_some_and(|(epoch, until)| epoch == self.epoch && self.now < until) {
                self.wrong("an old epoch is tried again at once");
            }
            if self.chance(15) {
                self.post(ticket, Mail::Answer(Err(Error::timeout("lost").maybe_done())), 3 * SECOND);
            } else {
                self.post(ticket, mail, SECOND);
            }
        }
        self.often.retain(|at| *at + 10 * SECOND > self.now);
        if self.often.len() > MOST_IN_TEN_SECONDS {
            self.wrong("it spins");
        }
        self.hear();
        if self.machine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.wrong("it wants to be asked again at once");
        }
    }

    fn sends(&mut self, request: &OffsetCommitRequest) {
        for it in request.topics.iter().flat_map(|topic| &topic.partitions) {
            let number: usize = it.committed_metadata.as_deref().unwrap_or_default().parse().expect("ours");
            self.note(format!("sends {number} of {} at {}", it.partition_index, it.committed_offset));
            let asked = &self.asked[number];
            let ours = &mut self.ours[it.partition_index as usize];
            let wrong = if asked.offsets.get(&it.partition_index) != Some(&it.committed_offset) {
                Some("what nobody asked for")
            } else if ours.assignment.is_none_or(|assignment| asked.assignment != assignment) {
                Some("what is not ours any more")
            } else if ours.sent.is_some_and(|sent| number < sent) {
                Some("what is older than what was sent")
            } else if ours.done.is_some_and(|done| goes_back(&self.asked, it.partition_index, done, number)) {
                Some("less than what was done, by itself")
            } else {
                None
            };
            ours.sent = Some(number);
            if let Some(wrong) = wrong {
                self.wrong(format!("sends {wrong}: {number} of {}", it.partition_index));
            }
        }
    }

    fn commit_arrives(&mut self, ticket: u64, request: &OffsetCommitRequest) {
        let mut code = match request.generation_id_or_member_epoch {
            epoch if epoch != self.group_epoch => ErrorCode::STALE_MEMBER_EPOCH,
            _ => ErrorCode::NONE,
        };
        if self.chance(8) {
            let codes = [
                ErrorCode::COORDINATOR_LOAD_IN_PROGRESS,
                ErrorCode::UNKNOWN_MEMBER_ID,
                ErrorCode::REBALANCE_IN_PROGRESS,
                ErrorCode::OFFSET_METADATA_TOO_LARGE,
            ];
            code = codes[self.dice.below(4)];
        }
        let mut told = Vec::new();
        for it in request.topics.iter().flat_map(|topic| &topic.partitions) {
            let at = it.partition_index as usize;
            let number: Option<usize> = it.committed_metadata.as_deref().and_then(|it| it.parse().ok());
            if code.is_none() {
                let stored = &mut self.stored[at];
                stored.now = Some((it.committed_offset, number));
                stored.last = number;
                if let Some(number) = number {
                    let most = stored.most.entry(self.asked[number].assignment).or_default();
                    *most = it.committed_offset.max(*most);
                }
            }
            if !self.chance(20) {
                told.push(OffsetCommitResponsePartition {
                    partition_index: it.partition_index,
                    error_code: code.0,
                    ..Default::default()
                });
            }
        }
        let topic = OffsetCommitResponseTopic { name: "t".into(), partitions: told, ..Default::default() };
        let answer = OffsetCommitResponse { topics: vec![topic], ..Default::default() };
        self.answer(ticket, Response::Commit(answer));
    }

    fn fetch_arrives(&mut self, ticket: u64, request: &OffsetFetchRequest) {
        let group = &request.groups[0];
        let mut whole = if group.member_epoch == self.group_epoch {
            ErrorCode::NONE
        } else {
            ErrorCode::STALE_MEMBER_EPOCH
        };
        if self.chance(10) {
            whole = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
        }
        let mut told = Vec::new();
        for partition in group.topics.iter().flatten().flat_map(|topic| topic.partition_indexes.to_vec()) {
            let offset = self.stored[partition as usize].now.map(|(offset, _)| offset);
            // What was asked before the question does not count for it.
            if let Some((since, had)) = &mut self.ours[partition as usize].question
                && ticket > *since
            {
                had.push(offset);
            }
            let one = |offset: Option<i64>, code: ErrorCode| OffsetFetchResponsePartitions {
                partition_index: partition,
                committed_offset: offset.unwrap_or(-1),
                error_code: code.0,
                ..Default::default()
            };
            match self.dice.below(if self.faults { 16 } else { 1 }) {
                15 => {}
                14 => told.push(one(None, ErrorCode::UNSTABLE_OFFSET_COMMIT)),
                13 => told.extend([one(offset, ErrorCode::NONE), one(Some(99), ErrorCode::NONE)]),
                _ => told.push(one(offset, ErrorCode::NONE)),
            }
        }
        if !whole.is_none() {
            told.clear();
        }
        let topic = OffsetFetchResponseTopics { name: "t".into(), partitions: told, ..Default::default() };
        let group = OffsetFetchResponseGroup {
            group_id: "g".into(),
            topics: vec![topic],
            error_code: whole.0,
            ..Default::default()
        };
        self.answer(
            ticket,
            Response::Fetch(OffsetFetchResponse { groups: vec![group], ..Default::default() }),
        );
    }

    fn answer(&mut self, ticket: u64, answer: Response) {
        if self.chance(12) {
            self.post(ticket, Mail::Answer(Err(Error::io("cut").maybe_done())), SECOND);
        }
        self.post(ticket, Mail::Answer(Ok(answer)), SECOND);
    }

    fn hear(&mut self) {
        while let Some(event) = self.machine.poll_event() {
            match event {
                Event::Committed { id, results } => self.hear_committed(id.0 as usize - 1, &results),
                Event::Fetched(all) => {
                    for (at, offset) in all {
                        self.hear_fetched(at.partition() as usize, offset.map(|it| it.offset));
                    }
                }
                Event::FetchFailed { partitions, error } => {
                    self.wrong(format!("{partitions:?} will not be known: {error}"));
                }
                Event::Rejoin(code) => {
                    self.note(format!("to the group: {code}"));
                    self.rejoins.insert(code);
                }
            }
        }
    }

    fn hear_committed(&mut self, number: usize, results: &BTreeMap<TopicPartition, Result<()>>) {
        self.note(format!("{number} is told {results:?}"));
        let asked = self.asked[number].clone();
        self.asked[number].told = true;
        let whole = results.keys().map(TopicPartition::partition).eq(asked.offsets.keys().copied());
        if asked.told || !whole {
            self.wrong(format!("{number} is told {results:?}, and was before: {}", asked.told));
        }
        for (partition, result) in results {
            let at = partition.partition() as usize;
            let (stored, ours) = (&self.stored[at], &mut self.ours[at]);
            let is_ours = ours.assignment == Some(asked.assignment);
            let offset = asked.offsets.get(&partition.partition()).copied();
            let wrong = match result {
                Ok(()) => {
                    let written = stored.last >= Some(number);
                    let passed = asked.origin == Origin::Automatic
                        && stored.most.get(&asked.assignment).copied() >= offset;
                    if is_ours && ours.sent == Some(number) {
                        ours.done = Some(number);
                    }
                    (!written && !passed).then_some("is said to have happened, and has not")
                }
                Err(error) if error.is_timeout() => {
                    (self.now < asked.deadline).then_some("is given up before its time")
                }
                Err(error) if error.code().is_none() => {
                    is_ours.then_some("is refused, though it is ours still")
                }
                Err(_) => None,
            };
            if let Some(wrong) = wrong {
                self.wrong(format!("{number} of {at} {wrong}"));
            }
        }
    }

    fn hear_fetched(&mut self, at: usize, offset: Option<i64>) {
        self.note(format!("{at} is at {offset:?}"));
        match self.ours[at].question.take() {
            None => self.wrong(format!("{at} is told, and nobody asked")),
            Some((_, had)) if !had.contains(&offset) => {
                self.wrong(format!("{at} is said to be at {offset:?}, and was at {had:?}"));
            }
            Some(_) => {}
        }
    }

    fn step(&mut self, until: Instant) {
        while self.wrong.is_empty() {
            self.drain();
            let mail = self.mail.iter().map(|(at, ..)| *at).min();
            let timeout = self.machine.poll_timeout();
            let next = mail.into_iter().chain(timeout).min();
            let Some(next) = next.filter(|next| *next <= until) else { break };
            self.now = next.max(self.now);
            let due = self.mail.iter().position(|(at, ..)| *at <= self.now);
            if let Some((_, ticket, mail)) = due.map(|due| self.mail.remove(due)) {
                match mail {
                    Mail::Commit(request) => self.commit_arrives(ticket, &request),
                    Mail::Fetch(request) => self.fetch_arrives(ticket, &request),
                    Mail::Answer(answer) => {
                        self.note(format!("{ticket} is answered {}", brief(&answer)));
                        self.answered(ticket, answer);
                    }
                }
            }
        }
        self.now = until.max(self.now);
        let late = |asked: &Asked| !asked.told && asked.deadline < self.now;
        if let Some(number) = self.asked.iter().position(late) {
            self.wrong(format!("{number} is told nothing by its deadline"));
        }
    }

    fn answered(&mut self, ticket: u64, answer: Result<Response>) {
        let codes = codes(&answer);
        let flying = |flight: &Option<(u64, i32)>| flight.is_some_and(|(number, _)| number == ticket);
        let of = self.flights.iter().position(flying);
        let Some((kind, (_, epoch))) = of.and_then(|kind| Some((kind, self.flights[kind].take()?))) else {
            return self.machine.handle_answer(ticket, answer, self.now);
        };
        self.rejoins.clear();
        self.machine.handle_answer(ticket, answer, self.now);
        self.hear();
        if self.rejoins != codes {
            self.wrong(format!("the group is told {:?} and not {codes:?}", self.rejoins));
        }
        let stale = codes.iter().any(|code| wants_epoch(*code));
        self.stale[kind] = stale.then_some((epoch, self.now + EPOCH_WAIT));
    }

    fn run(mut self) -> Vec<String> {
        for _ in 0..150 {
            if !self.wrong.is_empty() {
                break;
            }
            self.happen();
            let pause = self.within(SECOND);
            self.step(self.now + pause);
        }
        self.faults = false;
        (self.member, self.epoch) = (true, self.group_epoch);
        // What waits is done long before its patience ends.
        self.step(self.now + PATIENCE / 3);
        if self.wrong.is_empty() {
            if self.machine.is_committing() {
                self.wrong("commits are left over");
            }
            if let Some(at) = self.ours.iter().position(|ours| ours.question.is_some()) {
                self.wrong(format!("{at} is not known at rest"));
            }
        }
        if !self.wrong.is_empty() {
            self.wrong.extend(self.trace);
        }
        self.wrong
    }
}

/// What of an answer concerns the group.
fn codes(answer: &Result<Response>) -> BTreeSet<ErrorCode> {
    let all: Vec<i16> = match answer {
        Ok(Response::Commit(answer)) => {
            answer.topics.iter().flat_map(|topic| &topic.partitions).map(|it| it.error_code).collect()
        }
        Ok(Response::Fetch(answer)) => answer.groups.iter().map(|group| group.error_code).collect(),
        Err(_) => Vec::new(),
    };
    let all = all.into_iter().map(ErrorCode);
    all.filter(|code| wants_epoch(*code) || shuts_out(*code)).collect()
}

/// Whether the consumer by itself goes behind what was done, and the application has not gone back meanwhile.
fn goes_back(asked: &[Asked], partition: i32, done: usize, number: usize) -> bool {
    let offset = |number: usize| asked[number].offsets.get(&partition);
    let said = |number: usize| asked[number].origin == Origin::Explicit && offset(number).is_some();
    offset(number) < offset(done) && !(done + 1..=number).any(said)
}

fn brief(answer: &Result<Response>) -> String {
    match answer {
        Ok(Response::Commit(answer)) => {
            let all = answer.topics.iter().flat_map(|topic| &topic.partitions);
            format!("{:?}", all.map(|it| (it.partition_index, ErrorCode(it.error_code))).collect::<Vec<_>>())
        }
        Ok(Response::Fetch(answer)) => {
            let all = answer.groups.iter().flat_map(|group| &group.topics).flat_map(|it| &it.partitions);
            format!("{:?}", all.map(|it| (it.partition_index, it.committed_offset)).collect::<Vec<_>>())
        }
        Err(error) => error.to_string(),
    }
}

fn first_wrong(planted: Option<Planted>, count: u64) -> Option<(u64, Vec<String>)> {
    let run = |seed| (seed, World::new(planted, seed).run());
    seeds(count).map(run).find(|(_, wrong)| !wrong.is_empty())
}

#[test]
fn commits_and_fetches_stay_true_whatever_happens() {
    let wrong = first_wrong(None, 3000);
    assert!(wrong.is_none(), "seed and what is wrong: {wrong:#?}");
}

#[test]
fn planted_defects_are_caught() {
    for planted in [
        Planted::OldOverNew,
        Planted::CommitRevoked,
        Planted::OmittedIsNone,
        Planted::ForgetMerged,
        Planted::AnyAnswer,
        Planted::MixAssignments,
    ] {
        assert!(first_wrong(Some(planted), 2000).is_some(), "{planted:?} is not seen");
    }
}
