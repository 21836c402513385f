//! Several members and the model of a coordinator, with events drawn from a seed: consumers come, go and die, answers are
//! lost, late or wrong, the coordinator moves and puts members out, applications are slow, topics have no name for a
//! while.
//!
//! Whom the coordinator counts in has nothing that another has; what is told of partitions adds up; nothing is taken
//! while something is to be handed over, and the coordinator hears at once when it was; whoever leaves hears no more
//! and is not known to the coordinator after it; nothing spins; and once the faults end all come to rest with every
//! partition owned.

mod judge;

use std::collections::{BTreeMap, BTreeSet};

use super::coordinator::{Coordinator, topic_id, topic_name};
use super::*;
use crate::conn::seeds;

const SECOND: Duration = Duration::from_secs(1);
/// How long requests and answers are on their way at most.
const WAY: Duration = Duration::from_millis(50);
/// A member that is told much and answered with errors asks no more often than this in ten seconds.
const MOST_IN_TEN_SECONDS: usize = 60;

/// How hostile the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Nothing is lost and applications are in time: nobody may ever have what another still has.
    Calm,
    Storm,
}

struct Consumer {
    machine: Machine,
    id: Str,
    /// What the application was told is its own.
    owned: BTreeSet<TopicPartition>,
    /// What it still works off after a revocation, and when it will have handed over.
    handing: Option<(BTreeSet<TopicPartition>, Instant)>,
    /// It has handed over, and the coordinator has not been told yet.
    unsaid: Option<Instant>,
    /// When the names of topics are known here.
    names: BTreeMap<Uuid, Instant>,
    polls: Instant,
    asked: VecDeque<Instant>,
    /// The request that has no answer yet.
    open: Option<u64>,
    /// When the last one had.
    ended: Instant,
    /// The last request goes first, on one connection.
    arrives: Instant,
    instance: Option<Str>,
    alive: bool,
    closing: bool,
    left: bool,
}

enum Mail {
    Request(ConsumerGroupHeartbeatRequest),
    Answer(Result<ConsumerGroupHeartbeatResponse>),
}

struct World {
    dice: Dice,
    now: Instant,
    start: Instant,
    weather: Weather,
    faults: bool,
    planted: Option<Planted>,
    coordinator: Coordinator,
    consumers: Vec<Consumer>,
    /// When, in which order, whose, with which ticket, what.
    mail: Vec<(Instant, u64, usize, u64, Mail)>,
    sent: u64,
    away_until: Instant,
    /// Nobody may read any topic until then.
    forbidden_until: Instant,
    wrong: Vec<String>,
    /// What happened last, for whoever looks for a defect.
    trace: VecDeque<String>,
}

impl World {
    fn new(weather: Weather, planted: Option<Planted>, seed: u64) -> Self {
        let now = crate::net::clock::now();
        let mut dice = Dice::new(seed);
        let coordinator = Coordinator::new(BTreeMap::from([(1, 3), (2, 2)]), dice.below(2) == 0);
        let mut world = Self {
            dice,
            now,
            start: now,
            weather,
            faults: true,
            planted,
            coordinator,
            consumers: Vec::new(),
            mail: Vec::new(),
            sent: 0,
            away_until: now,
            forbidden_until: now,
            wrong: Vec::new(),
            trace: VecDeque::new(),
        };
        world.come();
        world.come();
        world
    }

    #[allow(clippy::needless_pass_by_value, reason = "made for it")]
    fn wrong(&mut self, what: String) {
        let at = self.now - self.start;
        self.wrong.push(format!("{at:?}: {what}"));
    }

    #[allow(clippy::needless_pass_by_value, reason = "made for it")]
    fn note(&mut self, what: String) {
        let at = self.now - self.start;
        self.trace.push_back(format!("{at:?}: {what}"));
        if self.trace.len() > 60 {
            self.trace.pop_front();
        }
    }

