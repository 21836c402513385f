//! Rows of the catalogue of faults that a real broker and a proxy can show. Those that want a broker which lies
//! about what it knows wait for the mock.

use std::time::{Duration, Instant};

use weir::producer::Topic;
use weir::protocol::alter_client_quotas::{
    AlterClientQuotasRequest, OpData, RequestEntityData, RequestEntryData,
};
use weir::protocol::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use weir::protocol::delete_topics::DeleteTopicsRequest;
use weir::{Ack, Client, ErrorCode, Record};
use weir_kafka_harness::proxy::{End, Fault, Point, Rule};

use super::{LONG, PRODUCE, SECOND, connect, create_topic, proxied, read_back, resolve, run, values};
use crate::broker::{VERSIONS, shared};

/// Numbered records, one batch after the other.
async fn send_numbers(topic: &Topic, numbers: std::ops::Range<usize>) -> Vec<Ack> {
    let mut acks = Vec::new();
    for number in numbers {
        let value = format!("{} {number:06}", topic.name());
        acks.push(topic.enqueue(Record::new().value(&value).partition(0)).await.unwrap());
        if number % 10 == 0 {
            tokio::task::yield_now().await;
        }
    }
    acks
}

/// All are acknowledged, and Java reads each of them once, in order, where its ack says.
async fn arrive_once(at: impl ToString, topic: &str, acks: Vec<Ack>) {
    let offsets: Vec<i64> = (resolve(acks).await.into_iter())
        .filter_map(|end| end.unwrap_or_else(|error| panic!("{topic}: {error}")).offset())
        .collect();
    let wanted: Vec<String> = (0..offsets.len()).map(|n| format!("{topic} {n:06}")).collect();
    assert_eq!(values(&read_back(at, topic).await), wanted);
    assert_eq!(offsets, (0..offsets.len() as i64).collect::<Vec<_>>());
}

/// Answers are lost behind what was written: the same bytes go again, and the broker knows them.
#[test]
fn p01_what_was_written_and_not_answered_is_written_once() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = connect(proxied.at()).await;
        create_topic(&kafka, "p01", 1, &[]).await;
        let producer = kafka.producer().linger(Duration::ZERO).batch_size(200).build().unwrap();
        let topic = producer.topic("p01");
        let cut = Rule::new(Fault::Cut(End::Reset)).responses().api(PRODUCE);
        // The first answer of all, then one of several in flight, again and again.
        let cut = proxied.proxy().add(cut.chance(0.2).times(8)).unwrap();
        let mut acks = send_numbers(&topic, 0..500).await;
        producer.flush().await.unwrap();
        acks.extend(send_numbers(&topic, 500..1000).await);
        producer.flush().await.unwrap();
        assert!(proxied.proxy().log().faults(cut) >= 3);
        arrive_once(proxied.at(), "p01", acks).await;
    });
}

/// What timed out may be in the log: its numbers are not given to the next record, which would be taken for it.
#[test]
fn p02_a_record_behind_one_that_timed_out_is_written() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = proxied.hasty().await;
        create_topic(&kafka, "p02", 1, &[]).await;
        let producer = kafka.producer().delivery_timeout(SECOND).build().unwrap();
        let topic = producer.topic("p02");
        for round in 0..3 {
            let value = |what: &str| format!("{round} {what}");
            topic.send(Record::new().value(&value("before"))).await.unwrap();
            // Written and not answered; then not even written, as far as anybody can tell.
            let silence = Rule::new(Fault::Hold);
            let silence = if round == 1 { silence.requests() } else { silence.responses().api(PRODUCE) };
            let silence = proxied.proxy().add(silence).unwrap();
            let error = topic.send(Record::new().value(&value("late"))).await.unwrap_err();
            assert!(error.is_timeout() && error.may_have_happened(), "{error:?}");
            let next = topic.enqueue(Record::new().value(&value("next"))).await.unwrap();
            proxied.proxy().remove(silence);
            // It may have timed out as well; then it says whether it is there.
            let next = next.await;
            topic.send(Record::new().value(&value("after"))).await.unwrap();
            let seen = values(&read_back(proxied.at(), "p02").await);
            let count = |what: &str| seen.iter().filter(|seen| **seen == value(what)).count();
            assert_eq!((count("before"), count("after")), (1, 1), "{seen:?}");
            assert!(count("late") <= 1 && count("next") <= 1, "{seen:?}");
            match next {
                Ok(at) => assert_eq!(seen[at.offset().unwrap() as usize], value("next")),
                Err(error) => assert!(error.may_have_happened() || count("next") == 0, "{error:?} {seen:?}"),
            }
        }
    });
}

