//! The session against a model of a broker's (KIP-227): after every answer the broker fetches exactly what is wanted.

use std::collections::BTreeMap;

use super::*;
use crate::conn::{Dice, seeds};

/// What a broker keeps of a session, as Kafka does it: new and changed ones first, then those that are forgotten.
#[derive(Default)]
pub(in crate::consumer) struct Broker {
    /// Whether this broker knows topics by ids.
    pub(in crate::consumer) ids: bool,
    next: i32,
    pub(in crate::consumer) session: Option<(i32, i32, bool)>,
    cached: BTreeMap<(Str, Uuid, i32), Spec>,
    pub(in crate::consumer) slots: bool,
}

impl Broker {
    /// The code and the session's number.
    pub(in crate::consumer) fn answer(&mut self, plan: &Plan) -> (ErrorCode, i32) {
        let place = |topic: &Str, id: Uuid, partition: i32| {
            if plan.by_id { (Str::default(), id, partition) } else { (topic.clone(), Uuid::ZERO, partition) }
        };
        assert!(self.ids || !plan.by_id, "it does not know ids");
        if plan.session_epoch == 0 {
            assert!(plan.forgotten.is_empty(), "nothing to forget in a full request");
            if self.session.is_some_and(|(id, ..)| id == plan.session_id) {
                self.session = None;
            }
            self.cached.clear();
            if self.slots {
                self.next += 1;
                self.session = Some((self.next, 1, plan.by_id));
            }
        } else {
            match &mut self.session {
                Some((id, ..)) if *id != plan.session_id => {
                    return (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0);
                }
                None => return (ErrorCode::FETCH_SESSION_ID_NOT_FOUND, 0),
                Some((_, epoch, _)) if *epoch != plan.session_epoch => {
                    return (ErrorCode::INVALID_FETCH_SESSION_EPOCH, 0);
                }
                Some((.., by_id)) if *by_id != plan.by_id => {
                    return (ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR, 0);
                }
                Some((_, epoch, _)) => *epoch += 1,
            }
        }
        for spec in &plan.fetched {
            self.cached.insert(place(&spec.topic, spec.topic_id, spec.partition), spec.clone());
        }
        for (topic, id, partition) in &plan.forgotten {
            self.cached.remove(&place(topic, *id, *partition));
        }
        (ErrorCode::NONE, self.session.map_or(0, |(id, ..)| id))
    }

    pub(in crate::consumer) fn fetched(&self) -> Vec<Spec> {
        self.cached.values().cloned().collect()
    }
}

fn spec(topic: usize, id: u128, partition: i32, offset: i64) -> Spec {
    Spec {
        topic: format!("t{topic}").as_str().into(),
        topic_id: Uuid::from_bytes(id.to_be_bytes()),
        partition,
        offset,
        leader_epoch: 0,
        last_epoch: -1,
        max_bytes: 100,
        version: offset as u64,
    }
}

