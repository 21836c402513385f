//! One node: a broker of a cluster, which can be hurt and mended.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::plan::{Plan, Ports, Quorum};
use super::properties::server_properties;
use super::security;
use crate::failure::{Failure, Result, broken};
use crate::listener::Listener;
use crate::process::{Process, log_has, lost_its_port, run, tail, wait_a_little};
use crate::{ports, ready};

/// How long a broker may take until it answers.
const READY: Duration = Duration::from_mins(2);

/// How long a broker that was told to end may take before it is killed.
const GRACE: Duration = Duration::from_mins(1);

/// How often a start is tried with other ports, if somebody took ours.
pub(crate) const ATTEMPTS: usize = 3;

/// A broker of a cluster. Its methods block, and may be called from any thread.
#[derive(Debug)]
pub struct Node {
    id: i32,
    plan: Arc<Plan>,
    /// Its own folder in the cluster's: properties, and the data that outlives a restart.
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    ports: Ports,
    process: Option<Process>,
}

impl Node {
    pub(crate) fn new(id: i32, plan: Arc<Plan>, ports: Ports) -> Self {
        let dir = plan.dir.join(format!("node-{id}"));
        Self { id, plan, dir, state: Mutex::new(State { ports, process: None }) }
    }

    /// The number that the cluster knows it by: 1 for the first.
    pub fn id(&self) -> i32 {
        self.id
    }

    /// The number of its process; `None` when it does not run.
    pub fn pid(&self) -> Option<u32> {
        self.state().process.as_mut().and_then(|process| process.is_alive().then(|| process.pid()))
    }

    /// Where a listener truly listens, past any proxy. `None` if the cluster has no such listener.
    pub fn address(&self, listener: Listener) -> Option<SocketAddr> {
        let port = self.state().ports.listeners.get(&listener).copied()?;
        Some(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
    }

    /// What clients of a listener are told. `None` if the cluster has no such listener.
    pub fn advertised(&self, listener: Listener) -> Option<SocketAddr> {
        let state = self.state();
        state
            .ports
            .listeners
            .contains_key(&listener)
            .then(|| self.plan.advertised(self.id, listener, &state.ports))
    }

    /// Ends it at once, as by `kill -9`. Its data stays.
    pub fn kill(&self) {
        self.state().process = None;
    }

    /// Ends it in order: it hands its partitions over first. After a minute it is killed.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent.
    pub fn terminate(&self) -> Result<()> {
        let mut state = self.state();
        if let Some(process) = &mut state.process {
            // A stopped process would not hear it.
            process.signal(Signal::CONT)?;
            process.signal(Signal::TERM)?;
            process.ends_within(GRACE);
        }
        state.process = None;
        Ok(())
    }

    /// Stops it where it stands: its sockets stay open and say nothing.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent.
    pub fn pause(&self) -> Result<()> {
        self.state().process.as_mut().map_or(Ok(()), |process| process.signal(Signal::STOP))
    }

    /// Lets a paused one go on.
    ///
    /// # Errors
    ///
    /// If the signal cannot be sent.
    pub fn resume(&self) -> Result<()> {
        self.state().process.as_mut().map_or(Ok(()), |process| process.signal(Signal::CONT))
    }

    /// Starts it with the same ports and the same data, and waits until it answers. Nothing happens if it runs.
    ///
    /// # Errors
    ///
    /// If it does not answer within two minutes; a node of three needs another to be alive.
    pub fn start(&self) -> Result<()> {
        self.launch()?;
        self.wait_until_ready()
    }

    /// Kills it and starts it again, with the same ports and the same data.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart(&self) -> Result<()> {
        self.kill();
        self.start()
    }

