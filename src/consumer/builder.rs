//! The settings of a consumer, one method each.

use std::time::Duration;

use super::config::{Isolation, Reset, Settings};
use super::shared::Shared;
use super::{Consumer, keeper};
use crate::Result;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::conn::Pool;
use crate::net::clock::FOREVER;
use crate::net::task::Home;
use crate::wire::Str;

/// The settings of a [`Consumer`]. All have the defaults of Kafka's Java client, but for
/// [`memory`](Self::memory), which that does not bound.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    cluster: Cluster<Pool>,
    settings: Settings,
}

impl Client {
    /// A consumer on this client's cluster: its settings first, then [`build`](Builder::build).
    pub fn consumer(&self) -> Builder {
        let settings = Settings { request_timeout: self.request_timeout(), ..Settings::default() };
        Builder { cluster: self.cluster().clone(), settings }
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

    /// The consumer, which has nothing to read yet.
    ///
    /// # Errors
    /// [Invalid](crate::Error::is_invalid): settings that contradict each other, or no tokio runtime.
    pub fn build(self) -> Result<Consumer> {
        self.settings.check()?;
        let home = Home::here()?;
        let seed = self.cluster.seed();
        let shared = Shared::new(self.settings, self.cluster, home.clone(), seed);
        home.detach(keeper::keep(std::sync::Arc::clone(&shared)));
        Ok(Consumer::new(shared))
    }
}
