//! The settings of a client, and how one is made of them.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::{Client, Inner};
use crate::cluster::{self, Cluster};
use crate::conn::sasl::Mechanism;
use crate::conn::{self, Pool};
use crate::net::clock::FOREVER;
use crate::net::{self, Address, Dialer, task};
use crate::observe::{Event, Hub};
use crate::wire::{ApiKey, Str};
use crate::{Error, Result};

/// The settings of a [`Client`]. All have defaults that suit a service in the same region as its brokers.
#[must_use]
pub struct Builder {
    bootstrap: String,
    net: net::Config,
    conn: conn::Config,
    cluster: cluster::Config,
    listener: Option<Listener>,
    close_timeout: Duration,
}

type Listener = Box<dyn Fn(&Event) + Send + Sync>;

impl Builder {
    pub(super) fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap.to_owned(),
            net: net::Config::new(),
            conn: conn::Config::default(),
            cluster: cluster::Config::default(),
            listener: None,
            close_timeout: Duration::from_secs(30),
        }
    }

    /// How brokers are reached: TLS, proxies, names, a transport of your own.
    pub fn net(mut self, config: net::Config) -> Self {
        self.net = config;
        self
    }

    /// TLS on every connection, whatever else is set about the network.
    #[cfg(feature = "rustls")]
    pub fn tls(mut self, tls: net::tls::Tls) -> Self {
        self.net = self.net.tls(tls);
        self
    }

    /// Who we are, proved to every broker by SASL. A mechanism that would show a secret without TLS is
    /// refused there, unless [`allow_sasl_without_tls`](Self::allow_sasl_without_tls) says otherwise.
    pub fn sasl(mut self, mechanism: impl Mechanism) -> Self {
        self.conn.sasl = Some(Arc::new(mechanism));
        self
    }

    /// Lets passwords and tokens cross the network where whoever listens can read them.
    pub fn allow_sasl_without_tls(mut self) -> Self {
        self.conn.sasl_in_the_clear = true;
        self
    }

    /// Kafka's `client.id`: shown in the brokers' logs, metrics and quotas. `weir` by default.
    pub fn client_id(mut self, id: &str) -> Self {
        self.conn.client_id = Some(Str::from(id));
        self
    }

    /// Kafka's `request.timeout.ms`: how long a broker may take to answer once it was asked. A
    /// connection on which it takes longer is closed. 30 s by default.
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.conn.request_timeout = time.min(FOREVER);
        self
    }

    /// How long a call may take in all, with its retries: Kafka's `default.api.timeout.ms`. 60 s by default.
    pub fn api_timeout(mut self, time: Duration) -> Self {
        self.cluster.api_timeout = time.min(FOREVER);
        self
    }

    /// How long a connection may take to become ready, with TLS and SASL, at the first attempt and
    /// after several failures (KIP-601). 10 s and 30 s by default.
    pub fn setup_timeout(mut self, first: Duration, most: Duration) -> Self {
        let (first, most) = (first.min(FOREVER), most.max(first).min(FOREVER));
        (self.conn.setup_timeout, self.conn.setup_timeout_max) = (first, most);
        self
    }

    /// What is waited before something is tried again, at first and at most; it doubles with each
    /// failure and varies by a fifth (KIP-580). 100 ms and 1 s by default.
    pub fn backoff(mut self, first: Duration, most: Duration) -> Self {
        let (first, most) = (first.min(FOREVER), most.max(first).min(FOREVER));
        (self.conn.backoff, self.conn.backoff_max) = (first, most);
        self.cluster.set_backoff(first, most);
        self
    }

    /// Kafka's `connections.max.idle.ms`: when a connection without requests is closed. 9 min by default.
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.conn.idle_max = time.min(FOREVER);
        self
    }

    /// Kafka's `metadata.max.age.ms`: when metadata is asked for again though nothing seems to have
    /// changed. 5 min by default.
    pub fn metadata_max_age(mut self, time: Duration) -> Self {
        self.cluster.set_metadata_max_age(time.min(FOREVER));
        self
    }

    /// Whether asking about a topic may create it, if the brokers are set to do that. Not by default.
    pub fn create_topics_when_asked(mut self, create: bool) -> Self {
        self.cluster.set_auto_create(create);
        self
    }

    /// The largest answer that is taken, in bytes. 100 MiB by default. Before the broker has accepted
    /// who we are the limit is 64 KiB.
    pub fn response_max(mut self, bytes: usize) -> Self {
        self.conn.frame_max = bytes;
        self
    }

    /// Holds an API to these versions, whatever more both sides could. Unstable versions are used only
    /// where this names them. Where nothing is left that a broker has too, requests fail with
    /// [`is_unsupported`](Error::is_unsupported).
    pub fn api_versions(mut self, api: ApiKey, versions: RangeInclusive<i16>) -> Self {
        self.conn.pins.set(api, versions);
        self
    }

    /// Whether connections check that they reached the broker and the cluster that were meant, where
    /// brokers can tell (KIP-1242). They do by default.
    pub fn check_identity(mut self, check: bool) -> Self {
        self.conn.check_identity = check;
        self
    }

    /// Calls this for everything that happens. No lock is held; it should be quick, and may call the client.
    /// A panic of it is caught, and said to `tracing`.
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// How long [`Client::close`] waits for requests under way. 30 s by default.
    pub fn close_timeout(mut self, time: Duration) -> Self {
        self.close_timeout = time.min(FOREVER);
        self
    }

    /// A client that has reached its cluster. Safe to drop: nothing of it is left then.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid) for a setting that cannot be; else why no broker answers, after
    /// the time for a call (`api_timeout`), or at once where trying again is of no use.
    pub async fn connect(self) -> Result<Client> {
        let client = self.build().await?;
        client.0.cluster.connect().await?;
        Ok(client)
    }

    /// A client that connects when it is first used. Certificates and keys are read now.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid) for a setting that cannot be, and outside of a tokio runtime, which
    /// must have time and I/O switched on.
    pub async fn build(self) -> Result<Client> {
        task::check_runtime()?;
        for (name, time) in
            [("request_timeout", self.conn.request_timeout), ("setup_timeout", self.conn.setup_timeout)]
        {
            if time.is_zero() {
                return Err(Error::invalid(format!("{name} is zero: nothing could ever be done in it")));
            }
        }
        self.conn.pins.check()?;
        let bootstrap = Address::list(&self.bootstrap)?;
        let dialer = Dialer::new(self.net).await?;
        let hub = Hub::new(self.listener);
        let request_timeout = self.conn.request_timeout;
        let pool = Pool::new(self.conn, dialer, hub.clone(), bootstrap, seed()?);
        let cluster = Cluster::new(pool.clone(), self.cluster, hub.clone(), seed()?);
        Ok(Client(Arc::new(Inner { cluster, pool, hub, request_timeout, close_timeout: self.close_timeout })))
    }
}

