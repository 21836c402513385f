//! What is too large, or too much, or refused by the broker: the record that is to blame is told so, all others
//! arrive, and every ack comes to its end.

use std::time::Instant;

use weir::protocol::create_acls::{AclCreation, CreateAclsRequest};
use weir::records::Compression;
use weir::{Client, ErrorCode, Record};
use weir_kafka_harness::proxy::{Fault, Rule};
use weir_kafka_harness::{Cluster, Listener, Mechanism, PASSWORD, USER, unless_skipped};

use super::{LONG, PRODUCE, SECOND, connect, create_topic, proxied, read_back, resolve, run, values};
use crate::broker::{VERSIONS, shared};

#[test]
fn a_record_beyond_the_clients_limit_is_refused_at_once() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        create_topic(&kafka, "producer-large", 1, &[]).await;
        let producer = kafka.producer().max_request_size(10_000).build().unwrap();
        let (fits, large) = (vec![7; 9_000], vec![7; 10_000]);
        let to = || Record::to("producer-large");
        let error = producer.enqueue(to().value(&large)).await.unwrap_err();
        assert!(error.is_limit() && !error.may_have_happened(), "{error}");
        let refused = producer.try_enqueue(to().value(&large)).unwrap_err();
        assert!(refused.error.is_limit(), "{refused}");
        assert_eq!(producer.send(to().value(&fits)).await.unwrap().offset(), Some(0));
        let small = kafka.producer().buffer_memory(4096).build().unwrap();
        let error = small.enqueue(to().value(&fits)).await.unwrap_err();
        assert!(error.is_limit(), "more than all memory: {error}");
    });
}

/// The broker takes 2 KB at once, and batches of ten times as much are closed: they are taken apart, each record
/// once, in order, and acks say where. One that is too large by itself fails alone.
#[test]
fn batches_beyond_the_brokers_limit_are_taken_apart() {
    for version in ["0.11.0.3", VERSIONS[0]] {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = connect(broker.bootstrap).await;
            for (name, codec) in
                [("producer-split", Compression::None), ("producer-split-lz4", Compression::Lz4)]
            {
                create_topic(&kafka, name, 1, &[("max.message.bytes", "2000")]).await;
                let builder = kafka.producer().linger(SECOND).batch_size(20_000).compression(codec);
                let producer = builder.build().unwrap();
                let topic = producer.topic(name);
                let (mut acks, mut sent) = (Vec::new(), Vec::new());
                for n in 0..300 {
                    // Hardly to be compressed.
                    let noise = |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (n << 40);
                    let words = if n == 150 { 500 } else { 8 };
                    let words: Vec<String> =
                        (0..words).map(|i| format!("{:016x}", noise(n * 8 + i))).collect();
                    let value = words.concat();
                    acks.push(topic.enqueue(Record::new().value(&value)).await.unwrap());
                    sent.push(value);
                }
                producer.flush().await.unwrap();
                let ends = resolve(acks).await;
                let error = ends[150].as_ref().unwrap_err();
                assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE), "{error}");
                assert!(!error.may_have_happened());
                sent.remove(150);
                assert_eq!(values(&read_back(broker.bootstrap, name).await), sent, "{version} {name}");
                let offsets: Vec<Option<i64>> =
                    ends.iter().filter_map(|end| Some(end.as_ref().ok()?.offset())).collect();
                let wanted: Vec<Option<i64>> = (0..299).map(Some).collect();
                assert_eq!(offsets, wanted, "{version} {name}");
            }
        });
    }
}

