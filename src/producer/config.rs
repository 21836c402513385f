//! What can be set about a producer. The defaults are Java's.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use super::interceptor::Interceptors;
use super::machine_core::Limits;
use super::machine_line::Rules;
use super::partitioner::Partitioning;
use super::seal::compressor;
use crate::cluster::Backoff;
use crate::records::Compression;
use crate::wire::Str;
use crate::{Error, Result};

/// Who has to have a record before it counts as written: Kafka's `acks`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Acks {
    /// The leader and all replicas that are in sync: `all`.
    #[default]
    All,
    /// The leader: `1`. What it has written is lost if it fails before others have it.
    Leader,
    /// Nobody: `0`. Records count as sent when they are on their way to the socket; no offsets are told.
    None,
}

impl Acks {
    pub(crate) fn code(self) -> i16 {
        match self {
            Self::All => -1,
            Self::Leader => 1,
            Self::None => 0,
        }
    }
}

/// The longest transactional id that a message can carry in all versions, in bytes.
const TRANSACTIONAL_ID_MAX: usize = i16::MAX as usize;

/// A codec and its level, the codec's default if none is said.
pub(crate) type Codec = (Compression, Option<i32>);

/// Settings of a transactional producer.
#[derive(Debug, Clone)]
pub(crate) struct Transactional {
    pub(crate) id: Str,
    pub(crate) timeout: Duration,
}

impl Transactional {
    pub(crate) fn new(id: &str) -> Self {
        Self { id: id.into(), timeout: Duration::from_mins(1) }
    }

    /// The timeout in milliseconds, as brokers want it.
    pub(crate) fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// Settings of a producer.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) acks: Acks,
    pub(crate) idempotent: bool,
    pub(crate) in_flight_max: usize,
    pub(crate) linger: Duration,
    pub(crate) batch_size: usize,
    pub(crate) buffer_memory: usize,
    pub(crate) max_request_size: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) max_block: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) partitioning: Partitioning,
    pub(crate) rack: Option<Str>,
    pub(crate) compression: Codec,
    pub(crate) topics: BTreeMap<Str, Codec>,
    pub(crate) transactional: Option<Transactional>,
    pub(crate) interceptors: Interceptors,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            in_flight_max: 5,
            linger: Duration::from_millis(5),
            batch_size: 16 << 10,
            buffer_memory: 32 << 20,
            max_request_size: 1 << 20,
            request_timeout: Duration::from_secs(30),
            delivery_timeout: Duration::from_mins(2),
            max_block: Duration::from_mins(1),
            backoff: Backoff::default(),
            partitioning: Partitioning::default(),
            rack: None,
            compression: (Compression::None, None),
            topics: BTreeMap::new(),
            transactional: None,
            interceptors: Interceptors::default(),
        }
    }
}

impl Settings {
    pub(crate) fn compression_of(&self, topic: &str) -> Codec {
        self.topics.get(topic).copied().unwrap_or(self.compression)
    }

    /// The largest batch with a single record.
    pub(crate) fn record_size_max(&self) -> usize {
        self.max_request_size
    }

    /// Threads that compress at the same time. Asked for when there is something to compress: it reads files.
    pub(crate) fn workers() -> usize {
        static WORKERS: OnceLock<usize> = OnceLock::new();
        *WORKERS.get_or_init(|| std::thread::available_parallelism().map_or(2, usize::from).max(2))
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            rules: Rules { idempotent: self.idempotent, backoff: self.backoff },
            in_flight_max: self.in_flight_max,
            request_size_max: self.max_request_size.max(self.batch_size),
            linger: self.linger,
            delivery_timeout: self.delivery_timeout,
        }
    }

    /// Refuses what cannot be.
    pub(crate) fn check(&self) -> Result<()> {
        let no = |words: String| Err(Error::invalid(words));
        if self.batch_size == 0 || self.max_request_size == 0 || self.in_flight_max == 0 {
            return no("batch_size, max_request_size and max_in_flight are at least 1".into());
        }
        if self.buffer_memory < 1024 || self.buffer_memory > u32::MAX as usize {
            return no(format!("buffer_memory of {} bytes: 1 KiB to 4 GiB", self.buffer_memory));
        }
        if self.delivery_timeout.is_zero() {
            return no("delivery_timeout is zero: nothing could be delivered in it".into());
        }
        if self.linger >= self.delivery_timeout {
            return no(
                "linger is not less than delivery_timeout: records would fail before they were sent".into()
            );
        }
        if self.idempotent && self.acks != Acks::All {
            return no("an idempotent producer needs acks from all: switch idempotence off".into());
        }
        if self.idempotent && self.in_flight_max > 5 {
            return no(
                "brokers know the last five batches of an idempotent producer: max_in_flight is at most 5"
                    .into(),
            );
        }
        if let Some(transactional) = &self.transactional {
            if !self.idempotent {
                return no("transactions need idempotence".into());
            }
            if transactional.id.is_empty() || transactional.id.len() > TRANSACTIONAL_ID_MAX {
                let length = transactional.id.len();
                return no(format!("a transactional id of {length} bytes: 1 to {TRANSACTIONAL_ID_MAX}"));
            }
            if transactional.timeout_ms() == 0 {
                return no("transaction_timeout is less than a millisecond".into());
            }
        }
        for (compression, level) in self.topics.values().copied().chain([self.compression]) {
            if compression != Compression::None || level.is_some() {
                compressor(compression, level)?;
            }
        }
        Ok(())
    }
}
