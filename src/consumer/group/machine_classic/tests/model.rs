//! Several members and the model of a coordinator, with events drawn from a seed: consumers come, go and die,
//! answers are lost, the coordinator moves, applications are slow, topics grow.
//!
//! In one generation nobody has what another has; no join or sync is sent while one is in flight; what is told of
//! partitions adds up; whoever leaves is not known to the coordinator after it; and once the faults end
//! all come to rest with every partition owned.

use std::collections::{BTreeMap, BTreeSet};

use super::coordinator::{Asker, Coordinator};
use super::*;
use crate::consumer::assignors::{CooperativeSticky, Range, Sticky, Subscription};

const SECOND: Duration = Duration::from_secs(1);

/// How hostile the world is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weather {
    /// Nothing is lost and applications are in time: nobody may ever have what another still has.
    Calm,
    Storm,
}

#[allow(clippy::struct_excessive_bools, reason = "a test's notes")]
struct Consumer {
    machine: Machine,
    /// What the application was told is its own.
    owned: BTreeSet<TopicPartition>,
    /// What it still works off after a revocation, with when it will have handed over.
    handing: VecDeque<(BTreeSet<TopicPartition>, Instant, Instant)>,
    polls: Instant,
    /// Joins and syncs in flight.
    serial: BTreeSet<u64>,
    is_static: bool,
    alive: bool,
    closing: bool,
    left: bool,
}

enum Mail {
    Request(Asker, Request),
    Answer(Asker, Result<Response>),
}

struct World {
    dice: Dice,
    now: Instant,
    start: Instant,
    weather: Weather,
    faults: bool,
    cooperative: bool,
    planted: Planted,
    coordinator: Coordinator,
    consumers: Vec<Consumer>,
    mail: Vec<(Instant, u64, Mail)>,
    sent: u64,
    open: BTreeSet<Asker>,
    counts: BTreeMap<&'static str, usize>,
    away_until: Instant,
    wrong: Vec<String>,
    /// What happened last, for whoever looks for a defect.
    trace: VecDeque<String>,
}

impl World {
    fn new(weather: Weather, planted: Planted, seed: u64) -> Self {
        let now = crate::net::clock::now();
        let mut dice = Dice::new(seed);
        let cooperative = dice.below(2) == 0;
        let mut world = Self {
            dice,
            now,
            start: now,
            weather,
            faults: true,
            cooperative,
            planted,
            coordinator: Coordinator::new(),
            consumers: Vec::new(),
            mail: Vec::new(),
            sent: 0,
            open: BTreeSet::new(),
            counts: BTreeMap::from([("a", 3), ("b", 2)]),
            away_until: now,
            wrong: Vec::new(),
            trace: VecDeque::new(),
        };
        for _ in 0..2 {
            world.come();
        }
        world
    }

    fn wrong(&mut self, what: &str) {
        let at = self.now - self.start;
        self.wrong.push(format!("{at:?}: {what}"));
    }

    fn note(&mut self, what: &str) {
        let at = self.now - self.start;
        self.trace.push_back(format!("{at:?}: {what}"));
        if self.trace.len() > 60 {
            self.trace.pop_front();
        }
    }

    fn within(&mut self, most: Duration) -> Duration {
        Duration::from_millis(self.dice.below(most.as_millis() as usize + 1) as u64)
    }

    fn view(&self) -> ClusterView {
        let mut view = ClusterView::new();
        for (topic, count) in &self.counts {
            view.insert(*topic, vec![Vec::new(); *count]);
        }
        view
    }

    fn topics(&mut self) -> BTreeSet<Str> {
        let all: [&[&str]; 3] = [&["a"], &["a", "b"], &["b"]];
        all[self.dice.below(3)].iter().map(|topic| Str::from(*topic)).collect()
    }

