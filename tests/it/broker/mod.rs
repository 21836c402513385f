//! Real Kafka brokers for tests.
//!
//! [`shared`] starts one broker of a version, at most once in this process, and hands it to every test
//! that asks. The crate `weir-kafka-harness` does the work; when this process ends, in whatever way, the
//! broker and its data go with it.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use weir_kafka_harness::{Cluster, Failure, Listener, unless_skipped};

/// The harness itself: brokers that answer, end with their owner, and leave nothing.
mod harness;
/// Kafka's own producer and consumer, as helpers and as the first to meet a broker.
pub(crate) mod java;
/// What weir writes and reads, with Java on the other side.
mod roundtrip;

/// The versions that every broker test runs against: the newest, and the last that speaks the old ones.
pub(crate) const VERSIONS: [&str; 2] = ["4.4.0", "3.9.2"];

/// A running broker.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) version: String,
    pub(crate) bootstrap: SocketAddr,
    cluster: Cluster,
}

/// The broker of this version that all tests share. `None` is a skip, already printed.
///
/// Fails the test when the broker could have started and did not.
pub(crate) fn shared(version: &str) -> Option<&'static Broker> {
    static ALL: Mutex<BTreeMap<String, &'static OnceLock<Result<Broker, Failure>>>> =
        Mutex::new(BTreeMap::new());
    let slot = *ALL
        .lock()
        .expect("nothing in this lock panics")
        .entry(version.to_owned())
        .or_insert_with(|| Box::leak(Box::default()));
    let started = slot.get_or_init(|| Broker::start(version, &[]));
    unless_skipped(&format!("broker {version}"), started.as_ref().map_err(Failure::clone))
}

impl Broker {
    /// Starts a broker of its own, with lines for its `server.properties` as `key=value`.
    fn start(version: &str, properties: &[&str]) -> Result<Self, Failure> {
        let lines = properties.iter().filter_map(|line| line.split_once('='));
        let builder = Cluster::builder(version);
        let cluster = lines.fold(builder, |builder, (key, value)| builder.property(key, value)).start()?;
        let bootstrap = cluster.bootstrap(Listener::plain())[0];
        Ok(Self { version: version.to_owned(), bootstrap, cluster })
    }

    /// A connection that gives up rather than hang the tests.
    pub(crate) fn connect(&self) -> TcpStream {
        let patience = Duration::from_secs(30);
        let stream = TcpStream::connect_timeout(&self.bootstrap, patience).expect("the broker listens");
        stream.set_read_timeout(Some(patience)).expect("a timeout above zero");
        stream.set_write_timeout(Some(patience)).expect("a timeout above zero");
        stream
    }

    /// The folder with the jars that it runs from; Java's own clients of that version are among them.
    pub(crate) fn jars(&self) -> PathBuf {
        self.cluster.jars().to_owned()
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
