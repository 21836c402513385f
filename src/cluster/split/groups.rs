//! Requests with groups or transactional ids, each of which goes to its coordinator (KIP-709).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use smallvec::SmallVec;

use super::{Place, Routed, Spot, UNSAID, View, by_name_or_id, group};
use crate::ErrorCode;
use crate::messages::{
    add_partitions_to_txn, consumer_group_describe, delete_groups, describe_groups,
    describe_share_group_offsets, describe_transactions, offset_fetch, share_group_describe,
    streams_group_describe,
};
use crate::observe::Lookup;
use crate::wire::{Request, Str};

/// How each request names its items, and each answer. Under `else` stands the form for a single item that
/// older versions have, which is used when there are no items.
macro_rules! by_coordinator {
    ($module:ident :: $request:ident {
        $items:ident by |$i:ident: $ity:ty| $asked_key:expr, $lookup:ident
    } -> {
        $answers:ident: $answer:ident by $key:ident, code |$a:ident| $code:expr
        $(, failed { $($field:ident: $value:expr),* })? $(, message $message:ident)?
    } $(else { $single:ident, |$r:ident| $single_codes:expr })? $(; { $($more:tt)* })?) => {
        impl Routed for $module::$request {
            $(fn place(&self) -> Place {
                Place::Coordinator(Lookup::$lookup, self.$single.clone())
            })?

            fn split(mut self, view: &mut View<'_>) -> Vec<(Spot, Self)> {
                if self.$items.is_empty() {
                    // Nothing is asked for, which anyone can answer, unless it is a single item.
                    #[allow(unused_mut, unused_assignments)]
                    let mut place = Place::Any;
                    $( place = Place::Coordinator(Lookup::$lookup, self.$single.clone()); )?
                    return vec![(view.spot(&place), self)];
                }
                let key = |$i: &$ity| -> Str { $asked_key.clone() };
                let parts = group(std::mem::take(&mut self.$items), |item| {
                    view.spot(&Place::Coordinator(Lookup::$lookup, key(item)))
                });
                let part = |(spot, $items)| (spot, Self { $items, ..self.clone() });
                parts.into_iter().map(part).collect()
            }

            fn codes(response: &Self::Response) -> SmallVec<[ErrorCode; 4]> {
                $( if response.$answers.is_empty() {
                    let $r = response;
                    return $single_codes;
                } )?
                response.$answers.iter().map(|$a| $code).collect()
            }

            fn again(
                &self,
                response: &mut Option<Self::Response>,
                is_again: &dyn Fn(ErrorCode) -> bool,
            ) -> Option<Self> {
                let answer = response.as_mut()?;
                if self.$items.is_empty() {
                    return Self::codes(answer).into_iter().any(is_again).then(|| {
                        *response = None;
                        self.clone()
                    });
                }
                let mut moved: BTreeSet<Str> = BTreeSet::new();
                answer.$answers.retain(|$a| {
                    let stays = !is_again($code);
                    stays || !moved.insert($a.$key.clone())
                });
                if moved.is_empty() {
                    return None;
                }
                if answer.$answers.is_empty() {
                    *response = None;
                }
                let key = |$i: &$ity| -> Str { $asked_key.clone() };
                let $items: Vec<_> = self.$items.iter().filter(|item| moved.contains(&key(item))).cloned().collect();
                (!$items.is_empty()).then(|| Self { $items, ..self.clone() })
            }

            fn merge(mut whole: Self::Response, rest: Vec<Self::Response>) -> Self::Response {
                for part in rest {
                    whole.throttle_time_ms = whole.throttle_time_ms.max(part.throttle_time_ms);
                    whole.$answers.extend(part.$answers);
                }
                // Of one that two coordinators speak of, the first answer stays.
                let mut seen = BTreeSet::new();
                whole.$answers.retain(|answer| seen.insert(answer.$key.clone()));
                whole
            }

            fn failed(&self, code: ErrorCode, words: &str) -> Option<Self::Response> {
                let _ = words;
                if self.$items.is_empty() {
                    return None;
                }
                let key = |$i: &$ity| -> Str { $asked_key.clone() };
                let answer = |item| by_coordinator!(@failed $module $answer $key (key(item)) self item code
                    [$($($field: $value)*)?] [$($message: Some(words.into()),)?]);
                let $answers = self.$items.iter().map(answer).collect();
                let mut said = Self::Response::default();
                said.$answers = $answers;
                Some(said)
            }

            fn complete(&self, response: &mut Self::Response) {
                if response.$answers.len() < self.$items.len() {
                    let unsaid = self.failed(UNSAID.0, UNSAID.1).into_iter().collect();
                    *response = Self::merge(std::mem::take(response), unsaid);
                }
            }

            fn coordinated(&self) -> Vec<(Lookup, Str)> {
                let key = |$i: &$ity| -> Str { $asked_key.clone() };
                #[allow(unused_mut)]
                let mut keys: Vec<_> = self.$items.iter().map(|item| (Lookup::$lookup, key(item))).collect();
                $( if keys.is_empty() {
                    keys.push((Lookup::$lookup, self.$single.clone()));
                } )?
                keys
            }

            $($($more)*)?
        }
    };
    (@failed $module:ident $answer:ident $key:ident ($at:expr) $self:ident $item:ident $code:ident
        [] [$($message:tt)*]) => {
        $module::$answer { $key: $at, error_code: $code.0, $($message)* ..Default::default() }
    };
    (@failed $module:ident $answer:ident $key:ident ($at:expr) $self:ident $item:ident $code:ident
        [$field:ident: $value:expr] []) => {
        $module::$answer { $key: $at, $field: $value($item, $code), ..Default::default() }
    };
}

