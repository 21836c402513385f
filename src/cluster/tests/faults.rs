//! Brokers that are silent, cut off, gone or moved; callers that give up.

use super::*;
use crate::conn::Target;

#[tokio::test(start_paused = true)]
async fn a01_one_broker_that_is_away_fails_only_its_items() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    ask(&cluster, "a", &[0]).await.unwrap();
    fake.world().up.remove(&2);
    fake.world().listed.insert(2);
    let options = Options { deadline: Some(clock::now() + 5 * SECOND), ..Options::default() };
    let response = cluster.request(list("a", &[0, 1, 2]), &options).await.unwrap();
    let lost = ErrorCode::NETWORK_EXCEPTION;
    assert_eq!(offsets(&response), [(0, NONE, 100), (1, lost, -1), (2, NONE, 102)]);
    // What was answered was asked once.
    assert_eq!(fake.world().log.iter().filter(|at| **at == (3, ApiKey::LIST_OFFSETS)).count(), 1);
    let error = cluster.request(list("a", &[1]), &options).await.unwrap_err();
    assert!(error.is_io() || error.is_timeout(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_happened_is_not_repeated_unless_it_may_be() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    cluster.connect().await.unwrap();
    fake.fail(1, ApiKey::CREATE_TOPICS, &[Fault::Cut]);
    let error = cluster.request(CreateTopicsRequest::default(), &Options::default()).await.unwrap_err();
    assert!(error.may_have_happened() && error.is_io(), "{error}");
    assert_eq!(fake.count(ApiKey::CREATE_TOPICS), 1);
    // What was surely not sent is.
    fake.fail(1, ApiKey::CREATE_TOPICS, &[Fault::Refused]);
    cluster.request(CreateTopicsRequest::default(), &Options::default()).await.unwrap();
    fake.fail(1, ApiKey::LIST_OFFSETS, &[Fault::Cut, Fault::Cut]);
    assert_eq!(ask(&cluster, "a", &[0]).await.unwrap(), [(0, NONE, 100)]);
    assert_eq!(fake.count(ApiKey::LIST_OFFSETS), 3);
    // Once in doubt, in doubt at the end.
    fake.fail(1, ApiKey::LIST_OFFSETS, &[Fault::Cut]);
    fake.fail(1, ApiKey::LIST_OFFSETS, &[Fault::Refused; 200]);
    let error = ask(&cluster, "a", &[0]).await.unwrap_err();
    assert!(error.may_have_happened(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn once_means_once() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    ask(&cluster, "a", &[0]).await.unwrap();
    fake.world().topics.get_mut("a").unwrap()[0] = (3, 1);
    let options = Options { once: true, ..Options::default() };
    let response = cluster.request(list("a", &[0]), &options).await.unwrap();
    assert_eq!(offsets(&response), [(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, -1)]);
    fake.fail(1, ApiKey::LIST_OFFSETS, &[Fault::Refused]);
    tokio::time::sleep(SECOND).await;
    let named = Options { target: Some(Target::Broker(1)), ..options };
    assert!(cluster.request(list("a", &[0]), &named).await.unwrap_err().is_io());
}

#[tokio::test(start_paused = true)]
async fn m03_a_broker_that_is_silent_about_metadata_holds_nothing_up_for_long() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    cluster.connect().await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    for id in [1, 2] {
        fake.fail(id, ApiKey::METADATA, &[Fault::Silence]);
    }
    fake.world().log.clear();
    let started = clock::now();
    let asking = tokio::spawn({
        let cluster = cluster.clone();
        async move { ask(&cluster, "a", &[0]).await }
    });
    // Coordinators are found meanwhile.
    cluster.request(describe(&["g1"]), &Options::default()).await.unwrap();
    assert!(clock::now() - started < SECOND);
    asking.await.unwrap().unwrap();
    assert!(clock::now() - started < 22 * SECOND, "{:?}", clock::now() - started);
}

#[tokio::test(start_paused = true)]
async fn m04_a_cluster_that_moved_is_found_again() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    ask(&cluster, "a", &[0, 1, 2]).await.unwrap();
    {
        let mut world = fake.world();
        world.up = (11..=13).collect();
        world.bootstrap = vec![12];
        world.topics.insert("a".into(), vec![(11, 1), (12, 1), (13, 1)]);
    }
    let started = clock::now();
    let all = [(0, NONE, 100), (1, NONE, 101), (2, NONE, 102)];
    assert_eq!(ask(&cluster, "a", &[0, 1, 2]).await.unwrap(), all);
    assert!(clock::now() - started < 10 * SECOND, "{:?}", clock::now() - started);
    assert_eq!(cluster.snapshot().brokers().map(|broker| broker.id).collect::<Vec<_>>(), [11, 12, 13]);
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_not_the_one_that_was_meant_sends_us_back_to_the_start() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    ask(&cluster, "a", &[0]).await.unwrap();
    fake.fail(1, ApiKey::LIST_OFFSETS, &[Fault::Another; 1]);
    let before = cluster.inner.hub.stats().rebootstraps;
    assert_eq!(ask(&cluster, "a", &[0]).await.unwrap(), [(0, NONE, 100)]);
    assert_eq!(cluster.inner.hub.stats().rebootstraps, before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_says_nothing_of_the_broker() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    ask(&cluster, "a", &[0]).await.unwrap();
    let before = (cluster.inner.hub.stats(), fake.count(ApiKey::METADATA));
    for _ in 0..10 {
        fake.fail(1, ApiKey::LIST_OFFSETS, &[Fault::Silence]);
        let options = Options { deadline: Some(clock::now() + SECOND / 2), ..Options::default() };
        let error = cluster.request(list("a", &[0]), &options).await.unwrap_err();
        assert!(error.is_timeout() && error.may_have_happened(), "{error}");
    }
    assert_eq!(cluster.inner.hub.stats().rebootstraps, before.0.rebootstraps);
    assert_eq!(fake.count(ApiKey::METADATA), before.1, "nothing is looked for");
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_never_comes_is_told_as_brokers_tell_it() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    let error = ask(&cluster, "nope", &[0]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
    fake.world().topics.insert("led by nobody".into(), vec![(-1, 0)]);
    let error = ask(&cluster, "led by nobody", &[0]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::LEADER_NOT_AVAILABLE), "{error}");
}

#[tokio::test(start_paused = true)]
async fn m10_a_cluster_that_never_agrees_is_not_stormed() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    ask(&cluster, "a", &[0]).await.unwrap();
    // Metadata says one thing, and the leaders another.
    fake.world().quarrel = true;
    fake.world().log.clear();
    let error = ask(&cluster, "a", &[0]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    assert!(!error.may_have_happened(), "{error}");
    // A backoff of a second at most, give or take a fifth, and a refresh for each.
    let (asked, refreshed) = (fake.count(ApiKey::LIST_OFFSETS), fake.count(ApiKey::METADATA));
    assert!(asked + refreshed < 150, "{asked} requests and {refreshed} refreshes in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_left_is_no_more_listed() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    cluster.connect().await.unwrap();
    fake.world().up.remove(&3);
    let started = clock::now();
    let response = cluster.request(ListGroupsRequest::default(), &Options::default()).await.unwrap();
    let ids: Vec<_> = response.groups.iter().map(|group| group.group_id.as_str()).collect();
    assert_eq!((ids, ErrorCode(response.error_code)), (vec!["g1", "g2"], ErrorCode::NETWORK_EXCEPTION));
    assert!(clock::now() - started < 5 * SECOND, "it does not wait for one that is gone");
    assert_eq!(fake.count(ApiKey::LIST_GROUPS), 2, "the others are asked once");
    let response = cluster.request(ListGroupsRequest::default(), &Options::default()).await.unwrap();
    assert_eq!(ErrorCode(response.error_code), NONE);
}

#[tokio::test(start_paused = true)]
async fn a_named_broker_is_found_by_a_client_that_knows_nobody_yet() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    let to = |id| Options { target: Some(Target::Broker(id)), ..Options::default() };
    let started = clock::now();
    cluster.request(ListGroupsRequest::default(), &to(2)).await.unwrap();
    assert!(cluster.request(ListGroupsRequest::default(), &to(9)).await.unwrap_err().is_io());
    assert!(clock::now() - started < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_named_broker_that_says_not_here_is_believed() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    let to = Options { target: Some(Target::Broker(2)), ..Options::default() };
    cluster.connect().await.unwrap();
    let response = cluster.request(list("a", &[0, 1]), &to).await.unwrap();
    let codes: Vec<_> = offsets(&response).into_iter().map(|(index, code, _)| (index, code)).collect();
    assert_eq!(codes, [(0, ErrorCode::NOT_LEADER_OR_FOLLOWER), (1, NONE)]);
    let response = cluster.request(describe(&["g1"]), &to).await.unwrap();
    assert_eq!(ErrorCode(response.groups[0].error_code), ErrorCode::NOT_COORDINATOR);
    assert_eq!((fake.count(ApiKey::LIST_OFFSETS), fake.count(ApiKey::DESCRIBE_GROUPS)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_panics_hangs_nobody() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    cluster.connect().await.unwrap();
    for id in 1..=3 {
        fake.fail(id, ApiKey::METADATA, &[Fault::Panic]);
        fake.fail(id, ApiKey::FIND_COORDINATOR, &[Fault::Panic]);
    }
    let started = clock::now();
    let options = Options::default();
    let (listed, described) =
        tokio::join!(ask(&cluster, "a", &[0]), cluster.request(describe(&["g1"]), &options));
    assert!(listed.is_ok() && described.is_ok());
    assert!(clock::now() - started < 5 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn who_is_not_accepted_is_told_at_once() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    fake.fail(1, ApiKey::METADATA, &[Fault::Denied; 1000]);
    let started = clock::now();
    assert!(cluster.connect().await.unwrap_err().is_auth());
    assert!(ask(&cluster, "a", &[0]).await.unwrap_err().is_auth());
    assert!(clock::now() - started < SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_is_away_is_waited_for() {
    let fake = Fake::new();
    fake.world().up.clear();
    let cluster = cluster(&fake);
    let error = cluster.connect().await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("refused"), "{error}");
    fake.world().up.extend(1..=3);
    cluster.connect().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_fails_who_waits() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    let waiting = tokio::spawn({
        let cluster = cluster.clone();
        async move { ask(&cluster, "never", &[0]).await }
    });
    tokio::time::sleep(SECOND).await;
    let started = clock::now();
    cluster.close();
    assert!(waiting.await.unwrap().unwrap_err().is_closed());
    assert!(ask(&cluster, "a", &[0]).await.unwrap_err().is_closed());
    assert!(cluster.connect().await.unwrap_err().is_closed());
    assert!(clock::now() - started < 2 * SECOND);
    let asked = fake.count(ApiKey::METADATA);
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(fake.count(ApiKey::METADATA), asked, "nothing is asked any more");
}

#[tokio::test(start_paused = true)]
async fn closing_between_attempts_hides_neither_what_was_done_nor_what_may_have_been() {
    for (cut, answered) in [(&[1, 2, 3][..], 0), (&[3], 2)] {
        let fake = Fake::new();
        let cluster = cluster(&fake);
        cluster.connect().await.unwrap();
        for id in cut {
            fake.fail(*id, ApiKey::LIST_GROUPS, &[Fault::Cut]);
        }
        let asking = tokio::spawn({
            let cluster = cluster.clone();
            async move { cluster.parts(ListGroupsRequest::default(), &Options::default()).await }
        });
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(fake.count(ApiKey::LIST_GROUPS), 3);
        cluster.close();
        let parts = asking.await.unwrap().unwrap();
        let (done, failed): (Vec<_>, Vec<_>) = parts.into_iter().partition(|part| part.result.is_ok());
        assert_eq!((done.len(), failed.len()), (answered, cut.len()));
        for part in failed {
            let why = part.result.unwrap_err();
            assert!(why.is_closed() && why.may_have_happened(), "{why}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_takes_the_tasks_with_it() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    fake.fail(1, ApiKey::METADATA, &[Fault::Silence]);
    drop(tokio::time::timeout(Duration::from_millis(50), cluster.connect()).await);
    let weak = Arc::downgrade(&cluster.inner);
    drop(cluster);
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert!(weak.upgrade().is_none());
}

#[tokio::test(start_paused = true)]
async fn futures_may_be_dropped_anywhere() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    // Things move all the time, so that every place where a call waits is dropped at.
    for n in 0..300_u64 {
        let leader = (n % 3) as i32 + 1;
        fake.world().topics.get_mut("a").unwrap()[0] = (leader, n as i32);
        fake.world().groups.insert("g1".into(), leader);
        let patience = Duration::from_micros(n * 971 % 7000 * 50);
        let both = async {
            let options = Options::default();
            tokio::join!(ask(&cluster, "a", &[0, 1]), cluster.request(describe(&["g1", "g2"]), &options))
        };
        drop(tokio::time::timeout(patience, both).await);
    }
    let started = clock::now();
    assert_eq!(ask(&cluster, "a", &[0, 1]).await.unwrap(), [(0, NONE, 100), (1, NONE, 101)]);
    cluster.request(describe(&["g1", "g2"]), &Options::default()).await.unwrap();
    assert!(clock::now() - started < 5 * SECOND);
}
