//! Connections to brokers: what is in flight on each, and how each is made safe.
//!
//! The way of a request: a `Connection`, which the pool gives, encodes it
//! and hands it to the connection's machine; the driver moves what the machine has to the socket, and
//! frames from the socket to the machine; the answer goes back to the one who asked. What is said
//! before a connection is ready is in `handshake`, by which mechanism in [`sasl`].

mod config;
mod connection;
mod dice;
mod driver;
mod handshake;
mod machine;
mod outbox;
mod parked;
mod pool;
mod reconnect;
pub mod sasl;
mod throttle;
mod time;
mod versions;

pub(crate) use config::Config;
pub(crate) use connection::{Connection, Patience};
pub(crate) use dice::Dice;
#[cfg(test)]
pub(crate) use dice::seeds;
pub(crate) use pool::{Lane, Pool, Target};
pub use versions::Versions;

#[cfg(test)]
pub(crate) mod script;
#[cfg(test)]
mod tests;
