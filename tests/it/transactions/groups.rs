//! Positions of consumer groups in transactions (KIP-447), after the group has gone on without the member that commits
//! them. The members join by requests of their own, as Java's do.

use weir::producer::{GroupMetadata, Transaction, TransactionalProducer};
use weir::protocol::heartbeat::HeartbeatRequest;
use weir::protocol::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use weir::protocol::leave_group::{LeaveGroupRequest, MemberIdentity};
use weir::protocol::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use weir::{Client, ErrorCode, Record};

use super::{LONG, SECOND, committed, connect, create_topic, group_offsets, run};
use crate::broker::{VERSIONS, shared};

const TOPIC: &str = "transactions-rebalanced";

/// Joins a group, or joins it again as that member; gives what the group said.
async fn join(kafka: &Client, group: &str, member: &str, instance: Option<&str>) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol { name: "any".into(), ..Default::default() };
    let mut request = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        member_id: member.into(),
        group_instance_id: instance.map(Into::into),
        protocol_type: "weir".into(),
        protocols: vec![protocol],
        ..Default::default()
    };
    let mut joined = kafka.request(request.clone()).await.unwrap();
    // The first answer gives a member its id (KIP-394).
    if ErrorCode(joined.error_code) == ErrorCode::MEMBER_ID_REQUIRED {
        request.member_id = joined.member_id;
        joined = kafka.request(request).await.unwrap();
    }
    assert_eq!(ErrorCode(joined.error_code), ErrorCode::NONE, "{joined:?}");
    joined
}

/// The rest of the way into a generation: its leader says who does what, which here is nothing.
async fn sync(kafka: &Client, group: &str, joined: &JoinGroupResponse) {
    let assign = |member| SyncGroupRequestAssignment { member_id: member, ..Default::default() };
    let request = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("weir".into()),
        protocol_name: joined.protocol_name.clone(),
        assignments: joined.members.iter().map(|member| assign(member.member_id.clone())).collect(),
        ..Default::default()
    };
    let synced = kafka.request(request).await.unwrap();
    assert_eq!(ErrorCode(synced.error_code), ErrorCode::NONE, "{synced:?}");
}

/// Waits until the group wants its members to join again.
async fn rebalances(kafka: &Client, group: &str, joined: &JoinGroupResponse) {
    let beat = HeartbeatRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    let told = async {
        loop {
            match ErrorCode(kafka.request(beat.clone()).await.unwrap().error_code) {
                ErrorCode::REBALANCE_IN_PROGRESS => return,
                code => assert!(code.is_none(), "{code}"),
            }
            tokio::time::sleep(SECOND / 50).await;
        }
    };
    tokio::time::timeout(LONG, told).await.expect("somebody joins");
}

fn metadata(group: &str, joined: &JoinGroupResponse) -> GroupMetadata {
    GroupMetadata::new(group).member(joined.generation_id, &joined.member_id)
}

/// A transaction with a record.
async fn begin<'p>(producer: &'p mut TransactionalProducer, value: &str) -> Transaction<'p> {
    let transaction = producer.begin().await.unwrap();
    transaction.send(Record::to(TOPIC).value(value)).await.unwrap();
    transaction
}

async fn commits(producer: &mut TransactionalProducer, member: &GroupMetadata, value: &str, offset: i64) {
    let transaction = begin(producer, value).await;
    transaction.send_offsets(member, [(TOPIC, 0, offset)]).await.unwrap();
    transaction.commit().await.unwrap();
}

/// The positions are refused with that code, the transaction can only be aborted, and the producer goes on.
async fn is_refused(producer: &mut TransactionalProducer, zombie: &GroupMetadata, code: ErrorCode) {
    let transaction = begin(producer, "zombie").await;
    let error = transaction.send_offsets(zombie, [(TOPIC, 0, 999)]).await.unwrap_err();
    assert_eq!(error.code(), Some(code), "{error:?}");
    let refused = transaction.enqueue(Record::to(TOPIC).value("zombie")).await.unwrap_err();
    assert_eq!(refused.code(), Some(code), "{refused:?}");
    let error = transaction.commit().await.unwrap_err();
    assert!(error.code() == Some(code) && !error.may_have_happened(), "{error:?}");
}