/// What jitter is drawn from.
fn seed() -> Result<u64> {
    getrandom::u64().map_err(|e| Error::internal(format!("the system gives no random numbers: {e}")))
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bootstrap, net, conn, cluster, close_timeout, listener } = self;
        f.debug_struct("Builder")
            .field("bootstrap", bootstrap)
            .field("net", net)
            .field("conn", conn)
            .field("cluster", cluster)
            .field("close_timeout", close_timeout)
            .field("on_event", &listener.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn times_beyond_all_clocks_are_taken() {
        let forever = Duration::MAX;
        let net = net::Config::new().resolve_timeout(forever).address_head_start(forever);
        let builder = Builder::new("localhost:1")
            .net(net)
            .request_timeout(forever)
            .api_timeout(forever)
            .setup_timeout(forever, forever)
            .backoff(Duration::from_millis(1), forever)
            .idle_timeout(forever)
            .metadata_max_age(forever)
            .close_timeout(forever);
        let client = builder.build().await.unwrap();
        let reach = client.0.cluster.connect();
        // It waits, for it may have for ever.
        assert!(tokio::time::timeout(Duration::from_millis(300), reach).await.is_err());
        assert!(client.stats().connections_failed > 0, "and it was tried");
        client.close().await;
    }

    #[tokio::test]
    async fn settings_that_cannot_be_are_refused() {
        let plain = || Client::builder("localhost:9092");
        for builder in [
            plain().request_timeout(Duration::ZERO),
            plain().setup_timeout(Duration::ZERO, Duration::ZERO),
            plain().api_versions(ApiKey::METADATA, 90..=91),
            Client::builder("localhost"),
        ] {
            assert!(builder.build().await.unwrap_err().is_invalid());
        }
        plain().build().await.unwrap();
    }

    #[test]
    fn without_a_runtime_there_is_an_error_and_no_panic() {
        let build = std::pin::pin!(Client::builder("localhost:9092").build());
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(outcome) = build.poll(&mut cx) else { panic!("it does not wait") };
        assert!(outcome.unwrap_err().is_invalid());
    }
}
