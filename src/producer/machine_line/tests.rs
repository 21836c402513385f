//! Rules of a line by name, after the faults of other clients that they keep away.

use std::time::Duration;

use super::*;
use crate::cluster::Backoff;

const FIRST: Identity = Identity { id: 7, epoch: 0 };
const SECOND: Identity = Identity { id: 7, epoch: 1 };
const DELIVERY: Duration = Duration::from_secs(2);

/// A line, a clock, and where things go.
struct Bench {
    line: Line<&'static str>,
    now: Instant,
    dice: Dice,
    place: u64,
    identity: Identity,
}

impl Bench {
    fn new(idempotent: bool) -> Self {
        let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) };
        let line = Line::new(Rules { idempotent, backoff });
        Self { line, now: crate::net::clock::now(), dice: Dice::new(1), place: 1, identity: FIRST }
    }

    /// A line whose leader has written one record already.
    fn known() -> Self {
        let mut bench = Self::new(true);
        let first = bench.push("known", 1);
        assert_eq!(bench.sent(), [("known", 0)]);
        bench.written(first);
        assert_eq!(bench.told(), ["known written"]);
        bench
    }

    fn push(&mut self, batch: &'static str, count: i32) -> Ticket {
        let ticket = self.line.push(batch, count, self.now, self.now + DELIVERY);
        self.line.handle_sealed(ticket);
        ticket
    }

    /// What can be sent now, and under which numbers.
    fn sent(&mut self) -> Vec<(&'static str, i32)> {
        let mut all = Vec::new();
        while let Some(sending) = self.line.poll_send(self.now, self.place, Some(self.identity)) {
            let sequence = sending.stamp.map_or(-1, |stamp| stamp.sequence);
            all.push((*sending.batch, sequence));
        }
        all
    }

    fn answer(&mut self, ticket: Ticket, answer: Answer) {
        self.line.handle_answer(ticket, answer, self.now, &mut self.dice);
    }

    fn written(&mut self, ticket: Ticket) {
        self.answer(ticket, Answer::Written { offset: Some(5), timestamp: None });
    }

    fn retry(&mut self, ticket: Ticket, maybe: bool) {
        self.answer(ticket, Answer::Retry { error: error(), maybe });
    }

    fn out_of_order(&mut self, ticket: Ticket) {
        self.answer(ticket, Answer::OutOfOrder { error: error() });
    }

    fn refuse(&mut self, ticket: Ticket) {
        self.answer(ticket, Answer::Refused { error: error(), records: Vec::new() });
    }

    /// Until the pause after a failure is over.
    fn pause(&mut self) {
        let until = self.line.poll_timeout(self.now).expect("a pause");
        assert!(until < self.now + DELIVERY / 2, "that is a deadline");
        self.now = until;
    }

    fn expire(&mut self) {
        self.now += DELIVERY;
        self.line.handle_timeout(self.now);
    }

    fn told(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(event) = self.line.poll_event() {
            all.push(match event {
                Event::Ended { batch, end: End::Written { .. } } => format!("{batch} written"),
                Event::Ended { batch, end: End::Failed { error, .. } } => {
                    let how = if error.may_have_happened() { "maybe" } else { "failed" };
                    format!("{batch} {how}")
                }
                Event::Split { batch, .. } => format!("{batch} split"),
            });
        }
        all
    }

    fn bump(&mut self) {
        assert_eq!(self.line.wants_identity(), Some(self.identity));
        self.identity = self.identity.next().unwrap();
        self.line.handle_identity(self.identity);
        assert_eq!(self.line.wants_identity(), None);
    }
}

fn error() -> Error {
    Error::io("told so")
}

