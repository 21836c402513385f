//! Requests whose items go to several brokers: each item is answered by whom it concerns, and all come back in
//! one answer. When a broker dies, its items fail or move, and no other.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use weir::protocol::delete_groups::DeleteGroupsRequest;
use weir::protocol::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use weir::protocol::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use weir::protocol::describe_groups::DescribeGroupsRequest;
use weir::protocol::describe_log_dirs::DescribeLogDirsRequest;
use weir::protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use weir::protocol::list_groups::ListGroupsRequest;
use weir::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use weir::protocol::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir::protocol::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use weir::protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use weir::protocol::{Str, Uuid};
use weir::{Client, ErrorCode};
use weir_kafka_harness::Listener;

use super::{Three, batch, create_topic, list, run};
use crate::seed::say;

const TOPIC: &str = "items";
const PARTITIONS: i32 = 12;
const BROKERS: [i32; 3] = [1, 2, 3];
const DEAD: i32 = 3;

/// Consecutive names fall on all partitions of the offsets' topic, and so on all coordinators.
const GROUPS: i64 = 12;

/// How long a call waits for a broker that has died.
const PATIENCE: Duration = Duration::from_secs(8);

type Leaders = BTreeMap<i32, BTreeSet<i32>>;

#[test]
fn items_are_answered_by_whom_they_concern() {
    let Some(three) = Three::start("4.4.0", |builder| builder) else { return };
    run(async {
        let kafka = Client::connect(&list(&three.cluster.bootstrap(Listener::plain()))).await.unwrap();
        // One copy each: when a broker dies, nobody else can lead its partitions.
        let id = create_topic(&kafka, TOPIC, PARTITIONS, 1).await;
        let leaders = partitions(&kafka, id).await;
        groups(&kafka, id).await;
        brokers(&kafka, &leaders).await;
        three.cluster.node(DEAD).kill();
        without_a_broker(&kafka, id, &leaders).await;
        kafka.close().await;
    });
}

/// Codes and a number of each partition, from any answer that has partitions.
type ByPartition = BTreeMap<i32, (ErrorCode, i64)>;

fn good(number: i64) -> ByPartition {
    (0..PARTITIONS).map(|index| (index, (ErrorCode::NONE, number))).collect()
}

/// Items that go to leaders; and who leads what, as the parts tell.
async fn partitions(kafka: &Client, id: Uuid) -> Leaders {
    assert_eq!(produced(kafka, id).await, good(0));
    assert_eq!(ends(kafka).await, good(1));
    assert_eq!(fetched(kafka, id).await, good(1), "each has the end 1");

    let parts = kafka.request(list_offsets()).parts().await.unwrap();
    let asked = parts.into_iter().map(|part| {
        assert!(part.result.is_ok(), "{:?}", part.result);
        let partitions = part.request.topics.iter().flat_map(|topic| &topic.partitions);
        (part.broker.unwrap(), partitions.map(|partition| partition.partition_index).collect())
    });
    let leaders: Leaders = asked.collect();
    assert_eq!(leaders.keys().copied().collect::<Vec<_>>(), BROKERS, "{leaders:?}");
    assert_eq!(leaders.values().flatten().collect::<BTreeSet<_>>().len(), PARTITIONS as usize, "{leaders:?}");

    let partition =
        |partition_index| DeleteRecordsPartition { partition_index, offset: 1, ..Default::default() };
    let topic = DeleteRecordsTopic {
        name: TOPIC.into(),
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..Default::default()
    };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let answer = kafka.request(request).await.unwrap();
    assert_eq!(answer.topics.len(), 1);
    let deleted = answer.topics[0].partitions.iter();
    let deleted: ByPartition =
        deleted.map(|p| (p.partition_index, (ErrorCode(p.error_code), p.low_watermark))).collect();
    assert_eq!(deleted, good(1));
    say(&format!("items: leaders {leaders:?}"));
    leaders
}

/// Sends a record to each partition, and gives their offsets.
async fn produced(kafka: &Client, topic_id: Uuid) -> ByPartition {
    let partition = |index| PartitionProduceData {
        index,
        records: Some(batch(&[format!("item {index}").into()])),
        ..Default::default()
    };
    let topic = TopicProduceData {
        name: TOPIC.into(),
        topic_id,
        partition_data: (0..PARTITIONS).map(partition).collect(),
        ..Default::default()
    };
    let request =
        ProduceRequest { acks: -1, timeout_ms: 5_000, topic_data: vec![topic], ..Default::default() };
    let answer = kafka.request(request).timeout(PATIENCE).await.unwrap();
    assert_eq!(answer.responses.len(), 1, "one topic, whoever answered");
    let partitions = answer.responses[0].partition_responses.iter();
    partitions.map(|p| (p.index, (ErrorCode(p.error_code), p.base_offset))).collect()
}

