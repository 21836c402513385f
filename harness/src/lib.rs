//! What tests need around a client of Kafka: real brokers, and faults on the way to them.
//!
//! [`proxy`] stands between a client and a broker and does harm on request. Nothing here knows the library
//! that it tests.

#![forbid(unsafe_code)]

pub mod proxy;
