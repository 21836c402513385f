//! Requests taken apart over a small cluster, and answers put together.

use std::time::{Duration, Instant};

use super::*;
use crate::cluster::metadata::Broker;
use crate::cluster::metadata::index::{Scope, index};
use crate::cluster::{backoff::Backoff, coordinators::Said};
use crate::messages::add_partitions_to_txn::{AddPartitionsToTxnRequest, AddPartitionsToTxnTransaction};
use crate::messages::create_topics::{CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse};
use crate::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic};
use crate::messages::delete_topics::DeleteTopicsRequest;
use crate::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use crate::messages::describe_groups::{DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup};
use crate::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use crate::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use crate::messages::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use crate::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
    ListOffsetsTopic, ListOffsetsTopicResponse,
};
use crate::messages::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use crate::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use crate::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use crate::messages::produce::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse, ProduceRequest,
    ProduceResponse, TopicProduceData, TopicProduceResponse,
};
use crate::messages::write_txn_markers::{WritableTxnMarker, WritableTxnMarkerTopic, WriteTxnMarkersRequest};
use crate::wire::{Ints, Message};

/// Brokers 1 to 3, of which 2 is the controller; topic "a" with partitions 0 to 3 led by 1, 2, 1 and
/// nobody; topic "no", which is not for us. Groups "g1" and "g3" are with brokers 1 and 3.
struct Small {
    snapshot: Snapshot,
    coordinators: Coordinators,
    now: Instant,
    named: Option<Target>,
}

const ID: Uuid = Uuid::from_bytes([7; 16]);

impl Small {
    fn new() -> Self {
        let now = Instant::now();
        let broker = |node_id| MetadataResponseBroker {
            node_id,
            host: "b".into(),
            port: 9092,
            ..MetadataResponseBroker::default()
        };
        let partition = |(partition_index, leader_id)| MetadataResponsePartition {
            partition_index,
            leader_id,
            ..MetadataResponsePartition::default()
        };
        let a = MetadataResponseTopic {
            name: Some("a".into()),
            topic_id: ID,
            partitions: [(0, 1), (1, 2), (2, 1), (3, -1)].map(partition).into(),
            ..MetadataResponseTopic::default()
        };
        let no = MetadataResponseTopic {
            name: Some("no".into()),
            error_code: ErrorCode::TOPIC_AUTHORIZATION_FAILED.0,
            ..MetadataResponseTopic::default()
        };
        let response = MetadataResponse {
            brokers: (1..=3).map(broker).collect(),
            controller_id: 2,
            topics: vec![a, no],
            ..MetadataResponse::default()
        };
        let read = index(&Snapshot::default(), response, &Scope::All, now, Duration::ZERO);
        let mut coordinators = Coordinators::new(Backoff::default(), 1);
        for lookup in [Lookup::Group, Lookup::Transaction] {
            for key in ["g1", "g3"] {
                coordinators.handle_want(lookup, &key.into(), now);
            }
            let find = coordinators.poll_request(now).unwrap();
            let said = |key: &str, id| Said {
                key: key.into(),
                broker: Ok(Broker::checked(id, "b", 1, None).unwrap()),
            };
            coordinators.handle_end(find.ticket, Ok(vec![said("g1", 1), said("g3", 3)]), now);
        }
        Self { snapshot: read.unwrap().snapshot, coordinators, now, named: None }
    }

    fn view(&mut self) -> View<'_> {
        View {
            snapshot: &self.snapshot,
            coordinators: &mut self.coordinators,
            now: self.now,
            any: &&Some(3),
            same: Some(1),
            named: self.named,
            topics: SmallVec::new(),
            stale: false,
            lacking: None,
        }
    }

    fn split<R: Routed>(&mut self, request: R) -> Vec<(Spot, R)> {
        request.split(&mut self.view())
    }

    /// Where all of it goes.
    fn spot<R: Routed>(&mut self, request: R) -> Spot {
        let mut parts = self.split(request);
        assert_eq!(parts.len(), 1);
        parts.remove(0).0
    }
}

const fn at(id: i32) -> Spot {
    Spot::At(Target::Broker(id))
}

