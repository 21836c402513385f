//! Connections to brokers: what is in flight on each, and how each is made safe.

/// Who we are, proved to a broker.
pub mod sasl;
