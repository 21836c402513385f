//! Requests with partitions, each of which goes to its leader.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Place, Routed, Spot, UNSAID, View, all, by_name_or_id, first_error, group, ms};
use crate::ErrorCode;
use crate::cluster::metadata::TopicKey;
use crate::cluster::metadata::hints::Hints;
use crate::messages::{
    delete_records, describe_producers, fetch, list_offsets, offset_for_leader_epoch, produce,
    share_acknowledge, share_fetch,
};
use crate::wire::{Message, Request, Str, Uuid};

/// The name and the id of a topic; one of them may be empty. Two are the same topic if either says so.
type Named = (Str, Uuid);

fn alike(a: &Named, b: &Named) -> bool {
    (!a.1.is_zero() && a.1 == b.1) || (!a.0.is_empty() && a.0 == b.0)
}

/// Where topics stand in an answer that is put together.
#[derive(Default)]
struct Places {
    names: BTreeMap<Str, usize>,
    ids: BTreeMap<Uuid, usize>,
}

impl Places {
    /// The place of a topic; `next` if it has none yet.
    fn of(&mut self, (name, id): Named, next: usize) -> usize {
        let by_id = self.ids.get(&id).filter(|_| !id.is_zero());
        let by_name = self.names.get(&name).filter(|_| !name.is_empty());
        let place = by_id.or(by_name).copied().unwrap_or(next);
        self.ids.insert(id, place);
        self.names.insert(name, place);
        place
    }
}

