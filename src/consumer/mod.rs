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

mod apart;
pub mod assignors;
mod batch;
mod builder;
mod commit;
mod config;
mod event;
pub(crate) mod group;
mod grouping;
mod keeper;
mod lookup;
mod machine_core;
mod machine_offsets;
mod machine_session;
mod member;
mod pump;
mod shared;
mod spare;
mod topic_partition;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

pub use apart::{BatchStream, ConsumerRecord, PartitionConsumer};
pub use batch::{Batch, BatchIter};
pub use builder::Builder;
pub use commit::{Commit, Committed};
pub use config::{GroupProtocol, Isolation, Reset};
pub use event::{Event, Revocation};
pub use group::Leave;
pub use lookup::OffsetAndTimestamp;
use machine_core::{Sought, Start};
use member::Subscription;
use shared::Shared;
pub use topic_partition::TopicPartition;

use crate::cluster::metadata::TopicKey;
use crate::net::clock;
use crate::wire::Str;
use crate::{Error, Result};

/// Reads records. Dropping it ends it in the background.
pub struct Consumer {
    shared: Arc<Shared>,
    /// What `next_record` has still to give of its batch.
    records: apart::Records,
}

impl Consumer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, records: apart::Records::new() }
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
        let start = if self.shared.settings.group.is_some() { Start::Committed } else { Start::Policy };
        for at in partitions {
            let at: TopicPartition = at.into();
            if at.partition() < 0 || at.topic().is_empty() {
                return Err(Error::invalid(format!("{at:?} is no partition")));
            }
            wanted.insert(at, start);
        }
        self.shared.leave_subscription();
        self.shared.assign(wanted);
        Ok(())
    }

    /// Shares these topics with the other members of the group from now on, and no others. The group says which
    /// partitions are this member's; they begin where the group has got to, or where [`reset`](Builder::reset) says if
    /// it has never been there.
    ///
    /// # Errors
    /// [Invalid](Error::is_invalid): no group is named, or a topic has no name. [Closed](Error::is_closed).
    pub fn subscribe<T: AsRef<str>>(&self, topics: impl IntoIterator<Item = T>) -> Result<()> {
        let topics: BTreeSet<Str> = topics.into_iter().map(|topic| Str::from(topic.as_ref())).collect();
        if topics.iter().any(|topic| topic.is_empty()) {
            return Err(Error::invalid("a topic without a name"));
        }
        self.shared.cluster.want(topics.iter().cloned().map(TopicKey::Name));
        self.shared.subscribe(Subscription::Topics(topics))
    }

    /// As [`subscribe`](Self::subscribe), with all topics whose names `matches` picks, those that come later too.
    /// Kafka's own topics are left out.
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe).
    pub fn subscribe_matching(&self, matches: impl Fn(&str) -> bool + Send + Sync + 'static) -> Result<()> {
        self.shared.cluster.want_all();
        self.shared.subscribe(Subscription::Matching(Arc::new(matches)))
    }

    /// As [`subscribe`](Self::subscribe), with all topics whose names match the RE2J expression, as the broker finds
    /// them (KIP-848).
    ///
    /// # Errors
    /// As [`subscribe`](Self::subscribe), and if the group is not of [`GroupProtocol::Consumer`].
    pub fn subscribe_expression(&self, expression: &str) -> Result<()> {
        if self.shared.settings.protocol != GroupProtocol::Consumer {
            return Err(Error::invalid("the classic protocol has no expressions that brokers match"));
        }
        self.shared.subscribe(Subscription::Expression(Str::from(expression)))
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
        let deadline = clock::now() + self.shared.settings.request_timeout;
        self.shared.begin_close(Leave::Default, deadline);
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("lane", &self.shared.lane).finish_non_exhaustive()
    }
}
