//! A cluster of real brokers and its builder.
//!
//! `plan` is what was decided, `properties` turns it into what each node is told, `node` runs it. Starting is
//! tried again with other ports, as long as a log tells that somebody took one of ours.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{BuildHasher as _, RandomState};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;

use crate::certs::{Certificates, Identity};
use crate::failure::{Failure, Result, broken};
use crate::jars::{fetch, need};
use crate::kdc::{Kdc, REALM, SERVICE};
use crate::listener::{Listener, Mechanism};
use crate::oidc::{AUDIENCE, Issuer};
use crate::ports;
use crate::process::{Process, lost_its_port, run, tail};
use crate::run_dir::{RunDir, new_dir};
use crate::version::Version;

/// One broker of a cluster.
mod node;
/// What was decided.
mod plan;
/// What a node is told.
mod properties;
/// What secured listeners want.
mod security;

pub use node::Node;
use node::{ATTEMPTS, java, log4j_file};
use plan::{Plan, Ports, Quorum};
use properties::{LOG4J, zookeeper_properties};
use security::{Kerberos, Security, Stores, Tokens};

/// The user that a cluster has if none was asked for.
pub const USER: &str = "weir";

/// The password of [`USER`].
pub const PASSWORD: &str = "weir-secret";

/// At most so many nodes: each takes half a gigabyte.
const NODES_MAX: usize = 9;

/// What a cluster is to be.
#[derive(Debug, Clone)]
pub struct Builder {
    version: String,
    nodes: usize,
    listeners: Vec<Listener>,
    properties: Vec<(String, String)>,
    advertised: BTreeMap<(i32, Listener), SocketAddr>,
    port: Option<u16>,
    dir: Option<PathBuf>,
    security: Security,
}

/// Running brokers. Dropping it kills them and removes their data; so does the end of this process, in
/// whatever way it comes.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    plan: Arc<Plan>,
    /// Outlives the nodes, which use it.
    _zookeeper: Option<Process>,
    run_dir: RunDir,
}

impl Builder {
    /// How many brokers, numbered from 1 (default 1). From 3 on, internal topics have three copies of which two
    /// must be in sync.
    #[must_use]
    pub fn nodes(mut self, count: usize) -> Self {
        self.nodes = count;
        self
    }

    /// One more listener (default: a plain one alone).
    #[must_use]
    pub fn listener(mut self, listener: Listener) -> Self {
        if !self.listeners.contains(&listener) {
            self.listeners.push(listener);
        }
        self
    }

    /// One more line for each `server.properties`, stronger than ours. `{node}` in the value is the node's number.
    #[must_use]
    pub fn property(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.push((key.into(), value.into()));
        self
    }

    /// What clients are told as the address of a node's listener, such as that of a proxy before it. `choose` is
    /// asked for each node and listener asked for so far, so this comes after [`nodes`](Self::nodes) and
    /// [`listener`](Self::listener); `None` leaves the true address.
    #[must_use]
    pub fn advertise(mut self, choose: impl Fn(i32, Listener) -> Option<SocketAddr>) -> Self {
        for listener in self.listeners_or_plain() {
            for id in self.ids() {
                self.advertised.extend(choose(id, listener).map(|address| ((id, listener), address)));
            }
        }
        self
    }

    /// A user for PLAIN and SCRAM (default, without any: [`USER`] with [`PASSWORD`]). Letters, digits and hyphens
    /// only, since the pair goes through several of Java's formats.
    #[must_use]
    pub fn user(mut self, name: impl Into<String>, password: impl Into<String>) -> Self {
        self.security.users.push((name.into(), password.into()));
        self
    }

    /// The certificate that all brokers show (default: [`Identity::Server`], which is in order).
    #[must_use]
    pub fn identity(mut self, whose: Identity) -> Self {
        self.security.identity = whose;
        self
    }

