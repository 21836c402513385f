//! What the controller does, what each broker says of itself, and what any broker says.

use weir::ErrorCode;
use weir::protocol::add_raft_voter::AddRaftVoterRequest;
use weir::protocol::alter_client_quotas::{
    AlterClientQuotasRequest, OpData, RequestEntityData, RequestEntryData,
};
use weir::protocol::alter_configs::{self, AlterConfigsRequest};
use weir::protocol::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use weir::protocol::alter_replica_log_dirs::{
    AlterReplicaLogDir, AlterReplicaLogDirTopic, AlterReplicaLogDirsRequest,
};
use weir::protocol::alter_user_scram_credentials::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion,
};
use weir::protocol::api_versions::ApiVersionsRequest;
use weir::protocol::create_acls::{AclCreation, CreateAclsRequest};
use weir::protocol::create_delegation_token::CreateDelegationTokenRequest;
use weir::protocol::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::protocol::delete_acls::{DeleteAclsFilter, DeleteAclsRequest};
use weir::protocol::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use weir::protocol::describe_acls::DescribeAclsRequest;
use weir::protocol::describe_client_quotas::DescribeClientQuotasRequest;
use weir::protocol::describe_cluster::DescribeClusterRequest;
use weir::protocol::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use weir::protocol::describe_delegation_token::DescribeDelegationTokenRequest;
use weir::protocol::describe_log_dirs::DescribeLogDirsRequest;
use weir::protocol::describe_quorum::{DescribeQuorumRequest, RequestPartitionData, RequestTopicData};
use weir::protocol::describe_topic_partitions::{self, DescribeTopicPartitionsRequest};
use weir::protocol::describe_user_scram_credentials::DescribeUserScramCredentialsRequest;
use weir::protocol::elect_leaders::{ElectLeadersRequest, TopicPartitions};
use weir::protocol::expire_delegation_token::ExpireDelegationTokenRequest;
use weir::protocol::find_coordinator::FindCoordinatorRequest;
use weir::protocol::get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest;
use weir::protocol::incremental_alter_configs::{self, IncrementalAlterConfigsRequest};
use weir::protocol::list_config_resources::ListConfigResourcesRequest;
use weir::protocol::list_partition_reassignments::ListPartitionReassignmentsRequest;
use weir::protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use weir::protocol::push_telemetry::PushTelemetryRequest;
use weir::protocol::remove_raft_voter::RemoveRaftVoterRequest;
use weir::protocol::renew_delegation_token::RenewDelegationTokenRequest;
use weir::protocol::unregister_broker::UnregisterBrokerRequest;
use weir::protocol::unregister_controller::UnregisterControllerRequest;
use weir::protocol::update_features::UpdateFeaturesRequest;
use weir::protocol::{ApiKey, Str, Uuid};

use super::super::a_little;
use super::tour::{Ground, Tour};

/// Kinds of config resources.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Nobody of that name or number is there.
const NOBODY: &str = "routes-nobody";
const NO_NODE: i32 = 999;

/// Topics and where their copies are. Nothing of it changes anything.
pub(super) async fn topics(tour: &mut Tour<'_>) {
    let topic = CreatableTopic {
        name: NOBODY.into(),
        num_partitions: 1,
        replication_factor: 3,
        ..Default::default()
    };
    tour.ask(CreateTopicsRequest { topics: vec![topic], validate_only: true, ..Default::default() }, &[])
        .await;
    let request = if tour.offers(ApiKey::DELETE_TOPICS, 6) {
        let topic = DeleteTopicState { name: Some(NOBODY.into()), ..Default::default() };
        DeleteTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() }
    } else {
        DeleteTopicsRequest { topic_names: vec![NOBODY.into()], timeout_ms: 30_000, ..Default::default() }
    };
    tour.ask(request, &[ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]).await;
    let topic = CreatePartitionsTopic {
        name: Ground::TOPIC.into(),
        count: 13,
        assignments: None,
        ..Default::default()
    };
    let request = CreatePartitionsRequest {
        topics: vec![topic],
        timeout_ms: 30_000,
        validate_only: true,
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    let partitions =
        TopicPartitions { topic: Ground::TOPIC.into(), partitions: [0, 1, 2].into(), ..Default::default() };
    let request = ElectLeadersRequest { topic_partitions: Some(vec![partitions]), ..Default::default() };
    tour.ask(request, &[ErrorCode::ELECTION_NOT_NEEDED]).await;
    let partition = ReassignablePartition { partition_index: 0, replicas: None, ..Default::default() };
    let topic =
        ReassignableTopic { name: Ground::TOPIC.into(), partitions: vec![partition], ..Default::default() };
    let request = AlterPartitionReassignmentsRequest { topics: vec![topic], ..Default::default() };
    tour.ask(request, &[ErrorCode::NO_REASSIGNMENT_IN_PROGRESS]).await;
    tour.ask(ListPartitionReassignmentsRequest { topics: None, ..Default::default() }, &[]).await;
    log_dirs(tour).await;
}

