//! What goes to the coordinators of groups, of each of their kinds.

use weir::ErrorCode;
use weir::protocol::Str;
use weir::protocol::alter_share_group_offsets::{
    AlterShareGroupOffsetsRequest, AlterShareGroupOffsetsRequestPartition, AlterShareGroupOffsetsRequestTopic,
};
use weir::protocol::consumer_group_describe::ConsumerGroupDescribeRequest;
use weir::protocol::consumer_group_heartbeat::ConsumerGroupHeartbeatRequest;
use weir::protocol::delete_groups::DeleteGroupsRequest;
use weir::protocol::delete_share_group_offsets::{
    DeleteShareGroupOffsetsRequest, DeleteShareGroupOffsetsRequestTopic,
};
use weir::protocol::describe_groups::DescribeGroupsRequest;
use weir::protocol::describe_share_group_offsets::{
    DescribeShareGroupOffsetsRequest, DescribeShareGroupOffsetsRequestGroup,
};
use weir::protocol::heartbeat::HeartbeatRequest;
use weir::protocol::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use weir::protocol::leave_group::{LeaveGroupRequest, MemberIdentity};
use weir::protocol::list_groups::ListGroupsRequest;
use weir::protocol::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir::protocol::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use weir::protocol::offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use weir::protocol::share_acknowledge::{AcknowledgePartition, AcknowledgeTopic, ShareAcknowledgeRequest};
use weir::protocol::share_fetch::{FetchPartition, FetchTopic, ShareFetchRequest};
use weir::protocol::share_group_describe::ShareGroupDescribeRequest;
use weir::protocol::share_group_heartbeat::ShareGroupHeartbeatRequest;
use weir::protocol::streams_group_describe::StreamsGroupDescribeRequest;
use weir::protocol::streams_group_heartbeat::{StreamsGroupHeartbeatRequest, Subtopology, Topology};
use weir::protocol::streams_group_topology_description_update::StreamsGroupTopologyDescriptionUpdateRequest;
use weir::protocol::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};

use super::tour::{Ground, Tour};

/// A group that never was.
pub(super) const NONE: &str = "routes-none";

const CLASSIC: &str = "routes-classic";
const CONSUMER: &str = "routes-consumer";
const STREAMS: &str = "routes-streams";
const SHARE: &str = "routes-share";
/// Nobody fetches in this one, so that no broker holds on to the offsets that are altered and deleted.
const SHARE_OFFSETS: &str = "routes-share-offsets";