    /// Takes the tokens of this issuer alone at the OAUTHBEARER listeners, checked by Kafka's own validator, which
    /// came with 3.1 (KIP-768). Without an issuer, unsigned tokens of anybody are taken.
    #[must_use]
    pub fn issuer(mut self, issuer: &Issuer) -> Self {
        self.security.tokens = Some(Tokens {
            jwks_url: issuer.jwks_url(false),
            issuer: issuer.name(),
            audience: AUDIENCE.to_owned(),
        });
        self
    }

    /// The KDC for the GSSAPI listeners, which cannot do without.
    #[must_use]
    pub fn kdc(mut self, kdc: &Kdc) -> Self {
        self.security.kerberos = Some(Kerberos {
            config: kdc.config(),
            keytab: kdc.service_keytab(),
            principal: format!("{SERVICE}@{REALM}"),
        });
        self
    }

    /// The port of the first node's first listener, the next port for the next node (default: free ones).
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The folder to run in, which is removed at the end (default: one of its own).
    #[must_use]
    pub fn dir(mut self, dir: PathBuf) -> Self {
        self.dir = Some(dir);
        self
    }

    /// Starts it, and waits until every node knows every node.
    ///
    /// # Errors
    ///
    /// [`Failure::NotHere`] where the machine lacks something, [`Failure::Broken`] for everything else.
    pub fn start(self) -> Result<Cluster> {
        let version: Version = self.version.parse()?;
        if !(1..=NODES_MAX).contains(&self.nodes) {
            return Err(Failure::Broken(format!("{} nodes: 1 to {NODES_MAX} are possible", self.nodes)));
        }
        need("java")?;
        let jars = fetch(&version)?;
        let dir = self.dir.clone().map_or_else(|| new_dir(&version.to_string()), Ok)?;
        let mut attempt = 1;
        loop {
            let run_dir = RunDir::take(dir.clone())?;
            let mut plan = self.plan(&version, &jars, run_dir.path())?;
            prepare(&mut plan)?;
            let started = Cluster::launch(plan, self.port);
            match started {
                Ok((nodes, plan, zookeeper)) => {
                    return Ok(Cluster { nodes, plan, _zookeeper: zookeeper, run_dir });
                }
                Err(failure) => {
                    // With a port that must be, other ports are no way out.
                    let again = self.port.is_none() && lost_its_port(&failure, run_dir.path());
                    if attempt == ATTEMPTS || !again {
                        return Err(failure);
                    }
                    attempt += 1;
                }
            }
        }
    }

    fn listeners_or_plain(&self) -> Vec<Listener> {
        if self.listeners.is_empty() { vec![Listener::plain()] } else { self.listeners.clone() }
    }

    fn ids(&self) -> impl Iterator<Item = i32> + use<> {
        1..=self.nodes as i32
    }

    fn plan(&self, version: &Version, jars: &Path, dir: &Path) -> Result<Plan> {
        let listeners = self.listeners_or_plain();
        let scram = listeners.iter().filter_map(|l| l.mechanism).any(Mechanism::is_scram);
        let kraft = version.has_kraft() && (!scram || version.has_kraft_scram());
        let quorum = if kraft {
            let voters = self.ids().zip(ports::free(self.nodes)?).collect();
            Quorum::Kraft { voters, cluster_id: cluster_id() }
        } else {
            Quorum::ZooKeeper { port: ports::free(1)?.into_iter().next().unwrap_or_default() }
        };
        Ok(Plan {
            version: version.clone(),
            jars: jars.to_owned(),
            dir: dir.to_owned(),
            listeners,
            properties: self.properties.clone(),
            advertised: self.advertised.clone(),
            quorum,
            nodes: self.nodes,
            security: self.security.clone(),
            certificates: None,
            stores: None,
        })
    }
}

