//! Interceptors and counters.

use super::*;

/// Notes what it sees.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Interceptor for Arc<Notes> {
    fn on_send(&self, outgoing: &mut Outgoing<'_>) {
        outgoing.add_header("trace", Some("7f"));
        let headers: Vec<String> =
            outgoing.headers().map(|header| String::from_utf8_lossy(header.key).into_owned()).collect();
        let (topic, partition) = (outgoing.topic().to_owned(), outgoing.partition());
        let value = outgoing.value().map(String::from_utf8_lossy);
        self.0.lock().unwrap().push(format!("send {topic} {partition:?} {value:?} {headers:?}"));
    }

    fn on_batch(&self, batch: &BatchReport<'_>) {
        let code = batch.error().and_then(Error::code);
        let (topic, partition, count, offset) =
            (batch.topic(), batch.partition(), batch.count(), batch.base_offset());
        self.0.lock().unwrap().push(format!("batch {topic} {partition} {count} {offset:?} {code:?}"));
    }
}

#[tokio::test(start_paused = true)]
async fn interceptors_see_each_record_once_and_each_batch() {
    let broker = Broker::with(2);
    let notes = Arc::new(Notes::default());
    let builder = |set: Builder| {
        let set = set.interceptor(Arc::clone(&notes)).interceptor(Arc::clone(&notes));
        assert!(format!("{:?}", set.clone()).contains("interceptors: 2"));
        set
    };
    let (_client, producer) = broker.producer(builder).await;
    let own = [("own", Some("1"))];
    // The topic is not known yet, so that this has to wait; still it is shown once.
    producer.send(Record::to("t").value("a").partition(1).headers(&own)).await.unwrap();
    assert_eq!(broker.world().logs[&("t".into(), 1)].headers, [3]);
    let seen = std::mem::take(&mut *notes.0.lock().unwrap());
    assert_eq!(
        seen,
        [
            r#"send t Some(1) Some("a") ["own", "trace"]"#,
            r#"send t Some(1) Some("a") ["own", "trace", "trace"]"#,
            "batch t 1 1 Some(0) None",
            "batch t 1 1 Some(0) None",
        ]
    );
    broker.plan([Reply::Refuse(ErrorCode::INVALID_RECORD)]);
    let topic = producer.topic("t");
    let acks = [0, 0, 0].map(|at| topic.try_enqueue(Record::new().partition(at)).unwrap());
    for ack in acks {
        ack.await.unwrap_err();
    }
    let seen = notes.0.lock().unwrap();
    assert_eq!(seen.len(), 8);
    assert_eq!(seen[0], r#"send t Some(0) None ["trace"]"#);
    let wanted = format!("batch t 0 3 None {:?}", Some(ErrorCode::INVALID_RECORD));
    assert_eq!(seen[6..], [wanted.clone(), wanted]);
}

#[tokio::test(start_paused = true)]
async fn batches_that_never_went_out_are_told_too() {
    let broker = Broker::with(1);
    let notes = Arc::new(Notes::default());
    let (client, producer) = broker.warm(|set| set.linger(60 * SEC).interceptor(Arc::clone(&notes))).await;
    notes.0.lock().unwrap().clear();
    broker.always(Reply::Silence);
    let ack = producer.enqueue(Record::to("t").value("v")).await.unwrap();
    producer.close(SEC).await.unwrap_err();
    ack.await.unwrap_err();
    let seen = notes.0.lock().unwrap();
    assert_eq!(seen.iter().filter(|line| line.starts_with("batch t 0 1 None")).count(), 1, "{seen:?}");
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn what_is_counted_is_what_happened() {
    let broker = Broker::with(2);
    let (_client, producer) = broker.producer(|set| set.linger(20 * MS).buffer_memory(1 << 20)).await;
    assert_eq!(
        producer.stats(),
        Stats { buffer_total: 1 << 20, buffer_available: 1 << 20, ..Stats::default() }
    );
    assert_eq!((producer.stats().batch_size_avg(), producer.stats().queue_time_avg()), (0.0, Duration::ZERO));
    broker.plan([Reply::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS)]);
    let mut acks = Vec::new();
    for n in 0..10 {
        acks.push(producer.enqueue(Record::to("t").value("v").partition(n % 2)).await.unwrap());
    }
    tokio::time::sleep(21 * MS).await;
    assert_eq!(producer.stats().requests_in_flight, 1);
    for ack in acks {
        ack.await.unwrap();
    }
    let stats = producer.stats();
    assert_eq!((stats.records_sent, stats.records_retried), (20, 10));
    assert_eq!((stats.records_acked, stats.records_failed), (10, 0));
    assert_eq!((stats.batches_sealed, stats.batches_sent, stats.batches_split), (2, 4, 0));
    assert_eq!((stats.requests_sent, stats.requests_in_flight), (broker.world().requests.len() as u64, 0));
    assert_eq!(stats.bytes_sent, 2 * stats.bytes_sealed);
    assert_eq!((stats.bytes_plain, stats.compression_ratio()), (stats.bytes_sealed, 1.0));
    assert!(stats.batch_size_max > 61 && (61.0..=200.0).contains(&stats.batch_size_avg()), "{stats:?}");
    assert_eq!(stats.queue_times, 2, "the first time that they are sent, and no other");
    assert!(stats.queue_time_avg() >= 20 * MS && stats.queue_time_max <= 30 * MS, "{stats:?}");
    assert!(stats.buffer_available < stats.buffer_total, "buffers are kept");
}

#[tokio::test(start_paused = true)]
async fn batches_that_are_too_large_are_taken_apart_and_counted() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.warm(|set| set.linger(5 * MS).batch_size(4 << 10)).await;
    broker.plan([Reply::Refuse(ErrorCode::MESSAGE_TOO_LARGE)]);
    let mut acks = Vec::new();
    for n in 0..8_u8 {
        acks.push(producer.enqueue(Record::to("t").value(&[n; 200])).await.unwrap());
    }
    for (n, ack) in acks.into_iter().enumerate() {
        assert_eq!(ack.await.unwrap().offset(), Some(n as i64));
    }
    let stats = producer.stats();
    assert_eq!((stats.batches_split, stats.records_acked, stats.records_failed), (1, 9, 0));
    assert_eq!(broker.log(0), (0..8).map(|n| vec![n; 200]).collect::<Vec<_>>());
}

