//! Sealing a closed batch: compression, the checksum of its records, and later the header. Done where it holds
//! nobody up: small or plain batches at once, by whoever closed them, others on threads for such work.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::buffers::{Buffer, Share};
use super::machine_core::LineId;
use super::machine_line::{Stamped, Ticket};
use super::topic::TopicFacts;
use crate::Result;
use crate::records::{BatchBuilder, Closed, Compression, Compressor, Stamp};

/// Up to this many bytes a batch is compressed where it was closed: handing it over would take longer.
const SMALL: usize = 2 << 10;

/// A batch to be sealed.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) line: LineId,
    pub(crate) ticket: Ticket,
    pub(crate) builder: BatchBuilder,
    pub(crate) share: Option<Share>,
    pub(crate) topic: Arc<TopicFacts>,
}

impl Job {
    pub(crate) fn is_quick(&self) -> bool {
        self.topic.compression.0 == Compression::None || self.builder.size() <= SMALL
    }
}

/// A sealed batch and its memory.
#[derive(Debug)]
pub(crate) struct Sealed {
    /// In front, so that the memory comes back whole when what is below lets go of it.
    share: Option<Share>,
    closed: Closed,
    /// The bytes under the last stamp.
    sent: Option<(Option<Stamped>, Bytes)>,
}

impl Sealed {
    pub(crate) fn size(&self) -> usize {
        self.closed.size()
    }

    pub(crate) fn closed(&self) -> &Closed {
        &self.closed
    }

    /// What stands for its memory, for those who come in its place.
    pub(crate) fn share(&self) -> Option<Share> {
        self.share.clone()
    }

    /// The bytes that go out; the same as before, if it is the same stamp.
    pub(crate) fn bytes(&mut self, stamp: Option<Stamped>, transactional: bool) -> Bytes {
        if let Some((_, bytes)) = self.sent.as_ref().filter(|(sent, _)| *sent == stamp) {
            return bytes.clone();
        }
        let header = match stamp {
            Some(Stamped { identity, sequence }) => {
                Stamp::default().producer(identity.id, identity.epoch, sequence).transactional(transactional)
            }
            None => Stamp::default(),
        };
        self.sent = None;
        let share = self.share.clone();
        let bytes = self.closed.stamp_as(&header, |memory| Buffer::from_parts(memory, share).freeze());
        self.sent = Some((stamp, bytes.clone()));
        bytes
    }
}

/// A codec's number, and its level.
type CodecKey = (u8, Option<i32>);

/// A compressor and the memory that it writes to.
type Tool = (Compressor, Vec<u8>);

thread_local! {
    /// Compressors and the memory that they write to, kept between batches. For each thread its own: there are few,
    /// and not every codec's compressor can go from one to another.
    static TOOLS: RefCell<BTreeMap<CodecKey, Tool>> = const { RefCell::new(BTreeMap::new()) };
}

/// Compresses a batch if its topic wants that, and takes the checksum of its records.
pub(crate) fn seal(mut builder: BatchBuilder, share: Option<Share>, topic: &TopicFacts) -> Result<Sealed> {
    let (compression, level) = topic.compression;
    if compression == Compression::None {
        let closed = builder.close(None, &mut Vec::new())?;
        return Ok(Sealed { share, closed, sent: None });
    }
    let key = (compression.id(), level);
    let spare = TOOLS.with_borrow_mut(|tools| tools.remove(&key));
    let (mut compressor, mut scratch) = match spare {
        Some(spare) => spare,
        None => (compressor(compression, level)?, Vec::new()),
    };
    if scratch.capacity() < builder.capacity() {
        scratch = Vec::with_capacity(builder.capacity());
    }
    let closed = builder.close(Some(&mut compressor), &mut scratch)?;
    topic.learn_ratio(closed.plain_size(), closed.size());
    TOOLS.with_borrow_mut(|tools| tools.insert(key, (compressor, scratch)));
    Ok(Sealed { share, closed, sent: None })
}

/// A compressor for a codec, at its default level if none is said.
pub(crate) fn compressor(compression: Compression, level: Option<i32>) -> Result<Compressor> {
    match level {
        Some(level) => Compressor::with_level(compression, level),
        None => Compressor::new(compression),
    }
}
