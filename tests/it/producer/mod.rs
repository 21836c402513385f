//! The producer on real brokers, and Kafka's own consumer as the one who says what has arrived.
//!
//! `basics` sends every kind of record to every kind of broker, `limits` what is too large or too much, `life`
//! begins and ends producers in every way, `rows` are the rows of the catalogue of faults that a broker and a
//! proxy can show, `chaos` is a cluster of three under all faults at once.
//!
//! Here is what they share: topics, brokers behind a proxy, and reading back.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use weir::protocol::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use weir::protocol::metadata::{MetadataRequest, MetadataRequestTopic};
use weir::{Ack, Client, Delivery, ErrorCode, Result};
use weir_kafka_harness::proxy::{Proxies, Proxy};
use weir_kafka_harness::{Cluster, Failure, Listener, fetch, unless_skipped};

use crate::broker::VERSIONS;
use crate::broker::java::{JavaRecord, consume_from};

/// Every kind of record, every codec, every age of broker.
mod basics;
/// All faults at once.
mod chaos;
/// Beginnings and ends.
mod life;
/// What is too large, or too much.
mod limits;
/// Rows of the catalogue of faults.
mod rows;
/// The program that Kafka's own system tests would call.
mod verifiable;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const PLAIN: Listener = Listener::plain();
/// How long anything may take that comes to an end by itself.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// Kafka's number of the Produce API.
const PRODUCE: i16 = 0;

/// Runs a test's future; what a cluster needs blocks, and is done outside.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(test)
}

pub(crate) async fn connect(bootstrap: impl ToString) -> Client {
    Client::connect(&bootstrap.to_string()).await.expect("the broker is there")
}

/// Creates a topic with one copy of each partition, and waits until each has a leader.
pub(crate) async fn create_topic(kafka: &Client, name: &str, partitions: i32, configs: &[(&str, &str)]) {
    create(kafka, name, partitions, 1, configs).await;
}

pub(crate) async fn create(
    kafka: &Client,
    name: &str,
    partitions: i32,
    copies: i16,
    configs: &[(&str, &str)],
) {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
        ..Default::default()
    };
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: copies,
        configs: configs.iter().map(config).collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let answer = kafka.request(request).await.unwrap();
    let code = ErrorCode(answer.topics[0].error_code);
    assert!(code.is_none(), "{name}: {code}");
    let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    let led = async {
        loop {
            let found = kafka.request(request.clone()).await.unwrap().topics.remove(0);
            let led = |all: usize| all == partitions as usize;
            if led(found.partitions.iter().filter(|one| one.error_code == 0).count()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, led).await.expect("the partitions have leaders soon");
}

/// Every record of a topic as Java sees it. The jars are those of a version that speaks to all brokers.
async fn read_back(bootstrap: impl ToString, topic: &str) -> Vec<JavaRecord> {
    let (bootstrap, topic) = (bootstrap.to_string(), topic.to_owned());
    let read = move || consume_from(&reader_jars(), &bootstrap, &topic, &[]);
    tokio::task::spawn_blocking(read).await.unwrap()
}

/// 3.9 is the last whose clients speak to brokers older than 2.1.
fn reader_jars() -> PathBuf {
    fetch(&VERSIONS[1].parse().unwrap()).expect("a broker runs from such jars")
}

/// The values of some records, which are text.
fn values(records: &[JavaRecord]) -> Vec<String> {
    let text = |record: &JavaRecord| record.value.clone().map(|value| String::from_utf8(value).unwrap());
    records.iter().map(|record| text(record).expect("a value")).collect()
}

/// Waits for each acknowledgement, in order; none may take long.
async fn resolve(acks: Vec<Ack>) -> Vec<Result<Delivery>> {
    let mut all = Vec::with_capacity(acks.len());
    for ack in acks {
        all.push(tokio::time::timeout(LONG, ack).await.expect("an ack always comes to its end"));
    }
    all
}

/// One broker behind a proxy.
struct Shared {
    /// It runs as long as this is here.
    _cluster: Cluster,
    proxies: Proxies,
}

/// It, for one test at a time.
pub(crate) struct Proxied {
    shared: &'static Shared,
    _alone: MutexGuard<'static, ()>,
}

/// `None` is a skip, already printed. No rule is in force.
pub(crate) fn proxied() -> Option<Proxied> {
    static ALONE: Mutex<()> = Mutex::new(());
    static SHARED: LazyLock<Result<Shared, Failure>> = LazyLock::new(|| {
        let proxies = Proxies::for_nodes(1).unwrap();
        let told = proxies.addresses()[0];
        let builder = Cluster::builder(VERSIONS[0]).advertise(move |_, _| Some(told));
        let cluster = builder.start()?;
        proxies.set_upstreams(cluster.node(1).address(PLAIN));
        Ok(Shared { _cluster: cluster, proxies })
    });
    let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let shared = unless_skipped("a broker behind a proxy", SHARED.as_ref().map_err(Failure::clone))?;
    shared.proxies.clear();
    Some(Proxied { shared, _alone: alone })
}

impl Proxied {
    /// The proxy, which is also what clients are told.
    pub(crate) fn proxy(&self) -> &'static Proxy {
        self.shared.proxies.get(0).unwrap()
    }

    pub(crate) fn at(&self) -> SocketAddr {
        self.proxy().address()
    }

    /// A client that does not wait long for a broker that is silent.
    pub(crate) async fn hasty(&self) -> Client {
        let builder = Client::builder(&self.at().to_string()).request_timeout(2 * SECOND);
        builder.setup_timeout(2 * SECOND, 4 * SECOND).connect().await.expect("the broker is there")
    }
}
