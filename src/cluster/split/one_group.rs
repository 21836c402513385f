//! Offsets of several groups from brokers before Kafka 3.0, which tell those of one group at a time: one
//! request for each, and their answers in the form that has many (KIP-709).

use crate::ErrorCode;
use crate::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition,
    OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};

/// One request for each group. There is none if a topic is told by its id alone, which old brokers do not know.
pub(super) fn alone(request: &OffsetFetchRequest) -> Vec<OffsetFetchRequest> {
    let mut topics = request.groups.iter().flat_map(|group| group.topics.iter().flatten());
    if topics.any(|topic| topic.name.is_empty()) {
        return Vec::new();
    }
    request.groups.iter().map(|group| one(group, request.require_stable)).collect()
}

fn one(group: &OffsetFetchRequestGroup, require_stable: bool) -> OffsetFetchRequest {
    let topics = group.topics.as_ref().map(|topics| {
        let topic = |topic: &OffsetFetchRequestTopics| OffsetFetchRequestTopic {
            name: topic.name.clone(),
            partition_indexes: topic.partition_indexes.clone(),
            ..OffsetFetchRequestTopic::default()
        };
        topics.iter().map(topic).collect()
    });
    let group_id = group.group_id.clone();
    OffsetFetchRequest { group_id, topics, require_stable, ..OffsetFetchRequest::default() }
}

/// The answer to a request out of those to its groups alone, in their order.
pub(super) fn together(
    request: &OffsetFetchRequest,
    answers: Vec<OffsetFetchResponse>,
) -> OffsetFetchResponse {
    let throttle_time_ms = answers.iter().map(|answer| answer.throttle_time_ms).max().unwrap_or(0);
    let groups = request.groups.iter().zip(answers).map(|(asked, answer)| many(asked, answer)).collect();
    OffsetFetchResponse { throttle_time_ms, groups, ..OffsetFetchResponse::default() }
}

fn many(asked: &OffsetFetchRequestGroup, answer: OffsetFetchResponse) -> OffsetFetchResponseGroup {
    let error_code = error_of(&answer).0;
    let partition = |old: OffsetFetchResponsePartition| OffsetFetchResponsePartitions {
        partition_index: old.partition_index,
        committed_offset: old.committed_offset,
        committed_leader_epoch: old.committed_leader_epoch,
        metadata: old.metadata,
        error_code: old.error_code,
        ..OffsetFetchResponsePartitions::default()
    };
    let topics = answer.topics.into_iter().map(|topic| {
        let mut asked = asked.topics.iter().flatten();
        OffsetFetchResponseTopics {
            // Whoever asked by both may look for either.
            topic_id: asked
                .find(|asked| asked.name == topic.name)
                .map(|asked| asked.topic_id)
                .unwrap_or_default(),
            name: topic.name,
            partitions: topic.partitions.into_iter().map(partition).collect(),
            ..OffsetFetchResponseTopics::default()
        }
    });
    let (group_id, topics) = (asked.group_id.clone(), topics.collect());
    OffsetFetchResponseGroup { group_id, topics, error_code, ..OffsetFetchResponseGroup::default() }
}