/// How each request names its topics and partitions, and each answer.
macro_rules! by_leader {
    ($module:ident :: $request:ident {
        $topics:ident: $topic:ident ($($asked_as:tt)*) $partitions:ident by |$p:ident: &$pty:ty| $asked_index:expr
    } -> {
        $answers:ident: $answer:ident ($($answered_as:tt)*) $results:ident: $result:ident by $index:ident
        $(, message $message:ident)? $(, but { $($field:ident: $value:expr),* })?
    } $(; { $($more:tt)* })?) => {
        impl Routed for $module::$request {
            fn spot(&self, view: &mut View<'_>) -> Option<Spot> {
                let index = |$p: &$pty| -> i32 { $asked_index };
                let mut all = None;
                for topic in &self.$topics {
                    let (name, id) = by_leader!(@named topic $($asked_as)*);
                    let key = view.topic(id, &name);
                    if topic.$partitions.is_empty() {
                        return None;
                    }
                    for partition in topic.$partitions.iter() {
                        let spot = view.leader(&key, index(partition));
                        if *all.get_or_insert(spot) != spot {
                            return None;
                        }
                    }
                }
                all
            }

            fn split(mut self, view: &mut View<'_>) -> Vec<(Spot, Self)> {
                let mut parts: BTreeMap<Spot, Vec<$module::$topic>> = BTreeMap::new();
                for mut topic in std::mem::take(&mut self.$topics) {
                    let (name, id) = by_leader!(@named topic $($asked_as)*);
                    let key = view.topic(id, &name);
                    let partitions = std::mem::take(&mut topic.$partitions);
                    let index = |$p: &$pty| -> i32 { $asked_index };
                    let spots = group(partitions.iter().cloned(), |partition| {
                        view.spot(&Place::Leader(key.clone(), index(partition)))
                    });
                    for (spot, partitions) in spots {
                        let $partitions = partitions.into_iter().collect();
                        parts.entry(spot).or_default().push($module::$topic { $partitions, ..topic.clone() });
                    }
                }
                if parts.is_empty() {
                    return vec![(view.spot(&Place::Any), self)];
                }
                let part = |(spot, $topics)| (spot, Self { $topics, ..self.clone() });
                parts.into_iter().map(part).collect()
            }

            fn codes(response: &Self::Response) -> SmallVec<[ErrorCode; 4]> {
                let results = response.$answers.iter().flat_map(|topic| &topic.$results);
                let codes = results.map(|result| ErrorCode(result.error_code));
                std::iter::once(response.error_code()).chain(codes).collect()
            }

            fn again(
                &self,
                response: &mut Option<Self::Response>,
                is_again: &dyn Fn(ErrorCode) -> bool,
            ) -> Option<Self> {
                let answer = response.as_mut()?;
                if is_again(answer.error_code()) {
                    *response = None;
                    return Some(self.clone());
                }
                let mut $topics = Vec::new();
                for topic in &mut answer.$answers {
                    let named = by_leader!(@named topic $($answered_as)*);
                    let mut moved = BTreeSet::new();
                    topic.$results.retain(|result| {
                        let done = by_leader!(@done $module result);
                        let stays = done || !is_again(ErrorCode(result.error_code));
                        stays || !moved.insert(result.$index)
                    });
                    let index = |$p: &$pty| -> i32 { $asked_index };
                    let asked = self.$topics.iter().filter(|asked| {
                        !moved.is_empty() && alike(&by_leader!(@named asked $($asked_as)*), &named)
                    });
                    for asked in asked {
                        let all = asked.$partitions.iter();
                        let $partitions = all.filter(|item| moved.contains(&index(item))).cloned().collect();
                        $topics.push($module::$topic { $partitions, ..asked.clone() });
                    }
                }
                if $topics.is_empty() {
                    return None;
                }
                answer.$answers.retain(|topic| !topic.$results.is_empty());
                if answer.$answers.is_empty() {
                    *response = None;
                }
                Some(Self { $topics, ..self.clone() })
            }

            fn merge(mut whole: Self::Response, rest: Vec<Self::Response>) -> Self::Response {
                let mut places = Places::default();
                let mut topics: Vec<$module::$answer> = Vec::new();
                let mut add = |more: Vec<$module::$answer>| {
                    for topic in more {
                        let named = by_leader!(@named topic $($answered_as)*);
                        let place = places.of(named, topics.len());
                        match topics.get_mut(place) {
                            Some(known) => known.$results.extend(topic.$results),
                            None => topics.push(topic),
                        }
                    }
                };
                add(std::mem::take(&mut whole.$answers));
                for part in rest {
                    whole.throttle_time_ms = whole.throttle_time_ms.max(part.throttle_time_ms);
                    by_leader!(@merge $module whole part);
                    add(part.$answers);
                }
                for topic in &mut topics {
                    // The sort is all: of a partition that comes twice, the first answer stays.
                    topic.$results.sort_by_key(|result| result.$index);
                    topic.$results.dedup_by_key(|result| result.$index);
                }
                whole.$answers = topics;
                whole
            }

            fn failed(&self, code: ErrorCode, words: &str) -> Option<Self::Response> {
                let _ = words;
                let topics = self.$topics.iter().map(|asked| {
                    let index = |$p: &$pty| -> i32 { $asked_index };
                    let result = |item| $module::$result {
                        $index: index(item),
                        error_code: code.0,
                        $($message: Some(words.into()),)?
                        $($($field: $value,)*)?
                        ..Default::default()
                    };
                    let mut topic = $module::$answer {
                        $results: asked.$partitions.iter().map(result).collect(),
                        ..Default::default()
                    };
                    by_leader!(@name topic asked ($($asked_as)*) ($($answered_as)*));
                    topic
                });
                let $answers = topics.collect();
                let mut said = Self::Response::default();
                said.$answers = $answers;
                Some(said)
            }

            $($($more)*)?
        }
    };
    (@named $topic:ident name $name:ident) => { ($topic.$name.clone(), Uuid::ZERO) };
    (@named $topic:ident id $id:ident) => { (Str::new(), $topic.$id) };
    (@named $topic:ident name $name:ident, id $id:ident) => { ($topic.$name.clone(), $topic.$id) };
    (@name $to:ident $from:ident (name $a:ident) (name $b:ident)) => { $to.$b = $from.$a.clone(); };
    (@name $to:ident $from:ident (id $a:ident) (id $b:ident)) => { $to.$b = $from.$a; };
    (@name $to:ident $from:ident (name $a:ident, id $b:ident) (name $c:ident, id $d:ident)) => {
        $to.$c = $from.$a.clone();
        $to.$d = $from.$b;
    };
    // With acks=all a leader writes first and waits for its followers then. If it is no leader any more before
    // they have it, it says that it is not the leader, and where it wrote: the record may be there, and sent
    // again it would be there twice.
    (@done produce $result:ident) => { $result.error_code != 0 && $result.base_offset >= 0 };
    (@done $module:ident $result:ident) => { false };
    // What stands at the top of an answer besides its topics.
    (@merge produce $whole:ident $part:ident) => { $whole.node_endpoints.extend($part.node_endpoints); };
    (@merge fetch $whole:ident $part:ident) => {
        $whole.error_code = first_error($whole.error_code, $part.error_code);
        $whole.node_endpoints.extend($part.node_endpoints);
    };
    (@merge share_fetch $whole:ident $part:ident) => {
        by_leader!(@merge fetch $whole $part);
        $whole.error_message = $whole.error_message.or($part.error_message);
    };
    (@merge share_acknowledge $whole:ident $part:ident) => { by_leader!(@merge share_fetch $whole $part); };
    (@merge $module:ident $whole:ident $part:ident) => {};
}

