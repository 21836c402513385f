//! A topic shared by members that come and go: each record is read by somebody, and what was committed is not read
//! again.

use std::sync::Arc;

use super::*;

#[test]
fn classic_on_1_1() {
    whole_life("1.1.1", GroupProtocol::Classic);
}

#[test]
fn classic_on_2_8() {
    whole_life("2.8.2", GroupProtocol::Classic);
}

#[test]
fn classic_on_3_9() {
    whole_life("3.9.2", GroupProtocol::Classic);
}

#[test]
fn classic_on_4_4() {
    whole_life("4.4.0", GroupProtocol::Classic);
}

#[test]
fn kip_848_on_4_4() {
    whole_life("4.4.0", GroupProtocol::Consumer);
}

/// Where a broker has no KIP-848 the classic protocol is taken.
#[test]
fn kip_848_falls_back_on_2_8() {
    whole_life("2.8.2", GroupProtocol::Consumer);
}

fn whole_life(version: &str, protocol: GroupProtocol) {
    let Some(broker) = shared(version) else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        let topic = format!("groups-life-{protocol:?}").to_lowercase();
        create_topic(&kafka, &topic, 4).await;
        send(&kafka, &topic, 4, 0..1000).await;

        let mut first = member(&kafka, &topic, protocol).topics([&topic]).build().unwrap();
        let seen = read(&mut first, 1000).await;
        assert!(seen.values().all(|times| *times == 1), "nobody else was there");
        first.commit_all().await.unwrap();
        let committed = first.committed((0..4).map(|n| (&topic, n))).await.unwrap();
        let offsets: Vec<i64> = committed.values().map(weir::consumer::Committed::offset).collect();
        assert_eq!(offsets, [250; 4]);

        // A second one gets its share; the two have all.
        let mut second = member(&kafka, &topic, protocol).topics([&topic]).build().unwrap();
        let both = async {
            loop {
                let (one, other) = (first.assignment(), second.assignment());
                if one.len() == 2 && other.len() == 2 {
                    let all: BTreeSet<_> = one.into_iter().chain(other).collect();
                    assert_eq!(all.len(), 4);
                    return;
                }
                let step = tokio::time::timeout(SECOND / 5, first.next());
                let other = tokio::time::timeout(SECOND / 5, second.next());
                let (one, other) = tokio::join!(step, other);
                assert!(one.is_err() && other.is_err(), "nothing was sent, and nothing is read again");
            }
        };
        tokio::time::timeout(LONG, both).await.expect("they share");

        send(&kafka, &topic, 4, 1000..2000).await;
        let (one, other) = tokio::join!(read(&mut first, 500), read(&mut second, 500));
        let all: BTreeSet<u32> = one.keys().chain(other.keys()).copied().collect();
        assert_eq!(all, (1000..2000).collect());

        // The second leaves, and what it had done is not read again.
        second.commit_all().await.unwrap();
        second.close(LONG).await.unwrap();
        send(&kafka, &topic, 4, 2000..3000).await;
        let seen = read(&mut first, 1000).await;
        assert_eq!(seen.keys().copied().collect::<BTreeSet<u32>>(), (2000..3000).collect());
        first.close(LONG).await.unwrap();
        kafka.close().await;
    });
}

#[test]
fn every_assignor_of_ours_works_with_itself() {
    let Some(broker) = shared("3.9.2") else { return };
    run(async {
        let kafka = connect(broker.bootstrap).await;
        let all: [Arc<dyn Assignor>; 4] =
            [Arc::new(Range), Arc::new(RoundRobin), Arc::new(Sticky), Arc::new(CooperativeSticky)];
        for assignor in all {
            let topic = format!("groups-{}", assignor.name());
            create_topic(&kafka, &topic, 6).await;
            send(&kafka, &topic, 6, 0..600).await;
            let member = |_| {
                let settings = member(&kafka, &topic, GroupProtocol::Classic);
                settings.assignors([Arc::clone(&assignor)]).topics([&topic]).build().unwrap()
            };
            let mut members: Vec<Consumer> = (0..3).map(member).collect();
            let mut seen = BTreeSet::new();
            let began = Instant::now();
            while seen.len() < 600 || members.iter().any(|member| member.assignment().len() != 2) {
                assert!(began.elapsed() < LONG, "{topic}: {} seen", seen.len());
                for member in &mut members {
                    let next = tokio::time::timeout(SECOND / 10, member.next_event()).await;
                    if let Ok(Ok(Some(Event::Batch(batch)))) = next {
                        seen.extend(batch.iter().map(|record| number(record.value())));
                    }
                }
            }
            for member in members {
                member.close(LONG).await.unwrap();
            }
        }
        kafka.close().await;
    });
}
