//! Which partition a record goes to, when it does not say so itself.
//!
//! [`Partitioning`] is the setting. It gives a record with a key its partition, from the key alone; for the
//! others it says by which machine to go: a `Turn` stays on a partition until a batch's worth of bytes
//! went there, `RoundRobin` takes them in turn. Both choose by a `Load`, which is made from what is known
//! of the partitions now and then, not for each record. No clock and no chance in here: times are judged by
//! whoever makes the load, and dice are given.

mod load;
mod murmur2;
mod sticky;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use load::{Load, PartitionLoad};
pub(crate) use sticky::{RoundRobin, Turn};

use crate::{Error, Result};

/// How a producer chooses a partition for records that name none.
///
/// The default is [`Uniform`]: what Kafka's Java client does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Partitioning {
    /// Keys by murmur2, all else spread evenly by bytes.
    Uniform(Uniform),
    /// One record each in turn, keys or not: Java's `RoundRobinPartitioner`. Batches stay small.
    RoundRobin,
    /// Keys by CRC-32 (the one of gzip) modulo the number of partitions: librdkafka's default,
    /// `consistent_random`. A record whose key is null or empty goes as one without a key, as there.
    /// (librdkafka's `murmur2_random` is [`Uniform`].)
    Crc32,
    /// What a function of yours says.
    Custom(Arc<dyn Partitioner>),
}

impl Partitioning {
    /// A partitioner of your own.
    ///
    /// ```
    /// use weir::producer::partitioner::Partitioning;
    /// let by_length = |_topic: &str, key: Option<&[u8]>, count: u32| Some(key?.len() as u32 % count);
    /// let partitioning = Partitioning::custom(by_length);
    /// # let _ = partitioning;
    /// ```
    pub fn custom(partitioner: impl Partitioner + 'static) -> Self {
        Self::Custom(Arc::new(partitioner))
    }

    /// Whether a partition's leader may be away for so long before records without a key avoid it. `None`:
    /// that is not looked at.
    pub(crate) fn availability_timeout(&self) -> Option<Duration> {
        match self {
            Self::Uniform(uniform) if uniform.adaptive => {
                Some(uniform.availability_timeout).filter(|time| !time.is_zero())
            }
            _ => None,
        }
    }

    /// Where a record with this key goes, in a topic with so many partitions.
    ///
    /// Fails with an [invalid](Error::is_invalid) error if there are no partitions, or if a custom
    /// partitioner names one that is not there.
    pub(crate) fn is_round_robin(&self) -> bool {
        matches!(self, Self::RoundRobin)
    }

    #[inline]
    pub(crate) fn choose(&self, topic: &str, key: Option<&[u8]>, count: u32) -> Result<Choice> {
        let chosen = match (self, key) {
            (_, _) if count == 0 => return Err(no_such_partition(topic, 0, count)),
            (Self::Uniform(uniform), Some(key)) if !uniform.ignore_keys => murmur2::partition(key, count),
            (Self::RoundRobin, _) => return Ok(Choice::Turn),
            (Self::Crc32, Some(key)) if !key.is_empty() => crc32fast::hash(key).checked_rem(count),
            (Self::Custom(partitioner), key) => partitioner.partition(topic, key, count),
            (Self::Uniform(_) | Self::Crc32, _) => None,
        };
        match chosen {
            None => Ok(Choice::Sticky),
            Some(partition) if partition < count => Ok(Choice::At(partition)),
            Some(partition) => Err(no_such_partition(topic, partition, count)),
        }
    }
}

impl Default for Partitioning {
    fn default() -> Self {
        Self::Uniform(Uniform::default())
    }
}

impl From<Uniform> for Partitioning {
    fn from(uniform: Uniform) -> Self {
        Self::Uniform(uniform)
    }
}

/// A record with a key goes where the key's murmur2 says, as in Java. Records without one stay on a
/// partition until a batch's worth of bytes went there, then another is drawn (KIP-480, KIP-794).
///
/// ```
/// use weir::producer::partitioner::{Partitioning, Uniform};
/// let near = Partitioning::from(Uniform::default().rack_aware(true));
/// # let _ = near;
/// ```
#[derive(Debug, Clone)]
pub struct Uniform {
    adaptive: bool,
    ignore_keys: bool,
    rack_aware: bool,
    availability_timeout: Duration,
}

impl Uniform {
    /// Sets whether partitions with longer queues are drawn less often (yes):
    /// `partitioner.adaptive.partitioning.enable`.
    #[must_use]
    pub fn adaptive(mut self, yes: bool) -> Self {
        self.adaptive = yes;
        self
    }

    /// Sets whether keys have no say in the partition (no): `partitioner.ignore.keys`.
    #[must_use]
    pub fn ignore_keys(mut self, yes: bool) -> Self {
        self.ignore_keys = yes;
        self
    }

    /// Sets whether records without a key go to leaders in the producer's own rack, as long as there is one
    /// (no): `partitioner.rack.aware`, KIP-1123.
    #[must_use]
    pub fn rack_aware(mut self, yes: bool) -> Self {
        self.rack_aware = yes;
        self
    }

    /// Sets how long a leader may leave requests waiting before records without a key avoid its partitions;
    /// 0, the default, is for ever: `partitioner.availability.timeout.ms`. Only if adaptive.
    #[must_use]
    pub fn availability_timeout(mut self, time: Duration) -> Self {
        self.availability_timeout = time;
        self
    }
}

impl Default for Uniform {
    fn default() -> Self {
        Self { adaptive: true, ignore_keys: false, rack_aware: false, availability_timeout: Duration::ZERO }
    }
}

/// Chooses partitions. Functions of the same form are partitioners.
pub trait Partitioner: Send + Sync {
    /// The partition, from 0, of a record with this key in a topic that has `count` partitions, at least one.
    /// `None`: any, so that batches are filled one after another. A partition that is not there is an error
    /// for the record.
    ///
    /// It is called once for each record, and must not block.
    fn partition(&self, topic: &str, key: Option<&[u8]>, count: u32) -> Option<u32>;
}

impl<F: Fn(&str, Option<&[u8]>, u32) -> Option<u32> + Send + Sync> Partitioner for F {
    fn partition(&self, topic: &str, key: Option<&[u8]>, count: u32) -> Option<u32> {
        self(topic, key, count)
    }
}

impl fmt::Debug for dyn Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a custom partitioner")
    }
}

/// Where a record is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// To this partition.
    At(u32),
    /// The partition whose turn it is.
    Sticky,
    /// Where [`RoundRobin`] is next.
    Turn,
}

#[cold]
fn no_such_partition(topic: &str, partition: u32, count: u32) -> Error {
    Error::invalid(format!("partition {partition} of topic {topic}, which has {count} partitions"))
}
