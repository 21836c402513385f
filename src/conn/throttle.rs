//! From which version of an API on a throttled client is to be quiet by itself (KIP-219): before, the
//! broker delayed its answer, and to wait once more would be to wait twice.

use crate::wire::ApiKey;

/// The first version of an API in which the broker answers at once and expects us to be quiet.
pub(super) fn from(api: ApiKey) -> i16 {
    match api {
        ApiKey::FETCH => 8,
        ApiKey::PRODUCE | ApiKey::METADATA => 6,
        ApiKey::OFFSET_COMMIT | ApiKey::OFFSET_FETCH => 4,
        ApiKey::LIST_OFFSETS | ApiKey::JOIN_GROUP | ApiKey::CREATE_TOPICS => 3,
        ApiKey::FIND_COORDINATOR
        | ApiKey::HEARTBEAT
        | ApiKey::LEAVE_GROUP
        | ApiKey::SYNC_GROUP
        | ApiKey::DESCRIBE_GROUPS
        | ApiKey::LIST_GROUPS
        | ApiKey::API_VERSIONS
        | ApiKey::DELETE_TOPICS
        | ApiKey::OFFSET_FOR_LEADER_EPOCH
        | ApiKey::DESCRIBE_CONFIGS => 2,
        ApiKey::DELETE_RECORDS
        | ApiKey::INIT_PRODUCER_ID
        | ApiKey::ADD_PARTITIONS_TO_TXN
        | ApiKey::ADD_OFFSETS_TO_TXN
        | ApiKey::END_TXN
        | ApiKey::TXN_OFFSET_COMMIT
        | ApiKey::DESCRIBE_ACLS
        | ApiKey::CREATE_ACLS
        | ApiKey::DELETE_ACLS
        | ApiKey::ALTER_CONFIGS
        | ApiKey::ALTER_REPLICA_LOG_DIRS
        | ApiKey::DESCRIBE_LOG_DIRS
        | ApiKey::CREATE_PARTITIONS
        | ApiKey::CREATE_DELEGATION_TOKEN
        | ApiKey::RENEW_DELEGATION_TOKEN
        | ApiKey::EXPIRE_DELEGATION_TOKEN
        | ApiKey::DESCRIBE_DELEGATION_TOKEN
        | ApiKey::DELETE_GROUPS => 1,
        // Those that came with KIP-219 or later.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `shouldClientThrottle` of Kafka 4.4.0 says of each API whose answers have a throttle time:
    /// the first version for which it is true. Left out are those whose first versions 4.4.0 does not
    /// have any more, which are all later than KIP-219.
    const JAVA: &[(i16, i16)] = &[
        (0, 6),
        (1, 8),
        (2, 3),
        (3, 6),
        (8, 4),
        (9, 4),
        (10, 2),
        (11, 3),
        (12, 2),
        (13, 2),
        (14, 2),
        (15, 2),
        (16, 2),
        (18, 2),
        (19, 3),
        (20, 2),
        (21, 1),
        (22, 1),
        (24, 1),
        (25, 1),
        (26, 1),
        (28, 1),
        (29, 1),
        (30, 1),
        (31, 1),
        (32, 2),
        (33, 1),
        (34, 1),
        (35, 1),
        (37, 1),
        (38, 1),
        (39, 1),
        (40, 1),
        (41, 1),
        (42, 1),
        (43, 0),
        (44, 0),
        (45, 0),
        (46, 0),
        (47, 0),
        (48, 0),
        (49, 0),
        (50, 0),
        (51, 0),
        (57, 0),
        (59, 0),
        (60, 0),
        (61, 0),
        (62, 0),
        (63, 0),
        (64, 0),
        (65, 0),
        (66, 0),
        (67, 0),
        (68, 0),
        (69, 0),
        (70, 0),
        (71, 0),
        (72, 0),
        (73, 0),
        (74, 0),
        (75, 0),
        (80, 0),
        (81, 0),
        (82, 0),
        (88, 0),
        (89, 0),
        (90, 0),
        (91, 0),
        (92, 0),
        (93, 0),
        (94, 0),
    ];

    #[test]
    fn quiet_begins_where_it_does_in_java() {
        for &(key, first) in JAVA {
            let api = ApiKey(key);
            assert!(api.name().is_some(), "{key}");
            assert_eq!(from(api), first, "{api}");
        }
        assert!(JAVA.len() > 60);
    }
}
