//! Events drawn from a seed, against a model that knows only what must never happen.

use std::collections::BTreeMap;

use super::*;
use crate::conn::seeds;

/// A sequence that looks random (splitmix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % n
    }
}

/// What is known of a request that was taken.
struct Fate {
    who: Who,
    sent: bool,
    has_answer: bool,
    done: bool,
}

/// The bed, and what must hold of it.
struct Model {
    bed: Bed,
    chance: Chance,
    requests: BTreeMap<i32, Fate>,
    /// Numbers in the order in which they were sent, with an answer to come.
    order: VecDeque<i32>,
    quiet_until: Instant,
    /// From the first word of a renewal to its last.
    renewing: bool,
    /// Words of the session that are due: whether it has more to say.
    words: VecDeque<bool>,
    begun: usize,
    responded: usize,
    renewals: usize,
    checked: usize,
    /// Frames that were looked at.
    looked: usize,
}

const IN_FLIGHT_MAX: usize = 5;
const PARKED_MAX: usize = 8;

impl Model {
    fn new(seed: u64) -> Self {
        let config = Config {
            in_flight_max: IN_FLIGHT_MAX,
            parked_max: PARKED_MAX,
            idle_max: 100 * SEC,
            ..Config::default()
        };
        let bed = Bed::authenticated(config, 40_000);
        Self {
            quiet_until: bed.now,
            begun: bed.begin,
            responded: bed.respond.len(),
            renewals: bed.authenticated.len(),
            looked: bed.total,
            bed,
            chance: Chance(seed),
            requests: BTreeMap::new(),
            order: VecDeque::new(),
            renewing: false,
            words: VecDeque::new(),
            checked: 0,
        }
    }

    fn step(&mut self) {
        match self.chance.below(100) {
            0..=34 => self.submit(),
            35..=66 => self.answer(),
            67..=69 => self.throttle(),
            70..=77 => self.say(),
            78..=80 => self.go(),
            81..=84 => self.toggle_socket(),
            85 => self.wait(20_000),
            _ => self.wait(400),
        }
        self.check();
    }

    fn submit(&mut self) {
        let deadline = match self.chance.below(3) {
            0 => Some(self.bed.now + (1 + self.chance.below(3000)) as u32 * MS),
            _ => None,
        };
        let has_answer = self.chance.below(5) > 0;
        let full = self.bed.machine.parked.len() >= PARKED_MAX;
        let (who, refused) = if has_answer {
            self.bed.submit_with(30 * SEC, deadline)
        } else {
            self.bed.ids += 1;
            let request = MetadataRequest::default();
            let segments = encode_request(&request, 12, self.bed.ids, None).unwrap();
            let prepared = Prepared { segments, pending: None, timeout: SEC, deadline };
            self.bed.submit_prepared(self.bed.ids, prepared)
        };
        match refused {
            None => {
                assert!(self.bed.machine.parked.len() <= PARKED_MAX);
                self.requests.insert(who.id, Fate { who, sent: false, has_answer, done: false });
            }
            Some(error) => {
                assert!(!error.may_have_happened());
                let over = self.bed.dead.is_some() || !self.bed.machine.is_open();
                assert!(over || (full && error.is_limit()), "{error}");
            }
        }
    }

    fn answer(&mut self) {
        while let Some(frame) = self.bed.sent.front() {
            let asked = Asked::parse(frame);
            match asked.key {
                ApiKey::METADATA if self.requests.get(&asked.correlation).is_some_and(|f| !f.has_answer) => {
                    self.bed.sent.pop_front();
                    continue;
                }
                ApiKey::METADATA => {
                    assert_eq!(self.order.pop_front(), Some(asked.correlation), "in order");
                    self.bed.answer();
                }
                ApiKey::SASL_HANDSHAKE => {
                    self.bed.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
                }
                _ => {
                    let session_lifetime_ms = 20_000 + self.chance.below(40_000) as i64;
                    let yes = SaslAuthenticateResponse { session_lifetime_ms, ..Default::default() };
                    self.bed.respond::<SaslAuthenticateRequest>(&yes);
                }
            }
            return;
        }
    }

    fn throttle(&mut self) {
        let time_ms = self.chance.below(5000) as i32 - 500;
        if let Some(time) = self.bed.machine.handle_throttle(time_ms, self.bed.now) {
            self.quiet_until = self.quiet_until.max(self.bed.now + time);
        }
    }

    fn say(&mut self) {
        match self.words.pop_front() {
            Some(true) => self.bed.say(Some(b"token")),
            Some(false) => self.bed.say(None),
            None => {}
        }
    }

