//! What brokers answer that they should not: each record still has one outcome, and the log each record once.

use super::*;

/// Ten records to each of three partitions, in one request; gives what became of them.
async fn thirty(broker: &Broker, producer: &Producer) -> Vec<Result<Delivery>> {
    let mut acks = Vec::new();
    for n in 0..30_i32 {
        let value = format!("{n}");
        acks.push(producer.enqueue(Record::to("t").value(&value).partition(n % 3)).await.unwrap());
    }
    let mut outcomes = Vec::new();
    for ack in acks {
        outcomes.push(ack.await);
    }
    assert!(broker.world().requests[0].1 == 3, "one request for all three");
    outcomes
}

/// Each partition has each of its records once, in order, and the offsets that were told are theirs.
fn check_logs(broker: &Broker, outcomes: &[Result<Delivery>]) {
    for partition in 0..3 {
        let wanted: Vec<Vec<u8>> =
            (0..30).filter(|n| n % 3 == partition).map(|n| n.to_string().into_bytes()).collect();
        assert_eq!(broker.log(partition), wanted, "partition {partition}");
    }
    for (n, outcome) in outcomes.iter().enumerate() {
        let at = outcome.as_ref().unwrap();
        assert_eq!((at.partition(), at.offset()), ((n % 3) as i32, Some((n / 3) as i64)));
    }
}

async fn written_once_though(reply: Reply) -> Stats {
    let broker = Broker::with(3);
    let (_client, producer) = broker.warm(|set| set.linger(5 * MS)).await;
    broker.plan([reply]);
    let outcomes = thirty(&broker, &producer).await;
    check_logs(&broker, &outcomes);
    producer.stats()
}

fn but(change: impl Fn(&mut ProduceResponse) + Send + Sync + 'static) -> Reply {
    Reply::But(Arc::new(change))
}

#[tokio::test(start_paused = true)]
async fn p16_a_partition_that_is_missing_in_the_answer_is_sent_again() {
    let stats = written_once_though(but(|response| {
        response.responses[0].partition_responses.remove(1);
    }))
    .await;
    assert_eq!((stats.records_retried, stats.records_failed, stats.records_acked), (10, 0, 33));
    written_once_though(but(|response| response.responses.clear())).await;
}

