//! The settings of a consumer, one method each.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::assignors::Assignor;
use super::config::{GroupProtocol, Isolation, Reset, Settings};
use super::group;
use super::shared::Shared;
use super::{Consumer, keeper};
use crate::client::Client;
use crate::cluster::Cluster;
use crate::conn::Pool;
use crate::net::clock::FOREVER;
use crate::net::task::Home;
use crate::wire::Str;
use crate::{Error, Result};

/// The settings of a [`Consumer`]. All have the defaults of Kafka's Java client, but for
/// [`memory`](Self::memory), which that does not bound.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    cluster: Cluster<Pool>,
    settings: Settings,
    topics: BTreeSet<Str>,
}

impl Client {
    /// A consumer on this client's cluster: its settings first, then [`build`](Builder::build).
    pub fn consumer(&self) -> Builder {
        let settings = Settings { request_timeout: self.request_timeout(), ..Settings::default() };
        Builder { cluster: self.cluster().clone(), settings, topics: BTreeSet::new() }
    }
}

impl Builder {
    /// Kafka's `isolation.level`. [`Isolation::ReadUncommitted`] by default.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.settings.isolation = isolation;
        self
    }

    /// Kafka's `auto.offset.reset`. [`Reset::Latest`] by default.
    pub fn reset(mut self, reset: Reset) -> Self {
        self.settings.reset = reset;
        self
    }

    /// Kafka's `check.crcs`: whether checksums are checked. On by default.
    pub fn check_crcs(mut self, on: bool) -> Self {
        self.settings.check_crcs = on;
        self
    }

    /// Kafka's `client.rack`: where this consumer is, so that it reads from followers nearby (KIP-392).
    pub fn rack(mut self, rack: &str) -> Self {
        self.settings.rack = Some(Str::from(rack));
        self
    }

    /// The bytes of fetched records that may wait for the application, with what requests in flight may bring and
    /// what batches in its hands were decompressed to. When all is in use nothing is fetched. 64 MiB by default.
    pub fn memory(mut self, bytes: usize) -> Self {
        self.settings.memory = bytes;
        self
    }

    /// Kafka's `fetch.max.bytes`: what a broker may send at once; also no more than a quarter of the
    /// [`memory`](Self::memory). A single batch of the log may be larger. 50 MiB by default.
    pub fn fetch_max_bytes(mut self, bytes: usize) -> Self {
        self.settings.fetch_max = bytes;
        self
    }

    /// Kafka's `max.partition.fetch.bytes`: what a broker may send of one partition at once. A single batch of the log
    /// may be larger. 1 MiB by default.
    pub fn max_partition_fetch_bytes(mut self, bytes: usize) -> Self {
        self.settings.partition_max = bytes;
        self
    }

    /// Kafka's `fetch.min.bytes`: brokers wait until there is so much. 1 by default.
    pub fn fetch_min_bytes(mut self, bytes: usize) -> Self {
        self.settings.min_bytes = bytes;
        self
    }

    /// Kafka's `fetch.max.wait.ms`: for how long brokers wait for data. Half a second by default.
    pub fn fetch_max_wait(mut self, time: Duration) -> Self {
        self.settings.max_wait = time.min(FOREVER);
        self
    }

    /// About how many bytes of records a [`Batch`](super::Batch) has at most, decompressed: it may be up to one
    /// batch of the log more. 1 MiB by default.
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.settings.batch_size = bytes;
        self
    }

    /// Kafka's `group.id`: the group whose offsets are kept, and which shares the partitions of what is
    /// [subscribed](Self::topics) to. None by default.
    pub fn group(mut self, name: &str) -> Self {
        self.group_settings().group = Str::from(name);
        self
    }

    /// Kafka's `group.instance.id` (KIP-345): a member of that name that comes back within its session finds its
    /// partitions as they were. None by default.
    pub fn group_instance(mut self, name: &str) -> Self {
        self.group_settings().instance = Some(Str::from(name));
        self
    }

    /// Kafka's `group.protocol`. [`GroupProtocol::Classic`] by default.
    pub fn group_protocol(mut self, protocol: GroupProtocol) -> Self {
        self.settings.protocol = protocol;
        self
    }

    /// Kafka's `partition.assignment.strategy`, for the classic protocol: the assignors that this member can use, the
    /// one that it prefers first. [`Range`](super::assignors::Range) and
    /// [`CooperativeSticky`](super::assignors::CooperativeSticky) by default.
    pub fn assignors(mut self, assignors: impl IntoIterator<Item = Arc<dyn Assignor>>) -> Self {
        self.settings.assignors = assignors.into_iter().collect();
        self
    }

    /// Kafka's `group.remote.assignor`, for [`GroupProtocol::Consumer`]: the broker's assignor, by its name. The
    /// broker's choice by default.
    pub fn remote_assignor(mut self, name: &str) -> Self {
        self.group_settings().remote_assignor = Some(Str::from(name));
        self
    }

    /// Kafka's `session.timeout.ms`, for the classic protocol: how long a member may be silent. 45 s by default.
    pub fn session_timeout(mut self, time: Duration) -> Self {
        self.group_settings().session_timeout = time.min(FOREVER);
        self
    }

    /// Kafka's `heartbeat.interval.ms`, for the classic protocol. 3 s by default.
    pub fn heartbeat_interval(mut self, time: Duration) -> Self {
        self.group_settings().heartbeat_interval = time.min(FOREVER);
        self
    }

    /// Kafka's `max.poll.interval.ms`: for how long the application may not come back to the consumer before its
    /// partitions are given to others; also how long it may take to hand over partitions that are revoked. 5 min by
    /// default.
    pub fn max_poll_interval(mut self, time: Duration) -> Self {
        self.group_settings().max_poll_interval = time.min(FOREVER);
        self
    }

    /// Kafka's `enable.auto.commit` and `auto.commit.interval.ms`: how often the consumer commits by itself what the
    /// application has come back from; it also does when partitions are revoked, and when it is closed. `None`
    /// leaves it to the application. Every 5 s by default.
    pub fn auto_commit(mut self, every: Option<Duration>) -> Self {
        self.settings.auto_commit = every.map(|every| every.min(FOREVER));
        self
    }

    /// Subscribes to these topics as soon as it is built, as [`Consumer::subscribe`] does.
    pub fn topics<T: AsRef<str>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.topics = topics.into_iter().map(|topic| Str::from(topic.as_ref())).collect();
        self
    }

    fn group_settings(&mut self) -> &mut group::Settings {
        let backoff = self.settings.backoff;
        self.settings.group.get_or_insert_with(|| group::Settings {
            group: Str::new(),
            instance: None,
            rack: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_mins(5),
            remote_assignor: None,
            backoff,
        })
    }

    /// The consumer. Without [`topics`](Self::topics) it has nothing to read yet.
    ///
    /// # Errors
    /// [Invalid](crate::Error::is_invalid): settings that contradict each other, topics without a group, or no tokio
    /// runtime.
    pub fn build(mut self) -> Result<Consumer> {
        if let Some(group) = &mut self.settings.group {
            group.rack.clone_from(&self.settings.rack);
        }
        self.settings.check()?;
        if self.settings.group.is_none() && !self.topics.is_empty() {
            return Err(Error::invalid("topics are subscribed to as a member of a group, and none is named"));
        }
        let home = Home::here()?;
        let seed = self.cluster.seed();
        let shared = Shared::new(self.settings, self.cluster, seed);
        home.detach(keeper::keep(Arc::clone(&shared)));
        let consumer = Consumer::new(shared);
        if !self.topics.is_empty() {
            consumer.subscribe(&self.topics)?;
        }
        Ok(consumer)
    }
}
