//! The whole of the cluster over scripted connections, on virtual time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use self::fake::{Fake, Fault};
use super::driver::Cluster;
use super::metadata::Leader;
use super::split::Routed as _;
use super::{Config, Options};
use crate::messages::create_topics::CreateTopicsRequest;
use crate::messages::describe_groups::DescribeGroupsRequest;
use crate::messages::fetch::FetchRequest;
use crate::messages::join_group::JoinGroupRequest;
use crate::messages::list_groups::ListGroupsRequest;
use crate::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use crate::messages::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use crate::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::messages::share_fetch::ShareFetchRequest;
use crate::net::clock;
use crate::observe::{Event, Hub, Lookup};
use crate::wire::ApiKey;
use crate::{ErrorCode, Result};

mod fake;
mod faults;
mod large;

const SECOND: Duration = Duration::from_secs(1);

fn cluster(fake: &Fake) -> Cluster<Fake> {
    Cluster::new(fake.clone(), Config::default(), Hub::default(), 7)
}

fn list(topic: &str, indexes: &[i32]) -> ListOffsetsRequest {
    let partition = |index: &i32| ListOffsetsPartition {
        partition_index: *index,
        timestamp: -1,
        ..ListOffsetsPartition::default()
    };
    let partitions = indexes.iter().map(partition).collect();
    let topic = ListOffsetsTopic { name: topic.into(), partitions, ..ListOffsetsTopic::default() };
    ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..ListOffsetsRequest::default() }
}

/// The error and the offset of each partition.
fn offsets(response: &ListOffsetsResponse) -> Vec<(i32, ErrorCode, i64)> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    partitions.map(|p| (p.partition_index, ErrorCode(p.error_code), p.offset)).collect()
}

fn describe(groups: &[&str]) -> DescribeGroupsRequest {
    let groups = groups.iter().map(|id| (*id).into()).collect();
    DescribeGroupsRequest { groups, ..DescribeGroupsRequest::default() }
}

async fn ask(cluster: &Cluster<Fake>, topic: &str, indexes: &[i32]) -> Result<Vec<(i32, ErrorCode, i64)>> {
    let response = cluster.request(list(topic, indexes), &Options::default()).await?;
    Ok(offsets(&response))
}

const NONE: ErrorCode = ErrorCode::NONE;

#[tokio::test(start_paused = true)]
async fn a_request_is_split_and_its_answers_are_put_together() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    cluster.connect().await.unwrap();
    let all = [(0, NONE, 100), (1, NONE, 101), (2, NONE, 102), (3, NONE, 103)];
    assert_eq!(ask(&cluster, "a", &[3, 2, 1, 0]).await.unwrap(), all);
    assert_eq!((fake.count(ApiKey::LIST_OFFSETS), fake.world().misplaced), (3, 0));
    let parts = cluster.parts(list("a", &[0, 1]), &Options::default()).await.unwrap();
    let targets: Vec<_> = parts.iter().filter_map(|part| part.target).collect();
    assert_eq!(targets, [crate::conn::Target::Broker(1), crate::conn::Target::Broker(2)]);
}

