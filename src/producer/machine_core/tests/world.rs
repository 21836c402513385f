//! What the core meets: partitions with logs and what their leaders know of producers, connections that carry
//! requests in order, are cut, and may still deliver what was on its way.

use std::collections::{BTreeMap, VecDeque};

use crate::producer::machine_core::LineId;
use crate::producer::machine_identity::Identity;
use crate::producer::machine_line::{Stamped, Ticket};

/// A batch: numbers of its records, which rise along a partition.
#[derive(Debug, Clone)]
pub(super) struct Load {
    pub(super) records: Vec<u64>,
}

impl super::super::Weighed for Load {
    fn size(&self) -> usize {
        self.records.len() * 100
    }
}

/// What a broker does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Said {
    Written,
    OutOfOrder,
    UnknownProducer,
    TooLarge,
    NotLeader,
    /// Nothing was done, and it may work later.
    NotNow,
    /// It will never work.
    Never,
    /// It may have been done.
    Perhaps,
}

/// What a partition's leader knows of a producer: the batches that it last wrote.
#[derive(Debug)]
pub(super) struct Known {
    epoch: i16,
    last: VecDeque<(i32, i32)>,
}

#[derive(Debug, Default)]
pub(super) struct Partition {
    pub(super) leader: i32,
    pub(super) log: Vec<u64>,
    pub(super) producers: BTreeMap<i64, Known>,
    /// Records in the largest batch that it takes.
    pub(super) largest: usize,
    /// It does not take any number from producers it does not know (before KIP-360).
    pub(super) strict: bool,
}

fn next(sequence: i32, count: usize) -> i32 {
    ((i64::from(sequence) + count as i64) & i64::from(i32::MAX)) as i32
}

impl Partition {
    /// As `ProducerStateManager` of a broker does.
    pub(super) fn append(&mut self, stamp: Option<Stamped>, records: &[u64]) -> Said {
        if records.len() > self.largest {
            return Said::TooLarge;
        }
        if let Some(Stamped { identity: Identity { id, epoch }, sequence }) = stamp {
            let end = next(sequence, records.len());
            match self.producers.get_mut(&id) {
                None if self.strict && sequence != 0 => return Said::UnknownProducer,
                None => {
                    self.producers.insert(id, Known { epoch, last: [(sequence, end)].into() });
                }
                Some(known) if epoch < known.epoch => return Said::UnknownProducer,
                Some(known) if epoch > known.epoch => {
                    if sequence != 0 {
                        return Said::OutOfOrder;
                    }
                    *known = Known { epoch, last: [(sequence, end)].into() };
                }
                Some(known) if known.last.contains(&(sequence, end)) => return Said::Written,
                Some(known) => {
                    if known.last.back().is_none_or(|(_, last)| *last != sequence) {
                        return Said::OutOfOrder;
                    }
                    known.last.push_back((sequence, end));
                    if known.last.len() > 5 {
                        known.last.pop_front();
                    }
                }
            }
        }
        self.log.extend(records);
        Said::Written
    }

    /// Nothing is known of producers any more.
    pub(super) fn forget(&mut self) {
        self.producers.clear();
    }
}

/// A batch on its way.
#[derive(Debug, Clone)]
pub(super) struct Parcel {
    pub(super) line: LineId,
    pub(super) ticket: Ticket,
    pub(super) stamp: Option<Stamped>,
    pub(super) records: Vec<u64>,
}

/// A request on its way, and the answer, once the broker has worked on it.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) parcels: Vec<Parcel>,
    pub(super) said: Option<Vec<Said>>,
}

/// A connection to a broker, as the client has it.
#[derive(Debug, Default)]
pub(super) struct Connection {
    pub(super) place: u64,
    pub(super) wires: VecDeque<Wire>,
}