fn list(topics: &[(&str, &[i32])]) -> ListOffsetsRequest {
    let partition = |index: &i32| ListOffsetsPartition {
        partition_index: *index,
        timestamp: -1,
        ..ListOffsetsPartition::default()
    };
    let topic = |(name, indexes): &(&str, &[i32])| ListOffsetsTopic {
        name: (*name).into(),
        partitions: indexes.iter().map(partition).collect(),
        ..ListOffsetsTopic::default()
    };
    let topics = topics.iter().map(topic).collect();
    ListOffsetsRequest { replica_id: -1, topics, ..ListOffsetsRequest::default() }
}

/// An answer with partitions of index, error and offset.
#[allow(clippy::type_complexity, reason = "written out once")]
fn listed(topics: &[(&str, &[(i32, ErrorCode, i64)])]) -> ListOffsetsResponse {
    let partition = |(index, code, offset): &(i32, ErrorCode, i64)| ListOffsetsPartitionResponse {
        partition_index: *index,
        error_code: code.0,
        offset: *offset,
        ..ListOffsetsPartitionResponse::default()
    };
    let topic = |(name, partitions): &(&str, &[(i32, ErrorCode, i64)])| ListOffsetsTopicResponse {
        name: (*name).into(),
        partitions: partitions.iter().map(partition).collect(),
        ..ListOffsetsTopicResponse::default()
    };
    ListOffsetsResponse { topics: topics.iter().map(topic).collect(), ..ListOffsetsResponse::default() }
}

const NONE: ErrorCode = ErrorCode::NONE;
const MOVED: ErrorCode = ErrorCode::NOT_LEADER_OR_FOLLOWER;
const LATER: ErrorCode = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;

fn is_again(code: ErrorCode) -> bool {
    [MOVED, LATER, ErrorCode::NOT_COORDINATOR, ErrorCode::UNSTABLE_OFFSET_COMMIT].contains(&code)
}

#[test]
fn partitions_go_to_their_leaders() {
    let parts = Small::new().split(list(&[("a", &[0, 1, 2, 3]), ("no", &[0]), ("new", &[0])]));
    let refused = Spot::Refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!(
        parts,
        [
            (at(1), list(&[("a", &[0, 2])])),
            (at(2), list(&[("a", &[1])])),
            (Spot::Wait, list(&[("a", &[3]), ("new", &[0])])),
            (refused, list(&[("no", &[0])])),
        ]
    );
    assert_eq!(Small::new().spot(list(&[])), at(3), "anyone can answer nothing");
    let mut small = Small::new();
    small.named = Some(Target::Broker(9));
    assert_eq!(small.spot(list(&[("a", &[0, 1])])), at(9));
}

#[test]
fn partitions_that_have_moved_are_sent_again_and_the_others_stay() {
    let request = list(&[("a", &[0, 2]), ("b", &[5])]);
    let mut answer = Some(listed(&[("a", &[(0, NONE, 10), (2, MOVED, -1)]), ("b", &[(5, MOVED, -1)])]));
    let again = request.again(&mut answer, &is_again);
    assert_eq!(again, Some(list(&[("a", &[2]), ("b", &[5])])));
    assert_eq!(answer, Some(listed(&[("a", &[(0, NONE, 10)])])));
    assert_eq!(request.again(&mut answer, &is_again), None);
    let mut answer = Some(listed(&[("a", &[(0, MOVED, -1), (2, MOVED, -1)]), ("b", &[(5, MOVED, -1)])]));
    assert_eq!(request.again(&mut answer, &is_again), Some(request.clone()));
    assert_eq!(answer, None, "nothing is left of it");
    // One that was not asked for is not sent.
    let mut answer = Some(listed(&[("z", &[(9, MOVED, -1)])]));
    assert_eq!(request.again(&mut answer, &is_again), None);
}

#[test]
fn a01_answers_are_put_together_item_by_item() {
    let failed = list(&[("b", &[0]), ("a", &[3])]).failed(ErrorCode::NETWORK_EXCEPTION, "cut").unwrap();
    let merged = ListOffsetsRequest::merge(
        listed(&[("a", &[(2, NONE, 12), (0, NONE, 10)])]),
        vec![listed(&[("a", &[(1, NONE, 11), (0, NONE, 99)])]), failed],
    );
    let lost = ErrorCode::NETWORK_EXCEPTION;
    assert_eq!(
        merged,
        listed(&[
            ("a", &[(0, NONE, 10), (1, NONE, 11), (2, NONE, 12), (3, lost, -1)]),
            ("b", &[(0, lost, -1)])
        ])
    );
}