#[tokio::test(start_paused = true)]
async fn many_who_want_the_same_ask_for_it_once() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    let mut tasks = Vec::new();
    for n in 0..50 {
        let cluster = cluster.clone();
        tasks.push(tokio::spawn(async move {
            if n % 2 == 0 {
                ask(&cluster, "a", &[0]).await.map(|_| ())
            } else {
                cluster.request(describe(&["g1", "g2", "g3"]), &Options::default()).await.map(|_| ())
            }
        }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(fake.count(ApiKey::METADATA) <= 2, "{} requests for metadata", fake.count(ApiKey::METADATA));
    assert_eq!(fake.count(ApiKey::FIND_COORDINATOR), 1, "all groups in one");
    assert_eq!(fake.world().misplaced, 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_moved_is_found_with_one_refresh() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    ask(&cluster, "a", &[0]).await.unwrap();
    fake.world().topics.get_mut("a").unwrap()[0] = (3, 1);
    let before = fake.count(ApiKey::METADATA);
    assert_eq!(ask(&cluster, "a", &[0, 1]).await.unwrap(), [(0, NONE, 100), (1, NONE, 101)]);
    assert_eq!((fake.count(ApiKey::METADATA), fake.world().misplaced), (before + 1, 1));
    // The partition that was answered was not asked for again.
    assert_eq!(fake.count(ApiKey::LIST_OFFSETS), 4);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_says_what_is_true_when_it_was_asked_for() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    ask(&cluster, "a", &[0]).await.unwrap();
    tokio::time::sleep(2 * SECOND).await;
    (1..=3).for_each(|id| fake.fail(id, ApiKey::METADATA, &[Fault::Late]));
    let first = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.refresh(clock::now() + 5 * SECOND).await }
    });
    tokio::time::sleep(Duration::from_millis(100)).await;
    fake.world().faults.clear();
    // The broker has answered, and the answer is on its way.
    fake.world().topics.get_mut("a").unwrap()[0] = (3, 1);
    let second = cluster.refresh(clock::now() + 5 * SECOND).await.unwrap();
    assert_eq!(second.leader(&"a".into(), 0), Leader::Known { broker: 3, epoch: 1 });
    let first = first.await.unwrap().unwrap();
    assert_eq!(first.leader(&"a".into(), 0), Leader::Known { broker: 1, epoch: 0 });
}

#[tokio::test(start_paused = true)]
async fn a_topic_with_name_and_id_is_found_where_brokers_know_no_ids() {
    let fake = Fake::new();
    fake.world().versions.insert(ApiKey::METADATA, 0..=9);
    let cluster = cluster(&fake);
    let partition_data = vec![PartitionProduceData::default()];
    let topic_id = crate::wire::Uuid::from_bytes([8; 16]);
    let topic =
        TopicProduceData { name: "a".into(), topic_id, partition_data, ..TopicProduceData::default() };
    let produce = ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() };
    let started = clock::now();
    cluster.request(produce, &Options::default()).await.unwrap();
    assert!(clock::now() - started < SECOND);
}

#[test]
fn what_waits_at_the_broker_says_how_long() {
    let ms = Duration::from_millis;
    let fetch = |max_wait_ms| FetchRequest { max_wait_ms, ..FetchRequest::default() };
    assert_eq!((fetch(500).held(), fetch(-1).held()), (ms(500), ms(0)));
    let share = ShareFetchRequest { max_wait_ms: i32::MAX, ..ShareFetchRequest::default() };
    assert_eq!(share.held(), ms(i32::MAX as u64));
    let join = |rebalance_timeout_ms| JoinGroupRequest {
        session_timeout_ms: 45_000,
        rebalance_timeout_ms,
        ..JoinGroupRequest::default()
    };
    assert_eq!((join(300_000).held(), join(-1).held()), (ms(300_000), ms(45_000)));
    assert_eq!(ListGroupsRequest::default().held(), ms(0));
}