by_coordinator!(describe_groups::DescribeGroupsRequest {
    groups by |id: Str| id, Group
} -> {
    groups: DescribedGroup by group_id, code |group| ErrorCode(group.error_code)
});

by_coordinator!(consumer_group_describe::ConsumerGroupDescribeRequest {
    group_ids by |id: Str| id, Group
} -> {
    groups: DescribedGroup by group_id, code |group| ErrorCode(group.error_code), message error_message
});

by_coordinator!(share_group_describe::ShareGroupDescribeRequest {
    group_ids by |id: Str| id, Group
} -> {
    groups: DescribedGroup by group_id, code |group| ErrorCode(group.error_code), message error_message
});

by_coordinator!(streams_group_describe::StreamsGroupDescribeRequest {
    group_ids by |id: Str| id, Group
} -> {
    groups: DescribedGroup by group_id, code |group| ErrorCode(group.error_code), message error_message
});

by_coordinator!(delete_groups::DeleteGroupsRequest {
    groups_names by |id: Str| id, Group
} -> {
    results: DeletableGroupResult by group_id, code |group| ErrorCode(group.error_code), message error_message
});

by_coordinator!(describe_share_group_offsets::DescribeShareGroupOffsetsRequest {
    groups by |group: describe_share_group_offsets::DescribeShareGroupOffsetsRequestGroup| group.group_id, Group
} -> {
    groups: DescribeShareGroupOffsetsResponseGroup by group_id, code |group| ErrorCode(group.error_code),
    message error_message
});

by_coordinator!(describe_transactions::DescribeTransactionsRequest {
    transactional_ids by |id: Str| id, Transaction
} -> {
    transaction_states: TransactionState by transactional_id, code |state| ErrorCode(state.error_code)
});

