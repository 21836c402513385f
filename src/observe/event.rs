//! What happened, as values; and how `tracing` hears of it.

use std::sync::Arc;
use std::time::Duration;

use crate::Error;
use crate::wire::ApiKey;

/// What a connection is used for. A broker answers the requests of one connection in their order, so
/// kinds that wait long have connections of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Use {
    /// Metadata, coordinators, and all that has no connection of its own.
    General,
    /// Produce requests.
    Produce,
    /// Fetches, which wait at the broker for data.
    Fetch,
    /// Group membership, where joining waits for other members.
    Group,
    /// What changes the cluster or what it holds: the broker waits for the controller, or for other brokers.
    Admin,
}

/// What a coordinator coordinates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Lookup {
    /// Consumer groups and other groups.
    Group,
    /// Transactions.
    Transaction,
    /// The state of share groups.
    Share,
}

/// What a refresh of metadata brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refreshed {
    /// Brokers that are known now.
    pub brokers: usize,
    /// Topics that are known now.
    pub topics: usize,
    /// Entries that could not be right and were left out.
    pub rejected: usize,
}

/// Something that happened in a client.
///
/// `broker` is how people name it: its id where it is known, and its address.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A connection is ready: reached, made safe, authenticated, its versions known.
    Connected {
        /// To whom.
        broker: Arc<str>,
        /// For what.
        kind: Use,
        /// From the start of the attempt.
        elapsed: Duration,
    },
    /// A connection could not be made.
    ConnectFailed {
        /// To whom.
        broker: Arc<str>,
        /// For what.
        kind: Use,
        /// Why not.
        why: Error,
    },
    /// The broker accepted who we are.
    Authenticated {
        /// Who did.
        broker: Arc<str>,
        /// By which SASL mechanism.
        mechanism: Arc<str>,
        /// Whether it renewed an authentication that was about to end (KIP-368).
        again: bool,
        /// How long that took.
        elapsed: Duration,
    },
    /// A connection that was ready has ended, by whichever side.
    Lost {
        /// To whom.
        broker: Arc<str>,
        /// For what.
        kind: Use,
        /// Why: closed by us when idle, by the peer, by the network, for a time that was over.
        why: Error,
    },
    /// A request was answered, if only by an error code.
    Answered {
        /// By whom.
        broker: Arc<str>,
        /// What was asked.
        api: ApiKey,
        /// In which version.
        version: i16,
        /// From handing it to the connection to its answer.
        elapsed: Duration,
    },
    /// A request got no answer.
    Failed {
        /// From whom.
        broker: Arc<str>,
        /// What was asked.
        api: ApiKey,
        /// In which version.
        version: i16,
        /// Why.
        why: Error,
    },
    /// An answer had bytes after what its version says. What was understood counts.
    LeftOver {
        /// Whose.
        broker: Arc<str>,
        /// To what.
        api: ApiKey,
        /// In which version.
        version: i16,
        /// How many.
        bytes: usize,
    },
    /// The broker asked us to be quiet for a while (KIP-219).
    Throttled {
        /// Who did.
        broker: Arc<str>,
        /// In the answer to what.
        api: ApiKey,
        /// For how long, after our limit.
        time: Duration,
    },
    /// A request is sent again, to the same broker or another.
    Retried {
        /// What is asked.
        api: ApiKey,
        /// How many attempts there were.
        attempt: u32,
        /// What is waited before.
        backoff: Duration,
        /// What went wrong.
        why: Error,
    },
    /// There is newer metadata.
    MetadataChanged(Refreshed),
    /// Metadata could not be had; the last that was stays.
    MetadataFailed {
        /// Why.
        why: Error,
    },
    /// A coordinator was found, for the first time or elsewhere.
    CoordinatorChanged {
        /// Of what.
        lookup: Lookup,
        /// Of which group or transactional id.
        key: Arc<str>,
        /// The broker's id.
        node: i32,
    },
    /// All known brokers were forgotten, and the bootstrap addresses are asked again (KIP-899, KIP-1102).
    Rebootstrapped {
        /// Why.
        why: &'static str,
    },
}

impl Event {
    pub(super) fn trace(&self) {
        match self {
            Self::Connected { broker, kind, elapsed } => {
                tracing::debug!(%broker, ?kind, ?elapsed, "connected");
            }
            Self::ConnectFailed { broker, kind, why } => {
                tracing::warn!(%broker, ?kind, %why, "could not connect");
            }
            Self::Authenticated { broker, mechanism, again, elapsed } => {
                tracing::debug!(%broker, %mechanism, again, ?elapsed, "authenticated");
            }
            Self::Lost { broker, kind, why } => tracing::info!(%broker, ?kind, %why, "connection ended"),
            Self::Answered { broker, api, version, elapsed } => {
                tracing::trace!(%broker, %api, version, ?elapsed, "answered");
            }
            Self::Failed { broker, api, version, why } => {
                tracing::debug!(%broker, %api, version, %why, "no answer");
            }
            Self::LeftOver { broker, api, version, bytes } => {
                tracing::debug!(%broker, %api, version, bytes, "bytes left over");
            }
            Self::Throttled { broker, api, time } => tracing::info!(%broker, %api, ?time, "throttled"),
            Self::Retried { api, attempt, backoff, why } => {
                tracing::debug!(%api, attempt, ?backoff, %why, "retrying");
            }
            Self::MetadataChanged(Refreshed { brokers, topics, rejected }) => {
                tracing::debug!(brokers, topics, rejected, "metadata");
            }
            Self::MetadataFailed { why } => tracing::warn!(%why, "no metadata"),
            Self::CoordinatorChanged { lookup, key, node } => {
                tracing::debug!(?lookup, %key, node, "coordinator");
            }
            Self::Rebootstrapped { why } => {
                tracing::warn!(why, "starting again from the bootstrap addresses");
            }
        }
    }
}
