//! Requests as they are, for whoever needs an API before it is wrapped, or exactly as it is.

use std::ops::RangeInclusive;
use std::time::Duration;

use tracing::Instrument as _;

use super::Client;
use crate::Result;
use crate::cluster::{self, Options, Routed};
use crate::conn::Target;
use crate::net::{BoxFuture, clock};

/// A request that a client can send: every one of Kafka 4.4 that clients have, as
/// [`weir::protocol`](crate::protocol) defines them. It is not for others to implement.
#[allow(private_bounds, reason = "it is sealed by that")]
pub trait ClientRequest: Routed {}

impl<R: Routed> ClientRequest for R {}

/// A part of a request: what went to one broker, and what became of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Part<R: ClientRequest> {
    /// Who was asked last; none if it was never known whom to ask.
    pub broker: Option<i32>,
    /// What was asked. Its items say what the part is about.
    pub request: R,
    /// What was answered, or why nothing was.
    pub result: Result<R::Response>,
}

/// A request that is about to be made, by [`Client::request`]. Await it.
#[derive(Debug)]
#[must_use = "it is made when it is awaited"]
pub struct Call<'a, R: ClientRequest> {
    client: &'a Client,
    request: R,
    timeout: Option<Duration>,
    options: Options,
}

impl Client {
    /// Sends any request to whoever answers it, and gives the answer.
    ///
    /// It goes to the controller, to the leaders of its partitions, to the coordinators of its groups or
    /// transactional ids, to every broker, or to any, as its API wants. One that concerns several brokers
    /// is taken apart, and the answers are put together. The version is the highest that both sides have
    /// and that can carry what is set; fields that only another version has are refused, not dropped.
    ///
    /// Answers that say "not here" or "not now" are not given back: the right broker is looked for, or
    /// waited for, and the request is sent again, until the time for a call is over. What may have been
    /// done is sent again only where that does no harm; so a produce request whose answer has an error and
    /// an offset is not: the leader wrote it there, and it may stay. Other error codes are in the answer, for
    /// the caller to see: by item, and if the broker of an item could not be reached, as
    /// [`NETWORK_EXCEPTION`](crate::ErrorCode::NETWORK_EXCEPTION) or
    /// [`REQUEST_TIMED_OUT`](crate::ErrorCode::REQUEST_TIMED_OUT) of that item; whether that item may have
    /// happened all the same, [`Call::parts`] tells.
    ///
    /// When the future is dropped nothing more is sent; what was sent may be done.
    ///
    /// ```no_run
    /// # async fn run() -> weir::Result<()> {
    /// use weir::protocol::list_groups::ListGroupsRequest;
    ///
    /// let kafka = weir::Client::connect("localhost:9092").await?;
    /// let all = kafka.request(ListGroupsRequest::default()).await?;
    /// for group in all.groups {
    ///     println!("{}", group.group_id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Why no part of it was answered. [`may_have_happened`](crate::Error::may_have_happened) tells whether it
    /// may have been done all the same. [`is_limit`](crate::Error::is_limit) if 100,000 requests or 64 MiB of them
    /// wait for the connection already, because the broker asked for quiet or takes no bytes.
    pub fn request<R: ClientRequest>(&self, request: R) -> Call<'_, R> {
        Call { client: self, request, timeout: None, options: Options::default() }
    }
}

impl<R: ClientRequest> Call<'_, R> {
    /// To this broker, all of it, whoever should answer it. Fails if no broker has that id. That it does not lead, control or coordinate what
    /// is asked for is in the answer then.
    pub fn to(mut self, broker: i32) -> Self {
        self.options.target = Some(Target::Broker(broker));
        self
    }

    /// In place of the client's time for a call.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.timeout = Some(time);
        self
    }

    /// In one of these versions only.
    pub fn versions(mut self, versions: RangeInclusive<i16>) -> Self {
        self.options.versions = Some(versions);
        self
    }

    /// By connections of its own, for requests that wait long at a broker: fetches, and what members of groups
    /// say. A broker answers the requests of one connection in their order, so each fetcher and each member
    /// in a client is to have a number of its own; 0, which is everyone's, is the default. Other requests
    /// take no notice of it.
    pub fn lane(mut self, number: u32) -> Self {
        self.options.lane = number;
        self
    }

    /// Sends it once: every error of a broker is for the caller. It still waits to be told where to, and for a
    /// connection.
    pub fn once(mut self) -> Self {
        self.options.once = true;
        self
    }

    /// Makes the request and gives what each broker said, apart: for answers that do not say which broker
    /// they come from, and for those who want to know why one of them did not answer.
    pub async fn parts(self) -> Result<Vec<Part<R>>> {
        let span = span::<R>();
        let Self { client, request, timeout, mut options } = self;
        options.deadline = timeout.map(|time| clock::now() + time.min(clock::FOREVER));
        let parts = client.0.cluster.parts(request, &options).instrument(span).await?;
        let broker = |target| match target {
            Some(Target::Broker(id)) => Some(id),
            _ => None,
        };
        let public =
            |cluster::Part { target, request, result }| Part { broker: broker(target), request, result };
        Ok(parts.into_iter().map(public).collect())
    }
}

impl<'a, R: ClientRequest> IntoFuture for Call<'a, R> {
    type Output = Result<R::Response>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let span = span::<R>();
        let Self { client, request, timeout, mut options } = self;
        options.deadline = timeout.map(|time| clock::now() + time.min(clock::FOREVER));
        Box::pin(async move { client.0.cluster.request(request, &options).await }.instrument(span))
    }
}

fn span<R: ClientRequest>() -> tracing::Span {
    tracing::debug_span!("kafka request", api = %R::KEY)
}