    /// Kills it and starts it again with the same number and the same data, but at new ports, as a broker that
    /// moved to another machine. Addresses that were advertised by the test's wish stay as they are.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn restart_elsewhere(&self) -> Result<()> {
        let mut attempt = 1;
        loop {
            let told = self.state().ports.told.clone();
            self.move_elsewhere(told)?;
            match self.start() {
                Err(failure) if attempt < ATTEMPTS && lost_its_port(&failure, &self.plan.dir) => attempt += 1,
                done => return done,
            }
        }
    }

    /// Kills it, and gives it new ports and the addresses that clients of its listeners are told from now on;
    /// where none is given, what the builder said. [`launch`](Self::launch) starts it there, so that several that
    /// need each other can move together.
    ///
    /// # Errors
    ///
    /// If there are no free ports.
    pub fn move_elsewhere(&self, told: impl IntoIterator<Item = (Listener, SocketAddr)>) -> Result<()> {
        self.kill();
        let ports = Ports::pick(&self.plan.listeners, None)?;
        self.state().ports = Ports { told: told.into_iter().collect(), ..ports };
        Ok(())
    }

    /// Starts it without waiting, for several that need each other.
    ///
    /// # Errors
    ///
    /// If the process cannot be started.
    pub fn launch(&self) -> Result<()> {
        let mut state = self.state();
        if state.process.as_mut().is_some_and(Process::is_alive) {
            return Ok(());
        }
        state.process = None;
        for port in state.ports.all() {
            ports::must_be_free(port)?;
        }
        self.write_properties(&state.ports)?;
        let mut java = java(&self.plan);
        java.arg("kafka.Kafka").arg(self.properties_file());
        state.process = Some(Process::spawn(&self.plan.dir, &self.log_name(), &java)?);
        Ok(())
    }

    /// Waits until it answers and counts itself among the living.
    ///
    /// # Errors
    ///
    /// If it dies, or does not answer within two minutes.
    pub fn wait_until_ready(&self) -> Result<()> {
        self.wait_until_it_knows(&[self.id])
    }

    pub(crate) fn wait_until_it_knows(&self, ids: &[i32]) -> Result<()> {
        let deadline = Instant::now() + READY;
        loop {
            let internal = self.state().ports.internal;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, internal));
            let last = match ready::known_brokers(address) {
                Ok(known) if ids.iter().all(|id| known.contains(id)) => {
                    if self.listens_everywhere() {
                        return Ok(());
                    }
                    "not all of its listeners are there".to_owned()
                }
                Ok(known) => format!("it knows only {known:?}"),
                Err(error) => error.to_string(),
            };
            let mut alive = self.state().process.as_mut().is_some_and(Process::is_alive);
            if !alive && self.was_too_early() {
                self.launch()?;
                alive = true;
            }
            if !alive || Instant::now() > deadline {
                let how = if alive { "is not ready" } else { "died" };
                let log = self.log_tail();
                let (id, version) = (self.id, &self.plan.version);
                return Err(Failure::Broken(format!("{version}: node {id} {how}: {last}\n{log}")));
            }
            wait_a_little();
        }
    }

    /// The listeners open one after the other, and the one that is asked may be the first.
    fn listens_everywhere(&self) -> bool {
        let ports = self.state().ports.clone();
        ports.all().all(|port| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())
    }

    /// With a `ZooKeeper`, old releases end at once if their killed predecessor still counts as alive.
    fn was_too_early(&self) -> bool {
        matches!(self.plan.quorum, Quorum::ZooKeeper { .. })
            && log_has(&self.plan.dir, &self.log_name(), &["NodeExists", "is already registered"])
    }

    /// Prepares its folder for the first start.
    pub(crate) fn format(&self) -> Result<()> {
        fs::create_dir_all(self.data()).map_err(broken(self.dir.display()))?;
        self.write_properties(&self.state().ports)?;
        let Quorum::Kraft { cluster_id, .. } = &self.plan.quorum else { return Ok(()) };
        let mut java = java(&self.plan);
        java.args(["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c"]).arg(self.properties_file());
        java.args(security::scram_arguments(&self.plan));
        run(&self.plan.dir, &format!("format-{}", self.id), &java)
    }

    /// All that it has logged, over all its starts.
    pub fn log(&self) -> String {
        let log = fs::read(self.plan.dir.join(format!("{}.log", self.log_name())));
        String::from_utf8_lossy(&log.unwrap_or_default()).into_owned()
    }

    /// The lines of its log that tell of trouble, and the last ones.
    pub fn log_tail(&self) -> String {
        tail(&self.plan.dir, &self.log_name())
    }

    /// Its `server.properties`.
    pub fn properties_file(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    fn write_properties(&self, ports: &Ports) -> Result<()> {
        let file = self.properties_file();
        fs::write(&file, server_properties(&self.plan, self.id, ports, &self.data()))
            .map_err(broken(file.display()))
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn log_name(&self) -> String {
        format!("node-{}", self.id)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked in here left a state that is as good as before.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ports {
    fn all(&self) -> impl Iterator<Item = u16> {
        self.listeners.values().copied().chain([self.internal])
    }

    /// Free ports for a node. With `fixed`, its first listener gets that one.
    pub(crate) fn pick(listeners: &[Listener], fixed: Option<u16>) -> Result<Self> {
        let mut free = ports::free(listeners.len() + 1)?.into_iter();
        let internal = free.next().unwrap_or_default();
        let mut listeners: BTreeMap<_, _> = listeners.iter().copied().zip(free).collect();
        if let (Some(port), Some(first)) = (fixed, listeners.values_mut().next()) {
            *first = port;
        }
        Ok(Self { internal, listeners, told: BTreeMap::new() })
    }
}

/// Java with the jars and everything that the releases want from it.
pub(crate) fn java(plan: &Plan) -> Command {
    let mut java = Command::new("java");
    match std::env::var("WEIR_KAFKA_JVM") {
        Ok(flags) => java.args(flags.split_whitespace()),
        Err(_) => java.args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]),
    };
    for package in ["java.nio", "sun.nio.ch", "java.lang", "java.util"] {
        java.arg(format!("--add-opens=java.base/{package}=ALL-UNNAMED"));
    }
    java.arg("-Dzookeeper.jmx.log4j.disable=true")
        .arg(format!("-Dlog4j.configuration=file:{}", log4j_file(&plan.dir).display()))
        .arg("-Dorg.slf4j.simpleLogger.showDateTime=true")
        .args(security::java_flags(plan))
        .arg("-cp")
        .arg(plan.jars.join("*"));
    java
}

pub(crate) fn log4j_file(dir: &Path) -> PathBuf {
    dir.join("log4j.properties")
}
