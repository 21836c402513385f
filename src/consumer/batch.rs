//! What the application gets: records of one partition that follow each other, to be borrowed from.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;

use super::TopicPartition;
use super::spare::Spares;
use crate::records::{Record, RecordIter, Records};

/// A place in a partition: what to read next, and the leader's epoch of the record before it, -1 if not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) offset: i64,
    pub(crate) epoch: i32,
}

/// How far a partition goes, as its leader last said; -1 where it is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) high_watermark: i64,
    pub(crate) last_stable: i64,
    pub(crate) log_start: i64,
}

impl Marks {
    pub(crate) const UNKNOWN: Self = Self { high_watermark: -1, last_stable: -1, log_start: -1 };
}

/// Records of one partition in the order of their offsets. All have been decompressed and checked: iterating over
/// them cannot fail, and borrows.
///
/// ```text
/// for record in &batch {
///     handle(record.key(), record.value());
/// }
/// ```
///
/// There is at least one record. The batch keeps the memory in which its records came, which counts as in use by the
/// consumer until it is dropped; [`Record::to_owned`] gives records that keep it longer. Whoever keeps more than the
/// consumer's memory is read for with one fetch at a time.
pub struct Batch {
    pub(super) at: TopicPartition,
    pub(super) pieces: SmallVec<[Records; 1]>,
    pub(super) count: usize,
    /// Records before it were read earlier.
    pub(super) from: i64,
    pub(super) next: Position,
    pub(super) marks: Marks,
    /// Of the assignment under which it was read.
    pub(super) assignment: u64,
    /// The bytes that were decompressed for it.
    pub(super) size: usize,
    pub(super) spares: Arc<Spares>,
}

impl Batch {
    /// The topic that the records are of.
    pub fn topic(&self) -> &str {
        self.at.topic()
    }

    /// The partition that the records are of.
    pub fn partition(&self) -> i32 {
        self.at.partition()
    }

    /// The topic and the partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.at
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none, which does not happen.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Walks over the records.
    #[inline]
    pub fn iter(&self) -> BatchIter<'_> {
        let mut pieces = self.pieces.iter();
        let records = pieces.next().map(Records::iter);
        BatchIter { records, pieces, from: self.from, left: self.count }
    }

    /// The offset that reading goes on at behind these records: what a commit of this batch says. It may be more than
    /// the last record's offset and one, where compaction or transactions have left gaps.
    pub fn next_offset(&self) -> i64 {
        self.next.offset
    }

    /// The epoch of the leader that wrote the last of these records; -1 if it is not known.
    pub fn leader_epoch(&self) -> i32 {
        self.next.epoch
    }

    /// The offset behind the last record that all replicas in sync had, when these were fetched; -1 if not known.
    pub fn high_watermark(&self) -> i64 {
        self.marks.high_watermark
    }

    /// The offset behind the last record that is not in an open transaction, when these were fetched; -1 if not known.
    pub fn last_stable_offset(&self) -> i64 {
        self.marks.last_stable
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let pieces = self.pieces.drain(..).map(Records::into_bytes);
        if self.size > 0 {
            pieces.for_each(|bytes| self.spares.put(bytes));
        } else {
            pieces.for_each(drop);
        }
        self.spares.live.fetch_sub(self.weight(), Ordering::SeqCst);
        self.spares.released();
    }
}

impl Batch {
    /// The bytes that it takes of the budget.
    pub(super) fn weight(&self) -> usize {
        self.size
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = Record<'a>;
    type IntoIter = BatchIter<'a>;

    #[inline]
    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("at", &self.at)
            .field("records", &self.count)
            .field("next", &self.next.offset)
            .finish_non_exhaustive()
    }
}

/// Walks over the records of a [`Batch`].
#[derive(Debug, Clone)]
pub struct BatchIter<'a> {
    records: Option<RecordIter<'a>>,
    pieces: std::slice::Iter<'a, Records>,
    from: i64,
    left: usize,
}

impl<'a> Iterator for BatchIter<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        loop {
            match self.records.as_mut()?.next() {
                Some(Ok(record)) if record.offset() >= self.from => {
                    self.left = self.left.saturating_sub(1);
                    return Some(record);
                }
                Some(Ok(_)) => {}
                // An error was found when the batch was made, or never.
                Some(Err(_)) | None => self.records = self.pieces.next().map(Records::iter),
            }
        }
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for BatchIter<'_> {}
impl std::iter::FusedIterator for BatchIter<'_> {}
