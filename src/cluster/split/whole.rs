//! Requests that go to one place as they are.

use std::ops::RangeInclusive;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Place, Routed, Spot, View, all, by_name_or_id, ms};
use crate::ErrorCode;
use crate::messages::{
    add_offsets_to_txn, add_raft_voter, alter_client_quotas, alter_partition_reassignments,
    alter_replica_log_dirs, alter_share_group_offsets, alter_user_scram_credentials, api_versions,
    consumer_group_heartbeat, create_acls, create_delegation_token, create_partitions, create_topics,
    delete_acls, delete_share_group_offsets, delete_topics, describe_acls, describe_client_quotas,
    describe_cluster, describe_delegation_token, describe_quorum, describe_topic_partitions,
    describe_user_scram_credentials, elect_leaders, end_txn, expire_delegation_token, find_coordinator,
    get_telemetry_subscriptions, heartbeat, init_producer_id, join_group, leave_group, list_config_resources,
    list_partition_reassignments, metadata, offset_commit, offset_delete, push_telemetry, remove_raft_voter,
    renew_delegation_token, share_group_heartbeat, streams_group_heartbeat,
    streams_group_topology_description_update, sync_group, txn_offset_commit, unregister_broker,
    unregister_controller, update_features,
};
use crate::observe::Lookup;
use crate::wire::{Message, Request};

/// The error at the top of each answer is looked at anyway; given is where the errors of items are, and
/// where it goes if the table of routes does not say it all.
macro_rules! whole {
    ($($module:ident :: $request:ident
        $(, to $lookup:ident of $key:ident)?
        $(, items |$r:ident| $items:expr)?
        $(, { $($more:tt)* })?
    ;)*) => {$(
        impl Routed for $module::$request {
            $(fn place(&self) -> Place {
                Place::Coordinator(Lookup::$lookup, self.$key.clone())
            })?

            fn spot(&self, view: &mut View<'_>) -> Option<Spot> {
                Some(view.spot(&self.place()))
            }

            fn codes(response: &Self::Response) -> SmallVec<[ErrorCode; 4]> {
                let top = response.error_code();
                #[allow(unused_mut)]
                let mut codes = SmallVec::new();
                $(
                    let $r = response;
                    codes.extend($items.map(ErrorCode));
                )?
                // No error at the top means success only where there are no items to say it.
                if codes.is_empty() || !top.is_none() {
                    codes.push(top);
                }
                codes
            }

            $($($more)*)?
        }
    )*};
}

/// The broker may wait for other brokers until the time in the request is over.
macro_rules! held_for_timeout {
    () => {
        fn held(&self) -> Duration {
            ms(self.timeout_ms)
        }
    };
}

