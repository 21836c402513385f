//! The consumer: batches of records, borrowed from the memory in which they came.
//!
//! ```no_run
//! # async fn run() -> weir::Result<()> {
//! use weir::{Client, consumer::Reset};
//!
//! let kafka = Client::connect("localhost:9092").await?;
//! let mut consumer = kafka.consumer().reset(Reset::Earliest).build()?;
//! consumer.assign([("orders", 0), ("orders", 1)])?;
//! while let Some(batch) = consumer.next().await? {
//!     for record in &batch {
//!         println!("{} {:?}", record.offset(), record.value());
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Brokers are fetched from in the background, within one budget of memory, while the application works. A partition
//! that is paused, or read slowly, holds back no other.
//!
//! Inside: `machine_core` knows where each partition is read and what has come, `machine_session` what a broker was
//! told; `pump` sends fetches, `unpack` makes batches of what they bring, `keeper` waits for what has to be
//! waited for.

pub mod assignors;
mod batch;
mod builder;
mod config;
pub(crate) mod group;
mod keeper;
mod machine_core;
mod machine_session;
mod pump;
mod shared;
mod spare;
mod topic_partition;
mod unpack;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use batch::{Batch, BatchIter};
pub use builder::Builder;
pub use config::{Isolation, Reset};
use machine_core::{Sought, Start};
use shared::Shared;
pub use topic_partition::TopicPartition;

use crate::net::clock;
use crate::{Error, Result};

/// Reads records. Dropping it ends it in the background.
pub struct Consumer {
    shared: Arc<Shared>,
}

impl Consumer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Reads these partitions from now on, and no others. Those that were read already go on where they are; the
    /// others begin where [`reset`](Builder::reset) says, unless it is said by [`seek`](Self::seek) before anything of
    /// them is read.
    ///
    /// # Errors
    /// [Invalid](Error::is_invalid): a negative partition, a topic without a name. [Closed](Error::is_closed).
    pub fn assign<T: Into<TopicPartition>>(&self, partitions: impl IntoIterator<Item = T>) -> Result<()> {
        self.shared.check_open()?;
        let mut wanted = BTreeMap::new();
        for at in partitions {
            let at: TopicPartition = at.into();
            if at.partition() < 0 || at.topic().is_empty() {
                return Err(Error::invalid(format!("{at:?} is no partition")));
            }
            wanted.insert(at, Start::Policy);
        }
        self.shared.assign(wanted);
        Ok(())
    }

    /// The next batch, of the partitions in turn. `None` once the consumer was closed.
    ///
    /// By coming back here the application says that it is done with all that it was given before.
    ///
    /// Cancel safe: no record is lost when the future is dropped.
    ///
    /// # Errors
    /// What concerns one partition names it; the others go on, and so does that one after a pause, where it met the
    /// error: [corrupt](Error::is_corrupt) records, a position that is gone where the reset policy is
    /// [`Reset::None`], a topic that is [refused](Error::code). What ends the consumer is told each time.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        self.shared.returned();
        loop {
            let news = self.shared.news.notified();
            let mut news = std::pin::pin!(news);
            news.as_mut().enable();
            if let Some(error) = self.shared.lock().fatal.clone() {
                return if error.is_closed() { Ok(None) } else { Err(error) };
            }
            if self.shared.is_closed() {
                return Ok(None);
            }
            if let Some(batch) = self.shared.take(None)? {
                return Ok(Some(batch));
            }
            news.await;
        }
    }

    /// Reads on at this offset: what was fetched before is dropped.
    ///
    /// # Errors
    /// [Invalid](Error::is_invalid): a partition that is not assigned, a negative offset.
    pub fn seek(&self, at: impl Into<TopicPartition>, offset: i64) -> Result<()> {
        if offset < 0 {
            return Err(Error::invalid(format!("offset {offset}")));
        }
        self.start(&at.into(), Start::At(batch::Position { offset, epoch: -1 }))
    }

    /// Reads on at the first record that is there. The offset is asked for in the background.
    ///
    /// # Errors
    /// As [`seek`](Self::seek).
    pub fn seek_to_beginning(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.start(&at.into(), Start::Sought(Sought::Earliest))
    }

    /// Reads on behind the last record, or, where only what is committed is read, behind the last that is stable. The
    /// offset is asked for in the background.
    ///
    /// # Errors
    /// As [`seek`](Self::seek).
    pub fn seek_to_end(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.start(&at.into(), Start::Sought(Sought::Latest))
    }

    /// Reads on at the first record whose timestamp is this or later, in milliseconds since 1970; at the end if there is
    /// none. The offset is asked for in the background.
    ///
    /// # Errors
    /// As [`seek`](Self::seek).
    pub fn seek_to_time(&self, at: impl Into<TopicPartition>, timestamp: i64) -> Result<()> {
        if timestamp < 0 {
            return Err(Error::invalid(format!("timestamp {timestamp}")));
        }
        self.start(&at.into(), Start::Sought(Sought::Time(timestamp)))
    }

    fn start(&self, at: &TopicPartition, start: Start) -> Result<()> {
        self.shared.check_open()?;
        self.shared.lock().core.seek(at, start, clock::now())?;
        self.shared.pump();
        Ok(())
    }

    /// Gives nothing of a partition until it is [resumed](Self::resume). What was fetched stays.
    ///
    /// # Errors
    /// [Invalid](Error::is_invalid): a partition that is not assigned.
    pub fn pause(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.set_paused(&at.into(), true)
    }

    /// Gives records of a partition again, where it was paused.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn resume(&self, at: impl Into<TopicPartition>) -> Result<()> {
        self.set_paused(&at.into(), false)
    }

    fn set_paused(&self, at: &TopicPartition, paused: bool) -> Result<()> {
        self.shared.check_open()?;
        self.shared.lock().core.set_paused(at, paused, clock::now())?;
        self.shared.tell();
        self.shared.pump();
        Ok(())
    }

    /// The partitions that are read.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.lock().core.parts().map(|part| part.at.clone()).collect()
    }

    /// The offset at which the application will read on; `None` while it is looked for, or if the partition is not
    /// assigned.
    pub fn position(&self, at: impl Into<TopicPartition>) -> Option<i64> {
        self.shared.lock().core.position(&at.into()).map(|position| position.offset)
    }

    /// How many offsets are between the application's position and the end that it may read to, as the leader said when
    /// it was last fetched from; `None` if that is not known yet. With [`Isolation::ReadCommitted`] the end is the last
    /// stable offset.
    pub fn lag(&self, at: impl Into<TopicPartition>) -> Option<u64> {
        let committed = self.shared.settings.isolation == Isolation::ReadCommitted;
        self.shared.lock().core.find(&at.into())?.lag(committed)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.shut(None);
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("lane", &self.shared.lane).finish_non_exhaustive()
    }
}