    fn within(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.dice.below(most.as_millis() as usize + 1) as u64)
    }

    fn storms(&mut self, one_in: usize) -> bool {
        self.faults && self.weather == Weather::Storm && self.dice.below(one_in) == 0
    }

    fn topics(&mut self) -> BTreeSet<Str> {
        let all: [&[u8]; 3] = [&[1], &[1, 2], &[2]];
        all[self.dice.below(3)].iter().map(|topic| topic_name(*topic)).collect()
    }

    fn come(&mut self) {
        let place = self.consumers.len();
        let instance = (self.dice.below(4) == 0).then(|| self.instance(place));
        let id = Str::from(format!("m{place}"));
        let settings = Settings { max_poll_interval: 30 * SECOND, ..settings(instance.as_deref()) };
        let mut machine = Machine::new(settings, id.clone(), self.dice.roll());
        machine.planted = self.planted;
        let topics = self.topics();
        machine.handle_subscription(topics, None, self.now);
        self.consumers.push(Consumer {
            machine,
            id,
            owned: BTreeSet::new(),
            handing: None,
            unsaid: None,
            names: BTreeMap::new(),
            polls: self.now,
            asked: VecDeque::new(),
            open: None,
            ended: self.now,
            arrives: self.now,
            instance,
            alive: true,
            closing: false,
            left: false,
        });
    }

    /// An instance of its own, or that of one that has gone.
    fn instance(&mut self, place: usize) -> Str {
        let gone = self.consumers.iter().filter(|one| !one.alive).filter_map(|one| one.instance.clone());
        let used = |it: &Str| self.consumers.iter().any(|one| one.alive && one.instance.as_ref() == Some(it));
        let free: Vec<Str> = gone.filter(|it| !used(it)).collect();
        let at = self.dice.below(2 * free.len());
        free.get(at).cloned().unwrap_or_else(|| Str::from(format!("i{place}")))
    }

    /// Lets everything happen that is due now.
    fn settle(&mut self) {
        for place in 0..self.consumers.len() {
            self.application(place);
            self.drain(place);
        }
        self.coordinator.tick(self.now);
        loop {
            let due = self.mail.iter().filter(|(at, ..)| *at <= self.now);
            let Some(next) = due.map(|(at, number, ..)| (*at, *number)).min() else { break };
            let found = self.mail.iter().position(|(at, number, ..)| (*at, *number) == next);
            let (_, _, place, ticket, mail) = self.mail.swap_remove(found.expect("the least"));
            match mail {
                Mail::Request(request) => self.arrive(place, ticket, &request),
                Mail::Answer(answer) if self.consumers[place].alive => {
                    self.note(format!("{place} is answered {ticket}: {}", brief(&answer)));
                    let answer = answer.map(Response::Consumer);
                    if self.consumers[place].open.take_if(|open| *open == ticket).is_some() {
                        self.consumers[place].ended = self.now;
                    }
                    self.consumers[place].machine.handle_answer(ticket, answer, self.now);
                    self.drain(place);
                }
                Mail::Answer(_) => {}
            }
        }
        self.check();
    }

    fn post(&mut self, place: usize, ticket: u64, mail: Mail, most: Duration) {
        let mut at = self.now + self.within(most);
        if matches!(mail, Mail::Request(_)) {
            at = at.max(self.consumers[place].arrives);
            self.consumers[place].arrives = at;
        }
        self.sent += 1;
        self.mail.push((at, self.sent, place, ticket, mail));
    }

    fn arrive(&mut self, place: usize, ticket: u64, request: &ConsumerGroupHeartbeatRequest) {
        if self.now < self.forbidden_until && request.subscribed_topic_names.is_some() {
            let told = answer(ErrorCode::TOPIC_AUTHORIZATION_FAILED, 0, None);
            return self.post(place, ticket, Mail::Answer(Ok(told)), WAY);
        }
        if self.now < self.away_until {
            let codes = [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS];
            let code = codes[self.dice.below(2)];
            return self.post(place, ticket, Mail::Answer(Ok(answer(code, 0, None))), WAY);
        }
        let mut told = self.coordinator.apply(request, self.now);
        if let Some(refused) = self.coordinator.refused.take() {
            self.wrong(format!("{place}: {refused}"));
        }
        if self.storms(40) {
            told.member_epoch = [0, -1, 1][self.dice.below(3)];
            told.heartbeat_interval_ms = 0;
        }
        // A connection that breaks is noticed at once or late, and the answer may be there all the same.
        if self.storms(15) {
            self.post(place, ticket, Mail::Answer(Err(Error::io("cut").maybe_done())), 3 * SECOND);
        }
        let way = if self.storms(15) { 10 * SECOND } else { WAY };
        if self.storms(15) {
            self.post(place, ticket, Mail::Answer(Err(Error::timeout("lost").maybe_done())), 3 * SECOND);
        } else {
            self.post(place, ticket, Mail::Answer(Ok(told)), way);
        }
    }

    /// What the application and the cluster's metadata do by themselves.
    fn application(&mut self, place: usize) {
        if !self.consumers[place].alive {
            return;
        }
        if self.consumers[place].polls <= self.now {
            let pause = if self.storms(25) { 60 * SECOND } else { 5 * SECOND };
            let pause = self.within(pause) + SECOND;
            let consumer = &mut self.consumers[place];
            consumer.polls = self.now + pause;
            if !consumer.closing {
                consumer.machine.handle_poll(self.now);
            }
        }
        let consumer = &mut self.consumers[place];
        if consumer.handing.take_if(|(_, until)| *until <= self.now).is_some() {
            consumer.unsaid = Some(self.now);
            consumer.machine.handle_revoked(self.now);
            self.note(format!("{place} has handed over"));
        }
        let now = self.now;
        let consumer = &mut self.consumers[place];
        if !consumer.machine.unresolved().is_empty() {
            let names = &consumer.names;
            let known = |id| names.get(&id).is_some_and(|at| *at <= now);
            let resolve = |id| [1, 2].into_iter().find(|it| topic_id(*it) == id && known(id)).map(topic_name);
            consumer.machine.handle_names(&resolve, now);
        }
    }

    fn drain(&mut self, place: usize) {
        while self.consumers[place].alive {
            let now = self.now;
            let ask = self.consumers[place].machine.poll_ask(now);
            let mut heard = false;
            while let Some(event) = self.consumers[place].machine.poll_event() {
                heard = true;
                self.hear(place, event);
            }
            let asked = ask.is_some();
            if let Some(Ask { ticket, request: Request::Consumer(request), .. }) = ask {
                self.sends(place, ticket, request);
            }
            if !asked && !heard {
                break;
            }
        }
        let consumer = &self.consumers[place];
        if consumer.alive && consumer.machine.poll_timeout().is_some_and(|at| at <= self.now) {
            self.wrong(format!("{place} wants to be polled again at once"));
        }
        for id in self.consumers[place].machine.unresolved() {
            let pause = if self.dice.below(2) == 0 { Duration::ZERO } else { self.within(4 * SECOND) };
            self.consumers[place].names.entry(id).or_insert(self.now + pause);
        }
    }

    fn sends(&mut self, place: usize, ticket: u64, request: ConsumerGroupHeartbeatRequest) {
        let owned = request.topic_partitions.as_ref().map(|all| owned_by_name(all));
        self.note(format!(
            "{place} asks {ticket}: epoch {} names {:?} owned {owned:?}",
            request.member_epoch, request.subscribed_topic_names
        ));
        let consumer = &mut self.consumers[place];
        consumer.asked.push_back(self.now);
        consumer.asked.retain(|at| *at + 10 * SECOND >= self.now);
        consumer.open = Some(ticket);
        let (often, closing) = (consumer.asked.len(), consumer.closing);
        if owned.is_some() || request.member_epoch < JOIN {
            consumer.unsaid = None;
        }
        let has: BTreeSet<_> =
            consumer.owned.iter().chain(consumer.handing.iter().flat_map(|it| &it.0)).cloned().collect();
        if owned.is_some_and(|owned| has != owned) {
            self.wrong(format!("{place} says it owns something else than what the application has: {has:?}"));
        }
        if often > MOST_IN_TEN_SECONDS {
            self.wrong(format!("{place} has asked {often} times in ten seconds"));
        }
        if closing && request.member_epoch >= JOIN {
            self.wrong(format!("{place} is closing and does not leave"));
        }
        if self.storms(20) {
            self.post(place, ticket, Mail::Answer(Err(Error::timeout("lost").maybe_done())), 3 * SECOND);
        } else {
            self.post(place, ticket, Mail::Request(request), WAY);
        }
    }

    fn chaos(&mut self) {
        let place = self.dice.below(self.consumers.len());
        let usable = self.consumers[place].alive && !self.consumers[place].closing;
        let storm = self.weather == Weather::Storm;
        match self.dice.below(13) {
            0 | 1 if self.consumers.iter().filter(|one| one.alive).count() < 4 => self.come(),
            2 | 3 if usable => self.close(place),
            4 if storm && self.dice.below(2) == 0 => self.consumers[place].alive = false,
            5 | 6 if usable => {
                let topics = if self.dice.below(4) == 0 { BTreeSet::new() } else { self.topics() };
                self.note(format!("{place} wants {topics:?}"));
                self.consumers[place].machine.handle_subscription(topics, None, self.now);
            }
            7 => {
                let topic = 1 + self.dice.below(2) as u8;
                let count = self.coordinator.counts.get_mut(&topic).expect("listed");
                *count = (*count + 1).min(6);
                self.coordinator.draw_up();
            }
            8 if storm => {
                self.coordinator.moves(self.now);
                self.away_until = self.now + self.within(15 * SECOND);
            }
            12 if storm => self.forbidden_until = self.now + self.within(10 * SECOND),
            9 if storm => {
                let id = self.consumers[place].id.clone();
                self.coordinator.remove(&id);
            }
            10 | 11 if usable && storm => {
                let Some(mut of) = self.consumers[place].machine.membership() else { return };
                // Some of the answers are of before.
                of.generation -= self.dice.below(2) as i32;
                let codes = [
                    ErrorCode::STALE_MEMBER_EPOCH,
                    ErrorCode::UNKNOWN_MEMBER_ID,
                    ErrorCode::FENCED_MEMBER_EPOCH,
                ];
                let code = codes[self.dice.below(3)];
                self.note(format!("{place} commits and is told {code}"));
                self.consumers[place].machine.handle_rejoin(&of, code, self.now);
                self.drain(place);
            }
            _ => {}
        }
    }

    /// The keeper has what is owned handed over, or knows that there is no time for it.
    fn close(&mut self, place: usize) {
        self.note(format!("{place} closes"));
        let consumer = &mut self.consumers[place];
        consumer.closing = true;
        consumer.owned.clear();
        consumer.handing = None;
        consumer.unsaid = None;
        consumer.machine.handle_close(Leave::Default, self.now);
    }

    /// The next time at which something is due.
    fn next(&self) -> Instant {
        let mail = self.mail.iter().map(|(at, ..)| *at);
        let alive = self.consumers.iter().filter(|consumer| consumer.alive);
        let consumers = alive.flat_map(|consumer| {
            let handing = consumer.handing.as_ref().map(|(_, until)| *until);
            let names = consumer.names.values().copied().filter(|at| *at > self.now).min();
            [consumer.machine.poll_timeout(), Some(consumer.polls), handing, names].into_iter().flatten()
        });
        let next = mail.chain(consumers).chain(self.coordinator.timeout()).min();
        next.unwrap_or(self.now + SECOND).max(self.now + Duration::from_millis(1))
    }

    fn run(mut self) -> Vec<String> {
        let end = self.now + 120 * SECOND;
        while self.now < end && self.wrong.is_empty() {
            let most = self.now + self.within(5 * SECOND);
            while self.next() < most && self.wrong.is_empty() {
                self.now = self.next();
                self.settle();
            }
            self.now = most.max(self.now);
            self.chaos();
            self.settle();
        }
        self.faults = false;
        let (calm, mut quiet, mut fenced) = (self.now, self.now, None);
        while self.wrong.is_empty() && self.now < calm + 400 * SECOND && self.now < quiet + 20 * SECOND {
            self.now = self.next();
            self.settle();
            if !self.rests() {
                quiet = self.now;
            }
            // What went wrong before has an end: sessions, and patience with those who were slow.
            if fenced.is_none() && self.now > calm + 120 * SECOND {
                fenced = Some(self.coordinator.fenced);
            }
        }
        if fenced.is_some_and(|before| self.coordinator.fenced > before) {
            self.wrong("a member was put out long after the last fault".to_owned());
        }
        if self.wrong.is_empty() {
            self.at_rest();
        }
        if !self.wrong.is_empty() {
            self.wrong.extend(self.trace);
        }
        self.wrong
    }
}

