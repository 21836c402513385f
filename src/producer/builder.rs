//! The settings of a producer, one method each.

use std::sync::Arc;
use std::time::Duration;

use super::config::{Acks, Settings, Transactional};
use super::interceptor::Interceptor;
use super::partitioner::Partitioning;
use super::shared::Shared;
use super::transaction::TransactionalBuilder;
use super::{Producer, keeper};
use crate::Result;
use crate::client::Client;
use crate::cluster::{Backoff, Cluster};
use crate::conn::Pool;
use crate::net::clock::FOREVER;
use crate::net::task::Home;
use crate::records::Compression;
use crate::wire::Str;

/// The settings of a [`Producer`]. All have the defaults of Kafka's Java client.
#[derive(Debug, Clone)]
#[must_use]
pub struct Builder {
    cluster: Cluster<Pool>,
    settings: Settings,
}

impl Client {
    /// A producer on this client's connections: its settings first, then [`build`](Builder::build).
    pub fn producer(&self) -> Builder {
        Builder::new(self.cluster().clone(), self.request_timeout())
    }
}

impl Builder {
    pub(crate) fn new(cluster: Cluster<Pool>, request_timeout: Duration) -> Self {
        Self { cluster, settings: Settings { request_timeout, ..Settings::default() } }
    }

    /// Kafka's `linger.ms`: how long a batch waits for more records before it is sent, unless it is full. With
    /// zero it is sent as soon as there is room in flight. Less than the delivery timeout. 5 ms by default.
    pub fn linger(mut self, time: Duration) -> Self {
        self.settings.linger = time.min(FOREVER);
        self
    }

    /// Kafka's `batch.size`: the bytes that a batch is meant to have at most when it is sent, which with
    /// compression are the compressed ones, as far as they can be foreseen. A record that is larger goes in a
    /// batch of its own. 16 KiB by default; where there are many records, a megabyte is several times
    /// cheaper.
    pub fn batch_size(mut self, bytes: usize) -> Self {
        self.settings.batch_size = bytes;
        self
    }

    /// Kafka's `buffer.memory`: the bytes of memory for records that are not delivered yet. When all is in use
    /// [`enqueue`](Producer::enqueue) waits. It is taken as data comes, not beforehand. Compressing takes up
    /// to twice a batch more for each thread that does so. 32 MiB by default.
    pub fn buffer_memory(mut self, bytes: usize) -> Self {
        self.settings.buffer_memory = bytes;
        self
    }

    /// Kafka's `max.request.size`: the largest record, and the largest request unless a single batch is larger,
    /// in bytes. 1 MiB by default.
    pub fn max_request_size(mut self, bytes: usize) -> Self {
        self.settings.max_request_size = bytes;
        self
    }

    /// Kafka's `delivery.timeout.ms`: after how long a record that was taken and could not be written has failed
    /// (KIP-91). 2 min by default.
    pub fn delivery_timeout(mut self, time: Duration) -> Self {
        self.settings.delivery_timeout = time.min(FOREVER);
        self
    }

    /// Kafka's `request.timeout.ms`, for what a leader waits for its followers. The client's own by default.
    pub fn request_timeout(mut self, time: Duration) -> Self {
        self.settings.request_timeout = time.min(FOREVER);
        self
    }

    /// Kafka's `max.block.ms`: for how long [`enqueue`](Producer::enqueue) waits for room, and for a topic to be
    /// known. 1 min by default.
    pub fn max_block(mut self, time: Duration) -> Self {
        self.settings.max_block = time.min(FOREVER);
        self
    }

    /// Who has to have a record before it counts as written. All by default; anything else needs
    /// [`idempotence`](Self::idempotence) switched off.
    pub fn acks(mut self, acks: Acks) -> Self {
        self.settings.acks = acks;
        self
    }

    /// Kafka's `enable.idempotence` (KIP-98): each record is written once and in order, however often it has to
    /// be sent. On by default.
    pub fn idempotence(mut self, on: bool) -> Self {
        self.settings.idempotent = on;
        self
    }

    /// Kafka's `max.in.flight.requests.per.connection`: requests to one broker that have no answer yet. At most
    /// and by default 5; without idempotence more are allowed, and with more than 1 records may then
    /// change places when a request fails.
    pub fn max_in_flight(mut self, requests: usize) -> Self {
        self.settings.in_flight_max = requests;
        self
    }

    /// How batches are compressed, at the codec's default level. Not at all by default.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.settings.compression = (compression, None);
        self
    }

    /// How batches are compressed, at one of the codec's levels (KIP-390).
    pub fn compression_level(mut self, compression: Compression, level: i32) -> Self {
        self.settings.compression = (compression, Some(level));
        self
    }

    /// How the batches of one topic are compressed, whatever goes for the others.
    pub fn topic_compression(mut self, topic: &str, compression: Compression, level: Option<i32>) -> Self {
        self.settings.topics.insert(Str::from(topic), (compression, level));
        self
    }

    /// Which partition a record goes to if it does not say so.
    pub fn partitioner(mut self, partitioning: impl Into<Partitioning>) -> Self {
        self.settings.partitioning = partitioning.into();
        self
    }

    /// Kafka's `client.rack`: where this producer is, for partitioners that prefer leaders nearby (KIP-1123).
    pub fn rack(mut self, rack: &str) -> Self {
        self.settings.rack = Some(Str::from(rack));
        self
    }

    /// Kafka's `retry.backoff.ms` and `retry.backoff.max.ms`: what is waited before a batch is sent again, at
    /// first and at most (KIP-580). 100 ms and 1 s by default.
    pub fn retry_backoff(mut self, first: Duration, most: Duration) -> Self {
        let (first, most) = (first.min(FOREVER), most.max(first).min(FOREVER));
        self.settings.backoff = Backoff { first, most };
        self
    }

    /// Kafka's `interceptor.classes` (KIP-42): sees each record that is handed over and each batch that is done. May be
    /// set several times; they are called in that order.
    pub fn interceptor(mut self, interceptor: impl Interceptor + 'static) -> Self {
        self.settings.interceptors.push(interceptor);
        self
    }

    /// A producer with these settings. It connects in the background.
    ///
    /// # Errors
    /// [`is_invalid`](crate::Error::is_invalid) for settings that cannot be, and outside of a tokio runtime;
    /// [`is_unsupported`](crate::Error::is_unsupported) for a codec that was not built in.
    pub fn build(self) -> Result<Producer> {
        Ok(Producer::new(self.start()?))
    }

    /// Kafka's `transactional.id`: a producer whose records are written in transactions (KIP-98). The id
    /// stands for what the producer does: of all producers that have it the latest fences the others.
    pub fn transactional_id(mut self, id: &str) -> TransactionalBuilder {
        self.settings.transactional = Some(Transactional::new(id));
        TransactionalBuilder::new(self)
    }

    pub(super) fn transactional(&mut self) -> Option<&mut Transactional> {
        self.settings.transactional.as_mut()
    }

    pub(super) fn start(self) -> Result<Arc<Shared>> {
        let Self { cluster, settings } = self;
        settings.check()?;
        let home = Home::here()?;
        let asks = settings.idempotent && settings.transactional.is_none();
        let seed = cluster.seed();
        let shared = Shared::new(settings, cluster, home.clone(), seed);
        if asks {
            shared.lock().identity.handle_wanted();
        }
        home.detach(keeper::keep(Arc::clone(&shared)));
        Ok(shared)
    }
}
