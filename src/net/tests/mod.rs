//! Connections made over loopback and over pipes, to servers and proxies of the tests.

mod dialing;
mod proxies;
