//! The client: settings, connections and the cluster's state in one handle, shared by all that is
//! built on it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::Result;
use crate::cluster::Cluster;
use crate::conn::{Pool, Target, Versions};
use crate::net::{Address, clock};
use crate::observe::{Hub, Stats, Use};

mod builder;
/// Requests as they are.
#[cfg(feature = "protocol")]
mod call;

pub use builder::Builder;
#[cfg(feature = "protocol")]
pub use call::{Call, ClientRequest, Part};

/// A Kafka cluster, as one client sees it.
///
/// It keeps the connections, what is known of brokers, topics and coordinators, and the counters.
/// Clones are the same client: producers, consumers and administration share its connections. When
/// the last clone is dropped, all connections are closed without waiting; [`close`](Self::close) waits.
///
/// ```no_run
/// # async fn run() -> weir::Result<()> {
/// let kafka = weir::Client::connect("localhost:9092").await?;
/// for broker in kafka.brokers() {
///     println!("{} at {}", broker.id, broker.address);
/// }
/// kafka.close().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    request_timeout: std::time::Duration,
    cluster: Cluster<Pool>,
    pool: Pool,
    hub: Hub,
    close_timeout: Duration,
}

/// A broker of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broker {
    /// Its id.
    pub id: i32,
    /// Where it says that it is reached.
    pub address: Address,
    /// The rack that it says it is in.
    pub rack: Option<String>,
}

impl Client {
    /// Connects to the cluster of these brokers, `host:port` with commas between, over plain TCP and
    /// with the default settings. [`builder`](Self::builder) has the rest. What may pass is tried again for
    /// a minute; events and `tracing` tell of each attempt.
    ///
    /// # Errors
    /// [`is_invalid`](crate::Error::is_invalid) if that is no list of addresses; else why no broker of it answers.
    pub async fn connect(bootstrap: &str) -> Result<Self> {
        Self::builder(bootstrap).connect().await
    }

    /// A client with settings of its own.
    pub fn builder(bootstrap: &str) -> Builder {
        Builder::new(bootstrap)
    }

    /// The brokers that are known now, by their ids.
    pub fn brokers(&self) -> Vec<Broker> {
        let snapshot = self.0.cluster.snapshot();
        let brokers = snapshot.brokers().map(|broker| Broker {
            id: broker.id,
            address: broker.address.clone(),
            rack: broker.rack.as_ref().map(ToString::to_string),
        });
        brokers.collect()
    }

    /// The cluster's id, once a broker has told it (from Kafka 0.10.1 on).
    pub fn cluster_id(&self) -> Option<String> {
        self.0.cluster.snapshot().cluster_id().map(ToString::to_string)
    }

    /// What a broker can do: versions of its APIs, features of the cluster. Connects if there is no
    /// connection yet. Safe to drop.
    ///
    /// # Errors
    /// Why it cannot be reached, or that there is no such broker.
    pub async fn versions(&self, broker: i32) -> Result<Arc<Versions>> {
        if self.0.cluster.snapshot().brokers().len() == 0 {
            self.0.cluster.connect().await?;
        }
        let connection = self.0.pool.connection(Target::Broker(broker), Use::General).await?;
        connection.versions().cloned()
    }

    pub(crate) fn cluster(&self) -> &Cluster<Pool> {
        &self.0.cluster
    }

    /// How long a broker may take to answer.
    pub(crate) fn request_timeout(&self) -> std::time::Duration {
        self.0.request_timeout
    }

    /// What was counted since the client was made: connections, requests with their latencies, retries.
    pub fn stats(&self) -> Stats {
        self.0.hub.stats()
    }

    /// Takes no more requests, waits until those under way are done, and closes all connections; what
    /// takes longer than the setting `close_timeout`, 30 s by default, is broken off. Another clone's
    /// calls fail with [`is_closed`](crate::Error::is_closed) from now on.
    ///
    /// Safe to drop: the client is closed to new requests at once, and the rest ends with its last clone.
    /// May be called again.
    pub async fn close(&self) {
        self.0.cluster.close();
        self.0.pool.close(clock::now() + self.0.close_timeout).await;
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("pool", &self.0.pool).finish_non_exhaustive()
    }
}
