//! The core without brokers: rules by name, and whatever may happen against a model of brokers' logs.

use std::time::{Duration, Instant};

use super::*;
use crate::cluster::Backoff;
use crate::producer::machine_line::End;
use world::Load;

mod model;
mod world;

fn core(lines: usize) -> (Core<Load>, Instant) {
    let backoff = Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) };
    let limits = Limits {
        rules: Rules { idempotent: true, backoff },
        in_flight_max: 5,
        request_size_max: 1000,
        linger: Duration::from_millis(5),
        delivery_timeout: Duration::from_secs(2),
    };
    let mut core = Core::new(limits, 1);
    let now = crate::net::clock::now();
    for line in 0..lines {
        core.add_line(true, None);
        core.handle_leader(line, Some(0), now);
    }
    core.handle_identity(Some(Identity { id: 7, epoch: 0 }), now);
    (core, now)
}

/// A batch that can be sent.
fn push(core: &mut Core<Load>, line: LineId, now: Instant) -> Ticket {
    let ticket = core.handle_closed(line, Load { records: vec![1] }, 1, now).unwrap();
    core.handle_sealed(line, ticket, now);
    ticket
}

fn lines(outgoing: Option<Outgoing>) -> Vec<LineId> {
    outgoing.map_or(vec![], |outgoing| outgoing.items.iter().map(|item| item.line).collect())
}

#[test]
fn a_line_stands_in_a_request_once_however_often_its_leader_moves() {
    let (mut core, now) = core(1);
    push(&mut core, 0, now);
    push(&mut core, 0, now);
    for leader in [1, 0, 1, 0] {
        core.handle_leader(0, Some(leader), now);
    }
    core.handle_place(0, Some(1), now);
    assert_eq!(lines(core.poll_request(now)), [0]);
    assert_eq!(lines(core.poll_request(now)), [0; 0], "one until the identity is known there");
}

#[test]
fn no_connection_is_wanted_to_a_broker_that_nothing_waits_for() {
    let (mut core, now) = core(2);
    push(&mut core, 0, now);
    core.handle_opened(1, now);
    core.handle_pressure(now);
    assert_eq!(core.wanted_brokers().collect::<Vec<_>>(), [0]);
    core.handle_leader(0, Some(1), now);
    assert_eq!(core.wanted_brokers().collect::<Vec<_>>(), [0, 1], "an open batch is due at 0");
    core.handle_leader(1, Some(1), now);
    assert_eq!(core.wanted_brokers().collect::<Vec<_>>(), [1]);
}

#[test]
fn p12_what_has_no_leader_waits_until_its_time_is_over_and_is_asked_about_so_long() {
    let (mut core, now) = core(1);
    core.handle_leader(0, None, now);
    core.handle_opened(0, now);
    assert_eq!(core.homeless().count(), 0);
    let linger = core.poll_timeout().unwrap();
    assert_eq!(linger, now + Duration::from_millis(5));
    core.handle_timeout(linger);
    assert_eq!((core.homeless().count(), core.poll_close(linger)), (1, None));
    let end = core.poll_timeout().unwrap();
    assert_eq!(end, now + Duration::from_secs(2));
    core.handle_timeout(end);
    assert_eq!((core.poll_close(end), core.poll_close(end)), (Some(0), None));
    let ticket = core.handle_closed(0, Load { records: vec![1] }, 1, now).unwrap();
    core.handle_sealed(0, ticket, end);
    core.handle_timeout(end);
    assert!(matches!(core.poll_event(), Some((0, Event::Ended { end: End::Failed { .. }, .. }))));
    assert_eq!((core.homeless().count(), core.is_idle(), core.poll_timeout()), (0, true, None));
}

#[test]
fn the_time_of_an_open_batch_ends_behind_that_of_a_closed_one() {
    let (mut core, now) = core(1);
    push(&mut core, 0, now);
    let later = now + Duration::from_secs(1);
    core.handle_opened(0, later);
    core.handle_timeout(later + Duration::from_millis(5));
    core.handle_timeout(now + Duration::from_secs(2));
    assert!(matches!(core.poll_event(), Some((0, Event::Ended { .. }))));
    assert_eq!(core.poll_timeout(), Some(later + Duration::from_secs(2)), "it is not forgotten");
}

#[test]
fn an_open_batch_grows_until_its_broker_can_take_it() {
    let (mut core, now) = core(1);
    core.handle_opened(0, now);
    let due = now + Duration::from_millis(5);
    core.handle_timeout(due);
    assert_eq!(core.poll_close(due), None);
    core.handle_place(0, Some(1), due);
    assert_eq!(core.poll_close(due), Some(0));
}