/// One run; panics where the rule is broken.
fn run(seed: u64) {
    let mut dice = Dice::new(seed);
    let mut broker = Broker { ids: dice.below(3) > 0, slots: true, ..Broker::default() };
    let mut session = Session::default();
    let mut wanted: BTreeMap<(usize, i32), (Key, Spec)> = BTreeMap::new();
    let mut ids = [0_u128; 3];
    let (mut keys, mut offset, mut made) = (0, 0, 0);
    for round in 0..60 {
        let faults = round < 50;
        for _ in 0..dice.below(5) {
            let (topic, partition) = (dice.below(3), dice.below(3) as i32);
            match dice.below(12) {
                0..5 => {
                    offset += 1;
                    keys += 1;
                    let spec = spec(topic, ids[topic], partition, offset);
                    let entry = wanted.entry((topic, partition)).or_insert((keys, spec.clone()));
                    entry.1 = spec.clone();
                    session.want(entry.0, spec);
                }
                5..8 => {
                    if let Some((key, _)) = wanted.remove(&(topic, partition)) {
                        session.unwant(key);
                    }
                }
                // The topic is made anew, or its id comes to be known; or is not known any more.
                8 if faults => {
                    made += 1;
                    ids[topic] = if dice.below(4) == 0 { 0 } else { made };
                    for (_, (key, spec)) in wanted.iter_mut().filter(|((of, _), _)| *of == topic) {
                        spec.topic_id = Uuid::from_bytes(ids[topic].to_be_bytes());
                        session.want(*key, spec.clone());
                    }
                }
                9 if faults => broker.session = None,
                10 if faults => broker.slots = !broker.slots,
                _ => broker.slots |= !faults,
            }
        }
        let plan = session.begin(broker.ids);
        if faults && dice.below(10) == 0 {
            // It is lost before the broker has it, or behind that.
            if dice.below(2) == 0 {
                broker.answer(&plan);
            }
            session.handle_failure();
            continue;
        }
        let (code, id) = broker.answer(&plan);
        if code.is_none() {
            let mut want: Vec<Spec> = wanted.values().map(|(_, spec)| spec.clone()).collect();
            let mut have = broker.fetched();
            want.sort_by_key(|spec| spec.version);
            have.sort_by_key(|spec| spec.version);
            assert_eq!(have, want, "seed {seed}, round {round}");
            for (key, spec) in wanted.values() {
                let found = session.find(&spec.topic, spec.topic_id, spec.partition);
                assert_eq!(found, Some((*key, spec)), "seed {seed}, round {round}");
            }
            session.handle_answer(id);
        } else {
            assert!(faults || round < 53, "seed {seed}: {code} in round {round}, without faults");
            session.handle_refusal(code);
        }
    }
}

#[test]
fn c09_the_broker_fetches_what_is_wanted_whatever_becomes_of_sessions() {
    for seed in seeds(5_000) {
        run(seed);
    }
}

#[test]
fn only_what_has_changed_is_said_again() {
    let mut session = Session::default();
    for partition in 0..100 {
        session.want(partition, spec(0, 1, partition as i32, 5));
    }
    assert_eq!(session.begin(true).fetched.len(), 100);
    session.handle_answer(7);
    let plan = session.begin(true);
    assert_eq!((plan.session_id, plan.session_epoch, plan.fetched.len()), (7, 1, 0));
    session.handle_answer(7);
    session.want(3, spec(0, 1, 3, 6));
    session.unwant(4);
    let plan = session.begin(true);
    assert_eq!((plan.session_epoch, plan.fetched.len(), plan.forgotten.len()), (2, 1, 1));
}

#[test]
fn b18_an_answer_of_another_session_begins_a_new_one() {
    let mut session = Session::default();
    session.want(1, spec(0, 1, 0, 5));
    session.begin(true);
    session.handle_answer(7);
    session.begin(true);
    session.handle_answer(8);
    let plan = session.begin(true);
    assert_eq!((plan.session_epoch, plan.fetched.len()), (0, 1));
    session.handle_answer(-3);
    assert_eq!(session.begin(true).session_epoch, 0);
}

#[test]
fn the_number_of_a_request_begins_again_at_one() {
    let mut session = Session::default();
    session.want(1, spec(0, 1, 0, 5));
    session.begin(true);
    session.handle_answer(7);
    session.epoch = i32::MAX;
    session.begin(true);
    session.handle_answer(7);
    assert_eq!(session.begin(true).session_epoch, 1);
}

#[test]
fn c09_a_topic_made_anew_goes_on_where_topics_go_by_their_names() {
    let mut broker = Broker { slots: true, ..Broker::default() };
    let mut session = Session::default();
    session.want(1, spec(0, 1, 0, 5));
    let plan = session.begin(false);
    session.handle_answer(broker.answer(&plan).1);
    session.want(1, spec(0, 2, 0, 0));
    let plan = session.begin(false);
    session.handle_answer(broker.answer(&plan).1);
    assert_eq!(broker.fetched(), [spec(0, 2, 0, 0)]);
}