/// Writes what all nodes share.
fn prepare(plan: &mut Plan) -> Result<()> {
    let log4j = log4j_file(&plan.dir);
    fs::write(&log4j, LOG4J).map_err(broken(log4j.display()))?;
    if plan.security.users.is_empty() {
        plan.security.users.push((USER.to_owned(), PASSWORD.to_owned()));
    }
    let harmless =
        |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if let Some((name, _)) = plan.security.users.iter().find(|(n, p)| !harmless(n) || !harmless(p)) {
        return Err(Failure::Broken(format!("user {name:?}: letters, digits and hyphens only")));
    }
    if plan.has_sasl(|wanted| wanted == Mechanism::Gssapi) && plan.security.kerberos.is_none() {
        return Err(Failure::Broken("a GSSAPI listener needs a KDC".to_owned()));
    }
    if plan.security.tokens.is_some() && !plan.version.at_least(3, 1) {
        return Err(Failure::Broken(format!("{} cannot check the tokens of an issuer", plan.version)));
    }
    if plan.has_sasl(|_| true) {
        security::write_jaas(plan)?;
    }
    if security::want_certificates(&plan.listeners) {
        let certificates = Certificates::generate(plan.dir.join("certificates"))?;
        plan.stores = Some(Stores::make(plan, &certificates)?);
        plan.certificates = Some(certificates);
    }
    Ok(())
}

/// Sixteen bytes in URL-safe base64, the way Kafka writes them: letters alone are that too, if the last stands
/// for two bits and four zeros.
fn cluster_id() -> String {
    let mut random = RandomState::new().hash_one(0);
    let mut id: String = (0..21)
        .map(|_| {
            let letter = char::from(b'A' + (random % 26) as u8);
            random = random.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            letter
        })
        .collect();
    id.push('A');
    id
}

impl Cluster {
    /// A cluster of this release, as `4.4.0`.
    pub fn builder(version: impl Into<String>) -> Builder {
        Builder {
            version: version.into(),
            nodes: 1,
            listeners: Vec::new(),
            properties: Vec::new(),
            advertised: BTreeMap::new(),
            port: None,
            dir: None,
            security: Security::default(),
        }
    }

    fn launch(plan: Plan, port: Option<u16>) -> Result<(Vec<Node>, Arc<Plan>, Option<Process>)> {
        let plan = Arc::new(plan);
        let mut nodes = Vec::new();
        for (id, offset) in (1..=plan.nodes as i32).zip(0..) {
            let ports = Ports::pick(&plan.listeners, port.map(|port| port.saturating_add(offset)))?;
            nodes.push(Node::new(id, Arc::clone(&plan), ports));
        }
        let mut zookeeper = launch_zookeeper(&plan)?;
        add_scram_users(&plan)?;
        // A format is a Java of its own; they do not disturb each other.
        thread::scope(|scope| {
            let formats: Vec<_> = nodes.iter().map(|node| scope.spawn(|| node.format())).collect();
            formats.into_iter().try_for_each(|format| {
                format.join().unwrap_or_else(|_| Err(Failure::Broken("a format panicked".to_owned())))
            })
        })?;
        let ready = start_all(&nodes);
        if ready.is_err()
            && let Some(process) = &mut zookeeper
            && !process.is_alive()
        {
            let log = tail(&plan.dir, "zookeeper");
            return Err(Failure::Broken(format!("{}: ZooKeeper died\n{log}", plan.version)));
        }
        ready.map(|()| (nodes, plan, zookeeper))
    }

    /// The release.
    pub fn version(&self) -> &Version {
        &self.plan.version
    }

    /// A node by its number, from 1 on.
    ///
    /// # Panics
    ///
    /// If there is no such node.
    #[allow(clippy::panic, reason = "a wrong number is a mistake in the test")]
    pub fn node(&self, id: i32) -> &Node {
        self.nodes.iter().find(|node| node.id() == id).unwrap_or_else(|| panic!("no node {id}"))
    }