by_coordinator!(offset_fetch::OffsetFetchRequest {
    groups by |group: offset_fetch::OffsetFetchRequestGroup| group.group_id, Group
} -> {
    groups: OffsetFetchResponseGroup by group_id, code |group| group_code(group)
} else {
    group_id, |response| {
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let codes = partitions.map(|partition| ErrorCode(partition.error_code));
        std::iter::once(ErrorCode(response.error_code)).chain(codes).collect()
    }
}; {
    // One group in its own fields up to version 7, any number after (KIP-709); ids of topics from 10 on.
    fn versions(&self) -> RangeInclusive<i16> {
        let topics = self.groups.iter().flat_map(|group| group.topics.iter().flatten());
        let range = by_name_or_id(Self::KEY, 10, topics.map(|topic| (&topic.name, topic.topic_id)));
        match (self.groups.is_empty(), self.require_stable, &self.topics) {
            (false, ..) => (*range.start()).max(8)..=*range.end(),
            (true, true, _) => 7..=7,
            // All topics that there are.
            (true, false, None) => 2..=7,
            (true, false, Some(_)) => 0..=7,
        }
    }

    fn alone(&self) -> Vec<Self> {
        super::one_group::alone(self)
    }

    fn together(&self, answers: Vec<Self::Response>) -> Self::Response {
        super::one_group::together(self, answers)
    }
});

/// The error of a group. Offsets of a transaction that is still open are an error of their partition, and
/// the whole group is asked for again.
fn group_code(group: &offset_fetch::OffsetFetchResponseGroup) -> ErrorCode {
    let unstable = ErrorCode::UNSTABLE_OFFSET_COMMIT;
    let mut partitions = group.topics.iter().flat_map(|topic| &topic.partitions);
    match ErrorCode(group.error_code) {
        ErrorCode::NONE if partitions.any(|partition| partition.error_code == unstable.0) => unstable,
        code => code,
    }
}

by_coordinator!(add_partitions_to_txn::AddPartitionsToTxnRequest {
    transactions by |txn: add_partitions_to_txn::AddPartitionsToTxnTransaction| txn.transactional_id, Transaction
} -> {
    results_by_transaction: AddPartitionsToTxnResult by transactional_id, code |txn| txn_code(txn),
    failed { topic_results: failed_topics }
} else {
    v3_and_below_transactional_id, |response| {
        let topics = response.results_by_topic_v3_and_below.iter();
        let partitions = topics.flat_map(|topic| &topic.results_by_partition);
        partitions.map(|partition| ErrorCode(partition.partition_error_code)).collect()
    }
}; {
    // Clients use the versions with one transaction. Those with many want the rights of a broker.
    fn versions(&self) -> RangeInclusive<i16> {
        if self.transactions.is_empty() { 0..=3 } else { 4..=*super::all(Self::KEY).end() }
    }
});

/// The error of a transaction is that of its partitions: none is added if one cannot be. The others say
/// that they were not attempted.
fn txn_code(txn: &add_partitions_to_txn::AddPartitionsToTxnResult) -> ErrorCode {
    let partitions = txn.topic_results.iter().flat_map(|topic| &topic.results_by_partition);
    let mut codes = partitions.map(|partition| ErrorCode(partition.partition_error_code));
    codes.find(|code| !code.is_none() && *code != ErrorCode::OPERATION_NOT_ATTEMPTED).unwrap_or_default()
}

fn failed_topics(
    txn: &add_partitions_to_txn::AddPartitionsToTxnTransaction,
    code: ErrorCode,
) -> Vec<add_partitions_to_txn::AddPartitionsToTxnTopicResult> {
    let partition = |index: &i32| add_partitions_to_txn::AddPartitionsToTxnPartitionResult {
        partition_index: *index,
        partition_error_code: code.0,
        ..Default::default()
    };
    let topic = |topic: &add_partitions_to_txn::AddPartitionsToTxnTopic| {
        add_partitions_to_txn::AddPartitionsToTxnTopicResult {
            name: topic.name.clone(),
            results_by_partition: topic.partitions.iter().map(partition).collect(),
            ..Default::default()
        }
    };
    txn.topics.iter().map(topic).collect()
}
