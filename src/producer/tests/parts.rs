//! The parts below the producer by themselves: memory, acks, topics, sealing.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Wake, Waker};

use super::super::ack::{Completion, Outcome};
use super::super::buffers::{Buffer, Buffers};
use super::super::config::Settings;
use super::super::seal::seal;
use crate::conn::Dice;
use crate::records::{BatchBuilder, Compression, NewRecord};

/// Polls once, with a waker of its own.
fn poll_once<F: Future + Unpin>(future: &mut F, task: &Arc<Wakes>) -> Poll<F::Output> {
    let waker = Waker::from(Arc::clone(task));
    std::pin::Pin::new(future).poll(&mut Context::from_waker(&waker))
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn written(offset: i64) -> Outcome {
    Outcome::Written { offset: Some(offset), timestamp: None }
}

/// Many buffers taken, frozen, cloned and dropped in any order: never more than the budget, and at the end all is there.
#[test]
fn the_budget_is_kept_whatever_is_done_with_buffers() {
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let buffers = Buffers::new(64 << 10);
        let mut held: Vec<Buffer> = Vec::new();
        let mut frozen: Vec<(Bytes, usize)> = Vec::new();
        for _ in 0..2000 {
            match dice.roll() % 6 {
                0..=2 => {
                    let size = 1 + (dice.roll() % 20_000) as usize;
                    if let Some(buffer) = buffers.take(size) {
                        assert!(buffer.capacity() >= size);
                        held.push(buffer);
                    }
                }
                3 if !held.is_empty() => drop(held.swap_remove(dice.roll() as usize % held.len())),
                4 if !held.is_empty() => {
                    let buffer = held.swap_remove(dice.roll() as usize % held.len());
                    let size = buffer.capacity();
                    let bytes = buffer.freeze();
                    // Two who hold it: a batch, and a request that is being written.
                    frozen.extend([(bytes.clone(), size), (bytes, 0)]);
                }
                _ if !frozen.is_empty() => drop(frozen.swap_remove(dice.roll() as usize % frozen.len())),
                _ => {}
            }
            let alive: usize = held.iter().map(Buffer::capacity).sum();
            assert!(alive <= buffers.used() && buffers.used() <= buffers.total());
        }
        drop((held, frozen));
        // All of it can be had at once again: each share came back, and none twice.
        let all = buffers.take(64 << 10).expect("all came back");
        assert_eq!(buffers.used(), 64 << 10);
        assert!(buffers.take(1).is_none(), "and not more than all");
        drop(all);
    }
}

#[test]
fn frozen_bytes_keep_their_share_until_the_last_clone_is_gone() {
    let buffers = Buffers::new(4 << 10);
    let bytes = buffers.take(4 << 10).unwrap().freeze();
    let slice = bytes.slice(0..0);
    let clone = bytes.clone();
    drop(bytes);
    assert!(buffers.take(512).is_none());
    drop(clone);
    drop(slice);
    assert!(buffers.take(4 << 10).is_some(), "it came back");
}

#[test]
fn buffers_that_are_kept_make_room_for_others() {
    let buffers = Buffers::new(8 << 10);
    let small: Vec<Buffer> = (0..16).map(|_| buffers.take(512).unwrap()).collect();
    assert!(buffers.take(512).is_none());
    drop(small);
    assert_eq!(buffers.used(), 8 << 10, "they are kept");
    assert!(buffers.take(8 << 10).is_some(), "and given up");
}