/// A request is stuck in its writing, its records time out, and new ones come for another topic: what is still being
/// written stays what it was. The records carry the names of their topics.
#[test]
fn p03_a_stalled_write_keeps_its_bytes() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = proxied.hasty().await;
        for name in ["p03-a", "p03-b"] {
            create_topic(&kafka, name, 1, &[]).await;
        }
        let builder = kafka.producer().delivery_timeout(SECOND).max_block(LONG);
        // As much as is in flight at most: so memory that comes back is used again at once.
        let producer = builder.batch_size(1 << 20).buffer_memory(8 << 20).build().unwrap();
        let fill = |name: &str, n: usize| format!("{name} {n:06} {}", name.repeat(2000));
        for name in ["p03-a", "p03-b"] {
            producer.send(Record::to(name).value(&fill(name, 0))).await.unwrap();
        }
        for round in 0..3 {
            let stall = proxied.proxy().add(Rule::new(Fault::Hold).requests()).unwrap();
            let mut ends = Vec::new();
            for (name, count) in [("p03-a", 600), ("p03-b", 600)] {
                let topic = producer.topic(name);
                let mut acks = Vec::new();
                for n in 0..count {
                    let value = fill(name, round * count + n);
                    match topic.try_enqueue(Record::new().value(&value)) {
                        Ok(ack) => acks.push((n, ack)),
                        Err(refused) => assert!(refused.error.is_limit(), "{refused}"),
                    }
                    if n == count / 2 {
                        // The first half times out, and the second comes into its place.
                        tokio::time::sleep(SECOND * 3 / 2).await;
                    }
                }
                ends.push((name, acks));
            }
            proxied.proxy().remove(stall);
            for (name, acks) in ends {
                for (n, ack) in acks {
                    if let Ok(at) = tokio::time::timeout(LONG, ack).await.expect("it ends") {
                        assert_eq!(at.topic(), name, "{n}");
                    }
                }
            }
        }
        for name in ["p03-a", "p03-b"] {
            let mut acks = Vec::new();
            for n in 9000..9010 {
                acks.push((n, producer.send(Record::to(name).value(&fill(name, n))).await.unwrap()));
            }
            let seen = values(&read_back(proxied.at(), name).await);
            for value in &seen {
                let number = value.split(' ').nth(1).and_then(|number| number.parse().ok());
                assert_eq!(value, &fill(name, number.expect("a number")), "in {name}");
            }
            for (n, at) in acks {
                assert_eq!(seen[at.offset().unwrap() as usize], fill(name, n));
            }
        }
    });
}

/// The broker has forgotten the producer with its last record (from 1.0 to 2.3 it says so, KIP-360): it goes on, as
/// it is no fault of anybody's.
#[test]
fn p08_a_broker_that_forgot_the_producer_is_told_again() {
    for version in ["0.11.0.3", "1.1.1", "2.8.2", VERSIONS[0]] {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = connect(broker.bootstrap).await;
            create_topic(&kafka, "p08", 2, &[]).await;
            let producer = kafka.producer().build().unwrap();
            let to = |partition| Record::to("p08").partition(partition);
            for round in 0..3 {
                for n in 0..5 {
                    for partition in 0..2 {
                        let at = producer.send(to(partition).value(&format!("{round} {n}"))).await;
                        let at = at.unwrap_or_else(|error| panic!("{version}: {error}"));
                        assert_eq!(at.offset(), Some(round * 5 + n), "{version}");
                    }
                }
                delete_records(&kafka, "p08").await;
            }
            producer.send(to(0).value("last")).await.unwrap();
            let seen = read_back(broker.bootstrap, "p08").await;
            let of = |partition| -> Vec<_> {
                seen.iter().filter(|record| record.partition == partition).cloned().collect()
            };
            assert_eq!(values(&of(0)), ["last"], "{version}");
            assert_eq!(of(1).len(), 15, "{version}");
        });
    }
}