#[test]
fn what_a_broker_does_not_speak_of_has_failed() {
    let mut answer = listed(&[("a", &[(0, NONE, 10)])]);
    list(&[("a", &[0, 1]), ("b", &[2])]).complete(&mut answer);
    let unsaid = ErrorCode::UNKNOWN_SERVER_ERROR;
    assert_eq!(answer, listed(&[("a", &[(0, NONE, 10), (1, unsaid, -1)]), ("b", &[(2, unsaid, -1)])]));
    let mut groups = DescribeGroupsResponse::default();
    DescribeGroupsRequest { groups: vec!["g".into()], ..DescribeGroupsRequest::default() }
        .complete(&mut groups);
    assert_eq!(ErrorCode(groups.groups[0].error_code), unsaid);
}

fn produce(name: &str, topic_id: Uuid, indexes: &[i32]) -> ProduceRequest {
    let partition = |index: &i32| PartitionProduceData { index: *index, ..PartitionProduceData::default() };
    let topic = TopicProduceData {
        name: name.into(),
        topic_id,
        partition_data: indexes.iter().map(partition).collect(),
        ..TopicProduceData::default()
    };
    ProduceRequest { acks: -1, topic_data: vec![topic], ..ProduceRequest::default() }
}

fn produced(name: &str, topic_id: Uuid, index: i32, code: ErrorCode, leader: (i32, i32)) -> ProduceResponse {
    let current_leader =
        LeaderIdAndEpoch { leader_id: leader.0, leader_epoch: leader.1, ..LeaderIdAndEpoch::default() };
    let partition = PartitionProduceResponse {
        index,
        error_code: code.0,
        base_offset: if code.is_none() { 0 } else { -1 },
        current_leader,
        ..PartitionProduceResponse::default()
    };
    let topic = TopicProduceResponse {
        name: name.into(),
        topic_id,
        partition_responses: vec![partition],
        ..TopicProduceResponse::default()
    };
    let endpoint = NodeEndpoint { node_id: 9, host: "b9".into(), port: 1, ..NodeEndpoint::default() };
    ProduceResponse { responses: vec![topic], node_endpoints: vec![endpoint], ..ProduceResponse::default() }
}

#[test]
fn topics_by_id_and_by_name_are_the_same_topics() {
    let zero = Uuid::ZERO;
    for (name, id) in [("a", zero), ("", ID), ("a", ID)] {
        let parts = Small::new().split(produce(name, id, &[0, 1]));
        assert_eq!(parts, [(at(1), produce(name, id, &[0])), (at(2), produce(name, id, &[1]))]);
    }
    // With both, a new topic is looked for by its name: old brokers know no other way.
    let other = Uuid::from_bytes([8; 16]);
    let (mut small, by_id) = (Small::new(), TopicKey::Id(other));
    for (name, key) in [("new", "new".into()), ("", by_id.clone()), ("a", by_id)] {
        assert_eq!(small.view().topic(other, &name.into()), key, "{name:?}");
    }
    // Asked with both, the answer has the one or the other, by its version.
    let both = produce("a", ID, &[0, 1]);
    for (name, id) in [("a", zero), ("", ID)] {
        let mut answer = Some(produced(name, id, 1, MOVED, (-1, -1)));
        assert_eq!(both.again(&mut answer, &is_again), Some(produce("a", ID, &[1])));
        let mut answer = produced(name, id, 1, NONE, (-1, -1));
        both.complete(&mut answer);
        let indexes: Vec<_> = answer.responses[0].partition_responses.iter().map(|p| p.index).collect();
        assert_eq!((answer.responses.len(), indexes), (1, vec![0, 1]));
        assert_eq!(answer.responses[0].partition_responses[0].base_offset, -1);
    }
}