/// Every broker's directories, and a partition moved to the directory where it is.
async fn log_dirs(tour: &mut Tour<'_>) {
    tour.ask(DescribeLogDirsRequest { topics: None, ..Default::default() }, &[]).await;
    let request = DescribeLogDirsRequest { topics: Some(Vec::new()), ..Default::default() };
    let parts = tour.kafka().request(request).parts().await.unwrap();
    let first = parts.into_iter().find(|part| part.broker == Some(1)).unwrap();
    let topic =
        AlterReplicaLogDirTopic { name: Ground::TOPIC.into(), partitions: [0].into(), ..Default::default() };
    let path = first.result.unwrap().results[0].log_dir.clone();
    let dir = AlterReplicaLogDir { path, topics: vec![topic], ..Default::default() };
    tour.ask_at(Some(1), AlterReplicaLogDirsRequest { dirs: vec![dir], ..Default::default() }, &[]).await;
}

/// Settings of a topic and of each broker.
pub(super) async fn configs(tour: &mut Tour<'_>) {
    let resources =
        [(TOPIC, Ground::TOPIC), (BROKER, "1"), (BROKER, "2"), (BROKER, "3")].map(|(resource_type, name)| {
            DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
                ..Default::default()
            }
        });
    tour.ask(DescribeConfigsRequest { resources: resources.to_vec(), ..Default::default() }, &[]).await;

    let config = alter_configs::AlterableConfig {
        name: "retention.ms".into(),
        value: Some("-1".into()),
        ..Default::default()
    };
    let resource = alter_configs::AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: Ground::TOPIC.into(),
        configs: vec![config],
        ..Default::default()
    };
    let request =
        AlterConfigsRequest { resources: vec![resource], validate_only: true, ..Default::default() };
    tour.ask(request, &[]).await;

    let resources = [(TOPIC, Ground::TOPIC, "retention.ms"), (BROKER, "2", "log.cleaner.threads")];
    let resources = resources.map(|(resource_type, name, key)| {
        let config = incremental_alter_configs::AlterableConfig {
            name: key.into(),
            value: Some("1".into()),
            ..Default::default()
        };
        incremental_alter_configs::AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: vec![config],
            ..Default::default()
        }
    });
    let request = IncrementalAlterConfigsRequest {
        resources: resources.to_vec(),
        validate_only: true,
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    tour.ask(ListConfigResourcesRequest::default(), &[]).await;
}