fn owned_by_name(
    all: &[crate::messages::consumer_group_heartbeat::RequestTopicPartitions],
) -> BTreeSet<TopicPartition> {
    let name = |id| [1, 2].into_iter().find(|it| topic_id(*it) == id).map(topic_name).expect("one of two");
    let all = all.iter().flat_map(|it| it.partitions.iter().map(move |one| (it.topic_id, *one)));
    all.map(|(id, one)| TopicPartition::of(&name(id), one)).collect()
}

fn brief(answer: &Result<ConsumerGroupHeartbeatResponse>) -> String {
    match answer {
        Ok(it) => {
            let parts = it.assignment.as_ref().map(|it| {
                let all = it.topic_partitions.iter();
                all.map(|it| {
                    (topic_name(if it.topic_id == topic_id(1) { 1 } else { 2 }), it.partitions.to_vec())
                })
                .collect::<Vec<_>>()
            });
            format!("{} epoch {} {parts:?}", ErrorCode(it.error_code), it.member_epoch)
        }
        Err(error) => error.to_string(),
    }
}

fn first_wrong(weather: Weather, planted: Option<Planted>, count: u64) -> Option<(u64, Vec<String>)> {
    let run = |seed| (seed, World::new(weather, planted, seed).run());
    seeds(count).map(run).find(|(_, wrong)| !wrong.is_empty())
}

#[test]
fn in_calm_weather_nobody_ever_has_what_another_has() {
    let wrong = first_wrong(Weather::Calm, None, 1000);
    assert!(wrong.is_none(), "seed and what is wrong: {wrong:#?}");
}

#[test]
fn in_a_storm_members_stay_true_and_come_to_rest_after_it() {
    let wrong = first_wrong(Weather::Storm, None, 1000);
    assert!(wrong.is_none(), "seed and what is wrong: {wrong:#?}");
}

#[test]
fn planted_defects_are_caught() {
    for planted in [
        Planted::TakeFirst,
        Planted::SilentLoss,
        Planted::AnswersAfterLeaving,
        Planted::LateAcknowledgement,
        Planted::NotInFull,
        Planted::KeepWhenFenced,
        Planted::GhostOnClose,
        Planted::HeldIsFinal,
    ] {
        let caught = [Weather::Calm, Weather::Storm]
            .into_iter()
            .find_map(|weather| first_wrong(weather, Some(planted), 300));
        assert!(caught.is_some(), "{planted:?} is not seen");
    }
}
