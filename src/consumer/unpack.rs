//! From the bytes that a broker sent of a partition to batches for the application: cut, checked, decompressed, and
//! rid of what is not for it: control records, aborted transactions, what lies before the position.
//!
//! A [`Chunk`] is what one fetch brought of one partition. It is unpacked in steps, by the task that reads.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use smallvec::SmallVec;

use super::TopicPartition;
use super::batch::{Batch, Marks, Position};
use super::spare::Spares;
use crate::records::{Batches, ControlType, Decompressor, RecordBatch, Records};
use crate::{Error, Result};

/// What one fetch brought of one partition, as far as it was not unpacked yet.
#[derive(Debug)]
pub(crate) struct Chunk {
    batches: Batches,
    /// The bytes that came.
    pub(crate) size: usize,
    /// Where it was to be read from.
    pub(crate) from: Position,
    /// Where reading goes on behind it, by the headers of its batches.
    pub(crate) next: Position,
    pub(crate) marks: Marks,
    /// The version of the position that it was fetched for.
    pub(crate) version: u64,
    aborted: Option<Aborted>,
    /// It ends in what cannot be read.
    broken: bool,
}

/// Transactions that were aborted (KIP-98), for readers of what is committed.
#[derive(Debug, Default)]
struct Aborted {
    /// Producers and where their aborted transactions begin, the last first.
    later: Vec<(i64, i64)>,
    /// Producers whose records are being passed over.
    now: BTreeSet<i64>,
}

impl Aborted {
    /// Brokers need not name them in order.
    fn new(mut listed: Vec<(i64, i64)>) -> Self {
        listed.sort_by_key(|(_, first)| std::cmp::Reverse(*first));
        Self { later: listed, now: BTreeSet::new() }
    }

    fn reach(&mut self, offset: i64) {
        while let Some((producer, _)) = self.later.pop_if(|(_, first)| *first <= offset) {
            self.now.insert(producer);
        }
    }
}

/// What the headers of some batches say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Headers {
    /// Behind the last whole batch; none if there is no whole one.
    next: Option<Position>,
    /// There is one whose header cannot be right.
    broken: bool,
}

/// Looks at the headers alone.
fn headers(bytes: &Bytes) -> Headers {
    let mut headers = Headers { next: None, broken: false };
    for batch in Batches::new(bytes.clone()).check_crcs(false) {
        match batch {
            Ok(batch) => {
                let (offset, epoch) = (batch.next_offset(), batch.partition_leader_epoch());
                headers.next = Some(Position { offset, epoch });
            }
            Err(_) => headers.broken = true,
        }
    }
    headers
}

impl Chunk {
    pub(crate) fn new(
        bytes: Bytes,
        from: Position,
        marks: Marks,
        version: u64,
        aborted: Option<Vec<(i64, i64)>>,
        check_crcs: bool,
    ) -> Self {
        let found = headers(&bytes);
        let next = found.next.map_or(from, |next| Position { offset: next.offset.max(from.offset), ..next });
        Self {
            broken: found.broken,
            size: bytes.len(),
            batches: Batches::new(bytes).check_crcs(check_crcs),
            from,
            next,
            marks,
            version,
            aborted: aborted.map(Aborted::new),
        }
    }

