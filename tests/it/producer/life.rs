//! Beginnings and ends of producers: closed, dropped, timed out, without a runtime; each ack comes to its end, once,
//! and says whether the record may be in the log.

use std::time::{Duration, Instant};

use weir::{Ack, Record};
use weir_kafka_harness::proxy::{End, Fault, Rule};

use super::{LONG, PRODUCE, SECOND, connect, create_topic, proxied, read_back, resolve, run, values};
use crate::broker::{VERSIONS, shared};

/// Records that never left are certain not to be there.
#[test]
fn the_delivery_timeout_of_what_was_never_sent() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = proxied.hasty().await;
        create_topic(&kafka, "life-never-sent", 1, &[]).await;
        let producer = kafka.producer().delivery_timeout(2 * SECOND).build().unwrap();
        let to = || Record::to("life-never-sent");
        producer.send(to().value("before")).await.unwrap();
        proxied.proxy().add(Rule::new(Fault::Refuse)).unwrap();
        proxied.proxy().cut_links(End::Reset);
        // The cut is known before anything is sent.
        tokio::time::sleep(SECOND / 2).await;
        let began = Instant::now();
        let ack = producer.enqueue(to().value("lost")).await.unwrap();
        let error = ack.await.unwrap_err();
        let took = began.elapsed();
        assert!(error.is_timeout() && error.is_retriable() && !error.may_have_happened(), "{error:?}");
        assert!((SECOND..6 * SECOND).contains(&took), "{took:?}");
        proxied.proxy().clear();
        let at = producer.send(to().value("after")).await.unwrap();
        assert_eq!(at.offset(), Some(1));
        assert_eq!(values(&read_back(proxied.at(), "life-never-sent").await), ["before", "after"]);
    });
}

/// Records that left and were not answered may be there; here they are.
#[test]
fn the_delivery_timeout_of_what_was_sent() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = proxied.hasty().await;
        create_topic(&kafka, "life-sent", 1, &[]).await;
        let producer = kafka.producer().delivery_timeout(SECOND).build().unwrap();
        let to = || Record::to("life-sent");
        producer.send(to().value("before")).await.unwrap();
        proxied.proxy().add(Rule::new(Fault::Hold).responses().api(PRODUCE)).unwrap();
        let error = producer.send(to().value("written")).await.unwrap_err();
        assert!(error.is_timeout() && error.may_have_happened(), "{error:?}");
        proxied.proxy().clear();
        producer.send(to().value("after")).await.unwrap();
        assert_eq!(values(&read_back(proxied.at(), "life-sent").await), ["before", "written", "after"]);
    });
}

/// Closing waits for no longer than it is told; what is left is told what became of it.
#[test]
fn closing_while_the_broker_is_stalled_is_bounded() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = connect(proxied.at()).await;
        create_topic(&kafka, "life-stalled", 2, &[]).await;
        let producer = kafka.producer().linger(SECOND).max_in_flight(1).build().unwrap();
        let topic = producer.topic("life-stalled");
        topic.send(Record::new().value("before").partition(0)).await.unwrap();
        let stall = proxied.proxy().add(Rule::new(Fault::Hold).responses().api(PRODUCE)).unwrap();
        let sent = topic.enqueue(Record::new().value("sent").partition(0)).await.unwrap();
        let flushing = tokio::spawn({
            let producer = producer.clone();
            async move { producer.flush().await }
        });
        let held = proxied.proxy().reached(|log| log.faults(stall) > 0);
        tokio::time::timeout(LONG, held).await.expect("a request is in flight");
        // The one request that may be in flight is; this is not even closed.
        let waiting = topic.enqueue(Record::new().value("waiting").partition(1)).await.unwrap();
        let began = Instant::now();
        let error = producer.close(2 * SECOND).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(began.elapsed() < 5 * SECOND, "{:?}", began.elapsed());
        let [sent, waiting] =
            [sent, waiting].map(|ack: Ack| ack.try_get().expect("it is decided").unwrap_err());
        assert!(sent.may_have_happened(), "{sent:?}");
        assert!(!waiting.may_have_happened(), "{waiting:?}");
        let flushed = tokio::time::timeout(LONG, flushing).await.expect("a flush ends with the producer");
        assert!(flushed.unwrap().is_err());
        let late = topic.enqueue(Record::new().value("late")).await.unwrap_err();
        assert!(late.is_timeout() || late.is_closed(), "{late}");
        assert!(!late.may_have_happened());
        proxied.proxy().clear();
        assert_eq!(values(&read_back(proxied.at(), "life-stalled").await), ["before", "sent"]);
    });
}