/// What is given back for want of room and offered again is shown when it is taken, and not each time.
#[tokio::test(start_paused = true)]
async fn what_is_refused_for_want_of_room_is_not_shown() {
    let broker = Broker::with(1);
    let notes = Arc::new(Notes::default());
    let set = |set: Builder| set.buffer_memory(8 << 10).batch_size(1 << 10).interceptor(Arc::clone(&notes));
    let (_client, producer) = broker.warm(set).await;
    notes.0.lock().unwrap().clear();
    broker.always(Reply::Silence);
    let (mut acks, mut refused) = (Vec::new(), 0);
    for _ in 0..100 {
        match producer.try_enqueue(Record::to("t").value(&[7; 500])) {
            Ok(ack) => acks.push(ack),
            Err(given_back) => {
                assert!(given_back.error.is_limit(), "{given_back:?}");
                refused += 1;
            }
        }
    }
    assert!(acks.len() > 2 && refused > 50, "{} taken, {refused} refused", acks.len());
    let shown = notes.0.lock().unwrap().iter().filter(|line| line.starts_with("send")).count();
    assert_eq!(shown, acks.len());
    // Nor is a record for a topic that is not known yet.
    producer.try_enqueue(Record::to("new")).unwrap_err();
    producer.try_enqueue(Record::to("t").partition(7)).unwrap_err();
    assert!(
        !notes.0.lock().unwrap().iter().any(|line| line.contains("send new") || line.contains("Some(7)"))
    );
}

/// A batch that is being taken apart when all ends is told like all others, once, and counted.
#[tokio::test(start_paused = true)]
async fn what_is_between_two_places_at_the_end_is_counted_and_told() {
    let broker = Broker::with(1);
    let notes = Arc::new(Notes::default());
    let (_client, producer) = broker.warm(|set| set.linger(5 * MS).interceptor(Arc::clone(&notes))).await;
    notes.0.lock().unwrap().clear();
    broker.plan([Reply::Refuse(ErrorCode::MESSAGE_TOO_LARGE)]);
    let acks = [1, 2, 3].map(|n| producer.try_enqueue(Record::to("t").value(&[n; 200])).unwrap());
    let shared = &producer.handle.shared;
    tokio::time::sleep(6 * MS).await;
    // It is in flight; whoever hears of its end is this test.
    shared.lock().pumping = true;
    tokio::time::sleep(SEC).await;
    let (line, split) = shared.lock().core.poll_event().expect("the broker finds it too large");
    shared.lock().pumping = false;
    shared.fail_all(&Error::closed("now"));
    for ack in acks {
        assert!(ack.try_get().expect("it is told").unwrap_err().is_closed());
    }
    let told = || {
        let failed = producer.stats().records_failed;
        let seen = notes.0.lock().unwrap();
        (failed, seen.iter().filter(|line| line.starts_with("batch t 0 3 None")).count())
    };
    assert_eq!(told(), (3, 1));
    // He who took it apart goes on.
    shared.hear(line, split);
    tokio::time::sleep(SEC).await;
    assert_eq!(told(), (3, 1));
    assert!(shared.lock().pending.is_empty() && shared.lock().core.is_idle());
}

/// The parts of a batch that was too large are in the budget until the last of them is done.
#[tokio::test(start_paused = true)]
async fn parts_of_a_batch_are_in_the_budget() {
    let broker = Broker::with(1);
    let total = 64 << 10;
    let (_client, producer) =
        broker.warm(|set| set.linger(5 * MS).batch_size(16 << 10).buffer_memory(total)).await;
    let all_is_free = || producer.handle.shared.buffers.take(total).is_some();
    assert!(all_is_free());
    broker.plan([Reply::Refuse(ErrorCode::MESSAGE_TOO_LARGE)]);
    broker.always(Reply::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS));
    let acks: Vec<Ack> =
        (0..8).map(|n| producer.try_enqueue(Record::to("t").value(&[n; 1500])).unwrap()).collect();
    tokio::time::sleep(50 * MS).await;
    assert_eq!(producer.stats().batches_split, 1);
    assert!(!all_is_free(), "the parts wait to be sent");
    broker.world().always = None;
    for ack in acks {
        ack.await.unwrap();
    }
    tokio::task::yield_now().await;
    assert!(all_is_free(), "they are done");
}
