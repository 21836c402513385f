//! What can be set about connections. All of it has the defaults of ARCHITECTURE.md's limits.

use std::sync::Arc;
use std::time::Duration;

use super::sasl::Mechanism;
use super::versions::Pins;
use crate::wire::Str;

/// Settings of all connections of one client.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Shown in the broker's logs, metrics and quotas.
    pub(crate) client_id: Option<Str>,
    /// Who we are, by SASL; nobody if there is none.
    pub(crate) sasl: Option<Arc<dyn Mechanism>>,
    /// Whether a mechanism that shows secrets to listeners may be used without TLS.
    pub(crate) sasl_in_the_clear: bool,
    /// Versions to which APIs are held.
    pub(crate) pins: Pins,
    /// How long a broker may take to answer, unless a request says otherwise.
    pub(crate) request_timeout: Duration,
    /// How long a connection may take to become ready the first time (KIP-601)...
    pub(crate) setup_timeout: Duration,
    /// ...and at most after some failures, each of which doubles it.
    pub(crate) setup_timeout_max: Duration,
    /// What is waited before connecting again after a failure; doubles with each...
    pub(crate) backoff: Duration,
    /// ...up to this. Both are changed by up to a fifth at random.
    pub(crate) backoff_max: Duration,
    /// A connection without requests is closed after this.
    pub(crate) idle_max: Duration,
    /// Requests of one connection that wait for their answers at once; more wait here.
    pub(crate) in_flight_max: usize,
    /// Requests of one connection that wait here at once, in number...
    pub(crate) parked_max: usize,
    /// ...and in bytes; more are refused.
    pub(crate) parked_bytes_max: usize,
    /// Largest answer, in bytes, before the broker has accepted who we are.
    pub(crate) early_frame_max: usize,
    /// Largest answer, in bytes.
    pub(crate) frame_max: usize,
    /// A broker that asks us to be quiet is obeyed for at most this long (KIP-219).
    pub(crate) throttle_max: Duration,
    /// Whether each connection checks that it reached the right broker of the right cluster (KIP-1242).
    pub(crate) check_identity: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_id: Some(Str::from("weir")),
            sasl: None,
            sasl_in_the_clear: false,
            pins: Pins::default(),
            request_timeout: Duration::from_secs(30),
            setup_timeout: Duration::from_secs(10),
            setup_timeout_max: Duration::from_secs(30),
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(1),
            idle_max: Duration::from_mins(9),
            in_flight_max: 1000,
            parked_max: 100_000,
            parked_bytes_max: 64 << 20,
            early_frame_max: 64 << 10,
            frame_max: 100 << 20,
            throttle_max: Duration::from_mins(5),
            check_identity: true,
        }
    }
}
