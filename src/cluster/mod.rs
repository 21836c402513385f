//! The cluster behind the connections: who is there, who leads what, who coordinates whom; and how a
//! request gets to whoever answers it.
//!
//! [`metadata`] and [`coordinators`] are machines that know where things are and decide when to ask
//! again. [`route`] says for each API who answers it, [`split`] takes requests apart by that and puts
//! answers together, [`retry`] judges errors. [`driver`] runs them over connections, and decides nothing.
//! Time and chance come from outside everywhere but there.

mod backoff;
pub(crate) mod coordinators;
pub(crate) mod metadata;
pub(crate) mod retry;
pub(crate) mod route;
pub(crate) mod split;

/// Where a request goes, as the connections know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    /// The broker with that id, at the address that metadata gave.
    Broker(i32),
    /// The address at that place in the bootstrap list.
    Bootstrap(usize),
}