/// Who may what, how much, and with which password.
pub(super) async fn access(tour: &mut Tour<'_>) {
    // One user's right to describe one topic.
    let creation = AclCreation {
        resource_type: 2,
        resource_name: NOBODY.into(),
        principal: format!("User:{NOBODY}").into(),
        host: "*".into(),
        operation: 8,
        permission_type: 3,
        ..Default::default()
    };
    tour.ask(CreateAclsRequest { creations: vec![creation], ..Default::default() }, &[]).await;
    let request = DescribeAclsRequest {
        resource_type_filter: 2,
        resource_name_filter: Some(NOBODY.into()),
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    let filter = DeleteAclsFilter {
        resource_type_filter: 2,
        resource_name_filter: Some(NOBODY.into()),
        principal_filter: None,
        host_filter: None,
        operation: 1,
        permission_type: 1,
        ..Default::default()
    };
    tour.ask(DeleteAclsRequest { filters: vec![filter], ..Default::default() }, &[]).await;

    let entity = RequestEntityData {
        entity_type: "user".into(),
        entity_name: Some(NOBODY.into()),
        ..Default::default()
    };
    let op = OpData { key: "consumer_byte_rate".into(), value: 1e6, ..Default::default() };
    let entry = RequestEntryData { entity: vec![entity], ops: vec![op], ..Default::default() };
    let request =
        AlterClientQuotasRequest { entries: vec![entry], validate_only: true, ..Default::default() };
    tour.ask(request, &[]).await;
    tour.ask(DescribeClientQuotasRequest::default(), &[]).await;

    tour.ask(DescribeUserScramCredentialsRequest { users: None, ..Default::default() }, &[]).await;
    let deletion = ScramCredentialDeletion { name: NOBODY.into(), mechanism: 1, ..Default::default() };
    let request = AlterUserScramCredentialsRequest { deletions: vec![deletion], ..Default::default() };
    tour.ask(request, &[ErrorCode::RESOURCE_NOT_FOUND]).await;
}

/// A delegation token from its creation to its end.
pub(super) async fn tokens(tour: &mut Tour<'_>) {
    // No owner is the one who asks; only version 3 can say another.
    let owner = if tour.offers(ApiKey::CREATE_DELEGATION_TOKEN, 3) { None } else { Some(Str::default()) };
    let request = CreateDelegationTokenRequest {
        owner_principal_type: owner.clone(),
        owner_principal_name: owner,
        max_lifetime_ms: -1,
        ..Default::default()
    };
    let token = tour.ask(request, &[]).await.unwrap();
    let request = RenewDelegationTokenRequest {
        hmac: token.hmac.clone(),
        renew_period_ms: 3_600_000,
        ..Default::default()
    };
    // The controller learns of a token a little later than its maker.
    for _ in 0..100 {
        let renewed = tour.ask(request.clone(), &[ErrorCode::DELEGATION_TOKEN_NOT_FOUND]).await;
        if renewed.is_some_and(|renewed| renewed.error_code == 0) {
            break;
        }
        a_little().await;
    }
    tour.ask(DescribeDelegationTokenRequest { owners: None, ..Default::default() }, &[]).await;
    let request =
        ExpireDelegationTokenRequest { hmac: token.hmac, expiry_time_period_ms: -1, ..Default::default() };
    tour.ask(request, &[]).await;
}

/// The cluster itself: nodes that are not there, and changes that are none.
pub(super) async fn quorum(tour: &mut Tour<'_>) {
    // A change of no feature is refused by some.
    let request = if tour.offers(ApiKey::UPDATE_FEATURES, 1) {
        UpdateFeaturesRequest { validate_only: true, ..Default::default() }
    } else {
        UpdateFeaturesRequest::default()
    };
    tour.ask(request, &[ErrorCode::INVALID_REQUEST]).await;
    let request = UnregisterBrokerRequest { broker_id: NO_NODE, ..Default::default() };
    tour.ask(request, &[ErrorCode::BROKER_ID_NOT_REGISTERED]).await;
    let request = UnregisterControllerRequest { controller_id: NO_NODE, ..Default::default() };
    tour.ask(request, &[ErrorCode::CONTROLLER_ID_NOT_REGISTERED]).await;
    // The voters of this quorum cannot be changed: it was formatted so.
    let fixed = [ErrorCode::UNSUPPORTED_VERSION, ErrorCode::INVALID_REQUEST, ErrorCode::VOTER_NOT_FOUND];
    let request = AddRaftVoterRequest {
        cluster_id: None,
        timeout_ms: 1000,
        voter_id: NO_NODE,
        voter_directory_id: Uuid::from_bytes([1; 16]),
        ..Default::default()
    };
    tour.ask(request, &fixed).await;
    let request = RemoveRaftVoterRequest {
        cluster_id: None,
        voter_id: NO_NODE,
        voter_directory_id: Uuid::from_bytes([1; 16]),
        ..Default::default()
    };
    tour.ask(request, &fixed).await;
    let partition = RequestPartitionData { partition_index: 0, ..Default::default() };
    let topic = RequestTopicData {
        topic_name: "__cluster_metadata".into(),
        partitions: vec![partition],
        ..Default::default()
    };
    tour.ask(DescribeQuorumRequest { topics: vec![topic], ..Default::default() }, &[]).await;
}

/// What any broker says; and what is always said to the same.
pub(super) async fn any(tour: &mut Tour<'_>) {
    tour.ask(metadata(None), &[]).await;
    let request = if tour.offers(ApiKey::FIND_COORDINATOR, 4) {
        FindCoordinatorRequest { coordinator_keys: vec![NOBODY.into()], ..Default::default() }
    } else {
        FindCoordinatorRequest { key: NOBODY.into(), ..Default::default() }
    };
    tour.ask(request, &[]).await;
    let request = ApiVersionsRequest {
        client_software_name: "weir".into(),
        client_software_version: "0".into(),
        ..Default::default()
    };
    tour.ask(request, &[]).await;
    tour.ask(DescribeClusterRequest::default(), &[]).await;
    let topic = describe_topic_partitions::TopicRequest { name: Ground::TOPIC.into(), ..Default::default() };
    tour.ask(DescribeTopicPartitionsRequest { topics: vec![topic], ..Default::default() }, &[]).await;
    let said = tour.ask(GetTelemetrySubscriptionsRequest::default(), &[]).await;
    let request = PushTelemetryRequest {
        client_instance_id: said.as_ref().map_or(Uuid::ZERO, |said| said.client_instance_id),
        subscription_id: said.map_or(0, |said| said.subscription_id),
        ..Default::default()
    };
    tour.ask(request, &[]).await;
}

/// A question about these topics, or all.
pub(super) fn metadata(topics: Option<Vec<&str>>) -> MetadataRequest {
    let topic = |name: &str| MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    MetadataRequest {
        topics: topics.map(|names| names.into_iter().map(topic).collect()),
        allow_auto_topic_creation: false,
        ..Default::default()
    }
}