#[tokio::test(start_paused = true)]
async fn p16_a_partition_that_comes_twice_counts_once() {
    let stats = written_once_though(but(|response| {
        let mut again = response.responses[0].partition_responses.clone();
        for second in &mut again {
            second.base_offset = 1000;
            second.error_code = ErrorCode::MESSAGE_TOO_LARGE.0;
        }
        response.responses[0].partition_responses.extend(again);
    }))
    .await;
    assert_eq!((stats.records_retried, stats.batches_split), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn p16_partitions_that_nobody_asked_about_are_passed_over() {
    let stats = written_once_though(but(|response| {
        let mut other = response.responses[0].clone();
        other.name = "elsewhere".into();
        response.responses.insert(0, other);
        let mut strange = response.responses[1].partition_responses[0].clone();
        strange.index = 77;
        response.responses[1].partition_responses.insert(0, strange);
        strange = response.responses[1].partition_responses[1].clone();
        strange.index = -1;
        response.responses[1].partition_responses.push(strange);
    }))
    .await;
    assert_eq!(stats.records_retried, 0);
}

#[tokio::test(start_paused = true)]
async fn p14_garbage_for_an_answer_splits_nothing_and_writes_nothing_twice() {
    let stats = written_once_though(Reply::Garbage).await;
    assert_eq!((stats.records_retried, stats.batches_split, stats.records_failed), (30, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_before_the_answer_writes_nothing_twice() {
    let stats = written_once_though(Reply::Cut).await;
    assert_eq!((stats.records_retried, stats.records_failed), (30, 0));
}

#[tokio::test(start_paused = true)]
async fn b32_no_error_and_no_offset_is_an_unknown_outcome() {
    let stats = written_once_though(but(|response| {
        for partition in &mut response.responses[0].partition_responses {
            partition.base_offset = -1;
        }
    }))
    .await;
    assert_eq!(stats.records_retried, 30);
}

#[tokio::test(start_paused = true)]
async fn b32_an_outcome_that_stays_unknown_says_so() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.warm(|set| set.linger(Duration::ZERO).delivery_timeout(3 * SEC)).await;
    broker.always(but(|response| response.responses.clear()));
    let error = producer.send(Record::to("t").value("v")).await.unwrap_err();
    assert!(error.is_timeout() && error.may_have_happened(), "{error}");
    assert_eq!(broker.written(), 1);
    assert_eq!(producer.stats().records_failed, 1);
}

#[tokio::test(start_paused = true)]
async fn b32_record_errors_blame_the_records_that_they_name_and_no_others() {
    use crate::messages::produce::BatchIndexAndErrorMessage;
    let broker = Broker::with(1);
    let (_client, producer) = broker.warm(|set| set.linger(5 * MS)).await;
    let blame = |batch_index| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some("no key".into()),
        ..Default::default()
    };
    broker.plan([but(move |response| {
        let partition = &mut response.responses[0].partition_responses[0];
        partition.error_code = ErrorCode::INVALID_RECORD.0;
        partition.base_offset = -1;
        partition.record_errors = vec![blame(-1), blame(2), blame(99), blame(i32::MAX), blame(i32::MIN)];
    })]);
    let mut acks = Vec::new();
    for _ in 0..4 {
        acks.push(producer.enqueue(Record::to("t").value("v")).await.unwrap());
    }
    for (n, ack) in acks.into_iter().enumerate() {
        let error = ack.await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::INVALID_RECORD));
        assert_eq!(error.to_string().contains("no key"), n == 2, "record {n}: {error}");
        // The others may go again as they are (P17), and the guilty one may not.
        assert_eq!(error.is_retriable(), n != 2, "record {n}: {error}");
        assert!(!error.may_have_happened());
    }
}

#[tokio::test(start_paused = true)]
async fn retriable_errors_are_tried_again_until_the_time_is_over() {
    let broker = Broker::with(3);
    let (_client, producer) = broker.warm(|set| set.linger(5 * MS)).await;
    broker.plan([
        Reply::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS),
        Reply::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER),
    ]);
    let outcomes = thirty(&broker, &producer).await;
    check_logs(&broker, &outcomes);

    broker.always(Reply::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS));
    let begun = clock::now();
    let error = producer.send(Record::to("t").value("late")).await.unwrap_err();
    let took = clock::now() - begun;
    assert!(error.is_timeout() && !error.may_have_happened(), "{error}");
    assert!(took >= 120 * SEC && took < 121 * SEC, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn without_idempotence_and_acks_records_count_when_they_are_sent() {
    let broker = Broker::with(1);
    let set = |set: Builder| set.acks(Acks::None).idempotence(false).linger(Duration::ZERO);
    let (_client, producer) = broker.producer(set).await;
    for n in 0..5 {
        let at = producer.send(Record::to("t").value(&[n])).await.unwrap();
        assert_eq!((at.topic(), at.partition(), at.offset(), at.timestamp()), ("t", 0, None, None));
    }
    tokio::time::sleep(SEC).await;
    assert_eq!(broker.log(0), [[0], [1], [2], [3], [4]]);
}

/// P19: many failures one after the other, and many at once, within the memory that was given.
#[tokio::test(start_paused = true)]
async fn p19_a_hundred_thousand_failing_sends_stay_within_their_memory() {
    let broker = Broker::with(2);
    let memory = 256 << 10;
    let set = |set: Builder| set.linger(Duration::ZERO).buffer_memory(memory).batch_size(4 << 10);
    let (_client, producer) = broker.warm(set).await;
    broker.always(Reply::Refuse(ErrorCode::INVALID_RECORD));
    let mut acks = VecDeque::new();
    let mut failed = 0;
    let value = [7; 100];
    for n in 0..100_000 {
        acks.push_back(producer.enqueue(Record::to("t").value(&value)).await.unwrap());
        let stats = producer.stats();
        assert!(stats.buffer_available <= stats.buffer_total);
        while acks.front().is_some_and(|ack| ack.try_get().is_some()) {
            let outcome = acks.pop_front().unwrap().await;
            assert_eq!(outcome.unwrap_err().code(), Some(ErrorCode::INVALID_RECORD));
            failed += 1;
        }
        // More records than fit into the memory cannot be on their way.
        if n % 1000 == 0 {
            let open = acks.iter().filter(|ack| ack.try_get().is_none()).count();
            assert!(open <= memory / 100, "{open} records at a time");
        }
    }
    for ack in acks {
        ack.await.unwrap_err();
        failed += 1;
    }
    assert_eq!((failed, producer.stats().records_failed, broker.written()), (100_000, 100_000, 0));
    let shared = &producer.handle.shared;
    assert!(shared.lock().pending.is_empty());
    assert_eq!(producer.stats().requests_in_flight, 0);
}

/// P03: a request is stuck in the middle of its writing, its records are given up, and what the pool has is overwritten,
/// by what it fills memory with that comes back and by other records. What arrives is what was sent.
#[tokio::test(start_paused = true)]
async fn p03_what_is_still_being_written_is_never_written_over() {
    for compression in [crate::records::Compression::None, crate::records::Compression::Lz4] {
        let broker = Broker::with(2);
        let (memory, batch) = (1 << 20, 256 << 10);
        let set = |set: Builder| {
            let set = set.compression(compression).batch_size(batch).buffer_memory(memory);
            set.linger(Duration::ZERO).delivery_timeout(3 * SEC)
        };
        let (_client, producer) = broker.warm(set).await;
        broker.world().stalled = true;
        let noise = |seed: u64, len: usize| -> Vec<u8> {
            let mut dice = crate::conn::Dice::new(seed);
            (0..len).map(|_| dice.roll() as u8).collect()
        };
        // More than the stream takes.
        let stuck = noise(1, 200_000);
        let ack = producer.enqueue(Record::to("t").value(&stuck).partition(0)).await.unwrap();
        let error = ack.await.unwrap_err();
        assert!(error.is_timeout() && error.may_have_happened(), "{error}");
        // All memory that can be had is used again.
        let mut others = Vec::new();
        for seed in 2.. {
            let value = noise(seed, 50_000);
            match producer.try_enqueue(Record::to("t").value(&value).partition(1)) {
                Ok(ack) => others.push((value, ack)),
                Err(_) => break,
            }
        }
        assert!(others.len() >= 6, "{} others", others.len());
        broker.world().stalled = false;
        let mut arrived = 0;
        for (_, ack) in &mut others {
            arrived += usize::from(ack.await.is_ok());
        }
        assert!(arrived > 0, "the connection lives");
        assert_eq!(broker.log(0), [stuck]);
        let wanted: Vec<_> = others.into_iter().map(|(value, _)| value).take(arrived).collect();
        assert_eq!(broker.log(1), wanted);
        producer.close(10 * SEC).await.unwrap();
        let pool = &producer.handle.shared.buffers;
        assert!(pool.used() <= memory);
    }
}

/// A right that is taken away while records wait: they fail with what brokers say, at once, and so does what comes
/// after, until the right is given back.
#[tokio::test(start_paused = true)]
async fn a_topic_that_is_refused_fails_what_waits_for_it() {
    for code in [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::INVALID_TOPIC_EXCEPTION] {
        let broker = Broker::with(2);
        let (_client, producer) = broker.warm(|set| set.linger(20 * MS)).await;
        broker.world().forbidden = Some(code);
        broker.always(Reply::Refuse(ErrorCode::NOT_LEADER_OR_FOLLOWER));
        let begun = clock::now();
        let mut acks = Vec::new();
        // Some are sent, one waits behind them, and one lingers.
        for (partition, pause) in [(0, 25), (0, 10), (1, 0)] {
            acks.push(producer.enqueue(Record::to("t").value("v").partition(partition)).await.unwrap());
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        for ack in acks {
            let error = ack.await.unwrap_err();
            assert_eq!((error.code(), error.may_have_happened()), (Some(code), false), "{error}");
        }
        let error = producer.send(Record::to("t").value("v")).await.unwrap_err();
        assert_eq!(error.code(), Some(code));
        assert!(clock::now() - begun < 2 * SEC, "{:?}", clock::now() - begun);
        broker.world().forbidden = None;
        broker.world().always = None;
        // Who asks again learns of it.
        let again = async {
            while producer.send(Record::to("t").value("again").partition(0)).await.is_err() {
                tokio::time::sleep(100 * MS).await;
            }
        };
        tokio::time::timeout(5 * SEC, again).await.expect("it is allowed again");
        assert_eq!(broker.log(0), [b"again"]);
        assert_eq!(broker.log(1).len(), 0);
    }
}