    fn come(&mut self) {
        let place = self.consumers.len();
        let is_static = self.dice.below(4) == 0;
        let assignors: Vec<Arc<dyn Assignor>> = match (self.cooperative, self.dice.below(2)) {
            (true, _) => vec![Arc::new(CooperativeSticky)],
            (false, 0) => vec![Arc::new(Range), Arc::new(Sticky)],
            (false, _) => vec![Arc::new(Sticky), Arc::new(Range)],
        };
        let settings = settings(is_static.then(|| Str::from(format!("i{place}"))));
        let mut machine = Machine::new(settings, assignors, self.dice.roll());
        machine.planted = self.planted;
        machine.handle_cluster(self.view(), self.now);
        let topics = self.topics();
        machine.handle_subscription(topics, self.now);
        self.consumers.push(Consumer {
            machine,
            owned: BTreeSet::new(),
            handing: VecDeque::new(),
            polls: self.now,
            serial: BTreeSet::new(),
            is_static,
            alive: true,
            closing: false,
            left: false,
        });
    }

    /// Lets everything happen that is due now.
    fn settle(&mut self) {
        for place in 0..self.consumers.len() {
            self.application(place);
            self.drain(place);
        }
        self.coordinator.tick(self.now);
        self.post_answers();
        self.mail.sort_by_key(|(at, number, _)| (*at, *number));
        while self.mail.first().is_some_and(|(at, ..)| *at <= self.now) {
            match self.mail.remove(0).2 {
                Mail::Request(asker, request) => {
                    if self.now < self.away_until {
                        self.post(Mail::Answer(asker, Err(Error::io("gone").maybe_done())), SECOND);
                    } else {
                        self.coordinator.apply(asker, &request, self.now);
                        self.post_answers();
                    }
                }
                Mail::Answer(asker, answer) => {
                    self.note(&format!("{} is answered {}", asker.0, brief_answer(&answer)));
                    if self.open.remove(&asker) && self.consumers[asker.0].alive {
                        let consumer = &mut self.consumers[asker.0];
                        consumer.serial.remove(&asker.1);
                        consumer.machine.handle_answer(asker.1, answer, self.now);
                        self.drain(asker.0);
                    }
                }
            }
            self.mail.sort_by_key(|(at, number, _)| (*at, *number));
        }
        self.one_owner();
    }

    fn post(&mut self, mail: Mail, most: Duration) {
        let at = self.now + self.within(most);
        self.sent += 1;
        self.mail.push((at, self.sent, mail));
    }

    fn loses(&mut self) -> bool {
        self.faults && self.weather == Weather::Storm && self.dice.below(20) == 0
    }

    fn post_answers(&mut self) {
        for (asker, response) in std::mem::take(&mut self.coordinator.answers) {
            let answer = if self.loses() { Err(Error::io("cut").maybe_done()) } else { Ok(response) };
            self.post(Mail::Answer(asker, answer), SECOND / 20);
        }
    }

    /// What the application does by itself: come back, and hand over.
    fn application(&mut self, place: usize) {
        let consumer = &mut self.consumers[place];
        if !consumer.alive {
            return;
        }
        if consumer.polls <= self.now {
            consumer.machine.handle_poll(self.now);
            let slow = self.faults && self.weather == Weather::Storm && self.dice.below(25) == 0;
            let pause = if slow { 50 * SECOND } else { 5 * SECOND };
            self.consumers[place].polls = self.now + self.within(pause) + SECOND;
        }
        let consumer = &mut self.consumers[place];
        while consumer.handing.front().is_some_and(|(_, until, _)| *until <= self.now) {
            consumer.handing.pop_front();
            consumer.machine.handle_revoked(self.now);
        }
    }

