//! A TCP proxy that does harm: it stands between a client and a broker, carries their bytes, and breaks what
//! its rules say, when they say it.
//!
//! A test starts a [`Proxy`], points the client at [`Proxy::address`], and adds [`Rule`]s: late bytes, few
//! bytes, no bytes, changed bytes, cuts at a byte, in a frame or after the n-th response of an API. Rules are
//! data (`rule.rs`) and can come from a JSON [`Script`]. [`Log`] is what happened.
//!
//! Bytes flow: socket (`driver.rs`) -> `machine` (frames, rules, queue of one direction) -> socket. The
//! machine is pure; chance comes from a seed. Nothing is buffered beyond 1 MiB a direction, so a slow reader
//! slows the writer down as it would without a proxy. Encrypted traffic has no frames: for it there are the
//! faults of links and of bytes.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

/// Sockets and tasks.
mod driver;
mod log;
/// Decisions.
mod machine;
mod rule;
/// The machine by itself; its folder may not read a clock, not even in tests.
#[cfg(test)]
mod tests;

pub use log::{Event, EventKind, Log};
pub use rule::{At, BadRule, Direction, End, Fault, Point, Rule, Script, Way};

use driver::Shared;

/// How long the port may take to open or close; it takes well under a millisecond.
const DOOR_TIME: Duration = Duration::from_secs(1);

/// A rule of one proxy, to remove it by and to find it in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