#[test]
fn what_a_leader_wrote_before_it_was_none_is_not_sent_again() {
    let request = produce("a", ID, &[1]);
    let mut answer = produced("a", ID, 1, MOVED, (9, 5));
    assert_eq!(request.again(&mut Some(answer.clone()), &is_again), Some(request.clone()));
    answer.responses[0].partition_responses[0].base_offset = 7;
    let mut said = Some(answer.clone());
    assert_eq!(request.again(&mut said, &is_again), None);
    assert_eq!(said, Some(answer), "the caller sees it");
}

#[test]
fn leaders_are_learned_from_errors() {
    let hints = ProduceRequest::hints(&produced("", ID, 1, MOVED, (9, 5)));
    assert_eq!((hints.leaders.len(), hints.leaders[0].leader, hints.leaders[0].epoch), (1, 9, 5));
    assert_eq!((&hints.leaders[0].topic, hints.brokers[0].address.host()), (&TopicKey::Id(ID), "b9"));
    // No error and no leader: nothing to be learned.
    for (code, leader) in [(NONE, (9, 5)), (MOVED, (-1, -1)), (ErrorCode::CORRUPT_MESSAGE, (9, 5))] {
        assert_eq!(ProduceRequest::hints(&produced("", ID, 1, code, leader)), Hints::default(), "{code}");
    }
}

#[test]
fn m09_versions_are_cut_to_what_they_can_say() {
    let zero = Uuid::ZERO;
    assert_eq!(produce("a", zero, &[0]).versions(), 0..=12);
    assert_eq!(produce("", ID, &[0]).versions(), 13..=13);
    assert_eq!(produce("a", ID, &[0]).versions(), 0..=13);
    assert!(produce("", zero, &[0]).versions().is_empty(), "neither a name nor an id");
    let transactional = ProduceRequest { transactional_id: Some("t".into()), ..produce("a", ID, &[0]) };
    assert_eq!(transactional.versions(), 0..=11);
    let mut fetch = FetchRequest::default();
    fetch.topics.push(FetchTopic {
        topic: "a".into(),
        partitions: vec![FetchPartition::default()],
        ..FetchTopic::default()
    });
    assert_eq!(fetch.versions(), 0..=12);
    let mut tiered = list(&[("a", &[0])]);
    assert_eq!(tiered.versions(), 0..=11);
    tiered.topics[0].partitions[0].timestamp = -4;
    assert_eq!(tiered.versions(), 8..=11);
    assert_eq!(DeleteTopicsRequest::default().versions(), 0..=5);
    assert_eq!(AddPartitionsToTxnRequest::default().versions(), 0..=3);
    assert_eq!(OffsetFetchRequest::default().versions(), 0..=7);
    let group = OffsetFetchRequestGroup { topics: None, ..OffsetFetchRequestGroup::default() };
    let many = OffsetFetchRequest { groups: vec![group], ..OffsetFetchRequest::default() };
    assert_eq!(many.versions(), 8..=10);
    assert_eq!(crate::messages::find_coordinator::FindCoordinatorRequest::default().versions(), 0..=3);
}

#[test]
fn only_what_names_its_offset_is_deleted_twice() {
    let mut request = DeleteRecordsRequest::default();
    let partition = |offset| DeleteRecordsPartition { offset, ..DeleteRecordsPartition::default() };
    let partitions = vec![partition(7)];
    request.topics.push(DeleteRecordsTopic { name: "a".into(), partitions, ..DeleteRecordsTopic::default() });
    assert!(request.is_repeatable());
    request.topics[0].partitions.push(partition(-1));
    assert!(!request.is_repeatable());
}

#[test]
fn partitions_in_plain_lists_are_split_too() {
    let topic = |indexes: &[i32]| {
        let partition_indexes = Ints::from(indexes);
        let topic = TopicRequest { name: "a".into(), partition_indexes, ..TopicRequest::default() };
        DescribeProducersRequest { topics: vec![topic], ..DescribeProducersRequest::default() }
    };
    let parts = Small::new().split(topic(&[0, 1, 2]));
    assert_eq!(parts, [(at(1), topic(&[0, 2])), (at(2), topic(&[1]))]);
    let failed = topic(&[2, 0]).failed(MOVED, "words").unwrap();
    assert_eq!(failed.topics[0].partitions[0].error_message.as_deref(), Some("words"));
}