#[tokio::test(start_paused = true)]
async fn memory_is_given_in_the_order_of_arrival() {
    let buffers = Buffers::new(4 << 10);
    let mut held: Vec<Buffer> = (0..4).map(|_| buffers.take(1 << 10).unwrap()).collect();
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    // The first wants most, and those behind it do not pass it.
    for (n, size) in [3 << 10, 512, 512, 1 << 10].into_iter().enumerate() {
        let (buffers, order) = (buffers.clone(), Arc::clone(&order));
        tasks.push(tokio::spawn(async move {
            let buffer = buffers.acquire(size).await.unwrap();
            order.lock().unwrap().push(n);
            tokio::time::sleep(MS).await;
            drop(buffer);
        }));
        tokio::task::yield_now().await;
    }
    assert_eq!(buffers.waiting(), 4);
    assert!(buffers.is_short() && buffers.take(512).is_none(), "who does not wait does not pass either");
    while let Some(buffer) = held.pop() {
        drop(buffer);
        tokio::task::yield_now().await;
        assert!(buffers.used() <= buffers.total());
    }
    for task in tasks {
        tokio::time::timeout(SEC, task).await.expect("nobody waits for ever").unwrap();
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3]);
    assert_eq!(buffers.waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_for_memory_holds_nobody_up() {
    for polls in 1..4 {
        let buffers = Buffers::new(4 << 10);
        let held = buffers.take(4 << 10).unwrap();
        assert!(polled(buffers.acquire(4 << 10), 1).await.is_none());
        let mut first = Box::pin(buffers.acquire(4 << 10));
        let mut second = Box::pin(buffers.acquire(1 << 10));
        let wakes = Arc::<Wakes>::default();
        assert!(poll_once(&mut first, &wakes).is_pending());
        assert!(poll_once(&mut second, &wakes).is_pending());
        if polls == 1 {
            drop(first);
            drop(held);
        } else {
            drop(held);
            // It was given the memory and does not take it.
            drop(first);
        }
        let got = tokio::time::timeout(SEC, second).await.expect("the next one has it").unwrap();
        assert!(got.capacity() >= 1 << 10);
        drop(got);
        assert!(buffers.take(4 << 10).is_some() && buffers.waiting() == 0);
    }
}

/// One wants more than there is and goes: what there is can be had at once, though nothing comes back.
#[tokio::test(start_paused = true)]
async fn who_has_gone_stands_before_nobody() {
    let buffers = Buffers::new(4 << 10);
    let held = buffers.take(1 << 10).unwrap();
    assert!(polled(buffers.acquire(4 << 10), 1).await.is_none());
    assert_eq!(buffers.waiting(), 0);
    assert!(buffers.take(1 << 10).is_some(), "there was room all the time");
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn closing_lets_go_of_those_who_wait_for_memory() {
    let buffers = Buffers::new(1 << 10);
    let _held = buffers.take(1 << 10).unwrap();
    let waiting = tokio::spawn({
        let buffers = buffers.clone();
        async move { buffers.acquire(512).await.map(drop) }
    });
    tokio::task::yield_now().await;
    buffers.close();
    assert!(waiting.await.unwrap().unwrap_err().is_closed());
}

#[test]
fn all_acks_of_a_batch_hear_of_it_once() {
    let batch = Completion::new("t".into(), 3);
    let mut acks: Vec<Ack> = (0..100).map(|n| Ack::new(Arc::clone(&batch), n)).collect();
    // Two tasks wait for some of them, and nobody for the others.
    let (one, two) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
    for (n, ack) in acks.iter_mut().enumerate().take(60) {
        let wakes = if n % 2 == 0 { &one } else { &two };
        assert!(poll_once(ack, wakes).is_pending() && ack.try_get().is_none());
        assert!(poll_once(ack, wakes).is_pending());
    }
    batch.complete(written(1000));
    batch.complete(written(5));
    assert!(one.0.load(Relaxed) >= 1 && two.0.load(Relaxed) >= 1, "each task is woken");
    assert!(one.0.load(Relaxed) + two.0.load(Relaxed) <= 60);
    for (n, mut ack) in acks.into_iter().enumerate() {
        assert_eq!(ack.try_get().unwrap().unwrap().offset(), Some(1000 + n as i64));
        let Poll::Ready(Ok(at)) = poll_once(&mut ack, &one) else { panic!("it is known") };
        assert_eq!((at.topic(), at.partition(), at.offset()), ("t", 3, Some(1000 + n as i64)));
    }
}

/// An ack goes to another task: the one that polled last is woken, as futures promise.
#[test]
fn an_ack_that_moves_to_another_task_wakes_that_one() {
    let batch = Completion::new("t".into(), 0);
    let mut ack = Ack::new(Arc::clone(&batch), 0);
    let (one, two) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
    assert!(poll_once(&mut ack, &one).is_pending());
    assert!(poll_once(&mut ack, &two).is_pending());
    batch.complete(written(0));
    assert_eq!(two.0.load(Relaxed), 1);
    assert!(poll_once(&mut ack, &two).is_ready());
}

/// Two acks that shared a task's place part: one is polled by another task, and both are woken.
#[test]
fn acks_that_shared_a_task_may_part() {
    let batch = Completion::new("t".into(), 0);
    let mut acks = [0, 1].map(|n| Ack::new(Arc::clone(&batch), n));
    let (one, two) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
    for ack in &mut acks {
        assert!(poll_once(ack, &one).is_pending());
    }
    assert!(poll_once(&mut acks[0], &two).is_pending());
    batch.complete(written(0));
    assert_eq!((one.0.load(Relaxed), two.0.load(Relaxed)), (1, 1), "the other ack's task is not forgotten");
}

#[test]
fn acks_follow_batches_that_were_taken_apart_again_and_again() {
    let whole = Completion::new("t".into(), 0);
    let part = || Completion::new("t".into(), 0);
    let (left, right, inner) = (part(), part(), part());
    let mut acks: Vec<Ack> = (0..10).map(|n| Ack::new(Arc::clone(&whole), n)).collect();
    let wakes = Arc::<Wakes>::default();
    for ack in &mut acks {
        assert!(poll_once(ack, &wakes).is_pending());
    }
    whole.complete(Outcome::Split(vec![(0, Arc::clone(&left)), (4, Arc::clone(&right))]));
    for ack in &mut acks {
        assert!(poll_once(ack, &wakes).is_pending(), "its part is not done");
    }
    right.complete(Outcome::Split(vec![(0, Arc::clone(&inner)), (3, part())]));
    inner.complete(written(70));
    let error = Error::limit("too large");
    left.complete(Outcome::Failed { error, records: vec![(1, Error::invalid("this one"))] });
    for (n, mut ack) in acks.into_iter().enumerate() {
        match (n, poll_once(&mut ack, &wakes)) {
            (1, Poll::Ready(Err(error))) => assert!(error.is_invalid()),
            (0..=3, Poll::Ready(Err(error))) => assert!(error.is_limit()),
            (4..=6, Poll::Ready(Ok(at))) => assert_eq!(at.offset(), Some(70 + n as i64 - 4)),
            (7..=9, Poll::Pending) => assert!(ack.try_get().is_none()),
            (n, other) => panic!("record {n}: {other:?}"),
        }
    }
}

#[test]
fn acks_are_told_from_another_thread() {
    for _ in 0..200 {
        let batch = Completion::new("t".into(), 0);
        let acks: Vec<Ack> = (0..8).map(|n| Ack::new(Arc::clone(&batch), n)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let teller = std::thread::spawn(move || batch.complete(written(1)));
        runtime.block_on(async {
            for (n, ack) in acks.into_iter().enumerate() {
                let at = tokio::time::timeout(10 * SEC, ack).await.expect("it is woken").unwrap();
                assert_eq!(at.offset(), Some(1 + n as i64));
            }
        });
        teller.join().unwrap();
    }
}

fn topic(compression: Compression) -> Arc<TopicState> {
    TopicState::new("t".into(), (compression, None), 1, clock::now())
}

#[test]
fn a_topic_knows_its_partitions_and_whose_turn_it_is() {
    let topic = topic(Compression::None);
    assert_eq!((topic.count(), topic.current()), (0, None));
    topic.learn(3, crate::wire::Uuid::ZERO, None);
    topic.set_current(2);
    assert_eq!((topic.count(), topic.current()), (3, Some(2)));
    topic.learn(3, crate::wire::Uuid::ZERO, None);
    assert_eq!(topic.current(), Some(2), "nothing is new");
    topic.learn(0, crate::wire::Uuid::ZERO, Some(Error::io("gone")));
    assert_eq!(topic.count(), 3, "what is gone keeps what it had");
    assert!(topic.error().is_some());
    topic.learn(2, crate::wire::Uuid::ZERO, None);
    assert_eq!((topic.count(), topic.current()), (2, None));
    assert!(topic.error().is_none());
    // Any partition that a broker may name has a place for its lane, or none; and none is made by looking.
    for partition in [0, 1, 2, 3, 6, 7, 1_000_000, (1 << 24) - 2] {
        assert!(topic.lane(partition).is_none());
    }
    for partition in [(1 << 24) - 1, u32::MAX - 1, u32::MAX] {
        assert!(topic.lane_or(partition, || panic!("there is no place for {partition}")).is_none());
    }
}

#[test]
fn batches_grow_with_what_compression_saves_and_shrink_at_once() {
    assert_eq!(topic(Compression::None).batch_target(1000), 1000);
    let topic = topic(Compression::Gzip);
    assert!((900..=1000).contains(&topic.batch_target(1000)), "nothing is known yet");
    for _ in 0..1000 {
        topic.learn_ratio(1000, 10);
    }
    let most = topic.batch_target(1000);
    assert!((7000..=8000).contains(&most), "eight times at most: {most}");
    topic.learn_ratio(1000, 500);
    assert!(topic.batch_target(1000) < 2000, "one that compresses badly counts at once");
    for _ in 0..100 {
        topic.learn_ratio(1000, 10);
    }
    topic.forget_ratio();
    assert!(topic.batch_target(1000) <= 1000);
    // Records that grow by compression make no batch of zero bytes.
    topic.learn_ratio(0, usize::MAX);
    assert!(topic.batch_target(1) >= 1);
}

#[test]
fn sealed_bytes_are_the_same_until_they_are_stamped_anew() {
    use super::super::machine_identity::Identity;
    use super::super::machine_line::Stamped;
    let buffers = Buffers::new(64 << 10);
    for compression in [Compression::None, Compression::Gzip] {
        let topic = topic(compression);
        let (memory, share) = buffers.take(16 << 10).unwrap().into_parts();
        let mut builder = BatchBuilder::from_buffer(memory);
        for n in 0..50 {
            builder.append(&NewRecord::new(n).value("always the same")).unwrap();
        }
        let mut sealed = seal(builder, share, &topic).unwrap();
        let stamp = |sequence| Some(Stamped { identity: Identity { id: 7, epoch: 1 }, sequence });
        let first = sealed.bytes(stamp(3), false);
        let again = sealed.bytes(stamp(3), false);
        assert_eq!(first.as_ptr(), again.as_ptr(), "the very same bytes");
        let kept = first.to_vec();
        let other = sealed.bytes(stamp(9), true);
        assert_eq!(first, kept, "what may still be on its way does not change");
        for (bytes, sequence, transactional) in [(first, 3, false), (other, 9, true)] {
            assert_eq!(bytes.len(), sealed.size());
            let batch = RecordBatch::parse(bytes).unwrap();
            batch.check_crc().unwrap();
            assert_eq!((batch.producer_id(), batch.base_sequence()), (7, sequence));
            assert_eq!((batch.is_transactional(), batch.count()), (transactional, Some(50)));
        }
        drop((sealed, again));
        assert!(buffers.take(64 << 10).is_some(), "all memory is back");
    }
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let check = |change: fn(&mut Settings)| {
        let mut settings = Settings::default();
        change(&mut settings);
        settings.check()
    };
    check(|_| {}).unwrap();
    let wrong: [fn(&mut Settings); 8] = [
        |settings| settings.batch_size = 0,
        |settings| settings.in_flight_max = 0,
        |settings| settings.in_flight_max = 6,
        |settings| settings.buffer_memory = 1000,
        |settings| settings.acks = Acks::Leader,
        |settings| settings.delivery_timeout = Duration::ZERO,
        |settings| settings.linger = Duration::from_mins(2),
        |settings| settings.compression = (Compression::Gzip, Some(77)),
    ];
    for (n, change) in wrong.into_iter().enumerate() {
        assert!(check(change).is_err(), "setting {n}");
    }
    check(|settings| (settings.acks, settings.idempotent, settings.in_flight_max) = (Acks::None, false, 50))
        .unwrap();
}

/// The time of day is read for all records together once they come often, and never stands still.
#[tokio::test]
async fn the_coarse_clock_keeps_up() {
    use super::super::coarse::Coarse;
    let coarse = Coarse::new(crate::net::task::Home::here().unwrap());
    let millis = || {
        let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH).unwrap();
        now.as_millis() as i64
    };
    for _ in 0..50 {
        for _ in 0..1000 {
            coarse.now();
        }
        tokio::time::sleep(MS).await;
        coarse.refresh();
        let (before, told, after) = (millis(), coarse.now(), millis());
        assert!(told >= before - 2 && told <= after, "{before} {told} {after}");
    }
    // Nobody asks for a while; the task ends, and the clock is read anew.
    tokio::time::sleep(100 * MS).await;
    let (before, told) = (millis(), coarse.now());
    assert!(told >= before - 2, "{before} {told}");
}