#[tokio::test(start_paused = true)]
async fn m11_what_waits_for_the_controller_holds_up_no_look_up() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    cluster.connect().await.unwrap();
    // All that there is to ask.
    fake.world().up = [1].into();
    cluster.refresh(clock::now() + SECOND).await.unwrap();
    fake.fail(1, ApiKey::CREATE_TOPICS, &[Fault::Held(20 * SECOND)]);
    let started = clock::now();
    let creating = tokio::spawn({
        let cluster = cluster.clone();
        let request = CreateTopicsRequest { timeout_ms: 20_000, ..CreateTopicsRequest::default() };
        async move { cluster.request(request, &Options::default()).await }
    });
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(fake.count(ApiKey::CREATE_TOPICS), 1);
    cluster.refresh(clock::now() + SECOND).await.unwrap();
    cluster.request(ListGroupsRequest::default(), &Options::default()).await.unwrap();
    assert!(clock::now() - started < SECOND && !creating.is_finished());
    creating.await.unwrap().unwrap();
    assert!(clock::now() - started >= 20 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_an_error_names_is_asked_at_once() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    ask(&cluster, "a", &[0]).await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    fake.world().topics.get_mut("a").unwrap()[0] = (3, 1);
    let partition_data = vec![PartitionProduceData::default()];
    let topic = TopicProduceData { name: "a".into(), partition_data, ..TopicProduceData::default() };
    let produce = ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() };
    let started = clock::now();
    let response = cluster.request(produce, &Options::default()).await.unwrap();
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    assert!(clock::now() - started < Duration::from_millis(20), "no backoff, no metadata");
    let (leader, epoch) = cluster.leader(&"a".into(), 0, clock::now() + SECOND).await.unwrap();
    assert_eq!((leader, epoch), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn g06_a_coordinator_that_moved_is_looked_up_again() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    let ids = ["g1", "g2"];
    cluster.request(describe(&ids), &Options::default()).await.unwrap();
    fake.world().groups.insert("g1".into(), 2);
    let response = cluster.request(describe(&ids), &Options::default()).await.unwrap();
    assert!(response.groups.iter().all(|group| group.error_code == 0));
    assert_eq!(response.groups.len(), 2);
    assert_eq!((fake.count(ApiKey::FIND_COORDINATOR), fake.world().misplaced), (2, 1));
    let at = cluster.coordinator(Lookup::Group, &"g1".into(), clock::now() + SECOND).await.unwrap();
    assert_eq!(at, 2);
}

#[tokio::test(start_paused = true)]
async fn brokers_without_batches_are_asked_one_by_one() {
    let fake = Fake::new();
    fake.world().versions.insert(ApiKey::FIND_COORDINATOR, 0..=2);
    let cluster = cluster(&fake);
    let response = cluster.request(describe(&["g1", "g2", "g3"]), &Options::default()).await.unwrap();
    assert_eq!(response.groups.len(), 3);
    assert_eq!(fake.count(ApiKey::FIND_COORDINATOR), 3);
}

#[tokio::test(start_paused = true)]
async fn offsets_of_groups_are_asked_for_one_by_one_where_brokers_are_old() {
    let fake = Fake::new();
    fake.world().versions.insert(ApiKey::OFFSET_FETCH, 0..=7);
    fake.world().groups.insert("g4".into(), 3);
    let cluster = cluster(&fake);
    let topic =
        OffsetFetchRequestTopics { name: "a".into(), partition_indexes: [0].into(), ..Default::default() };
    let group = |id: &str| OffsetFetchRequestGroup {
        group_id: id.into(),
        topics: Some(vec![topic.clone()]),
        ..OffsetFetchRequestGroup::default()
    };
    let groups = ["g1", "g2", "g3", "g4"].map(group).into();
    let request = OffsetFetchRequest { groups, ..OffsetFetchRequest::default() };
    cluster.request(request.clone(), &Options::default()).await.unwrap();
    assert_eq!((fake.count(ApiKey::OFFSET_FETCH), fake.world().misplaced), (4, 0));
    // One that moves is asked for again, and no other.
    fake.world().groups.insert("g4".into(), 1);
    let answer = cluster.request(request.clone(), &Options::default()).await.unwrap();
    assert_eq!((fake.count(ApiKey::OFFSET_FETCH), fake.world().misplaced), (9, 1));
    let mut offsets: Vec<_> = answer
        .groups
        .iter()
        .map(|group| {
            (group.group_id.as_str(), group.error_code, group.topics[0].partitions[0].committed_offset)
        })
        .collect();
    offsets.sort_unstable();
    assert_eq!(offsets, ["g1", "g2", "g3", "g4"].map(|id| (id, 0, 42)));
    // What no old version can say is refused before anything is sent.
    fake.world().versions.insert(ApiKey::OFFSET_FETCH, 0..=6);
    let stable = OffsetFetchRequest { require_stable: true, ..request };
    let error = cluster.request(stable, &Options::default()).await.unwrap_err();
    assert!(error.is_unsupported() && !error.may_have_happened(), "{error}");
    assert_eq!(fake.count(ApiKey::OFFSET_FETCH), 9);
}

