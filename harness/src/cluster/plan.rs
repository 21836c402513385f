//! What a cluster is to be: everything that is decided before the first process starts.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::security::{Security, Stores};
use crate::certs::Certificates;
use crate::listener::{Listener, Mechanism};
use crate::version::Version;

/// The listener that the brokers use among themselves: never behind a proxy, never with TLS, and there whatever
/// else was asked for. The harness asks here whether a broker is ready.
pub(crate) const INTERNAL: &str = "INTERNAL";

/// The plan of a cluster.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) version: Version,
    pub(crate) jars: PathBuf,
    /// The folder of the cluster.
    pub(crate) dir: PathBuf,
    pub(crate) listeners: Vec<Listener>,
    /// Lines for `server.properties`, after ours and so stronger.
    pub(crate) properties: Vec<(String, String)>,
    /// What clients are told instead of the true address.
    pub(crate) advertised: BTreeMap<(i32, Listener), SocketAddr>,
    pub(crate) quorum: Quorum,
    /// How many nodes the cluster begins with; replication factors follow from it.
    pub(crate) nodes: usize,
    pub(crate) security: Security,
    /// Made once the folder is there, if a listener has TLS.
    pub(crate) certificates: Option<Certificates>,
    pub(crate) stores: Option<Stores>,
}

/// Who keeps the cluster's state.
#[derive(Debug)]
pub(crate) enum Quorum {
    /// Every node is a controller too: number and controller port of each, and the cluster's id.
    Kraft { voters: Vec<(i32, u16)>, cluster_id: String },
    /// One `ZooKeeper` of the release's own at this port.
    ZooKeeper { port: u16 },
}

/// The ports of one node. They stay the same over a restart, unless it is told to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) internal: u16,
    pub(crate) listeners: BTreeMap<Listener, u16>,
    /// What clients are told since it moved, stronger than the plan.
    pub(crate) told: BTreeMap<Listener, SocketAddr>,
}

impl Plan {
    pub(crate) fn has_sasl(&self, which: impl Fn(Mechanism) -> bool) -> bool {
        self.listeners.iter().filter_map(|listener| listener.mechanism).any(which)
    }

    /// The address that clients of a listener are told.
    pub(crate) fn advertised(&self, id: i32, listener: Listener, ports: &Ports) -> SocketAddr {
        let own =
            || SocketAddr::from((Ipv4Addr::LOCALHOST, ports.listeners.get(&listener).copied().unwrap_or(0)));
        let wished = ports.told.get(&listener).or_else(|| self.advertised.get(&(id, listener)));
        wished.copied().unwrap_or_else(own)
    }
}