/// Row T13: a group goes on to the next generation between reading and committing.
#[test]
fn t13_a_member_that_has_lost_its_place_commits_nothing() {
    for version in VERSIONS {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let at = broker.bootstrap.to_string();
            let (kafka, group) = (connect(&at).await, "rebalanced");
            create_topic(&kafka, TOPIC, 1, 1).await;
            let mut producer = kafka.producer().transactional_id("rebalanced").build().unwrap();
            let first = join(&kafka, group, "", None).await;
            sync(&kafka, group, &first).await;
            commits(&mut producer, &metadata(group, &first), "first", 3).await;
            // Another one comes, for which the first has to join again.
            let other = connect(&at).await;
            let rejoin = async {
                rebalances(&kafka, group, &first).await;
                join(&kafka, group, &first.member_id, None).await
            };
            let (second, again) = tokio::join!(join(&other, group, "", None), rejoin);
            assert!(again.generation_id > first.generation_id && again.member_id == first.member_id);
            tokio::join!(sync(&other, group, &second), sync(&kafka, group, &again));
            is_refused(&mut producer, &metadata(group, &first), ErrorCode::ILLEGAL_GENERATION).await;
            let offsets = group_offsets(&at, group).await.join("|");
            assert_eq!(offsets.trim(), format!("{TOPIC} 0 3"), "{version}");
            commits(&mut producer, &metadata(group, &again), "second", 5).await;
            // It leaves, and commits all the same.
            let member = MemberIdentity { member_id: second.member_id.clone(), ..Default::default() };
            let leave =
                LeaveGroupRequest { group_id: group.into(), members: vec![member], ..Default::default() };
            assert_eq!(other.request(leave).await.unwrap().error_code, 0);
            is_refused(&mut producer, &metadata(group, &second), ErrorCode::UNKNOWN_MEMBER_ID).await;
            // Another one takes its place by its name (KIP-345).
            let group_2 = "rebalanced-static";
            let old = join(&kafka, group_2, "", Some("host-1")).await;
            sync(&kafka, group_2, &old).await;
            let new = join(&other, group_2, "", Some("host-1")).await;
            assert_ne!(old.member_id, new.member_id);
            let zombie = metadata(group_2, &old).instance("host-1");
            is_refused(&mut producer, &zombie, ErrorCode::FENCED_INSTANCE_ID).await;
            let offsets = group_offsets(&at, group).await.join("|");
            assert_eq!(offsets.trim(), format!("{TOPIC} 0 5"), "{version}");
            assert_eq!(group_offsets(&at, group_2).await.join(""), "", "{version}");
            producer.begin().await.unwrap().abort().await.unwrap();
            assert_eq!(committed(&at, TOPIC).await, ["first", "second"], "{version}");
        });
    }
}

/// What cannot be added is tried until the time is over, and then the error says what the broker said.
#[test]
fn positions_of_a_topic_that_is_not_there_say_so() {
    for version in VERSIONS {
        let Some(broker) = shared(version) else { continue };
        run(async {
            let kafka = connect(broker.bootstrap).await;
            let builder = kafka.producer().max_block(3 * SECOND);
            let mut producer = builder.transactional_id("nowhere").build().unwrap();
            let transaction = producer.begin().await.unwrap();
            let group = GroupMetadata::new("nowhere");
            let error = transaction.send_offsets(&group, [("nowhere", 0, 1)]).await.unwrap_err();
            assert!(error.is_timeout() && error.may_have_happened(), "{version}: {error:?}");
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            assert!(cause.contains("UNKNOWN_TOPIC_OR_PARTITION"), "{version}: {error:?}");
            assert!(error.to_string().contains("UNKNOWN_TOPIC_OR_PARTITION"), "{version}: {error}");
            transaction.abort().await.unwrap();
            producer.begin().await.unwrap().commit().await.unwrap();
        });
    }
}