#[tokio::test(start_paused = true)]
async fn a_topic_that_comes_later_is_waited_for() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    let waiting = tokio::spawn({
        let cluster = cluster.clone();
        async move { ask(&cluster, "late", &[0]).await }
    });
    tokio::time::sleep(10 * SECOND).await;
    let asked = fake.count(ApiKey::METADATA);
    assert!((8..25).contains(&asked), "{asked} requests in 10 s");
    fake.world().topics.insert("late".into(), vec![(2, 0)]);
    assert_eq!(waiting.await.unwrap().unwrap(), [(0, NONE, 100)]);
    // One that never comes is an error when the time is over.
    let started = clock::now();
    let error = ask(&cluster, "never", &[0]).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error}");
    assert!(error.is_retriable() && !error.may_have_happened(), "{error}");
    assert_eq!((clock::now() - started).as_secs(), 60);
}

#[tokio::test(start_paused = true)]
async fn versions_that_a_broker_lacks_are_an_error_that_says_so() {
    let fake = Fake::new();
    fake.world().versions.insert(ApiKey::LIST_OFFSETS, 0..=5);
    let cluster = cluster(&fake);
    let mut request = list("a", &[0]);
    request.topics[0].partitions[0].timestamp = -4;
    let error = cluster.request(request, &Options::default()).await.unwrap_err();
    assert!(error.is_unsupported() && error.to_string().contains("8 to 11"), "{error}");
    let options = Options { versions: Some(3..=4), ..Options::default() };
    assert!(cluster.request(list("a", &[0]), &options).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn retries_and_changes_are_told() {
    let fake = Fake::new();
    let told = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&told);
    let hub = Hub::new(Some(Box::new(move |event: &Event| ears.lock().unwrap().push(event.clone()))));
    let cluster = Cluster::new(fake.clone(), Config::default(), hub, 7);
    cluster.request(describe(&["g1"]), &Options::default()).await.unwrap();
    fake.fail(1, ApiKey::DESCRIBE_GROUPS, &[Fault::Cut]);
    cluster.request(describe(&["g1"]), &Options::default()).await.unwrap();
    let told = told.lock().unwrap();
    let count = |is: fn(&Event) -> bool| told.iter().filter(|event| is(event)).count();
    assert_eq!(count(|event| matches!(event, Event::Retried { api: ApiKey::DESCRIBE_GROUPS, .. })), 1);
    assert_eq!(count(|event| matches!(event, Event::CoordinatorChanged { node: 1, .. })), 2);
    assert!(count(|event| matches!(event, Event::MetadataChanged(_))) >= 1);
}

#[tokio::test(start_paused = true)]
async fn metadata_is_refreshed_when_asked_for_and_at_an_age() {
    let fake = Fake::new();
    let cluster = cluster(&fake);
    cluster.want(["a".into()]);
    let snapshot = cluster.refresh(clock::now() + SECOND).await.unwrap();
    assert_eq!(snapshot.topic("a").unwrap().partitions.len(), 4);
    let before = fake.count(ApiKey::METADATA);
    tokio::time::sleep(310 * SECOND).await;
    assert_eq!(fake.count(ApiKey::METADATA), before + 1);
    cluster.want_all();
    fake.world().topics.insert("b".into(), vec![(1, 0)]);
    let snapshot = cluster.refresh(clock::now() + SECOND).await.unwrap();
    assert_eq!(snapshot.topics().len(), 2);
}
