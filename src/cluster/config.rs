//! What can be set about the cluster. The defaults are Java's.

use std::time::Duration;

use super::backoff::Backoff;
use super::metadata::machine;

/// Settings of the cluster.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// How long a call may take in all, with its retries (`default.api.timeout.ms`).
    pub(crate) api_timeout: Duration,
    /// How long a broker may take to answer for metadata or a coordinator, connecting included, before
    /// another one is asked.
    pub(crate) lookup_timeout: Duration,
    pub(crate) metadata: machine::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_timeout: Duration::from_mins(1),
            lookup_timeout: Duration::from_secs(10),
            metadata: machine::Config::default(),
        }
    }
}

impl Config {
    /// What is waited before something is tried again, at first and at most.
    pub(crate) fn set_backoff(&mut self, first: Duration, most: Duration) {
        self.metadata.backoff = Backoff { first, most };
    }

    /// How old metadata may be before it is asked for without a reason.
    pub(crate) fn set_metadata_max_age(&mut self, time: Duration) {
        self.metadata.max_age = time;
    }

    /// Whether asking for a topic may create it.
    pub(crate) fn set_auto_create(&mut self, create: bool) {
        self.metadata.auto_create_topics = create;
    }
}
