//! What the core must do, event by event; and whatever may happen against a model of brokers' logs.

use bytes::Bytes;

use super::*;
use crate::ErrorCode;
use crate::consumer::batch::Marks;
use crate::records::{BatchBuilder, NewRecord, Stamp};

mod model;

fn limits() -> Limits {
    Limits {
        isolation: Isolation::ReadUncommitted,
        reset: Reset::Earliest,
        check_crcs: true,
        memory: 10_000,
        fetch_max: 4_000,
        partition_max: 1_000,
        max_wait: Duration::from_millis(500),
        max_age: Duration::from_mins(5),
        backoff: Backoff { first: Duration::from_millis(100), most: Duration::from_secs(1) },
        rack: true,
    }
}

/// Records of these offsets, one batch.
fn batch(base: i64, count: i64, epoch: i32, serial: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    for n in 0..count {
        builder.append(&NewRecord::new(1).value(&(serial + n).to_be_bytes())).unwrap();
    }
    builder.seal(&Stamp::default().base_offset(base, epoch), None).unwrap()
}

fn id(number: u8) -> Uuid {
    Uuid::from_bytes([number; 16])
}

fn at(partition: i32) -> TopicPartition {
    TopicPartition::new("t", partition)
}

/// Partitions 0 to `count` of one topic, read from offset 0 at broker 1.
fn core(count: i32) -> (Core, Instant) {
    let now = crate::net::clock::now();
    let mut core = Core::new(limits(), 1);
    core.brokers = [1, 2, 3].into();
    for partition in 0..count {
        core.assign(at(partition), 1, Start::At(Position { offset: 0, epoch: -1 }), now);
        let key = core.key(&at(partition)).unwrap();
        core.handle_leader(key, Some((1, 1)), id(1), now);
    }
    core.handle_place(1, Some((1, true)));
    (core, now)
}

fn said(partition: i32, code: ErrorCode, records: Bytes) -> Arrived {
    Arrived {
        topic: Str::default(),
        topic_id: id(1),
        partition,
        code,
        marks: Marks { high_watermark: 100, last_stable: 100, log_start: 0 },
        aborted: vec![],
        preferred: -1,
        diverging: None,
        records,
    }
}

fn fetch(core: &mut Core, now: Instant) -> Option<Fetch> {
    core.poll_fetch(0, now, &mut false)
}

/// Answers a fetch with this.
fn answer(core: &mut Core, fetch: &Fetch, arrived: Vec<Arrived>, now: Instant) {
    core.handle_fetched(fetch.broker, fetch.ticket, ErrorCode::NONE, 5, arrived, now);
}

#[test]
fn m10_a_broker_that_refuses_is_asked_at_a_bounded_rate() {
    for code in [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_SERVER_ERROR,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode(999),
    ] {
        let (mut core, mut now) = core(1);
        let (end, mut asked) = (now + Duration::from_secs(20), 0);
        while now < end {
            core.handle_timeout(now);
            if let Some(fetch) = fetch(&mut core, now) {
                asked += 1;
                answer(&mut core, &fetch, vec![said(0, code, Bytes::new())], now);
            }
            drop(core.take(None));
            match core.poll_timeout() {
                Some(due) => assert!(due > now, "it does not spin: {code}"),
                None => panic!("it sleeps for ever: {code}"),
            }
            now = core.poll_timeout().unwrap().max(now);
        }
        assert!((15..60).contains(&asked), "{code}: {asked} in twenty seconds");
    }
}

#[test]
fn m10_a_broker_that_is_away_is_no_reason_to_spin() {
    let (mut core, now) = core(1);
    let first = fetch(&mut core, now).unwrap();
    core.handle_place(1, None);
    core.handle_fetch_failed(1, first.ticket, now);
    let due = core.poll_timeout().unwrap();
    core.handle_timeout(due);
    assert_eq!(core.poll_timeout(), None, "there is nothing to do until it is back");
    core.handle_place(1, Some((2, true)));
    assert_eq!(fetch(&mut core, due).unwrap().plan.session_epoch, 0);
}

