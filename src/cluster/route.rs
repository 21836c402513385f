//! Who answers which API.
//!
//! The table is of APIs; where exactly a request goes depends on what is in it, and [`super::split`] says
//! that. Since Kafka 2.8 brokers pass on to the controller what is his; older ones do not, so what the
//! controller does goes to the broker that metadata calls the controller.

use crate::observe::Lookup;
use crate::wire::ApiKey;

/// Who answers an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// Any broker.
    Any,
    /// Any broker, but always the same one: it keeps something for this client (KIP-714).
    Same,
    /// The controller, or in a `KRaft` cluster the broker that passes on to it.
    Controller,
    /// The leader of each partition.
    Leader,
    /// The coordinator of each group or transactional id.
    Coordinator(Lookup),
    /// The transaction coordinator if there is a transactional id, and any broker otherwise.
    CoordinatorIfTransactional,
    /// Every broker, each for itself.
    Each,
    /// The broker that the resource names, and any for other resources.
    Resource,
    /// Only the broker that the caller names.
    Named,
    /// The connection itself sends it.
    Connection,
}

/// The table.
const TABLE: [(Route, &[ApiKey]); 11] = [
    (
        Route::Leader,
        &[
            ApiKey::PRODUCE,
            ApiKey::FETCH,
            ApiKey::LIST_OFFSETS,
            ApiKey::OFFSET_FOR_LEADER_EPOCH,
            ApiKey::DELETE_RECORDS,
            ApiKey::DESCRIBE_PRODUCERS,
            ApiKey::WRITE_TXN_MARKERS,
            ApiKey::SHARE_FETCH,
            ApiKey::SHARE_ACKNOWLEDGE,
        ],
    ),
    (
        Route::Coordinator(Lookup::Group),
        &[
            ApiKey::OFFSET_COMMIT,
            ApiKey::OFFSET_FETCH,
            ApiKey::OFFSET_DELETE,
            ApiKey::TXN_OFFSET_COMMIT,
            ApiKey::JOIN_GROUP,
            ApiKey::SYNC_GROUP,
            ApiKey::HEARTBEAT,
            ApiKey::LEAVE_GROUP,
            ApiKey::DESCRIBE_GROUPS,
            ApiKey::DELETE_GROUPS,
            ApiKey::CONSUMER_GROUP_HEARTBEAT,
            ApiKey::CONSUMER_GROUP_DESCRIBE,
            ApiKey::SHARE_GROUP_HEARTBEAT,
            ApiKey::SHARE_GROUP_DESCRIBE,
            ApiKey::DESCRIBE_SHARE_GROUP_OFFSETS,
            ApiKey::ALTER_SHARE_GROUP_OFFSETS,
            ApiKey::DELETE_SHARE_GROUP_OFFSETS,
            ApiKey::STREAMS_GROUP_HEARTBEAT,
            ApiKey::STREAMS_GROUP_DESCRIBE,
            ApiKey::STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE,
        ],
    ),
    (
        Route::Coordinator(Lookup::Transaction),
        &[
            ApiKey::ADD_PARTITIONS_TO_TXN,
            ApiKey::ADD_OFFSETS_TO_TXN,
            ApiKey::END_TXN,
            ApiKey::DESCRIBE_TRANSACTIONS,
        ],
    ),
    (Route::CoordinatorIfTransactional, &[ApiKey::INIT_PRODUCER_ID]),
    (Route::Each, &[ApiKey::LIST_GROUPS, ApiKey::LIST_TRANSACTIONS, ApiKey::DESCRIBE_LOG_DIRS]),
    (Route::Resource, &[ApiKey::DESCRIBE_CONFIGS, ApiKey::ALTER_CONFIGS, ApiKey::INCREMENTAL_ALTER_CONFIGS]),
    (Route::Named, &[ApiKey::ALTER_REPLICA_LOG_DIRS]),
    (Route::Same, &[ApiKey::GET_TELEMETRY_SUBSCRIPTIONS, ApiKey::PUSH_TELEMETRY]),
    (Route::Connection, &[ApiKey::SASL_HANDSHAKE, ApiKey::SASL_AUTHENTICATE]),
    (
        Route::Controller,
        &[
            ApiKey::CREATE_TOPICS,
            ApiKey::DELETE_TOPICS,
            ApiKey::CREATE_PARTITIONS,
            ApiKey::ELECT_LEADERS,
            ApiKey::ALTER_PARTITION_REASSIGNMENTS,
            ApiKey::LIST_PARTITION_REASSIGNMENTS,
            ApiKey::CREATE_ACLS,
            ApiKey::DELETE_ACLS,
            ApiKey::ALTER_CLIENT_QUOTAS,
            ApiKey::DESCRIBE_USER_SCRAM_CREDENTIALS,
            ApiKey::ALTER_USER_SCRAM_CREDENTIALS,
            ApiKey::UPDATE_FEATURES,
            ApiKey::CREATE_DELEGATION_TOKEN,
            ApiKey::RENEW_DELEGATION_TOKEN,
            ApiKey::EXPIRE_DELEGATION_TOKEN,
            ApiKey::UNREGISTER_BROKER,
            ApiKey::UNREGISTER_CONTROLLER,
            ApiKey::ADD_RAFT_VOTER,
            ApiKey::REMOVE_RAFT_VOTER,
        ],
    ),
    (
        Route::Any,
        &[
            ApiKey::METADATA,
            ApiKey::FIND_COORDINATOR,
            ApiKey::API_VERSIONS,
            ApiKey::DESCRIBE_ACLS,
            ApiKey::DESCRIBE_CLIENT_QUOTAS,
            ApiKey::DESCRIBE_DELEGATION_TOKEN,
            ApiKey::DESCRIBE_CLUSTER,
            ApiKey::DESCRIBE_QUORUM,
            ApiKey::DESCRIBE_TOPIC_PARTITIONS,
            ApiKey::LIST_CONFIG_RESOURCES,
        ],
    ),
];