    fn drain(&mut self, place: usize) {
        if !self.consumers[place].alive {
            return;
        }
        while let Some(ask) = self.consumers[place].machine.poll_ask(self.now) {
            let asker = (place, ask.ticket);
            self.note(&format!("{place} asks {}", brief(&ask.request)));
            if matches!(ask.request, Request::Join(_) | Request::Sync(_)) {
                if !self.consumers[place].serial.is_empty() {
                    self.wrong(&format!("{place} sends a join or sync while one is in flight"));
                }
                self.consumers[place].serial.insert(ask.ticket);
            }
            self.open.insert(asker);
            if self.loses() {
                self.post(Mail::Answer(asker, Err(Error::timeout("lost").maybe_done())), 3 * SECOND);
            } else {
                self.post(Mail::Request(asker, ask.request), SECOND / 20);
            }
        }
        while let Some(event) = self.consumers[place].machine.poll_event() {
            self.hear(place, event);
        }
    }

    fn hear(&mut self, place: usize, event: Event) {
        let slow = self.faults && self.weather == Weather::Storm && self.dice.below(10) == 0;
        let pause = self.within(if slow { 40 * SECOND } else { 8 * SECOND });
        self.note(&format!("{place} hears {event:?}"));
        let (now, consumer) = (self.now, &mut self.consumers[place]);
        let wrong = match event {
            Event::Assigned(partitions) => {
                let twice: Vec<_> = partitions.intersection(&consumer.owned).cloned().collect();
                consumer.owned.extend(partitions);
                (!twice.is_empty()).then(|| format!("{place} was given {twice:?} twice"))
            }
            Event::Revoke { partitions, deadline } => {
                let had = partitions.is_subset(&consumer.owned) && !partitions.is_empty();
                consumer.owned.retain(|one| !partitions.contains(one));
                consumer.handing.push_back((partitions, now + pause, deadline));
                (!had).then(|| format!("{place} is to give back what it does not have"))
            }
            Event::Lost { partitions, .. } => {
                let all = partitions == consumer.owned;
                consumer.owned.clear();
                // Nothing is handed over any more, but the revocations are still answered.
                for (partitions, ..) in &mut consumer.handing {
                    partitions.clear();
                }
                (!all).then(|| format!("{place} lost {partitions:?} and not what it has"))
            }
            Event::Left => {
                consumer.left = true;
                consumer.alive = false;
                let owners = &self.coordinator.owners;
                let ghost = self.coordinator.members().find(|id| owners[*id] == place).cloned();
                ghost.filter(|_| !consumer.is_static).map(|id| format!("{place} left, but {id} is there"))
            }
            Event::Troubled(error) => Some(format!("{place} is troubled: {error}")),
            Event::Failed(error) => Some(format!("{place} failed: {error}")),
        };
        if let Some(wrong) = wrong {
            self.wrong(&wrong);
        }
    }

    /// In a generation each partition has one owner; in calm weather at any time.
    fn one_owner(&mut self) {
        let mut owners: BTreeMap<(TopicPartition, i32), usize> = BTreeMap::new();
        let mut wrong = Vec::new();
        for (place, consumer) in self.consumers.iter().enumerate().filter(|(_, consumer)| consumer.alive) {
            let Some(membership) = consumer.machine.membership() else { continue };
            let generation = if self.weather == Weather::Calm { 0 } else { membership.generation };
            let now = self.now;
            let handing = consumer.handing.iter().filter(|(_, _, deadline)| *deadline > now);
            let handing = handing.flat_map(|(partitions, ..)| partitions.iter());
            // Of what the coordinator took away meanwhile nothing can be committed, so it may have another owner.
            let claimed: BTreeSet<_> =
                consumer.machine.handing.iter().flat_map(|handing| handing.partitions.iter()).collect();
            let calm = self.weather == Weather::Calm;
            let handing = handing.filter(|one| calm || claimed.contains(one));
            for one in consumer.owned.iter().chain(handing).cloned().collect::<BTreeSet<_>>() {
                if let Some(other) = owners.insert((one.clone(), generation), place) {
                    wrong.push(format!("{other} and {place} both have {one} in {}", membership.generation));
                }
            }
        }
        for wrong in wrong {
            self.wrong(&wrong);
        }
    }

