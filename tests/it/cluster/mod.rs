//! The client against clusters of real brokers: every release that it speaks to, every way that a request
//! goes, and requests whose items go different ways.
//!
//! [`Record`] listens to a client, so that a test sees which brokers were asked, in which versions, and
//! what they refused. [`Three`] is a cluster of three nodes; only one of them lives at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir::observe::Event;
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::protocol::{Str, Uuid};
use weir::records::{BatchBuilder, NewRecord, Stamp};
use weir::{Client, ErrorCode};
use weir_kafka_harness::{Builder, Cluster, unless_skipped};

/// Requests whose items go to several brokers.
mod items;
/// Every release.
mod matrix;
/// Every API, on the way that the table of routes says.
mod routes;

/// What happened in a client.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Vec<Event>>>);

impl Record {
    /// What is to be called for everything that happens.
    fn listener(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let record = self.clone();
        move |event| record.events().push(event.clone())
    }

    /// What happened since this was last asked.
    fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.events())
    }

    fn events(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Three nodes of which no other test has any. They take a gigabyte and a half, so they come one after the other.
struct Three {
    cluster: Cluster,
    // Freed after the cluster has gone.
    _alone: MutexGuard<'static, ()>,
}

impl Three {
    /// `None` is a skip, already printed.
    fn start(version: &str, more: impl FnOnce(Builder) -> Builder) -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let started = more(Cluster::builder(version).nodes(3)).start();
        let cluster = unless_skipped(&format!("three nodes of {version}"), started)?;
        Some(Self { cluster, _alone: alone })
    }
}

/// Runs a test's future; what a cluster needs blocks, and is done outside.
fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

/// `host:port` with commas between.
fn list(addresses: &[std::net::SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

/// Creates a topic, and gives its id if the brokers have such.
async fn create_topic(kafka: &Client, name: &str, partitions: i32, copies: i16) -> Uuid {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: copies,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer = kafka.request(request).await.unwrap();
    assert_eq!(answer.topics.len(), 1);
    assert_eq!(ErrorCode(answer.topics[0].error_code), ErrorCode::NONE, "{name}");
    answer.topics[0].topic_id
}

/// A batch of records with keys and values from these.
fn batch(values: &[Str]) -> bytes::Bytes {
    let mut batch = BatchBuilder::new();
    for value in values {
        let key = format!("key of {}", value.as_str());
        batch.append(&NewRecord::new(1_700_000_000_000).key(&key).value(value.as_str())).unwrap();
    }
    batch.seal(&Stamp::default(), None).unwrap()
}

/// Waits a little for what nobody tells of.
async fn a_little() {
    tokio::time::sleep(Duration::from_millis(100)).await;
}
