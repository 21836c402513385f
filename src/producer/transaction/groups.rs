//! What becomes a part of a transaction beside records: positions of a consumer group (KIP-98, KIP-447).

use std::collections::BTreeMap;

use super::machine_work::{Group, Offset};
use crate::wire::Str;
use crate::{Error, Result};

/// The consumer group whose offsets are committed in a transaction, and which of its members commits them.
///
/// With a member, the group's coordinator refuses offsets of one that has lost its place (KIP-447): the
/// transaction can then only be aborted. Without, nobody checks, which is right only where partitions are
/// assigned by hand.
///
/// ```
/// use weir::producer::GroupMetadata;
///
/// let by_hand = GroupMetadata::new("billing");
/// let member = GroupMetadata::new("billing").member(7, "consumer-1-5b2f").instance("host-3");
/// # let _ = (by_hand, member);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct GroupMetadata {
    group: Str,
    generation: i32,
    member: Str,
    instance: Option<Str>,
}

impl GroupMetadata {
    /// A group without a member.
    pub fn new(group: &str) -> Self {
        Self { group: group.into(), generation: -1, member: Str::new(), instance: None }
    }

    /// The member that commits, with the generation of the group or, since KIP-848, the member's epoch.
    pub fn member(mut self, generation: i32, member: &str) -> Self {
        (self.generation, self.member) = (generation, member.into());
        self
    }

    /// The `group.instance.id` of a static member (KIP-345).
    pub fn instance(mut self, instance: &str) -> Self {
        self.instance = Some(instance.into());
        self
    }

    /// The group's id.
    pub fn group(&self) -> &str {
        &self.group
    }

    pub(super) fn read(&self) -> Result<Group> {
        if self.group.is_empty() {
            return Err(Error::invalid("a consumer group without a name"));
        }
        let Self { group, generation, member, instance } = self.clone();
        Ok(Group { id: group, generation, member, instance })
    }
}

/// A position to be committed: the offset of the next record to be read. A number is one without more.
///
/// ```
/// use weir::producer::OffsetAndMetadata;
///
/// let next = OffsetAndMetadata::new(43).leader_epoch(5).metadata("by host-3");
/// assert_eq!(OffsetAndMetadata::from(43), OffsetAndMetadata::new(43));
/// # let _ = next;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct OffsetAndMetadata {
    offset: i64,
    leader_epoch: Option<i32>,
    metadata: Option<Str>,
}

impl OffsetAndMetadata {
    /// The offset of the next record to be read.
    pub fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: None }
    }

    /// The leader epoch of the last record that was read, by which a consumer finds out whether the log was
    /// cut since (KIP-320).
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = Some(epoch);
        self
    }

    /// Words that are kept with it; brokers refuse more than 4 KiB by default.
    pub fn metadata(mut self, metadata: &str) -> Self {
        self.metadata = Some(metadata.into());
        self
    }
}

impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> Self {
        Self::new(offset)
    }
}

/// Checks what is to be committed; of a partition that is named twice the last counts.
pub(super) fn read_offsets<T: AsRef<str>, O: Into<OffsetAndMetadata>>(
    offsets: impl IntoIterator<Item = (T, i32, O)>,
) -> Result<Vec<Offset>> {
    let mut all = BTreeMap::new();
    for (topic, partition, next) in offsets {
        let (topic, next) = (topic.as_ref(), next.into());
        if topic.is_empty() || partition < 0 || next.offset < 0 {
            return Err(Error::invalid(format!(
                "offset {} of topic {topic:?} partition {partition}",
                next.offset
            )));
        }
        all.insert((Str::from(topic), partition), next);
    }
    let offset = |((topic, partition), next): ((Str, i32), OffsetAndMetadata)| Offset {
        topic,
        partition,
        offset: next.offset,
        leader_epoch: next.leader_epoch.unwrap_or(-1),
        metadata: Some(next.metadata.unwrap_or_default()),
    };
    Ok(all.into_iter().map(offset).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_checked_and_the_last_of_a_partition_counts() {
        let read = read_offsets([("b", 1, 5), ("a", 0, 7), ("b", 1, 6)]).unwrap();
        let seen: Vec<_> = read.iter().map(|o| (o.topic.as_str(), o.partition, o.offset)).collect();
        assert_eq!(seen, [("a", 0, 7), ("b", 1, 6)]);
        for wrong in [("", 0, 1), ("a", -1, 1), ("a", 0, -1)] {
            assert!(read_offsets([wrong]).unwrap_err().is_invalid(), "{wrong:?}");
        }
        assert!(GroupMetadata::new("").read().unwrap_err().is_invalid());
    }
}