whole! {
    // To coordinators of groups.
    heartbeat::HeartbeatRequest, to Group of group_id;
    join_group::JoinGroupRequest, to Group of group_id, {
        // Until all members have come, for which version 0 gives them as long as their sessions last.
        fn held(&self) -> Duration {
            ms(self.rebalance_timeout_ms.max(self.session_timeout_ms))
        }
    };
    sync_group::SyncGroupRequest, to Group of group_id;
    leave_group::LeaveGroupRequest, to Group of group_id,
        items |r| r.members.iter().map(|member| member.error_code);
    consumer_group_heartbeat::ConsumerGroupHeartbeatRequest, to Group of group_id;
    share_group_heartbeat::ShareGroupHeartbeatRequest, to Group of group_id;
    streams_group_heartbeat::StreamsGroupHeartbeatRequest, to Group of group_id;
    streams_group_topology_description_update::StreamsGroupTopologyDescriptionUpdateRequest, to Group of group_id;
    offset_commit::OffsetCommitRequest, to Group of group_id,
        items |r| r.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code), {
        fn versions(&self) -> RangeInclusive<i16> {
            by_name_or_id(Self::KEY, 10, self.topics.iter().map(|topic| (&topic.name, topic.topic_id)))
        }
    };
    offset_delete::OffsetDeleteRequest, to Group of group_id,
        items |r| r.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    alter_share_group_offsets::AlterShareGroupOffsetsRequest, to Group of group_id,
        items |r| r.responses.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    delete_share_group_offsets::DeleteShareGroupOffsetsRequest, to Group of group_id,
        items |r| r.responses.iter().map(|topic| topic.error_code);
    txn_offset_commit::TxnOffsetCommitRequest, to Group of group_id,
        items |r| r.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code), {
        // From version 5 on it joins the transaction by itself (KIP-890), if a feature of the cluster says so.
        fn versions(&self) -> RangeInclusive<i16> {
            0..=4
        }
    };

    // To coordinators of transactions.
    add_offsets_to_txn::AddOffsetsToTxnRequest, to Transaction of transactional_id;
    end_txn::EndTxnRequest, to Transaction of transactional_id, {
        // Version 5 ends the epoch too (KIP-890), if a feature of the cluster says so.
        fn versions(&self) -> RangeInclusive<i16> {
            0..=4
        }
    };
    init_producer_id::InitProducerIdRequest, {
        fn place(&self) -> Place {
            match &self.transactional_id {
                Some(id) => Place::Coordinator(Lookup::Transaction, id.clone()),
                None => Place::Any,
            }
        }
    };

    // To the controller.
    create_topics::CreateTopicsRequest, items |r| r.topics.iter().map(|topic| topic.error_code), { held_for_timeout!(); };
    delete_topics::DeleteTopicsRequest, items |r| r.responses.iter().map(|topic| topic.error_code), {
        // By name alone up to version 5; from then on by name or id.
        fn versions(&self) -> RangeInclusive<i16> {
            let range = all(Self::KEY);
            if self.topics.is_empty() { *range.start()..=5 } else { 6..=*range.end() }
        }
        held_for_timeout!();
    };
    create_partitions::CreatePartitionsRequest, items |r| r.results.iter().map(|topic| topic.error_code), { held_for_timeout!(); };
    elect_leaders::ElectLeadersRequest, items |r| {
        r.replica_election_results.iter().flat_map(|topic| &topic.partition_result).map(|item| item.error_code)
    }, { held_for_timeout!(); };
    alter_partition_reassignments::AlterPartitionReassignmentsRequest, items |r| {
        r.responses.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code)
    }, { held_for_timeout!(); };
    list_partition_reassignments::ListPartitionReassignmentsRequest, { held_for_timeout!(); };
    create_acls::CreateAclsRequest, items |r| r.results.iter().map(|result| result.error_code);
    delete_acls::DeleteAclsRequest, items |r| r.filter_results.iter().map(|result| result.error_code);
    alter_client_quotas::AlterClientQuotasRequest, items |r| r.entries.iter().map(|entry| entry.error_code);
    describe_user_scram_credentials::DescribeUserScramCredentialsRequest;
    alter_user_scram_credentials::AlterUserScramCredentialsRequest,
        items |r| r.results.iter().map(|result| result.error_code);
    update_features::UpdateFeaturesRequest, items |r| r.results.iter().map(|result| result.error_code), { held_for_timeout!(); };
    create_delegation_token::CreateDelegationTokenRequest;
    renew_delegation_token::RenewDelegationTokenRequest;
    expire_delegation_token::ExpireDelegationTokenRequest;
    unregister_broker::UnregisterBrokerRequest;
    unregister_controller::UnregisterControllerRequest;
    add_raft_voter::AddRaftVoterRequest, { held_for_timeout!(); };
    remove_raft_voter::RemoveRaftVoterRequest;

    // To any broker.
    metadata::MetadataRequest, {
        // A topic can be asked for by its id alone from version 12 on (KIP-516), and before version 4 all
        // topics that are asked for may be created.
        fn versions(&self) -> RangeInclusive<i16> {
            let (first, last) = all(Self::KEY).into_inner();
            let by_id = self.topics.iter().flatten().any(|topic| topic.name.is_none());
            let first = if by_id { 12 } else if self.allow_auto_topic_creation { first } else { 4 };
            first..=last
        }
    };
    find_coordinator::FindCoordinatorRequest, items |r| r.coordinators.iter().map(|found| found.error_code), {
        fn versions(&self) -> RangeInclusive<i16> {
            let range = all(Self::KEY);
            if self.coordinator_keys.is_empty() { *range.start()..=3 } else { 4..=*range.end() }
        }
    };
    api_versions::ApiVersionsRequest;
    describe_acls::DescribeAclsRequest;
    describe_client_quotas::DescribeClientQuotasRequest;
    describe_delegation_token::DescribeDelegationTokenRequest;
    describe_cluster::DescribeClusterRequest;
    describe_quorum::DescribeQuorumRequest;
    describe_topic_partitions::DescribeTopicPartitionsRequest;
    list_config_resources::ListConfigResourcesRequest;

    // To always the same broker, and to one that is named.
    get_telemetry_subscriptions::GetTelemetrySubscriptionsRequest;
    push_telemetry::PushTelemetryRequest;
    alter_replica_log_dirs::AlterReplicaLogDirsRequest,
        items |r| r.results.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
}