impl Route {
    /// Who answers that API; none if only brokers send it, or Kafka 4.4 does not have it.
    pub(crate) fn of(api: ApiKey) -> Option<Self> {
        TABLE.iter().find(|(_, apis)| apis.contains(&api)).map(|(route, _)| *route)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What brokers and controllers say to each other.
    const NOT_OURS: [i16; 24] =
        [4, 5, 6, 7, 52, 53, 54, 56, 58, 59, 62, 63, 67, 70, 73, 82, 83, 84, 85, 86, 87, 95, 1000, -1];

    #[test]
    fn every_client_api_has_a_route_and_no_other() {
        for key in (-1..=1000).map(ApiKey) {
            let ours = key.name().is_some() && !NOT_OURS.contains(&key.0);
            assert_eq!(Route::of(key).is_some(), ours, "{key}");
        }
    }

    #[test]
    fn a02_the_routes_that_clients_got_wrong() {
        for (api, route) in [
            (ApiKey::LIST_PARTITION_REASSIGNMENTS, Route::Controller),
            (ApiKey::ALTER_PARTITION_REASSIGNMENTS, Route::Controller),
            (ApiKey::ELECT_LEADERS, Route::Controller),
            (ApiKey::DESCRIBE_SHARE_GROUP_OFFSETS, Route::Coordinator(Lookup::Group)),
            (ApiKey::ALTER_SHARE_GROUP_OFFSETS, Route::Coordinator(Lookup::Group)),
            (ApiKey::DELETE_SHARE_GROUP_OFFSETS, Route::Coordinator(Lookup::Group)),
            (ApiKey::DESCRIBE_PRODUCERS, Route::Leader),
            (ApiKey::DESCRIBE_TRANSACTIONS, Route::Coordinator(Lookup::Transaction)),
            (ApiKey::LIST_TRANSACTIONS, Route::Each),
            (ApiKey::TXN_OFFSET_COMMIT, Route::Coordinator(Lookup::Group)),
            (ApiKey::STREAMS_GROUP_HEARTBEAT, Route::Coordinator(Lookup::Group)),
            (ApiKey::STREAMS_GROUP_TOPOLOGY_DESCRIPTION_UPDATE, Route::Coordinator(Lookup::Group)),
        ] {
            assert_eq!(Route::of(api), Some(route), "{api}");
        }
    }
}