/// The error of the group. Versions 0 and 1 have it only as that of each partition.
fn error_of(answer: &OffsetFetchResponse) -> ErrorCode {
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    let of_partition = [
        ErrorCode::NONE,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::UNSTABLE_OFFSET_COMMIT,
    ];
    let mut codes = std::iter::once(ErrorCode(answer.error_code))
        .chain(partitions.map(|partition| ErrorCode(partition.error_code)));
    codes.find(|code| !of_partition.contains(code)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::offset_fetch::OffsetFetchResponseTopic;
    use crate::wire::{Message as _, Uuid};

    fn group(id: &str, topics: Option<Vec<OffsetFetchRequestTopics>>) -> OffsetFetchRequestGroup {
        OffsetFetchRequestGroup { group_id: id.into(), topics, ..OffsetFetchRequestGroup::default() }
    }

    fn topic(name: &str, id: u8, indexes: &[i32]) -> OffsetFetchRequestTopics {
        OffsetFetchRequestTopics {
            name: name.into(),
            topic_id: Uuid::from_bytes([id; 16]),
            partition_indexes: indexes.iter().copied().collect(),
            ..OffsetFetchRequestTopics::default()
        }
    }

    fn answer(top: ErrorCode, partitions: &[(i32, i64, ErrorCode)]) -> OffsetFetchResponse {
        let partition = |(partition_index, committed_offset, code): &(i32, i64, ErrorCode)| {
            let (partition_index, committed_offset) = (*partition_index, *committed_offset);
            OffsetFetchResponsePartition {
                partition_index,
                committed_offset,
                error_code: code.0,
                ..Default::default()
            }
        };
        let partitions = partitions.iter().map(partition).collect();
        let topics = vec![OffsetFetchResponseTopic { name: "a".into(), partitions, ..Default::default() }];
        OffsetFetchResponse {
            topics,
            error_code: top.0,
            throttle_time_ms: 5,
            ..OffsetFetchResponse::default()
        }
    }

    #[test]
    fn each_group_is_asked_for_alone_and_found_in_the_answer() {
        let groups = vec![group("g1", Some(vec![topic("a", 1, &[0, 3])])), group("g2", None)];
        let request = OffsetFetchRequest { groups, require_stable: true, ..OffsetFetchRequest::default() };
        let parts = alone(&request);
        for part in &parts {
            part.to_bytes(7).unwrap();
        }
        assert_eq!((parts[0].group_id.as_str(), parts[1].group_id.as_str()), ("g1", "g2"));
        assert_eq!(parts[0].topics.as_ref().unwrap()[0].partition_indexes[..], [0, 3]);
        assert!(parts[1].topics.is_none() && parts[1].require_stable);

        let answers = vec![
            answer(
                ErrorCode::NONE,
                &[(0, 7, ErrorCode::NONE), (3, -1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)],
            ),
            answer(ErrorCode::GROUP_AUTHORIZATION_FAILED, &[]),
        ];
        let whole = together(&request, answers);
        assert_eq!((whole.throttle_time_ms, whole.groups.len()), (5, 2));
        let first = &whole.groups[0];
        assert_eq!((first.group_id.as_str(), first.error_code), ("g1", 0));
        assert_eq!(first.topics[0].topic_id, Uuid::from_bytes([1; 16]));
        let offsets: Vec<_> = first.topics[0]
            .partitions
            .iter()
            .map(|p| (p.partition_index, p.committed_offset, p.error_code))
            .collect();
        assert_eq!(offsets, [(0, 7, 0), (3, -1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0)]);
        assert_eq!(whole.groups[1].error_code, ErrorCode::GROUP_AUTHORIZATION_FAILED.0);
    }

    #[test]
    fn an_error_of_the_group_is_found_where_old_versions_have_it() {
        let request = OffsetFetchRequest { groups: vec![group("g", None)], ..OffsetFetchRequest::default() };
        for (code, lifted) in [
            (ErrorCode::NOT_COORDINATOR, true),
            (ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, true),
            (ErrorCode::UNSTABLE_OFFSET_COMMIT, false),
            (ErrorCode::TOPIC_AUTHORIZATION_FAILED, false),
        ] {
            let whole = together(&request, vec![answer(ErrorCode::NONE, &[(0, -1, code)])]);
            assert_eq!(whole.groups[0].error_code == code.0, lifted, "{code}");
        }
    }

    #[test]
    fn ids_of_topics_alone_cannot_be_said_to_old_brokers() {
        let groups = vec![group("g1", None), group("g2", Some(vec![topic("", 1, &[0])]))];
        assert!(alone(&OffsetFetchRequest { groups, ..OffsetFetchRequest::default() }).is_empty());
    }
}