/// P17: a compacted topic takes no record without a key. The broker says which it was (KIP-467); the others of its
/// batch are not written either, their error says so, and does not blame them.
#[test]
fn p17_only_the_bad_record_of_a_batch_is_blamed() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        let name = "producer-compacted";
        create_topic(&kafka, name, 1, &[("cleanup.policy", "compact")]).await;
        let producer = kafka.producer().linger(SECOND).build().unwrap();
        let topic = producer.topic(name);
        for bad in [0, 2, 4] {
            let mut acks = Vec::new();
            for n in 0..5 {
                let record = Record::new().value("v");
                let record = if n == bad { record } else { record.key("k") };
                acks.push(topic.enqueue(record).await.unwrap());
            }
            producer.flush().await.unwrap();
            for (n, end) in resolve(acks).await.into_iter().enumerate() {
                let error = end.expect_err("all of the batch is refused");
                assert_eq!(error.code(), Some(ErrorCode::INVALID_RECORD), "{error}");
                assert!(!error.may_have_happened(), "{error}");
                assert!(error.to_string().contains("without key"), "{error}");
                // Whoever was refused for what came beside it may be sent again.
                assert_eq!(error.is_retriable(), n != bad, "{bad}, {n}: {error}");
            }
        }
        // The numbers of what was refused are free again (P04).
        for n in 0..3 {
            let at = topic.send(Record::new().key("k").value("good")).await.unwrap();
            assert_eq!(at.offset(), Some(n));
        }
        assert_eq!(values(&read_back(broker.bootstrap, name).await), ["good"; 3]);
    });
}

/// P04: of five batches in flight the first is refused for good: those behind it arrive, in order.
#[test]
fn p04_batches_behind_a_refused_one_arrive_in_order() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = connect(proxied.at()).await;
        let name = "producer-refused";
        create_topic(&kafka, name, 1, &[("cleanup.policy", "compact,delete")]).await;
        let producer = kafka.producer().linger(std::time::Duration::ZERO).build().unwrap();
        let topic = producer.topic(name);
        topic.send(Record::new().key("k").value("before")).await.unwrap();
        let hold = proxied.proxy().add(Rule::new(Fault::Hold).requests()).unwrap();
        let (mut acks, mut wanted) = (Vec::new(), vec!["before".to_owned()]);
        for n in 0..100 {
            let (key, value) = (format!("key {n}"), format!("value {n}"));
            let record = Record::new().value(&value);
            acks.push(topic.enqueue(if n % 20 == 0 { record } else { record.key(&key) }).await.unwrap());
            if n % 5 == 0 {
                // Each time the batch that is open goes, as far as there is room in flight.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        proxied.proxy().remove(hold);
        producer.flush().await.unwrap();
        for (n, end) in resolve(acks).await.into_iter().enumerate() {
            match end {
                Ok(_) => wanted.push(format!("value {n}")),
                Err(error) => assert_eq!(error.code(), Some(ErrorCode::INVALID_RECORD), "{n}: {error}"),
            }
        }
        assert!((3..100).contains(&wanted.len()), "{wanted:?}");
        assert_eq!(values(&read_back(proxied.at(), name).await), wanted);
    });
}

/// Who may see a topic and not write to it is told so by the broker; who may not even see it, when the
/// topic is looked for.
#[test]
fn a_topic_that_is_not_ours_is_refused() {
    let listener = Listener::sasl(Mechanism::Plain);
    let builder = Cluster::builder(VERSIONS[0])
        .listener(Listener::plain())
        .listener(listener)
        .property("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer")
        .property("super.users", "User:ANONYMOUS");
    let Some(cluster) = unless_skipped("a broker with ACLs", builder.start()) else { return };
    run(async {
        let root = connect(cluster.bootstrap_text(Listener::plain())).await;
        for name in ["hidden", "seen", "own"] {
            create_topic(&root, name, 1, &[]).await;
        }
        // Kafka's numbers: a topic, by its very name; to describe, to write; allowed.
        let allow = |name: &'static str, operation| AclCreation {
            resource_type: 2,
            resource_name: name.into(),
            resource_pattern_type: 3,
            principal: format!("User:{USER}").as_str().into(),
            host: "*".into(),
            operation,
            permission_type: 3,
            ..Default::default()
        };
        let creations = vec![allow("seen", 8), allow("own", 8), allow("own", 4)];
        let made = root.request(CreateAclsRequest { creations, ..Default::default() }).await.unwrap();
        assert!(made.results.iter().all(|result| result.error_code == 0), "{made:?}");
        let user = Client::builder(&cluster.bootstrap_text(listener))
            .sasl(weir::conn::sasl::Plain::new(USER, PASSWORD).unwrap())
            .allow_sasl_without_tls();
        let kafka = user.connect().await.unwrap();
        let producer = kafka.producer().max_block(5 * SECOND).build().unwrap();
        let (ours, asked) = (producer.send(Record::to("own").value("v")).await.unwrap(), Instant::now());
        assert_eq!(ours.offset(), Some(0));
        for name in ["seen", "hidden"] {
            let error = producer.send(Record::to(name).value("v")).await.unwrap_err();
            assert_eq!(error.code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED), "{name}: {error}");
            assert!(!error.may_have_happened(), "{name}: {error}");
        }
        assert!(asked.elapsed() < 5 * SECOND, "nobody waits for what will not change");
        assert_eq!(producer.send(Record::to("own").value("v")).await.unwrap().offset(), Some(1));
    });
}

