//! Topics that are not used any more are forgotten, and what has to be known of them for ever is not.

use super::*;
use crate::producer::machine_core::LineId;

/// The names that the producer knows, its lanes, and where sequences are kept.
fn known(producer: &Producer) -> (Vec<String>, usize, usize) {
    let shared = &producer.handle.shared;
    let names = shared.topics().iter().map(|topic| topic.name.to_string()).collect();
    let state = shared.lock();
    (names, state.lanes.len(), state.kept.len())
}

fn lines(producer: &Producer) -> Vec<LineId> {
    producer.handle.shared.lock().lanes.keys().copied().collect()
}

const LONG: Duration = Duration::from_mins(8);

#[tokio::test(start_paused = true)]
async fn topics_without_use_are_forgotten_and_not_asked_about() {
    let broker = Broker::with(1);
    for n in 0..20 {
        broker.world().topics.insert(format!("idle-{n}"), 3);
    }
    let (_client, producer) = broker.warm(|set| set.linger(Duration::ZERO)).await;
    for n in 0..20 {
        for partition in 0..3 {
            producer.send(Record::to(&format!("idle-{n}")).partition(partition)).await.unwrap();
        }
    }
    let held = producer.topic("idle-7");
    assert_eq!((known(&producer).0.len(), known(&producer).1), (21, 61));
    for _ in 0..8 {
        tokio::time::sleep(LONG / 8).await;
        producer.send(Record::to("t")).await.unwrap();
    }
    assert_eq!(known(&producer), (vec!["idle-7".into(), "t".into()], 4, 57), "one is used, one is in hand");
    // Metadata forgets them after that, by the same measure.
    tokio::time::sleep(LONG).await;
    broker.world().asked.clear();
    tokio::time::sleep(LONG).await;
    let mut asked = std::mem::take(&mut broker.world().asked);
    asked.sort();
    asked.dedup();
    assert_eq!(asked, ["idle-7"], "t is not used any more either");
    drop(held);
    tokio::time::sleep(LONG).await;
    assert_eq!(known(&producer), (vec![], 0, 61));
    producer.close(SEC).await.unwrap();
}

/// P09: a broker takes a number that it has seen for a duplicate, and the record would be lost without a word.
#[tokio::test(start_paused = true)]
async fn p09_sequences_of_forgotten_topics_go_on() {
    let broker = Broker::with(2);
    broker.world().topics.insert("other".into(), 2);
    let (_client, producer) = broker.producer(|set| set.linger(Duration::ZERO)).await;
    let mut wanted = Vec::new();
    for round in 0..4_u8 {
        // Each time another one comes first, so that lines change places.
        let (first, second) = if round % 2 == 0 { ("t", "other") } else { ("other", "t") };
        for topic in [first, second] {
            for n in 0..3 + round {
                let at = producer.send(Record::to(topic).value(&[round, n]).partition(1)).await.unwrap();
                if topic == "t" {
                    wanted.push(vec![round, n]);
                    assert_eq!(at.offset(), Some(wanted.len() as i64 - 1));
                }
            }
        }
        assert_eq!(lines(&producer), [0, 1], "places are used again");
        tokio::time::sleep(LONG).await;
        assert_eq!(known(&producer), (vec![], 0, 2));
    }
    assert_eq!(broker.log(1), wanted);
    assert_eq!(broker.world().logs[&("other".into(), 1)].values, wanted);
    assert_eq!(broker.world().ids, 1, "under one identity");
    assert_eq!(producer.stats().records_retried, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_not_forgotten() {
    let broker = Broker::with(2);
    let set = |set: Builder| set.linger(Duration::from_mins(30)).delivery_timeout(Duration::from_hours(1));
    let (_client, producer) = broker.producer(set).await;
    let lingers = producer.enqueue(Record::to("t").partition(0)).await.unwrap();
    tokio::time::sleep(LONG).await;
    assert_eq!(known(&producer), (vec!["t".into()], 1, 0));
    broker.always(Reply::Refuse(ErrorCode::NOT_ENOUGH_REPLICAS));
    let _ = polled(producer.flush(), 1).await;
    tokio::time::sleep(LONG).await;
    assert_eq!(known(&producer), (vec!["t".into()], 1, 0));
    broker.world().always = None;
    assert_eq!(lingers.await.unwrap().offset(), Some(0));
    tokio::time::sleep(LONG).await;
    assert_eq!(known(&producer), (vec![], 0, 1));
}

/// Nothing of a producer is left when it is gone.
#[tokio::test(start_paused = true)]
async fn a_producer_that_has_ended_leaves_nothing_behind() {
    let broker = Broker::with(3);
    let (_client, producer) = broker.warm(|set| set.linger(Duration::ZERO)).await;
    let shared = Arc::downgrade(&producer.handle.shared);
    let topics: Vec<_> = shared.upgrade().unwrap().topics().iter().map(Arc::downgrade).collect();
    let lanes: Vec<_> = shared.upgrade().unwrap().lanes().iter().map(Arc::downgrade).collect();
    assert_eq!((topics.len(), lanes.len()), (1, 3));
    producer.close(SEC).await.unwrap();
    drop(producer);
    tokio::time::sleep(SEC).await;
    assert!(shared.upgrade().is_none());
    assert!(topics.iter().all(|topic| topic.upgrade().is_none()));
    assert!(lanes.iter().all(|lane| lane.upgrade().is_none()));
}