#[test]
fn p01_a_retry_goes_under_the_same_numbers_and_a_duplicate_is_written() {
    let mut bench = Bench::known();
    let tickets: Vec<Ticket> = ["a", "b", "c"].map(|name| bench.push(name, 2)).into();
    assert_eq!(bench.sent(), [("a", 1), ("b", 3), ("c", 5)]);
    for ticket in &tickets {
        bench.retry(*ticket, true);
    }
    bench.push("d", 1);
    bench.pause();
    assert_eq!(bench.sent(), [("a", 1), ("b", 3), ("c", 5), ("d", 7)]);
    bench.answer(tickets[0], Answer::Duplicate { offset: None, timestamp: None });
    bench.written(tickets[1]);
    assert_eq!(bench.told(), ["a written", "b written"]);
}

#[test]
fn p02_numbers_that_may_be_in_the_log_are_never_given_to_another() {
    let mut bench = Bench::known();
    let a = bench.push("a", 2);
    bench.sent();
    bench.retry(a, true);
    bench.expire();
    assert_eq!(bench.told(), ["a maybe"]);
    bench.push("b", 1);
    assert_eq!(bench.sent(), [], "not under this identity");
    bench.bump();
    assert_eq!(bench.sent(), [("b", 0)]);
}

#[test]
fn p02_numbers_that_no_log_has_seen_are_used_by_the_next() {
    let mut bench = Bench::known();
    let a = bench.push("a", 2);
    bench.sent();
    bench.retry(a, false);
    bench.expire();
    assert_eq!(bench.told(), ["a failed"]);
    bench.push("b", 1);
    assert_eq!(bench.sent(), [("b", 1)]);
}

#[test]
fn p02_what_expires_in_flight_is_told_and_its_late_answer_counts() {
    let mut bench = Bench::known();
    let a = bench.push("a", 2);
    bench.sent();
    bench.expire();
    assert_eq!(bench.told(), ["a maybe"]);
    assert_eq!((bench.line.in_flight(), bench.line.wants_identity()), (1, None));
    bench.push("b", 1);
    assert_eq!(bench.sent(), [("b", 3)], "it is in flight still");
    bench.written(a);
    assert_eq!((bench.told(), bench.line.wants_identity()), (vec![], None));

    let mut bench = Bench::known();
    let a = bench.push("a", 2);
    bench.sent();
    bench.expire();
    bench.retry(a, true);
    assert_eq!((bench.told(), bench.sent()), (vec!["a maybe".to_owned()], vec![]), "it is not sent again");
    assert_eq!(bench.line.wants_identity(), Some(FIRST));
}

#[test]
fn p04_followers_of_a_refused_batch_are_numbered_anew_in_order() {
    let mut bench = Bench::known();
    let [a, b, c] = ["a", "b", "c"].map(|name| bench.push(name, 2));
    assert_eq!(bench.sent().len(), 3);
    bench.refuse(a);
    bench.push("d", 1);
    assert_eq!(bench.sent(), [], "until all in flight has ended");
    bench.out_of_order(b);
    bench.out_of_order(c);
    assert_eq!((bench.told(), bench.line.wants_identity()), (vec!["a failed".to_owned()], None));
    assert_eq!(bench.sent(), [("b", 1), ("c", 3), ("d", 5)]);
}

#[test]
fn p04_followers_that_may_be_in_the_log_are_asked_about_first() {
    let mut bench = Bench::known();
    let [a, b] = ["a", "b"].map(|name| bench.push(name, 2));
    assert_eq!(bench.sent().len(), 2);
    bench.retry(a, false);
    bench.retry(b, true);
    bench.pause();
    assert_eq!(bench.sent(), [("a", 1), ("b", 3)]);
    bench.refuse(a);
    bench.retry(b, true);
    assert_eq!(bench.sent(), [("b", 3)], "under the number that it had");
    bench.out_of_order(b);
    // An earlier attempt may be on its way, and would fit if the numbers went on from 1.
    bench.bump();
    bench.pause();
    assert_eq!(bench.sent(), [("b", 0)]);
}