fn list_offsets() -> ListOffsetsRequest {
    let partition =
        |partition_index| ListOffsetsPartition { partition_index, timestamp: -1, ..Default::default() };
    let topic = ListOffsetsTopic {
        name: TOPIC.into(),
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..Default::default()
    };
    ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() }
}

/// The end of each partition.
async fn ends(kafka: &Client) -> ByPartition {
    let answer = kafka.request(list_offsets()).timeout(PATIENCE).await.unwrap();
    assert_eq!(answer.topics.len(), 1, "one topic, whoever answered");
    let partitions = answer.topics[0].partitions.iter();
    partitions.map(|p| (p.partition_index, (ErrorCode(p.error_code), p.offset))).collect()
}

/// The high watermark of each partition, from a fetch at offset 1: it waits for nothing.
async fn fetched(kafka: &Client, topic_id: Uuid) -> ByPartition {
    let partition = |partition| FetchPartition {
        partition,
        fetch_offset: 1,
        partition_max_bytes: 1 << 16,
        ..Default::default()
    };
    let topic = FetchTopic {
        topic: TOPIC.into(),
        topic_id,
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..Default::default()
    };
    let request = FetchRequest { topics: vec![topic], ..Default::default() };
    let answer = kafka.request(request).timeout(PATIENCE).await.unwrap();
    assert_eq!(answer.responses.len(), 1, "one topic, whoever answered");
    let partitions = answer.responses[0].partitions.iter();
    partitions.map(|p| (p.partition_index, (ErrorCode(p.error_code), p.high_watermark))).collect()
}

fn group(number: i64) -> Str {
    format!("items-{number}").into()
}

/// Items that go to coordinators.
async fn groups(kafka: &Client, topic_id: Uuid) {
    for number in 0..GROUPS {
        let partition = OffsetCommitRequestPartition {
            partition_index: 0,
            committed_offset: 100 + number,
            ..Default::default()
        };
        let topic = OffsetCommitRequestTopic {
            name: TOPIC.into(),
            topic_id,
            partitions: vec![partition],
            ..Default::default()
        };
        let request =
            OffsetCommitRequest { group_id: group(number), topics: vec![topic], ..Default::default() };
        let answer = kafka.request(request).await.unwrap();
        assert_eq!(ErrorCode(answer.topics[0].partitions[0].error_code), ErrorCode::NONE);
    }
    assert_eq!(committed(kafka, topic_id, 0..GROUPS).await, (100..100 + GROUPS).collect::<Vec<_>>());

    let request = DescribeGroupsRequest { groups: (0..GROUPS).map(group).collect(), ..Default::default() };
    let answer = kafka.request(request.clone()).await.unwrap();
    let named: BTreeSet<_> = answer.groups.iter().map(|group| group.group_id.clone()).collect();
    assert_eq!(named, (0..GROUPS).map(group).collect());
    assert_eq!(answer.groups.len(), named.len(), "each once");
    assert!(answer.groups.iter().all(|group| group.error_code == 0 && group.group_state.as_str() == "Empty"));
    let parts = kafka.request(request).parts().await.unwrap();
    let coordinators: BTreeMap<_, _> =
        parts.into_iter().map(|part| (part.broker.unwrap(), part.request.groups)).collect();
    assert_eq!(coordinators.keys().copied().collect::<Vec<_>>(), BROKERS, "{coordinators:?}");
    assert_eq!(coordinators.values().map(Vec::len).sum::<usize>(), named.len(), "{coordinators:?}");

    let listed = kafka.request(ListGroupsRequest::default()).await.unwrap();
    let listed: BTreeSet<_> = listed.groups.into_iter().map(|group| group.group_id).collect();
    assert_eq!(listed, named);
    // Half of them go, and one that is not there fails alone.
    let leaving = (0..GROUPS / 2).chain([99]).map(group).collect();
    let answer =
        kafka.request(DeleteGroupsRequest { groups_names: leaving, ..Default::default() }).await.unwrap();
    assert_eq!(answer.results.len() as i64, GROUPS / 2 + 1);
    for result in &answer.results {
        let expected =
            if result.group_id == group(99) { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::NONE };
        assert_eq!(ErrorCode(result.error_code), expected, "{:?}", result.group_id);
    }
    say(&format!("items: coordinators {coordinators:?}"));
}

