//! Futures that are dropped at whichever poll: nothing is lost, sent twice, or leaked by it.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_is_dropped_did_not_happen() {
    // At first the topic is not known; so there is something to wait for.
    for polls in 0..30 {
        let broker = Broker::with(1);
        let (_client, producer) = broker.producer(|set| set.linger(Duration::ZERO)).await;
        let ack = polled(producer.enqueue(Record::to("t").value("v")), polls).await;
        let accepted = match ack {
            Some(ack) => {
                ack.unwrap().await.unwrap();
                1
            }
            None => 0,
        };
        producer.flush().await.unwrap();
        assert_eq!(broker.written(), accepted, "after {polls} polls");
        producer.send(Record::to("t").value("w")).await.unwrap();
        assert_eq!(broker.written(), accepted + 1);
        if polls == 29 {
            assert_eq!(accepted, 1, "so many polls are enough");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_enqueue_that_waits_for_room_can_be_dropped() {
    for polls in 1..12 {
        let broker = Broker::with(1);
        let set = |set: Builder| set.buffer_memory(4 << 10).batch_size(1 << 10).linger(Duration::ZERO);
        let (_client, producer) = broker.warm(set).await;
        broker.always(Reply::Silence);
        let value = [1; 900];
        let mut accepted = Vec::new();
        loop {
            match producer.try_enqueue(Record::to("t").value(&value)) {
                Ok(ack) => accepted.push(ack),
                Err(refused) => {
                    assert!(refused.error.is_limit(), "{}", refused.error);
                    break;
                }
            }
        }
        assert!((2..=4).contains(&accepted.len()), "{}", accepted.len());
        let waiting = polled(producer.enqueue(Record::to("t").value(&value)), polls);
        assert!(tokio::time::timeout(SEC, waiting).await.ok().flatten().is_none());
        assert_eq!(producer.stats().buffer_waiting, 0, "who was dropped waits no more");
        let error = producer.close(SEC).await.unwrap_err();
        assert!(error.is_timeout());
        for ack in accepted {
            assert!(ack.await.is_err());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_send_that_is_dropped_is_delivered_once_or_not_at_all() {
    for polls in 0..30 {
        let broker = Broker::with(1);
        let (_client, producer) = broker.warm(|set| set.linger(3 * MS)).await;
        let outcome = polled(producer.send(Record::to("t").value("v")), polls).await;
        producer.flush().await.unwrap();
        let sent = broker.written();
        // The topic is known and there is room, so that its first poll takes the record.
        assert_eq!(sent, usize::from(polls > 0), "after {polls} polls");
        if let Some(at) = outcome {
            assert_eq!(at.unwrap().offset(), Some(0));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_ack_that_is_dropped_changes_nothing() {
    for polls in 0..4 {
        let broker = Broker::with(1);
        let (_client, producer) = broker.warm(|set| set.linger(3 * MS)).await;
        let mut acks = Vec::new();
        for n in 0..4 {
            acks.push(producer.enqueue(Record::to("t").value(&[n])).await.unwrap());
        }
        let mut kept = acks.split_off(2);
        for ack in acks {
            let _ = polled(ack, polls).await;
        }
        for (n, ack) in kept.drain(..).enumerate() {
            assert_eq!(ack.await.unwrap().offset(), Some(n as i64 + 2));
        }
        assert_eq!(broker.log(0), [[0], [1], [2], [3]]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_flush_that_is_dropped_has_begun_what_it_began() {
    for polls in 1..10 {
        let broker = Broker::with(3);
        let (_client, producer) = broker.warm(|set| set.linger(60 * SEC)).await;
        let mut acks = Vec::new();
        for partition in 0..3 {
            acks.push(producer.enqueue(Record::to("t").value("v").partition(partition)).await.unwrap());
        }
        let begun = clock::now();
        let _ = polled(producer.flush(), polls).await;
        for ack in acks {
            ack.await.unwrap();
        }
        assert!(clock::now() - begun < SEC, "nothing lingers after {polls} polls");
    }
}

#[tokio::test(start_paused = true)]
async fn a_close_that_is_dropped_takes_no_more_and_finishes_what_there_is() {
    for polls in 1..10 {
        let broker = Broker::with(3);
        let (_client, producer) = broker.warm(|set| set.linger(60 * SEC)).await;
        let mut acks = Vec::new();
        for partition in 0..3 {
            acks.push(producer.enqueue(Record::to("t").value("v").partition(partition)).await.unwrap());
        }
        let _ = polled(producer.close(SEC), polls).await;
        assert!(producer.enqueue(Record::to("t").value("v")).await.unwrap_err().is_closed());
        for ack in acks {
            ack.await.unwrap();
        }
        assert_eq!(broker.written(), 3);
        producer.close(SEC).await.unwrap();
    }
}