#[test]
fn p05_all_in_flight_begin_again_in_order_when_the_producer_is_not_known() {
    let mut bench = Bench::known();
    let tickets = ["a", "b", "c"].map(|name| bench.push(name, 2));
    assert_eq!(bench.sent().len(), 3);
    for ticket in tickets {
        assert_eq!(bench.line.wants_identity(), None, "something is in flight");
        bench.answer(ticket, Answer::UnknownProducer { error: error() });
    }
    bench.bump();
    bench.pause();
    assert_eq!(bench.sent(), [("a", 0)], "one, until the leader knows the new identity");
    bench.written(tickets[0]);
    assert_eq!(bench.sent(), [("b", 2), ("c", 4)]);
}

#[test]
fn p06_an_idle_partition_begins_at_0_under_a_new_identity() {
    let mut bench = Bench::known();
    bench.identity = SECOND;
    bench.line.handle_identity(SECOND);
    bench.push("a", 1);
    assert_eq!(bench.sent(), [("a", 0)]);
}

#[test]
fn p06_a_new_identity_waits_for_what_the_old_one_has_stamped() {
    let mut bench = Bench::known();
    let a = bench.push("a", 2);
    bench.sent();
    bench.identity = SECOND;
    bench.line.handle_identity(SECOND);
    bench.push("b", 1);
    assert_eq!(bench.sent(), []);
    bench.retry(a, true);
    bench.pause();
    let again = bench.line.poll_send(bench.now, 1, Some(SECOND)).unwrap();
    assert_eq!(again.stamp, Some(Stamped { identity: FIRST, sequence: 1 }), "it keeps its stamp");
    bench.written(a);
    assert_eq!(bench.sent(), [("b", 0)]);
}

#[test]
fn p07_out_of_order_with_the_fate_of_others_open() {
    let mut bench = Bench::known();
    let [a, b] = ["a", "b"].map(|name| bench.push(name, 2));
    assert_eq!(bench.sent().len(), 2);
    bench.retry(a, true);
    bench.out_of_order(b);
    assert_eq!(bench.line.wants_identity(), None, "it follows one that was not written");
    bench.expire();
    assert_eq!(bench.told(), ["a maybe", "b failed"]);
    assert_eq!(bench.line.wants_identity(), Some(FIRST));
}

#[test]
fn p07_behind_a_lost_batch_one_without_an_answer_is_never_sent_as_new() {
    let mut bench = Bench::known();
    let a = bench.push("a", 2);
    bench.now += DELIVERY / 2;
    let b = bench.push("b", 2);
    assert_eq!(bench.sent().len(), 2);
    bench.retry(a, true);
    bench.retry(b, true);
    bench.now += DELIVERY / 2;
    bench.line.handle_timeout(bench.now);
    assert_eq!(bench.told(), ["a maybe"]);
    assert_eq!(bench.sent(), [("b", 3)]);
    bench.out_of_order(b);
    // Both may arrive yet, one behind the other.
    assert_eq!(bench.told(), ["b maybe"]);
    bench.bump();
}

#[test]
fn p08_a_leader_that_has_lost_what_it_had_is_gone_on_with() {
    let mut bench = Bench::known();
    let a = bench.push("a", 2);
    bench.sent();
    bench.out_of_order(a);
    bench.bump();
    bench.pause();
    assert_eq!(bench.sent(), [("a", 0)]);
    bench.written(a);
    assert_eq!(bench.told(), ["a written"]);

    let b = bench.push("b", 1);
    bench.sent();
    bench.retry(b, true);
    bench.pause();
    bench.sent();
    bench.answer(b, Answer::UnknownProducer { error: error() });
    assert_eq!(bench.told(), ["b maybe"], "it may have been written before that");
    bench.bump();
}