/// What these groups have committed, all asked at once (KIP-709).
async fn committed(kafka: &Client, topic_id: Uuid, numbers: std::ops::Range<i64>) -> Vec<i64> {
    let topic = OffsetFetchRequestTopics {
        name: TOPIC.into(),
        topic_id,
        partition_indexes: [0].into(),
        ..Default::default()
    };
    let one = |number| OffsetFetchRequestGroup {
        group_id: group(number),
        topics: Some(vec![topic.clone()]),
        ..Default::default()
    };
    let request = OffsetFetchRequest { groups: numbers.clone().map(one).collect(), ..Default::default() };
    let answer = kafka.request(request).await.unwrap();
    let found: BTreeMap<Str, i64> = answer
        .groups
        .iter()
        .map(|group| {
            let partition = &group.topics[0].partitions[0];
            assert_eq!((group.error_code, partition.error_code), (0, 0), "{:?}", group.group_id);
            (group.group_id.clone(), partition.committed_offset)
        })
        .collect();
    assert_eq!(found.len(), answer.groups.len(), "each once");
    numbers.map(|number| found[&group(number)]).collect()
}

fn configs_of(named: &[i32]) -> DescribeConfigsRequest {
    let resource = |resource_type, resource_name| DescribeConfigsResource {
        resource_type,
        resource_name,
        configuration_keys: None,
        ..Default::default()
    };
    let brokers = named.iter().map(|id| resource(4, id.to_string().into()));
    let resources = brokers.chain([resource(2, TOPIC.into())]).collect();
    DescribeConfigsRequest { resources, ..Default::default() }
}

/// Which resources were described, and with which codes.
async fn described(kafka: &Client, named: &[i32]) -> BTreeMap<Str, ErrorCode> {
    let answer = kafka.request(configs_of(named)).timeout(PATIENCE).await.unwrap();
    assert_eq!(answer.results.len(), named.len() + 1, "each once");
    let good = answer.results.iter().filter(|result| result.error_code == 0);
    for result in good {
        assert!(!result.configs.is_empty(), "{:?}", result.resource_name);
    }
    answer.results.into_iter().map(|result| (result.resource_name, ErrorCode(result.error_code))).collect()
}

/// Items that go to brokers by their names, and what each broker says for itself.
async fn brokers(kafka: &Client, leaders: &Leaders) {
    let expected = ["2", "3", TOPIC].map(|name| (Str::from(name), ErrorCode::NONE));
    assert_eq!(described(kafka, &[2, 3]).await, BTreeMap::from(expected));
    assert_eq!(stored(kafka).await, *leaders, "with one copy, who leads a partition has it");
}

/// Which partitions of the topic are on which broker's disks, of those brokers that answer.
async fn stored(kafka: &Client) -> Leaders {
    let request = DescribeLogDirsRequest { topics: None, ..Default::default() };
    let parts = kafka.request(request).timeout(PATIENCE).parts().await.unwrap();
    let answers = parts.into_iter().filter_map(|part| Some((part.broker?, part.result.ok()?)));
    let stored = answers.map(|(broker, answer)| {
        let topics = answer.results.iter().flat_map(|dir| &dir.topics);
        let ours = topics.filter(|topic| topic.name.as_str() == TOPIC).flat_map(|topic| &topic.partitions);
        (broker, ours.map(|partition| partition.partition_index).collect())
    });
    stored.collect()
}

/// One broker has died: what it alone could say fails, all else is as before.
async fn without_a_broker(kafka: &Client, id: Uuid, leaders: &Leaders) {
    let began = Instant::now();
    let (ends, produced, fetched, described, stored) = tokio::join!(
        ends(kafka),
        produced(kafka, id),
        fetched(kafka, id),
        described(kafka, &[1, DEAD]),
        stored(kafka)
    );
    let took = began.elapsed();
    for (what, found) in [("list offsets", &ends), ("produce", &produced), ("fetch", &fetched)] {
        assert_eq!(found.len(), PARTITIONS as usize, "{what}: an item was lost: {found:?}");
        for (index, (code, _)) in found {
            let dead = leaders[&DEAD].contains(index);
            assert_eq!(dead, !code.is_none(), "{what} of partition {index}: {code}");
        }
        let codes: BTreeSet<_> = found.values().map(|(code, _)| code.to_string()).collect();
        say(&format!("items: without broker {DEAD}: {what}: {codes:?}"));
    }
    let live = produced.values().filter(|(code, _)| code.is_none());
    assert!(live.clone().count() > 0 && live.clone().all(|(_, offset)| *offset == 1), "{produced:?}");
    assert_eq!(described[TOPIC], ErrorCode::NONE);
    assert_eq!(described["1"], ErrorCode::NONE);
    assert_ne!(described[DEAD.to_string().as_str()], ErrorCode::NONE);
    let mut expected = leaders.clone();
    expected.remove(&DEAD);
    assert_eq!(stored, expected);
    // A broker that is silent costs no more than a call may take; the rest is a busy machine.
    assert!(took < 4 * PATIENCE, "{took:?}");
    // Coordinators move, and with them what was committed.
    let kept = GROUPS / 2..GROUPS;
    assert_eq!(committed(kafka, id, kept).await, (100 + GROUPS / 2..100 + GROUPS).collect::<Vec<_>>());
    say(&format!("items: without broker {DEAD}: {described:?}, in {took:.1?}; offsets are kept"));
}