/// While the broker is stalled memory fills up, and then records come back, untouched; they are taken again once
/// there is room.
#[test]
fn try_enqueue_gives_the_record_back_while_memory_is_full() {
    let Some(proxied) = proxied() else { return };
    run(async {
        let kafka = connect(proxied.at()).await;
        create_topic(&kafka, "producer-full", 1, &[]).await;
        let producer = kafka.producer().buffer_memory(64 << 10).batch_size(8 << 10).build().unwrap();
        let topic = producer.topic("producer-full");
        topic.send(Record::new().value("first")).await.unwrap();
        let stall = proxied.proxy().add(Rule::new(Fault::Hold).responses().api(PRODUCE)).unwrap();
        let value = "x".repeat(1000);
        let mut acks = Vec::new();
        let refused = loop {
            match topic.try_enqueue(Record::new().key("k").value(&value)) {
                Ok(ack) => acks.push(ack),
                Err(refused) => break refused,
            }
            assert!(acks.len() <= 64, "64 KiB hold at most 64 such records");
        };
        assert!(refused.error.is_limit(), "{}", refused.error);
        assert!(acks.len() >= 32, "{} records in 64 KiB", acks.len());
        assert!(acks.iter().all(|ack| ack.try_get().is_none()), "nothing is answered yet");
        proxied.proxy().remove(stall);
        // The very record that came back.
        acks.push(topic.enqueue(refused.record).await.unwrap());
        let offsets: Vec<i64> =
            resolve(acks).await.into_iter().map(|end| end.unwrap().offset().unwrap()).collect();
        let wanted: Vec<i64> = (1..=offsets.len() as i64).collect();
        assert_eq!(offsets, wanted);
    });
}

/// Who waits for much memory is not passed by those who want little and come later.
#[test]
fn memory_is_awaited_in_turn() {
    let Some(proxied) = proxied() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let kafka = connect(proxied.at()).await;
        create_topic(&kafka, "producer-fair", 1, &[]).await;
        let producer = kafka.producer().buffer_memory(64 << 10).batch_size(4 << 10).build().unwrap();
        let topic = producer.topic("producer-fair");
        topic.send(Record::new().value("first")).await.unwrap();
        let stall = proxied.proxy().add(Rule::new(Fault::Hold).responses().api(PRODUCE)).unwrap();
        let little = "x".repeat(1000);
        while topic.try_enqueue(Record::new().value(&little)).map(drop).is_ok() {}
        let mut waiting = tokio::task::JoinSet::new();
        for n in 0..30 {
            let topic = topic.clone();
            waiting.spawn(async move {
                let size = if n == 0 { 30_000 } else { 1000 };
                let value = "y".repeat(size);
                let at = topic.enqueue(Record::new().value(&value)).await.unwrap().await.unwrap();
                (n, at.offset().unwrap())
            });
            // So that it waits before the next one does.
            tokio::task::yield_now().await;
        }
        proxied.proxy().remove(stall);
        let mut places = tokio::time::timeout(LONG, waiting.join_all()).await.expect("all get room");
        places.sort_by_key(|(_, offset)| *offset);
        assert_eq!(places[0].0, 0, "{places:?}");
    });
}