#[test]
fn p09_numbers_go_on_while_the_partition_has_no_leader() {
    let mut bench = Bench::known();
    let a = bench.push("a", 2);
    bench.sent();
    bench.retry(a, false);
    bench.place = 2;
    bench.pause();
    assert_eq!(bench.sent(), [("a", 1)]);
    bench.written(a);
    bench.push("b", 1);
    assert_eq!(bench.sent(), [("b", 3)]);
}

#[test]
fn p14_parts_of_a_batch_keep_its_numbers_and_its_fate() {
    for maybe in [false, true] {
        let mut bench = Bench::known();
        let whole = bench.push("whole", 5);
        let next = bench.push("next", 1);
        assert_eq!(bench.sent().len(), 2);
        if maybe {
            bench.retry(whole, true);
            bench.out_of_order(next);
            bench.pause();
            assert_eq!(bench.sent(), [("whole", 1), ("next", 6)]);
        }
        bench.answer(whole, Answer::TooLarge { error: error() });
        bench.out_of_order(next);
        assert_eq!(bench.told(), ["whole split"]);
        let parts = bench.line.replace(whole, vec![("left", 3), ("right", 2)]);
        for part in &parts {
            bench.line.handle_sealed(*part);
        }
        assert_eq!(bench.sent(), [("left", 1), ("right", 4), ("next", 6)]);
        bench.out_of_order(parts[0]);
        // If the whole is in the log, its parts are not written again.
        assert_eq!(bench.told(), if maybe { vec!["left maybe"] } else { vec![] });
    }
}

#[test]
fn p14_parts_of_a_batch_that_was_given_up_meanwhile_end_with_it() {
    let mut bench = Bench::known();
    let whole = bench.push("whole", 2);
    bench.sent();
    bench.answer(whole, Answer::TooLarge { error: error() });
    bench.line.fail(&error(), true);
    assert_eq!(bench.told(), ["whole split"]);
    bench.line.replace(whole, vec![("left", 1), ("right", 1)]);
    assert_eq!(bench.told(), ["left failed", "right failed"]);
    assert_eq!(bench.line.len(), 0);
    bench.push("after all", 1);
    assert_eq!(bench.told(), ["after all failed"]);
}

#[test]
fn p16_an_answer_that_comes_twice_or_for_nothing_changes_nothing() {
    let mut bench = Bench::known();
    let a = bench.push("a", 2);
    bench.sent();
    bench.written(a + 1);
    assert_eq!(bench.told().len(), 0);
    bench.written(a);
    bench.refuse(a);
    assert_eq!((bench.told(), bench.line.in_flight()), (vec!["a written".to_owned()], 0));
}

#[test]
fn p17_the_records_that_are_to_blame_are_named() {
    let mut bench = Bench::known();
    let a = bench.push("a", 3);
    bench.sent();
    bench.answer(a, Answer::Refused { error: error(), records: vec![(1, error())] });
    let Some(Event::Ended { end: End::Failed { records, error }, .. }) = bench.line.poll_event() else {
        panic!("it ends");
    };
    assert_eq!(records.first().map(|(at, _)| *at), Some(1));
    assert!(records.len() == 1 && !error.may_have_happened());
}

#[test]
fn numbers_go_on_at_0_behind_the_largest() {
    let mut bench = Bench::known();
    for count in [1 << 29, 1 << 29, 1 << 29, (1 << 29) - 3] {
        let ticket = bench.push("big", count);
        assert_eq!(bench.sent().len(), 1);
        bench.written(ticket);
    }
    let [a, b] = ["a", "b"].map(|name| bench.push(name, 3));
    assert_eq!(bench.sent(), [("a", i32::MAX - 1), ("b", 1)]);
    bench.written(a);
    bench.refuse(b);
    bench.push("c", 1);
    assert_eq!(bench.sent(), [("c", 1)]);
}