    /// The next batch for the application, of about `most` bytes; none if nothing more is in here for it. `from` is
    /// then where reading goes on.
    ///
    /// # Errors
    /// What cannot be read, at `from`.
    pub(crate) fn unpack(
        &mut self,
        at: &TopicPartition,
        assignment: u64,
        most: usize,
        spares: &Arc<Spares>,
    ) -> Result<Option<Batch>> {
        let mut decompressor = spares.decompressor();
        let mut taken = Taken { from: self.from.offset, ..Taken::default() };
        let end = loop {
            match self.take_one(&mut taken, &mut decompressor, spares) {
                Ok(true) if taken.bytes < most => {}
                Ok(_) => break Ok(()),
                // What is before it is given first; then it is met again.
                Err(_) if taken.count > 0 => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        spares.keep(decompressor);
        end.map_err(|error| error.within(format_args!("{at} at offset {}", self.from.offset)))?;
        if taken.count == 0 {
            return Ok(None);
        }
        let Taken { pieces, count, from, plain, .. } = taken;
        spares.live.fetch_add(plain, Ordering::AcqRel);
        Ok(Some(Batch {
            at: at.clone(),
            pieces,
            count,
            from,
            next: self.from,
            marks: self.marks,
            assignment,
            size: plain,
            spares: Arc::clone(spares),
        }))
    }

    /// Takes one batch of the log. Tells whether there was one.
    fn take_one(
        &mut self,
        taken: &mut Taken,
        decompressor: &mut Decompressor,
        spares: &Spares,
    ) -> Result<bool> {
        // An error leaves them in front of the broken batch; so does this one until the batch is whole.
        let mut batches = self.batches.clone();
        let Some(batch) = batches.next() else {
            // The rest is cut off. Empty batches at the end move the position too.
            self.from = Position { offset: self.next.offset.max(self.from.offset), ..self.next };
            return Ok(false);
        };
        let batch = batch?;
        let epoch = batch.partition_leader_epoch();
        let mut next = Position { offset: batch.next_offset().max(self.from.offset), epoch };
        if self.is_wanted(&batch, decompressor)? {
            spares.refill(decompressor);
            let records = batch.records(decompressor)?;
            let found = look_at(&records, self.from.offset)?;
            // Old clients left records behind the last offset that the header has.
            next.offset = next.offset.max(found.end);
            if found.count > 0 {
                taken.count += found.count;
                taken.bytes += records.byte_len();
                if batch.compression() != crate::records::Compression::None {
                    taken.plain += records.byte_len();
                }
                taken.pieces.push(records);
            } else if batch.compression() != crate::records::Compression::None {
                decompressor.recycle(records.into_bytes());
            }
        }
        self.batches = batches;
        self.from = next;
        Ok(true)
    }

    /// Whether a batch is for the application at all.
    fn is_wanted(&mut self, batch: &RecordBatch, decompressor: &mut Decompressor) -> Result<bool> {
        let last = batch.last_offset();
        if let Some(aborted) = &mut self.aborted {
            aborted.reach(last);
            if batch.is_control() {
                let records = batch.records(decompressor)?;
                let marker = records.iter().next().transpose()?;
                if let Some(marker) = marker
                    && ControlType::from_key(marker.key())? == ControlType::ABORT
                {
                    aborted.now.remove(&batch.producer_id());
                }
            } else if batch.is_transactional() && aborted.now.contains(&batch.producer_id()) {
                return Ok(false);
            }
        }
        // Of compressed batches of old formats only the last offset is known, and that is enough.
        Ok(!batch.is_control()
            && (last >= self.from.offset || batch.magic() == 2 && batch.count() != Some(0)))
    }
}

#[derive(Default)]
struct Taken {
    pieces: SmallVec<[Records; 1]>,
    count: usize,
    bytes: usize,
    /// Bytes that were decompressed.
    plain: usize,
    from: i64,
}

struct Found {
    /// From the position on.
    count: usize,
    /// Behind the last record.
    end: i64,
}

/// Walks over the records once, so that nobody meets an error later.
fn look_at(records: &Records, from: i64) -> Result<Found> {
    let mut found = Found { count: 0, end: i64::MIN };
    for record in records {
        let offset = record?.offset();
        found.count += usize::from(offset >= from);
        found.end = offset;
    }
    if found.count > 0 {
        found.end = found.end.checked_add(1).ok_or_else(|| Error::corrupt("an offset at the end of all"))?;
    }
    Ok(found)
}

impl Chunk {
    /// Whether nothing is left that could be unpacked.
    pub(crate) fn is_done(&self) -> bool {
        !self.broken && self.from.offset >= self.next.offset
    }

    /// Whether it ends in what cannot be read, so that there is no knowing what comes behind it.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// In memory of its own, so that it does not keep what came beside it.
    pub(crate) fn detach(&mut self) {
        self.batches.detach();
    }
}

#[cfg(test)]
mod tests;