/// All records of the first partition.
async fn delete_records(kafka: &Client, topic: &str) {
    let all = DeleteRecordsPartition { partition_index: 0, offset: -1, ..Default::default() };
    let topic = DeleteRecordsTopic { name: topic.into(), partitions: vec![all], ..Default::default() };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let answer = kafka.request(request).await.unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0, "{answer:?}");
}

/// A topic is deleted and made anew under the producer: what comes after arrives, and none is taken for an older one.
#[test]
fn p09_a_topic_made_anew_gets_every_record() {
    for version in ["2.8.2", VERSIONS[0]] {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = connect(broker.bootstrap).await;
            create_topic(&kafka, "p09", 1, &[]).await;
            let producer = kafka.producer().build().unwrap();
            let topic = producer.topic("p09");
            for n in 0..20 {
                topic.send(Record::new().value(&format!("old {n}"))).await.unwrap();
            }
            delete_topic(&kafka, "p09").await;
            make_anew(&kafka, "p09").await;
            let mut acks = Vec::new();
            for n in 0..20 {
                let value = format!("new {n}");
                let end = tokio::time::timeout(LONG, topic.send(Record::new().value(&value))).await;
                acks.push(end.expect("it ends").unwrap_or_else(|error| panic!("{version} {n}: {error}")));
            }
            let seen = values(&read_back(broker.bootstrap, "p09").await);
            let wanted: Vec<String> = (0..20).map(|n| format!("new {n}")).collect();
            assert_eq!(seen, wanted, "{version}");
            for (n, at) in acks.iter().enumerate() {
                assert_eq!(at.offset(), Some(n as i64), "{version}");
            }
        });
    }
}

async fn delete_topic(kafka: &Client, name: &str) {
    let topic_names = vec![name.into()];
    let request = DeleteTopicsRequest { topic_names, timeout_ms: 30_000, ..Default::default() };
    // Later versions name topics in another field.
    let answer = kafka.request(request).versions(1..=5).await.unwrap();
    assert_eq!(answer.responses[0].error_code, 0, "{answer:?}");
}

/// Where deletion is not over yet, the name is still taken.
async fn make_anew(kafka: &Client, name: &str) {
    use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
    let topic =
        CreatableTopic { name: name.into(), num_partitions: 1, replication_factor: 1, ..Default::default() };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let until = Instant::now() + LONG;
    loop {
        let code = ErrorCode(kafka.request(request.clone()).await.unwrap().topics[0].error_code);
        if code.is_none() {
            return;
        }
        assert!(code == ErrorCode::TOPIC_ALREADY_EXISTS && Instant::now() < until, "{code}");
        tokio::time::sleep(SECOND / 10).await;
    }
}

/// An answer that cannot be read says nothing of what was written: the same bytes go again, by a new connection.
#[test]
fn p14_an_answer_that_cannot_be_read_is_no_answer() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = connect(proxied.at()).await;
        create_topic(&kafka, "p14", 1, &[]).await;
        let producer = kafka.producer().linger(Duration::ZERO).batch_size(200).build().unwrap();
        let topic = producer.topic("p14");
        let (mut acks, mut from) = (send_numbers(&topic, 0..10).await, 10);
        producer.flush().await.unwrap();
        // Length and correlation id are eight bytes; then come tags, and the number of topics.
        for (byte, garbage) in [(0, vec![0xff; 4]), (4, vec![0xee; 4]), (9, vec![0xff; 5]), (9, vec![0; 200])]
        {
            let rule = Rule::new(Fault::Replace(garbage)).responses().api(PRODUCE);
            let rule = if byte > 0 { rule.point(Point::Byte(byte)) } else { rule };
            let rule = proxied.proxy().add(rule.times(1)).unwrap();
            acks.extend(send_numbers(&topic, from..from + 50).await);
            from += 50;
            tokio::time::timeout(LONG, producer.flush()).await.expect("it comes to an end").unwrap();
            assert_eq!(proxied.proxy().log().faults(rule), 1, "{byte}");
        }
        arrive_once(proxied.at(), "p14", acks).await;
    });
}