    /// One of those who wait goes.
    fn go(&mut self) {
        let waiting = self.requests.values().filter(|fate| !fate.done);
        let chosen = self.chance.below(4) as usize;
        if let Some(fate) = { waiting }.nth(chosen) {
            fate.who.gone.store(true, Relaxed);
        }
    }

    fn toggle_socket(&mut self) {
        self.bed.writable = !self.bed.writable || self.chance.below(2) == 0;
        self.bed.drain();
    }

    fn wait(&mut self, most_ms: u64) {
        let mut left = self.chance.below(most_ms) as u32 * MS;
        // Step by step, so that what is sent at an alarm is judged by the time of that alarm.
        while let Some(next) = self.bed.machine.poll_timeout().filter(|next| *next <= self.bed.now + left) {
            let late = next.max(self.bed.now);
            left -= late - self.bed.now;
            self.bed.now = late;
            self.bed.tick();
            self.check();
        }
        self.bed.now += left;
    }

    /// Looks at what was sent and resolved since it looked last.
    fn check(&mut self) {
        let fresh = self.bed.total - std::mem::replace(&mut self.looked, self.bed.total);
        // The broker answers one thing at a time, and is looked at before it answers the next.
        let known = self.bed.sent.len().checked_sub(fresh).expect("answered before it was looked at");
        let fresh: Vec<Asked> = self.bed.sent.iter().skip(known).map(Asked::parse).collect();
        if self.bed.authenticated.len() > self.renewals {
            self.renewals = self.bed.authenticated.len();
            self.renewing = false;
        }
        for asked in fresh {
            match asked.key {
                ApiKey::SASL_HANDSHAKE => {
                    assert!(self.bed.now >= self.quiet_until, "a renewal begins in quiet");
                    self.renewing = true;
                }
                ApiKey::SASL_AUTHENTICATE => assert!(self.renewing),
                _ => {
                    assert!(!self.renewing, "a request in the middle of a renewal");
                    assert!(self.bed.now >= self.quiet_until, "a request while the broker wants quiet");
                    // One that is sent within the call that takes it is noted only now.
                    let fate = self.requests.get_mut(&asked.correlation).expect("a request that was taken");
                    assert!(!std::mem::replace(&mut fate.sent, true), "sent twice");
                    if fate.has_answer {
                        self.order.push_back(asked.correlation);
                    }
                }
            }
        }
        assert!(self.bed.machine.flights.len() <= IN_FLIGHT_MAX + 1, "a renewal may come on top");
        self.words.extend((self.begun..self.bed.begin).map(|_| true));
        self.begun = self.bed.begin;
        self.words.extend((self.responded..self.bed.respond.len()).map(|_| false));
        self.responded = self.bed.respond.len();
        for (id, error) in self.bed.done.iter().skip(self.checked) {
            let fate = self.requests.get_mut(id).expect("a request that was taken");
            assert!(!std::mem::replace(&mut fate.done, true), "{id} resolved twice");
            match error {
                None => assert!(fate.sent),
                Some(error) => assert_eq!(error.may_have_happened(), fate.sent, "{id}: {error}"),
            }
        }
        self.checked = self.bed.done.len();
    }

    /// The end, one way or another: nobody is forgotten.
    fn finish(mut self) -> usize {
        if self.chance.below(2) == 0 {
            self.bed.machine.close(self.bed.now);
            self.bed.writable = true;
            self.bed.drain();
            self.check();
            for _ in 0..200 {
                if self.bed.dead.is_some() {
                    break;
                }
                self.answer();
                self.check();
                self.say();
                self.check();
                self.wait(2000);
                self.check();
            }
        } else {
            self.bed.machine.handle_lost(Error::io("reset"));
            self.bed.drain();
        }
        self.check();
        assert!(self.bed.dead.is_some(), "the end comes");
        for (id, fate) in &self.requests {
            let unsent = !fate.sent && fate.who.is_gone();
            assert!(fate.done || unsent, "{id} was forgotten");
        }
        self.requests.len()
    }
}

#[test]
fn whatever_happens_every_request_ends_once_and_nothing_is_sent_out_of_place() {
    let (mut requests, mut renewals, mut ends) = (0, 0, 0);
    for seed in seeds(400) {
        println!("seed {seed}");
        let mut model = Model::new(seed);
        for _ in 0..300 {
            model.step();
        }
        renewals += model.renewals - 1;
        ends += usize::from(model.bed.dead.is_some());
        requests += model.finish();
    }
    println!("{requests} requests, {renewals} renewals, {ends} connections ended by themselves");
    let enough = requests > 10_000 && renewals > 100;
    assert!(enough || std::env::var("WEIR_MODEL_SEEDS").is_ok(), "{requests} {renewals}");
}