/// Who drops the last handle does not wait, and what was taken arrives.
#[test]
fn dropping_the_last_handle_still_delivers() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "life-dropped", 1, &[]).await;
        let producer = kafka.producer().linger(Duration::from_mins(1)).build().unwrap();
        let topic = producer.topic("life-dropped");
        let (mut acks, mut wanted) = (Vec::new(), Vec::new());
        for n in 0..100 {
            wanted.push(n.to_string());
            acks.push(topic.enqueue(Record::new().value(&wanted[n])).await.unwrap());
        }
        drop(producer.clone());
        drop(producer);
        assert!(acks[99].try_get().is_none(), "a topic is a handle too");
        drop(topic);
        let ends = resolve(acks).await;
        assert!(ends.iter().all(Result::is_ok));
        assert_eq!(values(&read_back(broker.bootstrap, "life-dropped").await), wanted);
    });
}

/// Nobody waits for ever for what will not be done.
#[test]
fn without_its_runtime_every_ack_fails() {
    let Some(proxied) = proxied() else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (producer, acks) = runtime.block_on(async {
        let kafka = connect(proxied.at()).await;
        create_topic(&kafka, "life-runtime", 1, &[]).await;
        let producer = kafka.producer().linger(Duration::from_mins(1)).build().unwrap();
        let topic = producer.topic("life-runtime");
        let before = topic.enqueue(Record::new().value("before")).await.unwrap();
        producer.flush().await.unwrap();
        assert!(before.try_get().is_some_and(|end| end.is_ok()));
        let stall = proxied.proxy().add(Rule::new(Fault::Hold).responses().api(PRODUCE)).unwrap();
        let mut acks = vec![topic.enqueue(Record::new().value("sent")).await.unwrap()];
        let flushing = producer.clone();
        tokio::spawn(async move { flushing.flush().await });
        let held = proxied.proxy().reached(|log| log.faults(stall) > 0);
        tokio::time::timeout(LONG, held).await.expect("a request is in flight");
        acks.push(topic.enqueue(Record::new().value("open")).await.unwrap());
        (producer, acks)
    });
    runtime.shutdown_timeout(5 * SECOND);
    run(async {
        let ends = resolve(acks).await;
        let [sent, open] = [0, 1].map(|n: usize| ends[n].as_ref().unwrap_err());
        assert!(sent.may_have_happened(), "{sent:?}");
        assert!(!open.may_have_happened(), "{open:?}");
        let error = producer.enqueue(Record::to("life-runtime").value("late")).await.unwrap_err();
        assert!(!error.may_have_happened(), "{error:?}");
        tokio::time::timeout(LONG, producer.flush()).await.expect("a flush ends").unwrap_err();
        tokio::time::timeout(LONG, producer.close(SECOND)).await.expect("so does closing").ok();
        drop(producer);
    });
    proxied.proxy().clear();
}

/// The producer connects by itself as soon as there is a broker, and one that is away for a while is waited for.
#[test]
fn records_wait_for_a_broker_that_is_away() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = proxied.hasty().await;
        create_topic(&kafka, "life-away", 1, &[]).await;
        let producer = kafka.producer().build().unwrap();
        producer.send(Record::to("life-away").value("0")).await.unwrap();
        proxied.proxy().add(Rule::new(Fault::Refuse).for_ms(4000)).unwrap();
        proxied.proxy().cut_links(End::Reset);
        let mut acks = Vec::new();
        for n in 1..50 {
            acks.push(producer.enqueue(Record::to("life-away").value(&n.to_string())).await.unwrap());
        }
        assert!(resolve(acks).await.iter().all(Result::is_ok));
        let wanted: Vec<String> = (0..50).map(|n| n.to_string()).collect();
        assert_eq!(values(&read_back(proxied.at(), "life-away").await), wanted);
    });
}