/// Whether an answer speaks of every partition of its request; not so where there are sessions (KIP-227).
macro_rules! speaks_of_all {
    ($topics:ident $partitions:ident $answers:ident $results:ident) => {
        fn complete(&self, response: &mut Self::Response) {
            let asked: usize = self.$topics.iter().map(|topic| topic.$partitions.len()).sum();
            let said: usize = response.$answers.iter().map(|topic| topic.$results.len()).sum();
            if said < asked && response.error_code().is_none() {
                let unsaid = self.failed(UNSAID.0, UNSAID.1).into_iter().collect();
                *response = Self::merge(std::mem::take(response), unsaid);
            }
        }
    };
}

/// Leaders that come with an error that says that it was the wrong one.
macro_rules! tells_leaders {
    ($answers:ident $results:ident $index:ident ($($answered_as:tt)*)) => {
        fn hints(response: &Self::Response) -> Hints {
            let mut hints = Hints::default();
            for topic in &response.$answers {
                let (name, id) = by_leader!(@named topic $($answered_as)*);
                let misplaced = |code| {
                    matches!(code, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH)
                };
                for result in topic.$results.iter().filter(|result| misplaced(ErrorCode(result.error_code))) {
                    let leader = &result.current_leader;
                    let topic = TopicKey::of(id, &name);
                    hints.leader(topic, result.$index, leader.leader_id, leader.leader_epoch);
                }
            }
            if !hints.leaders.is_empty() {
                for at in &response.node_endpoints {
                    hints.broker(at.node_id, &at.host, at.port, at.rack.clone());
                }
            }
            hints
        }
    };
}

by_leader!(produce::ProduceRequest {
    topic_data: TopicProduceData (name name, id topic_id) partition_data by |p: &produce::PartitionProduceData| p.index
} -> {
    responses: TopicProduceResponse (name name, id topic_id) partition_responses: PartitionProduceResponse by index,
    message error_message, but { base_offset: -1 }
}; {
    // From version 12 on, and within a transaction, the broker takes part in it (KIP-890); whether it may
    // depends on a feature of the cluster, which the transaction knows.
    fn versions(&self) -> RangeInclusive<i16> {
        let topics = self.topic_data.iter().map(|topic| (&topic.name, topic.topic_id));
        let (first, last) = by_name_or_id(Self::KEY, 13, topics).into_inner();
        first..=if self.transactional_id.is_some() { last.min(11) } else { last }
    }
    fn is_answered(&self) -> bool {
        self.acks != 0
    }

    speaks_of_all!(topic_data partition_data responses partition_responses);
    tells_leaders!(responses partition_responses index (name name, id topic_id));
});

