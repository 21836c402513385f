//! What was counted: relaxed atomics while it happens, a plain value for whoever asks.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::event::Event;
use super::histogram::{Latencies, Recorder};
use crate::wire::ApiKey;

/// APIs that are counted each by itself. Kafka 4.4's highest is 94.
const APIS: usize = 128;

#[derive(Debug)]
pub(super) struct Counters {
    opened: AtomicU64,
    failed: AtomicU64,
    lost: AtomicU64,
    authenticated: AtomicU64,
    throttles: AtomicU64,
    left_over: AtomicU64,
    retries: AtomicU64,
    metadata: AtomicU64,
    metadata_failed: AtomicU64,
    coordinators: AtomicU64,
    rebootstraps: AtomicU64,
    apis: Box<[OnceLock<Box<Api>>]>,
}

#[derive(Debug, Default)]
struct Api {
    failed: AtomicU64,
    answered: Recorder,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            opened: AtomicU64::default(),
            failed: AtomicU64::default(),
            lost: AtomicU64::default(),
            authenticated: AtomicU64::default(),
            throttles: AtomicU64::default(),
            left_over: AtomicU64::default(),
            retries: AtomicU64::default(),
            metadata: AtomicU64::default(),
            metadata_failed: AtomicU64::default(),
            coordinators: AtomicU64::default(),
            rebootstraps: AtomicU64::default(),
            apis: (0..APIS).map(|_| OnceLock::new()).collect(),
        }
    }
}

impl Counters {
    pub(super) fn count(&self, event: &Event) {
        let counter = match event {
            Event::Connected { .. } => &self.opened,
            Event::ConnectFailed { .. } => &self.failed,
            Event::Authenticated { .. } => &self.authenticated,
            Event::Lost { .. } => &self.lost,
            Event::Throttled { .. } => &self.throttles,
            Event::LeftOver { .. } => &self.left_over,
            Event::Retried { .. } => &self.retries,
            Event::MetadataChanged(_) => &self.metadata,
            Event::MetadataFailed { .. } => &self.metadata_failed,
            Event::CoordinatorChanged { .. } => &self.coordinators,
            Event::Rebootstrapped { .. } => &self.rebootstraps,
            Event::Answered { api, elapsed, .. } => {
                if let Some(api) = self.api(*api) {
                    api.answered.record(*elapsed);
                }
                return;
            }
            Event::Failed { api, .. } => {
                if let Some(api) = self.api(*api) {
                    api.failed.fetch_add(1, Relaxed);
                }
                return;
            }
        };
        counter.fetch_add(1, Relaxed);
    }

    fn api(&self, key: ApiKey) -> Option<&Api> {
        let slot = self.apis.get(usize::try_from(key.0).ok()?)?;
        Some(slot.get_or_init(Box::default))
    }

    pub(super) fn stats(&self) -> Stats {
        let apis = (0..).zip(&self.apis).filter_map(|(key, slot)| {
            let api = slot.get()?;
            let latencies = api.answered.read();
            let failed = api.failed.load(Relaxed);
            Some((ApiKey(key), ApiStats { answered: latencies.count(), failed, latencies }))
        });
        // What has ended is read before what was opened, so that the difference is never negative.
        let connections_lost = self.lost.load(Relaxed);
        let connections_opened = self.opened.load(Relaxed);
        Stats {
            connections_open: connections_opened.saturating_sub(connections_lost),
            connections_opened,
            connections_failed: self.failed.load(Relaxed),
            connections_lost,
            authentications: self.authenticated.load(Relaxed),
            throttles: self.throttles.load(Relaxed),
            left_over: self.left_over.load(Relaxed),
            retries: self.retries.load(Relaxed),
            metadata_refreshes: self.metadata.load(Relaxed),
            metadata_failures: self.metadata_failed.load(Relaxed),
            coordinator_changes: self.coordinators.load(Relaxed),
            rebootstraps: self.rebootstraps.load(Relaxed),
            apis: apis.collect(),
        }
    }
}

/// What a client has counted since it was made. Each number grows, but for `connections_open`.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that are ready now.
    pub connections_open: u64,
    /// Connections that became ready.
    pub connections_opened: u64,
    /// Attempts to connect that failed.
    pub connections_failed: u64,
    /// Connections that were ready and have ended, by whichever side.
    pub connections_lost: u64,
    /// SASL authentications that succeeded, renewals counted.
    pub authentications: u64,
    /// Answers that asked us to be quiet.
    pub throttles: u64,
    /// Answers with bytes after what their version says.
    pub left_over: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Refreshes of metadata that brought some.
    pub metadata_refreshes: u64,
    /// Refreshes of metadata that failed.
    pub metadata_failures: u64,
    /// Coordinators that were found, for the first time or elsewhere.
    pub coordinator_changes: u64,
    /// Times that all was started again from the bootstrap addresses.
    pub rebootstraps: u64,
    /// Each API that was used, in the order of their numbers.
    pub apis: Vec<(ApiKey, ApiStats)>,
}

/// What was counted of one API. Every attempt counts.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct ApiStats {
    /// Requests that were answered, if only by an error code.
    pub answered: u64,
    /// Requests that got no answer.
    pub failed: u64,
    /// From handing a request to its connection to its answer.
    pub latencies: Latencies,
}

impl fmt::Debug for ApiStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered {:?}, failed {}", self.latencies, self.failed)
    }
}