    /// All nodes, by their numbers.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Where clients of a listener may begin: what each node advertises now. Empty if there is no such listener.
    pub fn bootstrap(&self, listener: Listener) -> Vec<SocketAddr> {
        self.nodes.iter().filter_map(|node| node.advertised(listener)).collect()
    }

    /// The same as a user writes it, `host:port,host:port`: with the host's name where the mechanism needs one.
    pub fn bootstrap_text(&self, listener: Listener) -> String {
        let all = self.bootstrap(listener);
        let all: Vec<_> =
            all.iter().map(|address| format!("{}:{}", listener.host(), address.port())).collect();
        all.join(",")
    }

    /// The listeners, as they were asked for.
    pub fn listeners(&self) -> &[Listener] {
        &self.plan.listeners
    }

    /// The certificates of the brokers and their clients; `None` if no listener has TLS.
    pub fn certificates(&self) -> Option<&Certificates> {
        self.plan.certificates.as_ref()
    }

    /// The users of PLAIN and SCRAM with their passwords.
    pub fn users(&self) -> &[(String, String)] {
        &self.plan.security.users
    }

    /// The folder with the jars; Java's own clients of that release are among them.
    pub fn jars(&self) -> &Path {
        &self.plan.jars
    }

    /// The folder with logs and data, which goes with the cluster.
    pub fn dir(&self) -> &Path {
        self.run_dir.path()
    }
}

fn launch_zookeeper(plan: &Plan) -> Result<Option<Process>> {
    let Quorum::ZooKeeper { port } = plan.quorum else { return Ok(None) };
    let file = plan.dir.join("zookeeper.properties");
    fs::write(&file, zookeeper_properties(port, &plan.dir.join("zookeeper")))
        .map_err(broken(file.display()))?;
    let mut java = java(plan);
    java.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(file);
    Process::spawn(&plan.dir, "zookeeper", &java).map(Some)
}

/// In `KRaft` they come while formatting; here they go straight into the `ZooKeeper`, before any broker reads it.
fn add_scram_users(plan: &Plan) -> Result<()> {
    let Quorum::ZooKeeper { port } = plan.quorum else { return Ok(()) };
    for (name, config) in security::scram_configs(plan) {
        let mut java = java(plan);
        java.args(["kafka.admin.ConfigCommand", "--zookeeper"]).arg(format!("127.0.0.1:{port}"));
        java.args(["--alter", "--entity-type", "users", "--entity-name", &name, "--add-config", &config]);
        run(&plan.dir, "users", &java)?;
    }
    Ok(())
}

/// All at once, since controllers need each other.
fn start_all(nodes: &[Node]) -> Result<()> {
    nodes.iter().try_for_each(Node::launch)?;
    let ids: Vec<i32> = nodes.iter().map(Node::id).collect();
    nodes.iter().try_for_each(|node| node.wait_until_it_knows(&ids))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_id_is_sixteen_bytes_of_base64() {
        let id = cluster_id();
        assert_eq!(id.len(), 22);
        assert!(id.bytes().all(|b| b.is_ascii_uppercase()) && id.ends_with('A'), "{id}");
        assert_ne!(id, cluster_id());
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_starts() {
        for count in [0, 10] {
            let failure = Cluster::builder("4.4.0").nodes(count).start().unwrap_err();
            assert_eq!(failure, Failure::Broken(format!("{count} nodes: 1 to 9 are possible")));
        }
        let failure = Cluster::builder("latest").start().unwrap_err();
        assert_eq!(failure, Failure::Broken("not a Kafka version: latest".to_owned()));
    }

    #[test]
    fn who_is_asked_about_advertised_addresses() {
        let builder = Cluster::builder("4.4.0").nodes(2).advertise(|id, listener| {
            assert_eq!(listener, Listener::plain());
            (id == 2).then(|| SocketAddr::from(([127, 0, 0, 1], 7000)))
        });
        assert_eq!(builder.advertised.into_keys().collect::<Vec<_>>(), [(2, Listener::plain())]);
    }
}