    fn chaos(&mut self) {
        let place = self.dice.below(self.consumers.len());
        let usable = self.consumers[place].alive && !self.consumers[place].closing;
        match self.dice.below(12) {
            0 | 1 if self.consumers.iter().filter(|one| one.alive).count() < 4 => self.come(),
            2 if usable => self.close(place),
            3 if self.weather == Weather::Storm => self.consumers[place].alive = false,
            4 | 5 if usable => {
                let topics = self.topics();
                self.consumers[place].machine.handle_subscription(topics, self.now);
            }
            6 => {
                let topic = ["a", "b"][self.dice.below(2)];
                let count = self.counts.get_mut(topic).expect("listed");
                *count = (*count + 1).min(6);
                let view = self.view();
                for consumer in self.consumers.iter_mut().filter(|one| one.alive) {
                    consumer.machine.handle_cluster(view.clone(), self.now);
                }
            }
            7 if self.weather == Weather::Storm => {
                self.coordinator.moves(self.now);
                self.away_until = self.now + self.within(15 * SECOND);
            }
            8 | 9 if self.weather == Weather::Storm => {
                if let Some(asker) = self.open.iter().nth(self.dice.below(self.open.len().max(1))).copied() {
                    self.post(Mail::Answer(asker, Err(Error::io("broken").maybe_done())), SECOND / 100);
                }
            }
            10 if usable && self.weather == Weather::Storm => {
                let machine = &mut self.consumers[place].machine;
                if let Some(membership) = machine.membership() {
                    let codes = [
                        ErrorCode::ILLEGAL_GENERATION,
                        ErrorCode::UNKNOWN_MEMBER_ID,
                        ErrorCode::REBALANCE_IN_PROGRESS,
                    ];
                    let code = codes[self.dice.below(3)];
                    if code == ErrorCode::UNKNOWN_MEMBER_ID {
                        self.coordinator.remove(&membership.member, self.now);
                    }
                    machine.handle_rejoin(&membership, code, self.now);
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, place: usize) {
        self.consumers[place].closing = true;
        self.consumers[place].machine.handle_close(Leave::Default, self.now);
    }

    /// The next time at which something is due.
    fn next(&self) -> Instant {
        let mail = self.mail.iter().map(|(at, ..)| *at);
        let alive = self.consumers.iter().filter(|consumer| consumer.alive);
        let consumers = alive.flat_map(|consumer| {
            let handing = consumer.handing.front().map(|(_, until, _)| *until);
            [consumer.machine.poll_timeout(), Some(consumer.polls), handing].into_iter().flatten()
        });
        let next = mail.chain(consumers).chain(self.coordinator.timeout()).min();
        next.unwrap_or(self.now + SECOND).max(self.now + Duration::from_millis(1))
    }

    fn rests(&self) -> bool {
        self.consumers.iter().filter(|one| one.alive).all(|consumer| {
            consumer.machine.phase() == Phase::Stable && consumer.handing.is_empty() && !consumer.closing
        })
    }

    fn run(mut self) -> Vec<String> {
        let end = self.now + 90 * SECOND;
        while self.now < end && self.wrong.is_empty() {
            let most = self.now + self.within(4 * SECOND);
            while self.next() < most && self.wrong.is_empty() {
                self.now = self.next();
                self.settle();
            }
            self.now = most.max(self.now);
            self.chaos();
            self.settle();
        }
        self.faults = false;
        let (end, mut quiet) = (self.now + 400 * SECOND, self.now);
        while self.wrong.is_empty() && self.now < end && self.now < quiet + 20 * SECOND {
            self.now = self.next();
            self.settle();
            if !self.rests() {
                quiet = self.now;
            }
        }
        if self.wrong.is_empty() {
            self.at_rest();
        }
        if !self.wrong.is_empty() {
            self.wrong.extend(self.trace);
        }
        self.wrong
    }

    fn at_rest(&mut self) {
        if !self.rests() {
            let all = self.consumers.iter().filter(|one| one.alive);
            let phases: Vec<_> =
                all.map(|one| (one.machine.phase(), one.handing.len(), one.closing)).collect();
            return self.wrong(&format!("no rest: {phases:?}"));
        }
        let alive = || self.consumers.iter().filter(|consumer| consumer.alive);
        let mut wrong = Vec::new();
        for consumer in alive() {
            if consumer.owned != consumer.machine.owned {
                wrong.push(format!("told {:?}, has {:?}", consumer.owned, consumer.machine.owned));
            }
        }
        for (topic, count) in &self.counts {
            if !alive().any(|consumer| consumer.machine.wants(&Str::from(*topic))) {
                continue;
            }
            for number in 0..*count {
                let one = TopicPartition::new(topic, number as i32);
                let owners = alive().filter(|consumer| consumer.owned.contains(&one)).count();
                if owners != 1 {
                    wrong.push(format!("{one} has {owners} owners at rest"));
                }
            }
        }
        for wrong in wrong {
            self.wrong(&wrong);
        }
    }
}

fn brief(request: &Request) -> String {
    match request {
        Request::Join(join) => {
            let claims = join.protocols.first().and_then(|one| Subscription::from_bytes(&one.metadata).ok());
            let claims = claims.map(|one| (one.topics, one.owned, one.generation));
            format!("Join {:?} because {:?}: {claims:?}", join.member_id, join.reason)
        }
        Request::Sync(sync) => format!("Sync {} with {}", sync.generation_id, sync.assignments.len()),
        Request::Leave(_) => "Leave".into(),
        Request::Heartbeat(beat) => format!("Heartbeat {}", beat.generation_id),
        Request::Consumer(_) => "Consumer".into(),
    }
}

fn brief_answer(answer: &Result<Response>) -> String {
    let code = |code| ErrorCode(code).to_string();
    match answer {
        Ok(Response::Join(join)) => format!(
            "Join {} {:?} generation {} leader {:?} skip {}",
            code(join.error_code),
            join.member_id,
            join.generation_id,
            join.leader,
            join.skip_assignment
        ),
        Ok(Response::Sync(sync)) => format!("Sync {}", code(sync.error_code)),
        Ok(Response::Heartbeat(beat)) => format!("Heartbeat {}", code(beat.error_code)),
        Ok(Response::Leave(leave)) => format!("Leave {}", code(leave.error_code)),
        Ok(Response::Consumer(_)) => "Consumer".into(),
        Err(error) => error.to_string(),
    }
}

fn first_wrong(weather: Weather, planted: Planted, seeds: u64) -> Option<(u64, Vec<String>)> {
    let run = |seed| (seed, World::new(weather, planted, seed).run());
    (0..seeds).map(run).find(|(_, wrong)| !wrong.is_empty())
}

#[test]
fn in_calm_weather_nobody_ever_has_what_another_has() {
    let wrong = first_wrong(Weather::Calm, Planted::Nothing, 1000);
    assert!(wrong.is_none(), "seed and what is wrong: {wrong:#?}");
}

#[test]
fn in_a_storm_members_stay_true_and_come_to_rest_after_it() {
    let wrong = first_wrong(Weather::Storm, Planted::Nothing, 2500);
    assert!(wrong.is_none(), "seed and what is wrong: {wrong:#?}");
}

#[test]
fn planted_defects_are_caught() {
    for planted in [
        Planted::ForgetsHanding,
        Planted::JoinsBeforeHandingOver,
        Planted::ForgetsId,
        Planted::LeavesSilently,
        Planted::JoinsTwice,
        Planted::LosesSilently,
        Planted::KeepsWhatIsLost,
    ] {
        let caught = [Weather::Calm, Weather::Storm]
            .into_iter()
            .find_map(|weather| first_wrong(weather, planted, 300));
        assert!(caught.is_some(), "{planted:?} is not seen");
    }
}