#[test]
fn b20_broken_records_are_not_fetched_again_while_they_wait() {
    let (mut core, now) = core(1);
    let first = fetch(&mut core, now).unwrap();
    let mut bytes = batch(0, 3, 1, 0).to_vec();
    bytes.extend([0; 30]);
    answer(&mut core, &first, vec![said(0, ErrorCode::NONE, bytes.into())], now);
    assert!(fetch(&mut core, now).is_none(), "what is behind it is not known");
    let spares = std::sync::Arc::default();
    let mut taken = core.take(None).unwrap().unwrap();
    let given = taken.chunk.unpack(&taken.at, 1, 100_000, &spares).unwrap().unwrap();
    assert_eq!((given.len(), given.next_offset()), (3, 3));
    assert!(core.give_back(taken, None, now));
    let mut taken = core.take(None).unwrap().unwrap();
    let error = taken.chunk.unpack(&taken.at, 1, 100_000, &spares).unwrap_err();
    assert!(error.to_string().contains("t-0 at offset 3"), "{error}");
    core.give_back(taken, Some(error), now);
    assert!(core.take(None).unwrap().unwrap_err().is_corrupt());
    let due = core.poll_timeout().unwrap();
    core.handle_timeout(due);
    assert_eq!(fetch(&mut core, due).unwrap().plan.fetched[0].offset, 3);
}

#[test]
fn memory_that_is_short_goes_to_brokers_in_turn() {
    let (mut core, now) = core(4);
    for partition in [2, 3] {
        let key = core.key(&at(partition)).unwrap();
        core.handle_leader(key, Some((2, 2)), id(1), now);
    }
    core.handle_place(2, Some((2, true)));
    let mut asked = Vec::new();
    for _ in 0..10 {
        // The application holds so much that one fetch is all that there may be.
        let fetch = core.poll_fetch(9_000, now, &mut false).unwrap();
        asked.push(fetch.broker);
        answer(&mut core, &fetch, vec![], now);
    }
    assert_eq!(asked, [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]);
}

#[test]
fn c24_paused_partitions_give_up_what_they_have_when_memory_is_short() {
    let (mut core, now) = core(2);
    let first = fetch(&mut core, now).unwrap();
    answer(&mut core, &first, vec![said(0, ErrorCode::NONE, batch(0, 200, 1, 0))], now);
    core.set_paused(&at(0), true, now).unwrap();
    core.limits.memory = core.buffered + 500;
    let next = fetch(&mut core, now).expect("the other goes on");
    assert_eq!((core.buffered, next.plan.fetched.len()), (0, 0));
    core.set_paused(&at(0), false, now).unwrap();
    answer(&mut core, &next, vec![], now);
    let again = fetch(&mut core, now).unwrap();
    assert_eq!(again.plan.fetched[0].offset, 0, "it is fetched again");
}

#[test]
fn c12_an_epoch_that_a_leader_knows_nothing_of_is_no_loss() {
    let (mut core, now) = core(1);
    core.seek(&at(0), Start::At(Position { offset: 7, epoch: 0 }), now).unwrap();
    let lookup = core.poll_lookup(now).unwrap();
    let nothing = Position { offset: -1, epoch: -1 };
    let answer = BTreeMap::from([((at(0).name().clone(), 0), (ErrorCode::NONE, nothing))]);
    core.handle_sought(lookup.ticket, &answer, now);
    assert_eq!(fetch(&mut core, now).unwrap().plan.fetched[0].offset, 7);
}

#[test]
fn c12_a_time_without_a_leader_hides_no_new_epoch() {
    let (mut core, now) = core(1);
    let key = core.key(&at(0)).unwrap();
    let first = fetch(&mut core, now).unwrap();
    answer(&mut core, &first, vec![said(0, ErrorCode::NONE, batch(0, 3, 1, 0))], now);
    core.handle_leader(key, None, id(1), now);
    core.handle_leader(key, Some((2, 2)), id(1), now);
    let lookup = core.poll_lookup(now).expect("the new leader is asked");
    assert!(matches!(lookup.kind, LookupKind::Epochs(asked) if asked[0].3 == 1));
}

#[test]
fn a_follower_that_is_gone_or_unknown_is_not_read_from() {
    let (mut core, now) = core(1);
    for (preferred, broker) in [(9, 1), (2, 2)] {
        let fetch = fetch(&mut core, now).unwrap();
        let advice = Arrived { preferred, ..said(0, ErrorCode::NONE, Bytes::new()) };
        answer(&mut core, &fetch, vec![advice], now);
        let part = core.find(&at(0)).unwrap();
        assert_eq!(part.home(), Some(broker));
        if let Some(rested) = part.not_before {
            core.handle_timeout(rested);
        }
    }
    core.handle_unreachable(2, now);
    assert_eq!(core.find(&at(0)).unwrap().home(), Some(1));
}