/// Members choose their ids themselves in the new protocols (KIP-848): URL-safe base64 of a UUID.
const MEMBER: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// A member of a classic group, from joining to leaving.
pub(super) async fn classic(tour: &mut Tour<'_>) {
    // The first answer gives a member its id (KIP-394).
    let joined = tour.ask(join(""), &[ErrorCode::MEMBER_ID_REQUIRED]).await.unwrap();
    let joined = tour.ask(join(&joined.member_id), &[]).await.unwrap();
    let (member_id, generation_id) = (joined.member_id.clone(), joined.generation_id);
    let assignment = SyncGroupRequestAssignment { member_id: member_id.clone(), ..Default::default() };
    let request = SyncGroupRequest {
        group_id: CLASSIC.into(),
        generation_id,
        member_id: member_id.clone(),
        protocol_type: Some("weir".into()),
        protocol_name: joined.protocol_name.clone(),
        assignments: vec![assignment],
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    let request = HeartbeatRequest {
        group_id: CLASSIC.into(),
        generation_id,
        member_id: member_id.clone(),
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    tour.ask(commit(tour, &member_id, generation_id), &[]).await;
    tour.ask(fetch_offsets(tour), &[]).await;
    let groups = vec![CLASSIC.into(), NONE.into()];
    // From version 6 on, a group that is not there is an error.
    tour.ask(DescribeGroupsRequest { groups, ..Default::default() }, &[ErrorCode::GROUP_ID_NOT_FOUND]).await;
    tour.ask(ListGroupsRequest::default(), &[]).await;
    let member = MemberIdentity { member_id, ..Default::default() };
    tour.ask(
        LeaveGroupRequest { group_id: CLASSIC.into(), members: vec![member], ..Default::default() },
        &[],
    )
    .await;
    let partition = OffsetDeleteRequestPartition { partition_index: 0, ..Default::default() };
    let topic = OffsetDeleteRequestTopic {
        name: Ground::TOPIC.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    tour.ask(
        OffsetDeleteRequest { group_id: CLASSIC.into(), topics: vec![topic], ..Default::default() },
        &[],
    )
    .await;
    tour.ask(
        DeleteGroupsRequest { groups_names: vec![NONE.into()], ..Default::default() },
        &[ErrorCode::GROUP_ID_NOT_FOUND],
    )
    .await;
}

fn join(member: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol { name: "any".into(), ..Default::default() };
    JoinGroupRequest {
        group_id: CLASSIC.into(),
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id: member.into(),
        protocol_type: "weir".into(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

fn commit(tour: &Tour<'_>, member: &Str, generation: i32) -> OffsetCommitRequest {
    let partition =
        OffsetCommitRequestPartition { partition_index: 0, committed_offset: 1, ..Default::default() };
    let topic = OffsetCommitRequestTopic {
        name: Ground::TOPIC.into(),
        topic_id: tour.ground.topic_id,
        partitions: vec![partition],
        ..Default::default()
    };
    OffsetCommitRequest {
        group_id: CLASSIC.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.clone(),
        topics: vec![topic],
        ..Default::default()
    }
}

/// Several groups (KIP-709), of which brokers before 3.0 are asked one by one.
fn fetch_offsets(tour: &Tour<'_>) -> OffsetFetchRequest {
    let topic = OffsetFetchRequestTopics {
        name: Ground::TOPIC.into(),
        topic_id: tour.ground.topic_id,
        partition_indexes: [0].into(),
        ..Default::default()
    };
    let group = |id: &str| OffsetFetchRequestGroup {
        group_id: id.into(),
        topics: Some(vec![topic.clone()]),
        ..Default::default()
    };
    OffsetFetchRequest { groups: vec![group(CLASSIC), group(NONE)], ..Default::default() }
}

/// A member of a consumer group (KIP-848).
pub(super) async fn consumer(tour: &mut Tour<'_>) {
    let beat = |member_epoch| ConsumerGroupHeartbeatRequest {
        group_id: CONSUMER.into(),
        member_id: MEMBER.into(),
        member_epoch,
        rebalance_timeout_ms: 30_000,
        subscribed_topic_names: Some(vec![Ground::TOPIC.into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    tour.ask(beat(0), &[]).await;
    let group_ids = vec![CONSUMER.into(), NONE.into()];
    let request = ConsumerGroupDescribeRequest { group_ids, ..Default::default() };
    tour.ask(request, &[ErrorCode::GROUP_ID_NOT_FOUND]).await;
    tour.ask(beat(-1), &[]).await;
}

/// A member of a streams group (KIP-1071), and what it tells of its topology (KIP-1331).
pub(super) async fn streams(tour: &mut Tour<'_>) {
    let subtopology = Subtopology {
        subtopology_id: "0".into(),
        source_topics: vec![Ground::TOPIC.into()],
        ..Default::default()
    };
    let joins = StreamsGroupHeartbeatRequest {
        group_id: STREAMS.into(),
        member_id: MEMBER.into(),
        rebalance_timeout_ms: 30_000,
        topology: Some(Topology { epoch: 1, subtopologies: vec![subtopology], ..Default::default() }),
        active_tasks: Some(Vec::new()),
        standby_tasks: Some(Vec::new()),
        warmup_tasks: Some(Vec::new()),
        process_id: Some(MEMBER.into()),
        client_tags: Some(Vec::new()),
        ..Default::default()
    };
    let leaves = StreamsGroupHeartbeatRequest {
        member_epoch: -1,
        rebalance_timeout_ms: -1,
        topology: None,
        ..joins.clone()
    };
    tour.ask(joins, &[]).await;
    let group_ids = vec![STREAMS.into(), NONE.into()];
    let request = StreamsGroupDescribeRequest { group_ids, ..Default::default() };
    tour.ask(request, &[ErrorCode::GROUP_ID_NOT_FOUND]).await;
    let request = StreamsGroupTopologyDescriptionUpdateRequest {
        group_id: STREAMS.into(),
        member_id: MEMBER.into(),
        topology_epoch: 1,
        ..Default::default()
    };
    // What it is told is kept by a plugin, of which Kafka comes with none.
    tour.ask(request, &[ErrorCode::UNSUPPORTED_VERSION]).await;
    tour.ask(leaves, &[]).await;
}

/// A member of a share group (KIP-932), what it fetches, and the group's offsets (KIP-1103).
pub(super) async fn share(tour: &mut Tour<'_>) {
    let beat = |group: &str, member_epoch| ShareGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: MEMBER.into(),
        member_epoch,
        subscribed_topic_names: Some(vec![Ground::TOPIC.into()]),
        ..Default::default()
    };
    tour.ask(beat(SHARE, 0), &[]).await;
    tour.ask(ShareGroupDescribeRequest { group_ids: vec![SHARE.into()], ..Default::default() }, &[]).await;
    share_sessions(tour).await;
    let group =
        DescribeShareGroupOffsetsRequestGroup { group_id: SHARE.into(), topics: None, ..Default::default() };
    tour.ask(DescribeShareGroupOffsetsRequest { groups: vec![group], ..Default::default() }, &[]).await;
    tour.ask(beat(SHARE, -1), &[]).await;
    tour.ask(beat(SHARE_OFFSETS, 0), &[]).await;
    tour.ask(beat(SHARE_OFFSETS, -1), &[]).await;

    let partition =
        AlterShareGroupOffsetsRequestPartition { partition_index: 0, start_offset: 0, ..Default::default() };
    let topic = AlterShareGroupOffsetsRequestTopic {
        topic_name: Ground::TOPIC.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = AlterShareGroupOffsetsRequest {
        group_id: SHARE_OFFSETS.into(),
        topics: vec![topic],
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    let topic =
        DeleteShareGroupOffsetsRequestTopic { topic_name: Ground::TOPIC.into(), ..Default::default() };
    let request = DeleteShareGroupOffsetsRequest {
        group_id: SHARE_OFFSETS.into(),
        topics: vec![topic],
        ..Default::default()
    };
    tour.ask(request, &[]).await;
}

/// Opens a session at each leader, acknowledges nothing in it, and ends it.
async fn share_sessions(tour: &mut Tour<'_>) {
    let topic_id = tour.ground.topic_id;
    let fetch = |share_session_epoch| {
        let partition = |partition_index| FetchPartition { partition_index, ..Default::default() };
        let topic =
            FetchTopic { topic_id, partitions: (0..12).map(partition).collect(), ..Default::default() };
        ShareFetchRequest {
            group_id: Some(SHARE.into()),
            member_id: Some(MEMBER.into()),
            share_session_epoch,
            max_wait_ms: 200,
            min_bytes: 1,
            max_records: 10,
            batch_size: 10,
            topics: vec![topic],
            ..Default::default()
        }
    };
    tour.ask(fetch(0), &[]).await;
    let partition = |partition_index| AcknowledgePartition { partition_index, ..Default::default() };
    let topic =
        AcknowledgeTopic { topic_id, partitions: (0..12).map(partition).collect(), ..Default::default() };
    let request = ShareAcknowledgeRequest {
        group_id: Some(SHARE.into()),
        member_id: Some(MEMBER.into()),
        share_session_epoch: 1,
        topics: vec![topic],
        ..Default::default()
    };
    tour.ask(request, &[]).await;
}