/// At a low rate a record takes the linger and a round trip, not the time until somebody happens to look.
#[test]
fn p18_a_record_by_itself_does_not_wait() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "p18", 3, &[]).await;
        for linger in [Duration::ZERO, Duration::from_millis(20)] {
            let producer = kafka.producer().linger(linger).build().unwrap();
            let topic = producer.topic("p18");
            topic.send(Record::new().value("first")).await.unwrap();
            let mut trips = Vec::new();
            for n in 0..60 {
                // Seldom enough that everybody sleeps in between.
                tokio::time::sleep(Duration::from_millis(n)).await;
                let began = Instant::now();
                topic.send(Record::new().value("v").partition((n % 3) as i32)).await.unwrap();
                trips.push(began.elapsed());
            }
            trips.sort_unstable();
            // Other tests run beside this one.
            assert!(trips[30] < linger + Duration::from_millis(60), "{linger:?}: {trips:?}");
            assert!(trips[56] < linger + SECOND / 2, "{linger:?}: {trips:?}");
        }
    });
}

/// Many more records than there is memory for, and nobody answers: they fail one after the other, each with its
/// error, and whoever waits for room gets it.
#[test]
fn p19_nothing_is_stuck_when_everything_fails() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = proxied.hasty().await;
        create_topic(&kafka, "p19", 4, &[]).await;
        let builder = kafka.producer().delivery_timeout(SECOND / 2).buffer_memory(1 << 20).max_block(LONG);
        let producer = builder.build().unwrap();
        producer.send(Record::to("p19").value("first")).await.unwrap();
        proxied.proxy().add(Rule::new(Fault::Refuse)).unwrap();
        proxied.proxy().cut_links(End::Reset);
        tokio::time::sleep(SECOND / 2).await;
        let topic = producer.topic("p19");
        let (mut failed, mut acks) = (0, std::collections::VecDeque::new());
        let all = async {
            for n in 0..100_000 {
                let value = format!("{n:0100}");
                acks.push_back(topic.enqueue(Record::new().value(&value)).await.unwrap());
                while let Some(end) = acks.front().and_then(Ack::try_get) {
                    assert!(end.unwrap_err().is_timeout());
                    failed += 1;
                    acks.pop_front();
                }
            }
        };
        tokio::time::timeout(2 * LONG, all).await.expect("room comes again and again");
        failed += resolve(acks.into()).await.iter().filter(|end| end.is_err()).count();
        assert_eq!(failed, 100_000);
        proxied.proxy().clear();
        assert_eq!(values(&read_back(proxied.at(), "p19").await), ["first"]);
        topic.send(Record::new().value("last")).await.unwrap();
    });
}

/// A broker that slows the producer down for longer than a request may take is waited for (KIP-219).
#[test]
fn p21_a_throttled_producer_waits_and_loses_nothing() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let builder = Client::builder(&proxied.at().to_string()).client_id("p21").request_timeout(SECOND);
        let kafka = builder.connect().await.unwrap();
        // Its records are of a hundred bytes, since they carry its name.
        let name = format!("p21-{}", "x".repeat(90));
        create_topic(&kafka, &name, 1, &[]).await;
        quota(&kafka, "p21", 50_000.0).await;
        let producer = kafka.producer().build().unwrap();
        let topic = producer.topic(&name);
        let mut acks = send_numbers(&topic, 0..1).await;
        producer.flush().await.unwrap();
        let opened = proxied.proxy().log().opened();
        let began = Instant::now();
        acks.extend(send_numbers(&topic, 1..7000).await);
        producer.flush().await.unwrap();
        assert!(began.elapsed() > 2 * SECOND, "it was slowed down: {:?}", began.elapsed());
        assert!(proxied.proxy().log().opened() <= opened + 2, "and not by losing connections");
        arrive_once(proxied.at(), &name, acks).await;
    });
}

/// Bytes a second of a client by its id.
async fn quota(kafka: &Client, id: &str, bytes: f64) {
    let entity = RequestEntityData {
        entity_type: "client-id".into(),
        entity_name: Some(id.into()),
        ..Default::default()
    };
    let op = OpData { key: "producer_byte_rate".into(), value: bytes, remove: false, ..Default::default() };
    let entry = RequestEntryData { entity: vec![entity], ops: vec![op], ..Default::default() };
    let request = AlterClientQuotasRequest { entries: vec![entry], ..Default::default() };
    let answer = kafka.request(request).await.unwrap();
    assert_eq!(answer.entries[0].error_code, 0, "{answer:?}");
}
