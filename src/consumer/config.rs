//! What can be set about a consumer. The defaults are Java's, but for the memory, which Java does not bound.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::assignors::{Assignor, CooperativeSticky, Range};
use super::group::Settings as GroupSettings;
use crate::cluster::Backoff;
use crate::wire::Str;
use crate::{Error, Result};

/// Which records are given: Kafka's `isolation.level`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Isolation {
    /// All, those of transactions that are open or were aborted among them.
    #[default]
    ReadUncommitted,
    /// Those of transactions only once they are committed, and nothing behind a transaction that is open.
    ReadCommitted,
}

impl Isolation {
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// Where to begin in a partition for which there is no position, or whose position is not in the log any more:
/// Kafka's `auto.offset.reset`. Never applied because a request has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Reset {
    /// At the first record that is there.
    Earliest,
    /// Behind the last one.
    #[default]
    Latest,
    /// At the first record that is not older than this: `by_duration` (KIP-1106).
    Since(Duration),
    /// Nowhere: it is an error, and the application decides.
    None,
}

/// See [`Builder`](super::Builder).
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) isolation: Isolation,
    pub(crate) reset: Reset,
    pub(crate) check_crcs: bool,
    pub(crate) rack: Option<Str>,
    pub(crate) memory: usize,
    pub(crate) fetch_max: usize,
    pub(crate) partition_max: usize,
    pub(crate) min_bytes: usize,
    pub(crate) max_wait: Duration,
    pub(crate) batch_size: usize,
    pub(crate) request_timeout: Duration,
    pub(crate) backoff: Backoff,
    pub(crate) max_age: Duration,
    pub(crate) group: Option<GroupSettings>,
    pub(crate) assignors: Vec<Arc<dyn Assignor>>,
    pub(crate) protocol: GroupProtocol,
    /// None if only the application commits.
    pub(crate) auto_commit: Option<Duration>,
}

/// By which protocol a group assigns partitions: Kafka's `group.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GroupProtocol {
    /// The members assign them among themselves: all brokers know it.
    #[default]
    Classic,
    /// The broker assigns them (KIP-848). Where it cannot, the classic protocol is taken.
    Consumer,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            isolation: Isolation::default(),
            reset: Reset::default(),
            check_crcs: true,
            rack: None,
            memory: 64 << 20,
            fetch_max: 50 << 20,
            partition_max: 1 << 20,
            min_bytes: 1,
            max_wait: Duration::from_millis(500),
            batch_size: 1 << 20,
            request_timeout: Duration::from_secs(30),
            backoff: Backoff::default(),
            max_age: Duration::from_mins(5),
            group: None,
            assignors: vec![Arc::new(Range), Arc::new(CooperativeSticky)],
            protocol: GroupProtocol::default(),
            auto_commit: Some(Duration::from_secs(5)),
        }
    }
}

impl Settings {
    /// Says what does not go together.
    pub(crate) fn check(&self) -> Result<()> {
        let sizes = [
            ("the memory", self.memory),
            ("the largest fetch", self.fetch_max),
            ("the bytes of a partition in a fetch", self.partition_max),
            ("the bytes of a batch", self.batch_size),
        ];
        for (what, size) in sizes {
            if size == 0 {
                return Err(Error::invalid(format!("{what} must not be 0")));
            }
        }
        if self.partition_max > self.memory {
            return Err(Error::invalid("what a partition may have in a fetch is more than the memory"));
        }
        if self.group.as_ref().is_some_and(|group| group.group.is_empty()) {
            return Err(Error::invalid("a group without a name"));
        }
        if self.assignors.is_empty() {
            return Err(Error::invalid("a group needs an assignor"));
        }
        if self.group.as_ref().is_some_and(|group| group.heartbeat_interval >= group.session_timeout) {
            return Err(Error::invalid("heartbeats are no more frequent than sessions are long"));
        }
        if self.max_wait >= self.request_timeout {
            return Err(Error::invalid("brokers may wait for data as long as a request may take"));
        }
        Ok(())
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let assignors: Vec<&str> = self.assignors.iter().map(|assignor| assignor.name()).collect();
        f.debug_struct("Settings")
            .field("group", &self.group)
            .field("assignors", &assignors)
            .field("protocol", &self.protocol)
            .field("isolation", &self.isolation)
            .field("reset", &self.reset)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}
