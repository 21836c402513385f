//! What the cluster needs of connections: the pool in the client, a scripted one in tests.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Instant;

use super::split::Routed;
use crate::conn::{Connection, Lane, Patience, Pool, Target};
use crate::net::Address;
use crate::wire::{ApiKey, Str};
use crate::{ErrorCode, Result};

/// All brokers, by connections to them.
pub(crate) trait Brokers: Clone + Send + Sync + 'static {
    type Link: Link;

    /// A connection that is ready.
    fn connection(&self, to: Target, lane: Lane) -> impl Future<Output = Result<Self::Link>> + Send;

    /// How much a broker has to do; none if there is no connection to it.
    fn load(&self, to: Target) -> Option<usize>;

    /// How many bootstrap addresses there are.
    fn bootstrap_len(&self) -> usize;

    /// Where a broker is, for people.
    fn address(&self, to: Target) -> Option<String>;

    /// Where brokers are from now on. Must not wait, and must not call the cluster.
    fn set_brokers(&self, brokers: BTreeMap<i32, Address>, cluster: Option<Str>);
}

/// A connection to a broker.
pub(crate) trait Link: Send + Sync {
    /// The versions of an API that both sides have.
    fn usable(&self, api: ApiKey) -> Result<RangeInclusive<i16>>;

    /// One attempt, on this connection. Its error tells whether it may have happened.
    fn call<R: Routed>(
        &self,
        request: &R,
        version: i16,
        deadline: Instant,
    ) -> impl Future<Output = Result<R::Response>> + Send;
}

impl Brokers for Pool {
    type Link = Connection;

    async fn connection(&self, to: Target, lane: Lane) -> Result<Connection> {
        Self::connection(self, to, lane).await
    }

    fn load(&self, to: Target) -> Option<usize> {
        Self::load(self, to)
    }

    fn bootstrap_len(&self) -> usize {
        Self::bootstrap_len(self)
    }

    fn address(&self, to: Target) -> Option<String> {
        Self::address(self, to)
    }

    fn set_brokers(&self, brokers: BTreeMap<i32, Address>, cluster: Option<Str>) {
        Self::set_brokers(self, brokers, cluster);
    }
}

impl Link for Connection {
    fn usable(&self, api: ApiKey) -> Result<RangeInclusive<i16>> {
        self.versions()?.usable(api)
    }

    async fn call<R: Routed>(&self, request: &R, version: i16, deadline: Instant) -> Result<R::Response> {
        let patience = Patience { timeout: None, held: request.held(), deadline: Some(deadline) };
        if !request.is_answered() {
            self.send(request, version, patience).await?;
            // Nobody says how it went, so it went well.
            return Ok(request.failed(ErrorCode::NONE, "").unwrap_or_default());
        }
        Self::call(self, request, version, patience).await
    }
}