fn marker(indexes: &[i32]) -> WriteTxnMarkersRequest {
    let partition_indexes = Ints::from(indexes);
    let topic =
        WritableTxnMarkerTopic { name: "a".into(), partition_indexes, ..WritableTxnMarkerTopic::default() };
    let marker = WritableTxnMarker { producer_id: 5, topics: vec![topic], ..WritableTxnMarker::default() };
    WriteTxnMarkersRequest { markers: vec![marker], ..WriteTxnMarkersRequest::default() }
}

#[test]
fn markers_are_split_by_leader() {
    let parts = Small::new().split(marker(&[0, 1, 2]));
    assert_eq!(parts, [(at(1), marker(&[0, 2])), (at(2), marker(&[1]))]);
    let failed = |indexes: &[i32], code| marker(indexes).failed(code, "").unwrap();
    let merged =
        WriteTxnMarkersRequest::merge(failed(&[0, 2], NONE), vec![failed(&[1], MOVED), failed(&[2], MOVED)]);
    assert_eq!(WriteTxnMarkersRequest::codes(&merged)[..], [NONE, MOVED, NONE]);
    let mut answer = Some(merged);
    assert_eq!(marker(&[0, 1, 2]).again(&mut answer, &is_again), Some(marker(&[1])));
    assert_eq!(answer, Some(failed(&[0, 2], NONE)));
    assert_eq!(marker(&[0, 2]).again(&mut answer, &is_again), None);
}

fn describe(groups: &[&str]) -> DescribeGroupsRequest {
    let groups = groups.iter().map(|id| (*id).into()).collect();
    DescribeGroupsRequest { groups, include_authorized_operations: true, ..DescribeGroupsRequest::default() }
}

fn described(groups: &[(&str, ErrorCode)]) -> DescribeGroupsResponse {
    let group = |(id, code): &(&str, ErrorCode)| DescribedGroup {
        group_id: (*id).into(),
        error_code: code.0,
        ..DescribedGroup::default()
    };
    DescribeGroupsResponse { groups: groups.iter().map(group).collect(), ..DescribeGroupsResponse::default() }
}

#[test]
fn groups_go_to_their_coordinators() {
    let mut small = Small::new();
    let parts = small.split(describe(&["g1", "new", "g3"]));
    assert_eq!(
        parts,
        [(at(1), describe(&["g1"])), (at(3), describe(&["g3"])), (Spot::Wait, describe(&["new"])),]
    );
    assert_eq!(small.coordinators.poll_request(small.now).unwrap().keys, ["new"], "it is looked up");
    assert_eq!(describe(&["x", "y"]).coordinated().len(), 2);
    let request = describe(&["g1", "g2"]);
    let mut answer = Some(described(&[("g1", LATER), ("g2", NONE)]));
    assert_eq!(request.again(&mut answer, &is_again), Some(describe(&["g1"])));
    assert_eq!(answer, Some(described(&[("g2", NONE)])));
    // While a group moves, both its coordinators may speak of it.
    let merged = DescribeGroupsRequest::merge(
        described(&[("g1", NONE)]),
        vec![described(&[("g1", MOVED), ("g2", NONE)])],
    );
    assert_eq!(merged, described(&[("g1", NONE), ("g2", NONE)]));
}

#[test]
fn a_coordinator_that_metadata_does_not_know_is_looked_up_again() {
    let mut small = Small::new();
    let find = {
        small.coordinators.handle_want(Lookup::Group, &"far".into(), small.now);
        small.coordinators.poll_request(small.now).unwrap()
    };
    let far = Broker::checked(77, "b", 1, None).unwrap();
    let said = vec![Said { key: "far".into(), broker: Ok(far) }];
    small.coordinators.handle_end(find.ticket, Ok(said), small.now);
    assert_eq!(small.spot(describe(&["far"])), Spot::Wait);
    assert!(small.coordinators.poll_timeout().is_some());
}