#[test]
fn requests_are_as_large_as_allowed_and_lines_take_turns() {
    let (mut core, now) = core(12);
    for line in 0..12 {
        push(&mut core, line, now);
        push(&mut core, line, now);
    }
    core.handle_place(0, Some(1), now);
    assert_eq!(lines(core.poll_request(now)), (0..10).collect::<Vec<_>>());
    assert_eq!(lines(core.poll_request(now)), [10, 11]);
}

#[test]
fn p05_lines_that_break_one_after_the_other_need_one_new_identity() {
    let (mut core, now) = core(2);
    core.handle_place(0, Some(1), now);
    let tickets = [0, 1].map(|line| push(&mut core, line, now));
    assert_eq!(lines(core.poll_request(now)), [0, 1]);
    let unknown = || Answer::UnknownProducer { error: Error::io("told so") };
    core.handle_answer(0, tickets[0], unknown(), now);
    assert!(core.wants_identity());
    core.handle_identity(Some(Identity { id: 7, epoch: 1 }), now);
    core.handle_answer(1, tickets[1], unknown(), now);
    assert!(!core.wants_identity(), "there is another one already");
    let later = now + Duration::from_secs(1);
    core.handle_timeout(later);
    core.handle_done(0);
    let outgoing = core.poll_request(later).unwrap();
    let stamps = outgoing.items.iter().filter_map(|item| item.stamp);
    let stamps: Vec<_> = stamps.map(|stamp| (stamp.identity.epoch, stamp.sequence)).collect();
    assert_eq!(stamps, [(1, 0), (1, 0)]);
}

#[test]
fn a_closed_gate_holds_a_line_back() {
    let (mut core, now) = core(1);
    core.handle_gate(0, false, now);
    core.handle_place(0, Some(1), now);
    push(&mut core, 0, now);
    assert_eq!(lines(core.poll_request(now)), [0; 0]);
    core.handle_gate(0, true, now);
    assert_eq!(lines(core.poll_request(now)), [0]);
}

#[test]
fn a_line_that_was_forgotten_goes_on_where_it_was_in_another_place() {
    let (mut core, now) = core(3);
    core.handle_place(0, Some(1), now);
    let tickets: Vec<Ticket> = (0..3).map(|line| push(&mut core, line, now)).collect();
    assert_eq!(lines(core.poll_request(now)), [0, 1, 2]);
    assert!(!core.is_quiet(0), "it is in flight");
    for (line, ticket) in tickets.iter().enumerate() {
        core.handle_answer(line, *ticket, Answer::Written { offset: Some(0), timestamp: None }, now);
    }
    core.handle_done(0);
    assert!(!core.is_quiet(0), "its end is not told");
    while core.poll_event().is_some() {}
    assert!((0..3).all(|line| core.is_quiet(line)));
    let kept = core.remove_line(1).expect("it has sent something");
    assert_eq!(core.add_line(true, None), 1, "another one has its place");
    assert_eq!(core.add_line(true, Some(kept)), 3);
    for line in [1, 3] {
        core.handle_leader(line, Some(0), now);
    }
    // An answer to what was there before is not taken for one to what is there now.
    let new = push(&mut core, 1, now);
    assert_ne!(new, tickets[1]);
    push(&mut core, 3, now);
    let outgoing = core.poll_request(now).expect("both can go");
    let stamps: Vec<_> =
        (outgoing.items.iter()).map(|item| (item.line, item.stamp.unwrap().sequence)).collect();
    assert_eq!(stamps, [(1, 0), (3, 1)]);
}

/// With many lines that wait, looking for what can be closed passes none of those that cannot.
#[test]
fn open_batches_are_found_without_looking_at_all_that_wait() {
    let (mut core, now) = core(1000);
    let mut waiting = Vec::new();
    for line in 0..1000 {
        if line % 2 == 0 {
            waiting.push((line, push(&mut core, line, now)));
        }
        core.handle_opened(line, now);
    }
    core.handle_pressure(now);
    core.handle_place(0, Some(1), now);
    let found = |core: &Core<Load>| core.nodes[&0].closable.iter().map(|(_, line)| *line).collect::<Vec<_>>();
    assert_eq!(found(&core), (0..1000).filter(|line| line % 2 == 1).collect::<Vec<_>>());
    // What waited is sent, or comes to an end, and what stood behind it can be closed.
    let sent = lines(core.poll_request(now));
    assert_eq!(sent.len(), 10);
    core.fail_line(waiting[10].0, &Error::io("told so"), now);
    assert_eq!(found(&core).len(), 500 + 10 + 1);
    core.handle_gate(1, false, now);
    core.handle_leader(3, None, now);
    assert_eq!(found(&core).len(), 509);
    let closed = std::iter::from_fn(|| core.poll_close(now)).count();
    assert_eq!((closed, found(&core).len()), (509, 0));
}
