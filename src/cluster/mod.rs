//! The cluster behind the connections: who is there, who leads what, who coordinates whom; and how a
//! request gets to whoever answers it.
//!
//! [`metadata`] and [`coordinators`] are machines that know where things are and decide when to ask
//! again. [`route`] says for each API who answers it, [`split`] takes requests apart by that and puts
//! answers together, [`retry`] judges errors. [`driver`] runs them over connections, and decides nothing.
//! Time and chance come from outside everywhere but there.

mod backoff;
mod brokers;
mod call;
mod config;
pub(crate) mod coordinators;
mod driver;
pub(crate) mod metadata;
pub(crate) mod retry;
pub(crate) mod route;
pub(crate) mod split;

pub(crate) use backoff::Backoff;
pub(crate) use call::Options;
#[cfg(feature = "protocol")]
pub(crate) use call::Part;
pub(crate) use config::Config;
pub(crate) use driver::Cluster;
pub(crate) use split::Routed;

#[cfg(test)]
mod tests;