#[test]
fn one_is_in_flight_until_the_leader_knows_the_identity() {
    let mut bench = Bench::new(true);
    let [a, _, _] = ["a", "b", "c"].map(|name| bench.push(name, 1));
    assert_eq!(bench.sent(), [("a", 0)]);
    bench.retry(a, true);
    bench.pause();
    assert_eq!(bench.sent(), [("a", 0)]);
    bench.written(a);
    assert_eq!(bench.sent(), [("b", 1), ("c", 2)]);
}

#[test]
fn another_leader_gets_nothing_while_something_is_in_flight() {
    let mut bench = Bench::known();
    let a = bench.push("a", 1);
    bench.sent();
    bench.push("b", 1);
    bench.place = 2;
    assert_eq!(bench.sent(), []);
    bench.written(a);
    assert_eq!(bench.sent(), [("b", 2)]);
}

#[test]
fn what_a_later_batch_has_overtaken_is_asked_about_again() {
    // A broker that took the second has the first, whatever was said of it.
    let mut bench = Bench::known();
    let [a, b] = ["a", "b"].map(|name| bench.push(name, 1));
    assert_eq!(bench.sent().len(), 2);
    bench.retry(a, false);
    bench.written(b);
    assert_eq!(bench.told(), ["b written"]);
    bench.pause();
    assert_eq!(bench.sent(), [("a", 1)]);
    bench.answer(a, Answer::Duplicate { offset: None, timestamp: None });
    assert_eq!(bench.told(), ["a written"]);
    bench.push("c", 1);
    assert_eq!(bench.sent(), [("c", 3)]);
}

/// A leader that has forgotten the producer takes any number (KIP-360), so a later batch may be written while one before it
/// is being tried again. Behind that one it has no place any more: it fails rather than to change the order.
#[test]
fn what_a_later_batch_has_overtaken_is_not_written_behind_it() {
    let mut bench = Bench::known();
    let [a, b, c] = ["a", "b", "c"].map(|batch| bench.push(batch, 1));
    assert_eq!(bench.sent(), [("a", 1), ("b", 2), ("c", 3)]);
    bench.refuse(a);
    bench.retry(b, false);
    bench.written(c);
    assert_eq!(bench.told(), ["a failed", "c written"]);
    assert_eq!(bench.sent(), [("b", 2)], "it might be there");
    bench.out_of_order(b);
    assert_eq!(bench.told(), ["b failed"]);
    bench.push("d", 1);
    bench.now += DELIVERY / 2;
    assert_eq!(bench.sent(), [("d", 4)]);
}

#[test]
fn pauses_grow_once_for_all_in_flight_and_none_is_in_the_past() {
    let mut bench = Bench::known();
    let [a, b] = ["a", "b"].map(|name| bench.push(name, 1));
    for middle in [100, 200, 400] {
        assert_eq!(bench.sent().len(), 2);
        bench.retry(a, true);
        bench.retry(b, true);
        let until = bench.line.poll_timeout(bench.now).unwrap() - bench.now;
        let range = Duration::from_millis(middle * 4 / 5)..=Duration::from_millis(middle * 6 / 5);
        assert!(range.contains(&until), "{until:?}");
        assert_eq!(bench.sent(), []);
        bench.pause();
        assert!(bench.line.poll_timeout(bench.now).unwrap() > bench.now, "the deadline is what is left");
    }
    bench.sent();
    bench.written(a);
    bench.retry(b, true);
    let until = bench.line.poll_timeout(bench.now).unwrap() - bench.now;
    assert!(until <= Duration::from_millis(120), "a success forgives: {until:?}");
}

#[test]
fn without_idempotence_there_are_no_numbers_and_nothing_breaks() {
    let mut bench = Bench::new(false);
    let [a, b] = ["a", "b"].map(|name| bench.push(name, 1));
    assert_eq!(bench.sent(), [("a", -1), ("b", -1)]);
    bench.retry(a, true);
    bench.written(b);
    bench.expire();
    assert_eq!(bench.told(), ["b written", "a maybe"]);
    assert_eq!((bench.line.wants_identity(), bench.line.len()), (None, 0));
}