#[test]
fn offsets_are_fetched_for_one_group_or_many() {
    let group =
        |id: &str| OffsetFetchRequestGroup { group_id: id.into(), ..OffsetFetchRequestGroup::default() };
    let many = |ids: &[&str]| OffsetFetchRequest {
        groups: ids.iter().map(|id| group(id)).collect(),
        ..OffsetFetchRequest::default()
    };
    let parts = Small::new().split(many(&["g1", "g3"]));
    assert_eq!(parts, [(at(1), many(&["g1"])), (at(3), many(&["g3"]))]);
    let one = OffsetFetchRequest { group_id: "g3".into(), ..OffsetFetchRequest::default() };
    assert_eq!(Small::new().spot(one.clone()), at(3));
    assert_eq!(one.coordinated(), [(Lookup::Group, "g3".into())]);
    let error_code = ErrorCode::NOT_COORDINATOR.0;
    let mut answer = Some(OffsetFetchResponse { error_code, ..OffsetFetchResponse::default() });
    assert_eq!(one.again(&mut answer, &is_again), Some(one.clone()));
    assert_eq!((answer, one.failed(MOVED, "")), (None, None));
    // An open transaction is an error of one partition, for which the group is asked again.
    let unstable = OffsetFetchResponsePartitions {
        error_code: ErrorCode::UNSTABLE_OFFSET_COMMIT.0,
        ..OffsetFetchResponsePartitions::default()
    };
    let topic =
        OffsetFetchResponseTopics { partitions: vec![unstable], ..OffsetFetchResponseTopics::default() };
    let answered = |id: &str, topics| OffsetFetchResponseGroup {
        group_id: id.into(),
        topics,
        ..OffsetFetchResponseGroup::default()
    };
    let groups = vec![answered("g1", vec![topic]), answered("g3", vec![])];
    let mut answer = Some(OffsetFetchResponse { groups, ..OffsetFetchResponse::default() });
    assert_eq!(many(&["g1", "g3"]).again(&mut answer, &is_again), Some(many(&["g1"])));
}

#[test]
fn transactions_fail_as_their_partitions() {
    let transaction = AddPartitionsToTxnTransaction {
        transactional_id: "g1".into(),
        topics: vec![crate::messages::add_partitions_to_txn::AddPartitionsToTxnTopic {
            name: "a".into(),
            partitions: Ints::from([0, 1]),
            ..Default::default()
        }],
        ..AddPartitionsToTxnTransaction::default()
    };
    let request =
        AddPartitionsToTxnRequest { transactions: vec![transaction], ..AddPartitionsToTxnRequest::default() };
    assert_eq!(Small::new().spot(request.clone()), at(1));
    let mut answer = request.failed(LATER, "").unwrap();
    answer.results_by_transaction[0].topic_results[0].results_by_partition[0].partition_error_code =
        ErrorCode::OPERATION_NOT_ATTEMPTED.0;
    assert_eq!(AddPartitionsToTxnRequest::codes(&answer)[..], [LATER]);
    assert_eq!(request.again(&mut Some(answer), &is_again), Some(request.clone()));
    let single = AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: "g3".into(),
        ..AddPartitionsToTxnRequest::default()
    };
    assert_eq!(Small::new().spot(single), at(3));
}

#[test]
fn every_broker_lists_its_groups() {
    let parts = Small::new().split(ListGroupsRequest::default());
    assert_eq!(parts.iter().map(|(spot, _)| *spot).collect::<Vec<_>>(), [at(1), at(2), at(3)]);
    let group = |id: &str| ListedGroup { group_id: id.into(), ..ListedGroup::default() };
    let answer = |ids: &[&str]| ListGroupsResponse {
        groups: ids.iter().map(|id| group(id)).collect(),
        ..ListGroupsResponse::default()
    };
    let failed = ListGroupsRequest::default().failed(ErrorCode::NETWORK_EXCEPTION, "").unwrap();
    let merged = ListGroupsRequest::merge(answer(&["a", "b"]), vec![answer(&["b", "c"]), failed]);
    let code = ErrorCode::NETWORK_EXCEPTION.0;
    assert_eq!(merged, ListGroupsResponse { error_code: code, ..answer(&["a", "b", "c"]) });
}

