//! Markers that end a transaction, each of which goes to the leaders of its partitions. Brokers send them;
//! of clients only those that end a transaction which hangs (KIP-664).

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::{Place, Routed, Spot, View, group};
use crate::ErrorCode;
use crate::cluster::metadata::TopicKey;
use crate::messages::write_txn_markers::{
    WritableTxnMarker, WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopic,
    WritableTxnMarkerTopicResult, WriteTxnMarkersRequest, WriteTxnMarkersResponse,
};
use crate::wire::{Ints, Str};

/// Which marker, topic and partition.
type Item = (i64, Str, i32);

impl Routed for WriteTxnMarkersRequest {
    fn split(mut self, view: &mut View<'_>) -> Vec<(Spot, Self)> {
        let mut parts: BTreeMap<Spot, Vec<WritableTxnMarker>> = BTreeMap::new();
        for mut marker in std::mem::take(&mut self.markers) {
            let mut topics: BTreeMap<Spot, Vec<WritableTxnMarkerTopic>> = BTreeMap::new();
            for topic in std::mem::take(&mut marker.topics) {
                let spots = group(topic.partition_indexes.iter().copied(), |index| {
                    view.spot(&Place::Leader(TopicKey::Name(topic.name.clone()), *index))
                });
                for (spot, indexes) in spots {
                    let partition_indexes = Ints::from(indexes);
                    topics
                        .entry(spot)
                        .or_default()
                        .push(WritableTxnMarkerTopic { partition_indexes, ..topic.clone() });
                }
            }
            for (spot, topics) in topics {
                parts.entry(spot).or_default().push(WritableTxnMarker { topics, ..marker.clone() });
            }
        }
        if parts.is_empty() {
            return vec![(view.spot(&Place::Any), self)];
        }
        parts.into_iter().map(|(spot, markers)| (spot, Self { markers, ..self.clone() })).collect()
    }

    fn codes(response: &WriteTxnMarkersResponse) -> SmallVec<[ErrorCode; 4]> {
        let topics = response.markers.iter().flat_map(|marker| &marker.topics);
        topics.flat_map(|topic| &topic.partitions).map(|partition| ErrorCode(partition.error_code)).collect()
    }

    fn again(
        &self,
        response: &mut Option<WriteTxnMarkersResponse>,
        is_again: &dyn Fn(ErrorCode) -> bool,
    ) -> Option<Self> {
        let answer = response.as_mut()?;
        let mut moved: BTreeSet<Item> = BTreeSet::new();
        for marker in &mut answer.markers {
            for topic in &mut marker.topics {
                topic.partitions.retain(|partition| {
                    let stays = !is_again(ErrorCode(partition.error_code));
                    stays
                        || !moved.insert((marker.producer_id, topic.name.clone(), partition.partition_index))
                });
            }
            marker.topics.retain(|topic| !topic.partitions.is_empty());
        }
        answer.markers.retain(|marker| !marker.topics.is_empty());
        if answer.markers.is_empty() {
            *response = None;
        }
        let mut rest = self.clone();
        for marker in &mut rest.markers {
            for topic in &mut marker.topics {
                let (id, name) = (marker.producer_id, &topic.name);
                let indexes = topic.partition_indexes.iter().copied();
                topic.partition_indexes =
                    indexes.filter(|index| moved.contains(&(id, name.clone(), *index))).collect();
            }
            marker.topics.retain(|topic| !topic.partition_indexes.is_empty());
        }
        rest.markers.retain(|marker| !marker.topics.is_empty());
        (!moved.is_empty() && !rest.markers.is_empty()).then_some(rest)
    }

    fn merge(first: WriteTxnMarkersResponse, rest: Vec<WriteTxnMarkersResponse>) -> WriteTxnMarkersResponse {
        let mut all: BTreeMap<i64, BTreeMap<Str, BTreeMap<i32, WritableTxnMarkerPartitionResult>>> =
            BTreeMap::new();
        for marker in std::iter::once(first).chain(rest).flat_map(|part| part.markers) {
            let topics = all.entry(marker.producer_id).or_default();
            for topic in marker.topics {
                let partitions = topics.entry(topic.name).or_default();
                for partition in topic.partitions {
                    partitions.entry(partition.partition_index).or_insert(partition);
                }
            }
        }
        let topic = |(name, partitions): (Str, BTreeMap<i32, WritableTxnMarkerPartitionResult>)| {
            let partitions = partitions.into_values().collect();
            WritableTxnMarkerTopicResult { name, partitions, ..WritableTxnMarkerTopicResult::default() }
        };
        let marker = |(producer_id, topics): (i64, BTreeMap<_, _>)| {
            let topics = topics.into_iter().map(topic).collect();
            WritableTxnMarkerResult { producer_id, topics, ..WritableTxnMarkerResult::default() }
        };
        let markers = all.into_iter().map(marker).collect();
        WriteTxnMarkersResponse { markers, ..WriteTxnMarkersResponse::default() }
    }

    fn failed(&self, code: ErrorCode, _words: &str) -> Option<WriteTxnMarkersResponse> {
        let partition = |index: &i32| WritableTxnMarkerPartitionResult {
            partition_index: *index,
            error_code: code.0,
            ..WritableTxnMarkerPartitionResult::default()
        };
        let topic = |topic: &WritableTxnMarkerTopic| WritableTxnMarkerTopicResult {
            name: topic.name.clone(),
            partitions: topic.partition_indexes.iter().map(partition).collect(),
            ..WritableTxnMarkerTopicResult::default()
        };
        let marker = |marker: &WritableTxnMarker| WritableTxnMarkerResult {
            producer_id: marker.producer_id,
            topics: marker.topics.iter().map(topic).collect(),
            ..WritableTxnMarkerResult::default()
        };
        let markers = self.markers.iter().map(marker).collect();
        Some(WriteTxnMarkersResponse { markers, ..WriteTxnMarkersResponse::default() })
    }
}
