//! When records go out: after their linger and a round trip, and not later (P18).

use super::*;

/// How long a send takes, in virtual time.
async fn timed(producer: &Producer, record: Record<'_>) -> Duration {
    let begun = clock::now();
    producer.send(record).await.unwrap();
    clock::now() - begun
}

/// tokio's timer has a grain of a millisecond, and several timers are waited for in turn.
const GRAIN: Duration = Duration::from_millis(2);

#[tokio::test(start_paused = true)]
async fn p18_a_lonely_record_takes_its_linger_and_a_round_trip() {
    for linger in [Duration::ZERO, 5 * MS, 200 * MS] {
        let broker = Broker::with(3);
        let (_client, producer) = broker.warm(|set| set.linger(linger)).await;
        // Long pauses between them, when everything sleeps.
        for n in 0..40 {
            let took = timed(&producer, Record::to("t").value("v").partition(n % 3)).await;
            let bound = linger + LATENCY;
            assert!(took >= bound && took <= bound + GRAIN, "record {n} with {linger:?}: {took:?}");
            tokio::time::sleep(Duration::from_millis(u64::from(n as u32 * 37 % 900))).await;
        }
        assert_eq!(broker.written(), 40);
    }
}

#[tokio::test(start_paused = true)]
async fn p18_the_first_record_waits_for_nothing_but_what_it_needs() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.producer(|set| set.linger(Duration::ZERO)).await;
    let took = timed(&producer, Record::to("t").value("v")).await;
    // Metadata of the topic, an id, a connection with its versions, and the record: one after the other at most.
    assert!(took <= 5 * LATENCY + 3 * GRAIN, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn p18_records_at_a_low_rate_all_keep_the_bound() {
    let broker = Broker::with(8);
    let (_client, producer) = broker.warm(|set| set.linger(5 * MS)).await;
    let mut waiting = Vec::new();
    for n in 0..200_u64 {
        let producer = producer.clone();
        waiting.push(tokio::spawn(async move {
            timed(&producer, Record::to("t").value("v").partition((n % 8) as i32)).await
        }));
        tokio::time::sleep(Duration::from_micros(900 + n * 131 % 7000)).await;
    }
    for (n, took) in waiting.into_iter().enumerate() {
        let took = took.await.unwrap();
        // A broker answers one request after the other, and five may be before it.
        assert!(took <= 5 * MS + 6 * LATENCY + GRAIN, "record {n}: {took:?}");
    }
    assert_eq!(broker.written(), 200);
}

#[tokio::test(start_paused = true)]
async fn p18_a_connection_that_was_closed_meanwhile_costs_no_pause() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.warm(|set| set.linger(Duration::ZERO)).await;
    // The client closes it when it is idle.
    tokio::time::sleep(3600 * SEC).await;
    let took = timed(&producer, Record::to("t").value("v")).await;
    // A connection with its versions first, and perhaps metadata beside it.
    assert!(took <= 4 * LATENCY + 2 * GRAIN, "{took:?}");
    assert_eq!(producer.stats().records_retried, 0);
}

#[tokio::test(start_paused = true)]
async fn flush_does_not_wait_for_the_linger() {
    let broker = Broker::with(2);
    let (_client, producer) = broker.warm(|set| set.linger(100 * SEC)).await;
    let acks = [0, 1].map(|at| producer.try_enqueue(Record::to("t").value("v").partition(at)).unwrap());
    tokio::time::sleep(60 * SEC).await;
    assert!(acks.iter().all(|ack| ack.try_get().is_none()), "they linger");
    let begun = clock::now();
    producer.flush().await.unwrap();
    assert!(clock::now() - begun <= 2 * LATENCY + GRAIN);
    assert!(acks.iter().all(|ack| ack.try_get().unwrap().is_ok()));
}

#[tokio::test(start_paused = true)]
async fn p21_a_throttle_is_waited_out_and_costs_nothing_else() {
    let broker = Broker::with(1);
    let (_client, producer) = broker.warm(|set| set.linger(Duration::ZERO)).await;
    // Longer than a request may take.
    broker.plan([Reply::But(Arc::new(|response| response.throttle_time_ms = 40_000))]);
    timed(&producer, Record::to("t").value("1")).await;
    let took = timed(&producer, Record::to("t").value("2")).await;
    assert!(took >= 38 * SEC && took <= 45 * SEC, "{took:?}");
    assert_eq!(broker.log(0), [b"1", b"2"]);
    assert_eq!(producer.stats().records_retried, 0);
}

/// The first record to each broker, one after the other: the alarm that is set for the first does not keep the keeper
/// from getting a connection to the second.
#[tokio::test(start_paused = true)]
async fn p18_the_first_record_to_another_broker_waits_for_its_connection_and_no_longer() {
    for linger in [Duration::ZERO, 5 * MS] {
        let broker = Broker::with(2);
        broker.world().others = 1;
        let (_client, producer) = broker.producer(|set| set.linger(linger)).await;
        timed(&producer, Record::to("t").value("v").partition(0)).await;
        tokio::time::sleep(SEC).await;
        let took = timed(&producer, Record::to("t").value("v").partition(1)).await;
        // The connection, its versions, and the record.
        assert!(took <= linger + 3 * LATENCY, "{linger:?}: {took:?}");
        assert_eq!((broker.log(0).len(), broker.log(1).len()), (1, 1));
    }
}