by_leader!(fetch::FetchRequest {
    topics: FetchTopic (name topic, id topic_id) partitions by |p: &fetch::FetchPartition| p.partition
} -> {
    responses: FetchableTopicResponse (name topic, id topic_id) partitions: PartitionData by partition_index,
    but { high_watermark: -1 }
}; {
    fn versions(&self) -> RangeInclusive<i16> {
        let topics = self.topics.iter().map(|topic| (&topic.topic, topic.topic_id));
        let forgotten = self.forgotten_topics_data.iter().map(|topic| (&topic.topic, topic.topic_id));
        by_name_or_id(Self::KEY, 13, topics.chain(forgotten))
    }
    fn held(&self) -> Duration {
        ms(self.max_wait_ms)
    }
    tells_leaders!(responses partitions partition_index (name topic, id topic_id));
});

by_leader!(list_offsets::ListOffsetsRequest {
    topics: ListOffsetsTopic (name name) partitions by |p: &list_offsets::ListOffsetsPartition| p.partition_index
} -> {
    topics: ListOffsetsTopicResponse (name name) partitions: ListOffsetsPartitionResponse by partition_index
}; {
    // Each of the timestamps with a meaning of its own came with a version; an older broker would take
    // them for times.
    fn versions(&self) -> RangeInclusive<i16> {
        let (first, last) = all(Self::KEY).into_inner();
        let needs = self.topics.iter().flat_map(|topic| &topic.partitions).map(|p| match p.timestamp {
            i64::MIN..=-6 => 11,
            -5 => 9,
            -4 => 8,
            -3 => 7,
            _ => first,
        });
        needs.max().unwrap_or(first)..=last
    }
    speaks_of_all!(topics partitions topics partitions);
});

by_leader!(offset_for_leader_epoch::OffsetForLeaderEpochRequest {
    topics: OffsetForLeaderTopic (name topic) partitions
        by |p: &offset_for_leader_epoch::OffsetForLeaderPartition| p.partition
} -> {
    topics: OffsetForLeaderTopicResult (name topic) partitions: EpochEndOffset by partition
}; {
    speaks_of_all!(topics partitions topics partitions);
});

by_leader!(delete_records::DeleteRecordsRequest {
    topics: DeleteRecordsTopic (name name) partitions by |p: &delete_records::DeleteRecordsPartition| p.partition_index
} -> {
    topics: DeleteRecordsTopicResult (name name) partitions: DeleteRecordsPartitionResult by partition_index,
    but { low_watermark: -1 }
}; {
    fn held(&self) -> Duration {
        ms(self.timeout_ms)
    }
    // "Up to the end" is another place the second time.
    fn is_repeatable(&self) -> bool {
        self.topics.iter().flat_map(|topic| &topic.partitions).all(|partition| partition.offset >= 0)
    }
    speaks_of_all!(topics partitions topics partitions);
});

by_leader!(describe_producers::DescribeProducersRequest {
    topics: TopicRequest (name name) partition_indexes by |p: &i32| *p
} -> {
    topics: TopicResponse (name name) partitions: PartitionResponse by partition_index, message error_message
}; {
    speaks_of_all!(topics partition_indexes topics partitions);
});

by_leader!(share_fetch::ShareFetchRequest {
    topics: FetchTopic (id topic_id) partitions by |p: &share_fetch::FetchPartition| p.partition_index
} -> {
    responses: ShareFetchableTopicResponse (id topic_id) partitions: PartitionData by partition_index,
    message error_message
}; {
    fn held(&self) -> Duration {
        ms(self.max_wait_ms)
    }
    tells_leaders!(responses partitions partition_index (id topic_id));
});

by_leader!(share_acknowledge::ShareAcknowledgeRequest {
    topics: AcknowledgeTopic (id topic_id) partitions by |p: &share_acknowledge::AcknowledgePartition| p.partition_index
} -> {
    responses: ShareAcknowledgeTopicResponse (id topic_id) partitions: PartitionData by partition_index,
    message error_message
}; {
    tells_leaders!(responses partitions partition_index (id topic_id));
});