/// A proxy that listens on a free port of the loopback, on a thread of its own.
///
/// No method waits for more than the proxy's own thread, except where it says so; all can be called from async code.
/// Dropping the proxy ends it at once and closes its port and every connection through it.
///
/// ```
/// use weir_kafka_harness::proxy::{Fault, Proxy, Rule};
///
/// let broker = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let proxy = Proxy::start(broker.local_addr()?)?;
/// let slow = proxy.add(Rule::new(Fault::Delay { ms: 20, jitter_ms: 5 }).responses())?;
/// // ... the client connects to proxy.address() ...
/// proxy.remove(slow);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Listens, and carries connections to `upstream`. Chance is drawn from seed 0 until
    /// [`Proxy::set_seed`].
    pub fn start(upstream: SocketAddr) -> io::Result<Self> {
        Self::start_with(Some(upstream))
    }

    /// Listens before there is a broker: its address is to be known to the broker, which tells it to clients.
    /// Until [`Proxy::set_upstream`], clients are reset.
    pub fn start_unconnected() -> io::Result<Self> {
        Self::start_with(None)
    }

    fn start_with(upstream: Option<SocketAddr>) -> io::Result<Self> {
        let shared = Arc::new(Shared::new(0, upstream));
        let (stop, stopped) = oneshot::channel();
        let (started, address) = mpsc::channel();
        let thread = {
            let shared = shared.clone();
            let run = move || driver::run(&shared, stopped, &started);
            std::thread::Builder::new().name("fault-proxy".to_owned()).spawn(run)?
        };
        let address = address.recv().map_err(io::Error::other)??;
        Ok(Self { address, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where connections go that are opened from now on. Open ones stay where they are:
    /// [`Proxy::cut_links`] ends them.
    pub fn set_upstream(&self, upstream: SocketAddr) {
        self.shared.with(|state| state.upstream = Some(upstream));
    }

    /// What chance and jitter of later occasions are drawn from.
    pub fn set_seed(&self, seed: u64) {
        self.shared.with(|state| state.rules.set_seed(seed));
    }

    /// Adds a rule, which is in force when this returns (unless it starts later). Rules are asked in the
    /// order in which they were added.
    pub fn add(&self, rule: Rule) -> Result<RuleId, BadRule> {
        let added = self.shared.with(|state| state.rules.add(rule, Instant::now()));
        self.settle_door();
        added
    }

    /// Takes the seed and adds the rules of a script; none of them if one is bad.
    pub fn run(&self, script: &Script) -> Result<Vec<RuleId>, BadRule> {
        let added = self.shared.with(|state| {
            state.rules.set_seed(script.seed);
            state.rules.add_all(&script.rules, Instant::now())
        });
        self.settle_door();
        added
    }

    /// Ends a rule: what it held goes on. False if it ended already.
    pub fn remove(&self, rule: RuleId) -> bool {
        let removed = self.shared.with(|state| state.rules.remove(rule));
        self.settle_door();
        removed
    }

    /// Ends all rules.
    pub fn clear(&self) {
        self.shared.with(|state| state.rules.clear());
        self.settle_door();
    }

    /// Ends every link that is open now.
    pub fn cut_links(&self, end: End) {
        self.shared.with(|state| state.rules.cut_open(end));
    }

    /// What happened so far.
    pub fn log(&self) -> Log {
        self.shared.with(|state| state.rules.log.clone())
    }

    /// Blocks until the log is as wanted, at most so long: whether it is. `wanted` must not call the
    /// proxy. For tests without a runtime; in
    /// async ones it would stop the client under test, use [`Proxy::reached`] there.
    pub fn wait(&self, time: Duration, mut wanted: impl FnMut(&Log) -> bool) -> bool {
        self.shared.wait(time, |state| wanted(&state.rules.log))
    }

    /// Resolves once the log is as wanted; put a timeout around it. `wanted` must not
    /// call the proxy. Works on any runtime, cancel safe.
    pub async fn reached(&self, mut wanted: impl FnMut(&Log) -> bool) {
        let mut changed = self.shared.log_changed.subscribe();
        while !self.shared.with(|state| wanted(&state.rules.log)) {
            // The sender lives as long as we do.
            drop(changed.changed().await);
        }
    }
}

impl Proxy {
    /// The port is opened and closed by the proxy's thread; a test must find it as its rules say.
    fn settle_door(&self) {
        self.shared.wait(DOOR_TIME, |state| state.listens != state.rules.refuses());
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Proxies before the nodes of a cluster, one a node, in the order of the nodes.
///
/// They listen first, so that each node can be started with its proxy's address as the one that it
/// advertises; then [`Proxies::set_upstreams`] connects them.
#[derive(Debug)]
pub struct Proxies(Vec<Proxy>);

impl Proxies {
    /// Proxies for so many nodes, which are not connected yet.
    pub fn for_nodes(nodes: usize) -> io::Result<Self> {
        (0..nodes).map(|_| Proxy::start_unconnected()).collect::<io::Result<_>>().map(Self)
    }

    /// Where clients connect to.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(Proxy::address).collect()
    }

    /// The addresses as Kafka's `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<String> = self.0.iter().map(|proxy| proxy.address.to_string()).collect();
        addresses.join(",")
    }

    /// Where each node listens. Proxies beyond the list keep what they had.
    pub fn set_upstreams(&self, nodes: impl IntoIterator<Item = SocketAddr>) {
        self.0.iter().zip(nodes).for_each(|(proxy, node)| proxy.set_upstream(node));
    }

    /// The proxy before a node, the first being 0.
    pub fn get(&self, node: usize) -> Option<&Proxy> {
        self.0.get(node)
    }

    /// Every proxy.
    pub fn iter(&self) -> std::slice::Iter<'_, Proxy> {
        self.0.iter()
    }

    /// Adds the rule to every proxy. Each counts its own occasions.
    pub fn add(&self, rule: &Rule) -> Result<Vec<RuleId>, BadRule> {
        self.0.iter().map(|proxy| proxy.add(rule.clone())).collect()
    }

    /// Ends all rules of all proxies.
    pub fn clear(&self) {
        self.0.iter().for_each(Proxy::clear);
    }
}

impl<'a> IntoIterator for &'a Proxies {
    type Item = &'a Proxy;
    type IntoIter = std::slice::Iter<'a, Proxy>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}