#[test]
fn config_resources_of_a_broker_go_to_it() {
    let request = |resources: &[(i8, &str)]| {
        let resource = |(resource_type, name): &(i8, &str)| DescribeConfigsResource {
            resource_type: *resource_type,
            resource_name: (*name).into(),
            ..DescribeConfigsResource::default()
        };
        let resources = resources.iter().map(resource).collect();
        DescribeConfigsRequest { resources, ..DescribeConfigsRequest::default() }
    };
    let parts = Small::new().split(request(&[(2, "1"), (4, "1"), (8, "2"), (4, ""), (4, "2"), (4, "99")]));
    assert_eq!(
        parts,
        [
            (at(1), request(&[(4, "1")])),
            (at(2), request(&[(8, "2"), (4, "2")])),
            (at(3), request(&[(2, "1"), (4, "")])),
            (Spot::Wait, request(&[(4, "99")])),
        ]
    );
    let mut answer = request(&[(4, "1"), (2, "1")]).failed(MOVED, "words");
    assert_eq!(answer.as_ref().unwrap().results[0].error_message.as_deref(), Some("words"));
    assert_eq!(request(&[(2, "1")]).again(&mut answer, &is_again), Some(request(&[(2, "1")])));
}

#[test]
fn what_is_whole_goes_to_one_place() {
    use crate::messages::{
        alter_replica_log_dirs::AlterReplicaLogDirsRequest, describe_cluster::DescribeClusterRequest,
        heartbeat::HeartbeatRequest, init_producer_id::InitProducerIdRequest,
        push_telemetry::PushTelemetryRequest,
    };
    let mut small = Small::new();
    assert_eq!(small.spot(CreateTopicsRequest::default()), at(2));
    assert_eq!(small.spot(DescribeClusterRequest::default()), at(3));
    assert_eq!(small.spot(PushTelemetryRequest::default()), at(1));
    assert_eq!(small.spot(HeartbeatRequest { group_id: "g3".into(), ..HeartbeatRequest::default() }), at(3));
    let transactional_id = Some("g1".into());
    assert_eq!(
        small.spot(InitProducerIdRequest { transactional_id, ..InitProducerIdRequest::default() }),
        at(1)
    );
    assert_eq!(
        small.spot(InitProducerIdRequest { transactional_id: None, ..InitProducerIdRequest::default() }),
        at(3)
    );
    let unnamed = small.spot(AlterReplicaLogDirsRequest::default());
    assert_eq!(unnamed, Spot::Refused(ErrorCode::INVALID_REQUEST));
    small.named = Some(Target::Broker(2));
    assert_eq!(small.spot(AlterReplicaLogDirsRequest::default()), at(2));
}

#[test]
fn what_is_whole_is_sent_again_if_nothing_was_done() {
    let answer = |codes: &[ErrorCode]| {
        let partition = |code: &ErrorCode| OffsetCommitResponsePartition {
            error_code: code.0,
            ..OffsetCommitResponsePartition::default()
        };
        let partitions = codes.iter().map(partition).collect();
        let topic = OffsetCommitResponseTopic { partitions, ..OffsetCommitResponseTopic::default() };
        Some(OffsetCommitResponse { topics: vec![topic], ..OffsetCommitResponse::default() })
    };
    let commit = OffsetCommitRequest { group_id: "g1".into(), ..OffsetCommitRequest::default() };
    for (codes, again) in [(&[LATER, LATER][..], true), (&[NONE, LATER], true), (&[NONE, NONE], false)] {
        let mut answer = answer(codes);
        assert_eq!(commit.again(&mut answer, &is_again).is_some(), again, "{codes:?}");
        assert_eq!(answer.is_none(), again);
    }
    // What creates is not done twice where some of it was done.
    let topic =
        |code: ErrorCode| CreatableTopicResult { error_code: code.0, ..CreatableTopicResult::default() };
    for (codes, again) in [([LATER, LATER], true), ([NONE, LATER], false)] {
        let topics = codes.map(topic).into();
        let mut answer = Some(CreateTopicsResponse { topics, ..CreateTopicsResponse::default() });
        assert_eq!(CreateTopicsRequest::default().again(&mut answer, &is_again).is_some(), again);
    }
}

#[test]
fn every_request_that_is_split_can_be_encoded_in_its_versions() {
    for version in produce("a", ID, &[0]).versions() {
        // The codec takes no records as null; version 0 to 13 all carry that.
        assert!(produce("a", ID, &[0]).to_bytes(version).is_ok(), "{version}");
    }
    for version in list(&[("a", &[0])]).versions() {
        assert!(list(&[("a", &[0])]).to_bytes(version).is_ok(), "{version}");
    }
}
