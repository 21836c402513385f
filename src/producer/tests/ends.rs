//! The end, in whatever state it comes: bounded, and each record that was taken has its outcome (L01 to L04).

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Closes, and checks that it is bounded by its timeout.
async fn close_within(producer: &Producer, timeout: Duration) -> Result<()> {
    let begun = clock::now();
    let outcome = producer.close(timeout).await;
    let took = clock::now() - begun;
    assert!(took <= timeout + 5 * MS, "{took:?}");
    outcome
}

#[tokio::test(start_paused = true)]
async fn l01_close_before_anything() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.producer(|set| set).await;
    close_within(&producer, SEC).await.unwrap();
    close_within(&producer, SEC).await.unwrap();
    assert!(producer.send(Record::to("t").value("v")).await.unwrap_err().is_closed());
    assert!(producer.try_enqueue(Record::to("t").value("v")).unwrap_err().error.is_closed());
    producer.flush().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn l01_close_while_somebody_waits_for_a_topic() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.producer(|set| set).await;
    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move { producer.enqueue(Record::to("nowhere").value("v")).await }
    });
    tokio::time::sleep(SEC).await;
    close_within(&producer, SEC).await.unwrap();
    let error = tokio::time::timeout(SEC, waiting).await.expect("it is let go").unwrap().unwrap_err();
    assert!(error.is_closed(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn l01_close_while_batches_linger_are_in_flight_or_retried() {
    for (reply, outcome) in [
        (Reply::Write, true),
        (Reply::Silence, false),
        (Reply::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS), false),
    ] {
        let broker = Broker::with(2);
        let (_client, producer) = broker.warm(|set| set.linger(60 * SEC).max_in_flight(1)).await;
        broker.always(reply);
        let mut acks = Vec::new();
        for round in 0..3 {
            for partition in 0..2 {
                acks.push(producer.enqueue(Record::to("t").value("v").partition(partition)).await.unwrap());
            }
            // Two rounds are on their way; the last one is still open.
            if round < 2 {
                let _ = polled(producer.flush(), 1).await;
            }
        }
        tokio::time::sleep(50 * MS).await;
        assert_eq!(close_within(&producer, SEC).await.is_ok(), outcome);
        let mut possible = 0;
        for ack in acks {
            let end = ack.try_get().expect("all is told when it is closed");
            assert_eq!(end.is_ok(), outcome);
            possible += usize::from(end.is_err_and(|error| error.may_have_happened()));
        }
        if matches!(broker.world().always, Some(Reply::Silence)) {
            assert_eq!(possible, 2, "what was sent may have been written, and nothing else");
        }
        assert!(producer.handle.shared.lock().pending.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn l01_close_while_somebody_waits_for_room() {
    let broker = Broker::with(1);
    let set = |set: Builder| set.buffer_memory(4 << 10).batch_size(1 << 10).linger(Duration::ZERO);
    let (_client, producer) = broker.warm(set).await;
    broker.always(Reply::Silence);
    let value = [1; 900];
    while producer.try_enqueue(Record::to("t").value(&value)).is_ok() {}
    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move { producer.enqueue(Record::to("t").value(&[1; 900])).await }
    });
    tokio::time::sleep(50 * MS).await;
    assert!(close_within(&producer, SEC).await.unwrap_err().is_timeout());
    let error = tokio::time::timeout(SEC, waiting).await.expect("it is let go").unwrap().unwrap_err();
    assert!(error.is_closed() || error.is_timeout(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn l01_dropping_does_not_wait_and_delivers_in_the_background() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.warm(|set| set.linger(60 * SEC)).await;
    let ack = producer.enqueue(Record::to("t").value("v")).await.unwrap();
    let begun = clock::now();
    drop(producer);
    assert_eq!(clock::now(), begun);
    ack.await.unwrap();
    assert!(clock::now() - begun < SEC, "and without its linger");
}

#[tokio::test(start_paused = true)]
async fn l01_a_client_that_is_closed_ends_the_producer() {
    let broker = Broker::with(1);
    let (client, producer) = broker.warm(|set| set.linger(5 * MS)).await;
    client.close().await;
    let outcome = tokio::time::timeout(200 * SEC, producer.send(Record::to("t").value("v"))).await;
    assert!(outcome.expect("it does not hang").is_err());
    assert_eq!(broker.written(), 0);
}

/// Many tasks send while one closes: each record that was taken has one outcome, and those that are
/// written are those of which that was said.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l02_sends_that_race_a_close_each_have_an_outcome() {
    for round in 0..20 {
        let broker = Broker::with(4);
        let (_client, producer) = broker.warm(|set| set.linger(MS)).await;
        let before = broker.written();
        let mut tasks = Vec::new();
        for _ in 0..8 {
            let producer = producer.clone();
            tasks.push(tokio::spawn(async move {
                let mut acks = Vec::new();
                loop {
                    match producer.enqueue(Record::to("t").value("v")).await {
                        Ok(ack) => acks.push(ack),
                        Err(error) => {
                            assert!(error.is_closed(), "{error}");
                            break;
                        }
                    }
                    tokio::task::yield_now().await;
                }
                let mut written = 0;
                for ack in acks {
                    let end = tokio::time::timeout(20 * SEC, ack).await.expect("no ack hangs");
                    written += usize::from(end.is_ok());
                }
                written
            }));
        }
        tokio::time::sleep(Duration::from_micros(300 * (round % 10))).await;
        producer.close(10 * SEC).await.unwrap();
        let mut written = 0;
        for task in tasks {
            written += task.await.unwrap();
        }
        assert_eq!(broker.written() - before, written, "round {round}");
    }
}

#[test]
fn l04_a_runtime_that_ends_fails_what_is_left() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let broker = Broker::with(1);
    let (producer, acks) = runtime.block_on(async {
        let (_client, producer) = broker.warm(|set| set.linger(60 * SEC)).await;
        broker.always(Reply::Silence);
        let mut acks = vec![producer.enqueue(Record::to("t").value("sent")).await.unwrap()];
        let _ = polled(producer.flush(), 1).await;
        tokio::time::sleep(50 * MS).await;
        acks.push(producer.enqueue(Record::to("t").value("open")).await.unwrap());
        (producer, acks)
    });
    drop(runtime);
    for (ack, may) in acks.iter().zip([true, false]) {
        let error = ack.try_get().expect("nobody waits for ever").unwrap_err();
        assert_eq!(error.may_have_happened(), may, "{error}");
    }
    assert!(producer.try_enqueue(Record::to("t").value("v")).is_err());
}

#[tokio::test(start_paused = true)]
async fn l04_a_keeper_that_panics_fails_all_and_hangs_nobody() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.warm(|set| set.linger(60 * SEC)).await;
    broker.always(Reply::Silence);
    let sent = producer.enqueue(Record::to("t").value("sent")).await.unwrap();
    let _ = polled(producer.flush(), 1).await;
    let open = producer.enqueue(Record::to("t").value("open")).await.unwrap();
    let waiting = tokio::spawn({
        let producer = producer.clone();
        async move { producer.enqueue(Record::to("nowhere").value("v")).await }
    });
    tokio::time::sleep(10 * MS).await;
    producer.handle.shared.fail_point.store(true, Relaxed);
    producer.handle.shared.kick.notify_one();
    let outcomes =
        tokio::time::timeout(SEC, async { (sent.await, open.await, waiting.await.unwrap()) }).await;
    let (sent, open, waiting) = outcomes.expect("nobody hangs");
    assert!(sent.unwrap_err().may_have_happened());
    assert!(!open.unwrap_err().may_have_happened());
    assert!(waiting.is_err());
    let error = producer.send(Record::to("t").value("v")).await.unwrap_err();
    assert!(error.to_string().contains("panicked"), "{error}");
    producer.close(SEC).await.unwrap();
}

/// One that is told of a batch's end sends more, and one more after that; and looks at what was counted.
struct Echo {
    producer: std::sync::OnceLock<Producer>,
    left: AtomicUsize,
}

impl Interceptor for Arc<Echo> {
    fn on_batch(&self, _: &BatchReport<'_>) {
        let producer = self.producer.get().unwrap();
        assert!(producer.stats().records_sent > 0);
        if self.left.load(Relaxed) > 0 {
            self.left.fetch_sub(1, Relaxed);
            drop(producer.try_enqueue(Record::to("t").value("echo")).unwrap());
            drop(producer.topic("t"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn l03_an_interceptor_may_use_the_producer() {
    let broker = Broker::with(1);
    let echo = Arc::new(Echo { producer: std::sync::OnceLock::new(), left: AtomicUsize::new(100) });
    let (_client, producer) =
        broker.producer(|set| set.linger(Duration::ZERO).interceptor(Arc::clone(&echo))).await;
    echo.producer.set(producer.clone()).unwrap();
    producer.send(Record::to("t").value("first")).await.unwrap();
    while echo.left.load(Relaxed) > 0 {
        tokio::time::sleep(MS).await;
    }
    producer.flush().await.unwrap();
    assert_eq!(broker.written(), 101);
}

/// Panics wherever it can.
struct Panics;

impl Interceptor for Panics {
    fn on_send(&self, outgoing: &mut Outgoing<'_>) {
        outgoing.add_header("before", Some("1"));
        panic!("planted");
    }

    fn on_batch(&self, _: &BatchReport<'_>) {
        panic!("planted");
    }
}

#[tokio::test(start_paused = true)]
async fn l04_an_interceptor_that_panics_stops_nothing() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.producer(|set| set.interceptor(Panics).interceptor(Panics)).await;
    for n in 0..3 {
        assert_eq!(producer.send(Record::to("t").value("v")).await.unwrap().offset(), Some(n));
    }
    assert_eq!(broker.world().logs[&("t".into(), 0)].headers, [2, 2, 2]);
    producer.close(SEC).await.unwrap();
}
