//! Driver and pool against brokers that are scripts, over streams in memory and real sockets.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};

use super::script::{Asked, mechanisms, versions};
use super::*;
use crate::frame::Frames;
use crate::messages::api_versions::ApiVersionsRequest;
use crate::messages::metadata::{MetadataRequest, MetadataResponse};
use crate::net::{Address, BoxFuture, Connect, Dialer, Transport, clock};
use crate::observe::{Event, Hub, Use};
use crate::wire::{ApiKey, Encode, Request};
use crate::{Error, Result};

mod dropped;
mod ends;
mod foreign;
mod keeping;
mod rounds;

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// What a broker does with its n-th connection; none if it refuses it.
type Script = dyn Fn(usize, DuplexStream) -> Option<BoxFuture<'static, ()>> + Send + Sync;

/// A way to brokers in memory.
#[derive(Clone)]
struct Brokers {
    script: Arc<Script>,
    /// When each attempt to connect was made.
    attempts: Arc<Mutex<Vec<Instant>>>,
}

impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Brokers")
    }
}

impl Connect for Brokers {
    fn connect<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, Result<Box<dyn Transport>>> {
        let mut attempts = self.attempts.lock().unwrap();
        let n = attempts.len();
        attempts.push(clock::now());
        drop(attempts);
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let served = (self.script)(n, theirs).map(tokio::spawn);
        Box::pin(async move {
            match served {
                Some(_) => Ok(Box::new(ours) as Box<dyn Transport>),
                None => Err(Error::io("refused")),
            }
        })
    }
}

impl Brokers {
    fn new<F>(script: impl Fn(usize, DuplexStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::maybe(move |n, stream| Some(Box::pin(script(n, stream))))
    }

    fn maybe(
        script: impl Fn(usize, DuplexStream) -> Option<BoxFuture<'static, ()>> + Send + Sync + 'static,
    ) -> Self {
        Self { script: Arc::new(script), attempts: Arc::default() }
    }

    /// Brokers that answer everything at once.
    fn good() -> Self {
        Self::new(|_, stream| serve(stream, usize::MAX))
    }

    fn count(&self) -> usize {
        self.attempts.lock().unwrap().len()
    }

    /// A pool of connections to one broker behind this.
    async fn pool(&self, config: Config) -> Pool {
        self.pool_heard(config, Hub::default()).await
    }

    async fn pool_heard(&self, config: Config, hub: Hub) -> Pool {
        let net = crate::net::Config::new().connect_with(self.clone());
        let dialer = Dialer::new(net).await.unwrap();
        Pool::new(config, dialer, hub, vec!["broker:9092".parse().unwrap()], 7)
    }
}

const THERE: Target = Target::Bootstrap(0);

/// The broker's end of a connection.
struct Peer<S> {
    stream: S,
    frames: Frames,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    fn new(stream: S) -> Self {
        Self { stream, frames: Frames::new(1 << 20) }
    }

    /// The next request; none at the end of the connection.
    async fn next(&mut self) -> Option<Asked> {
        loop {
            if let Some(frame) = self.frames.next_frame().unwrap() {
                return Some(Asked::parse_body(frame));
            }
            let read = self.stream.read_buf(self.frames.space()).await;
            if read.is_err() || read.is_ok_and(|n| n == 0) {
                return None;
            }
        }
    }

    async fn send(&mut self, frame: &Bytes) {
        let len = (frame.len() as u32).to_be_bytes();
        // A client that has gone needs no answer.
        let _ = self.stream.write_all(&[&len[..], frame].concat()).await;
    }

    async fn answer<R: Request>(&mut self, asked: &Asked, response: &R::Response)
    where
        R::Response: Encode,
    {
        self.send(&asked.answer::<R>(response)).await;
    }

    /// Tells its versions, as the first thing that is asked.
    async fn tell_versions(&mut self) -> Option<()> {
        let asked = self.next().await?;
        let apis = [(0, 3, 9), (1, 4, 11), (3, 0, 12), (17, 0, 1), (18, 0, 5), (36, 0, 2)];
        self.answer::<ApiVersionsRequest>(&asked, &versions(&apis)).await;
        Some(())
    }

    async fn answer_metadata(&mut self, asked: &Asked) {
        self.answer::<MetadataRequest>(asked, &MetadataResponse::default()).await;
    }
}

/// Answers that many metadata requests at once, then closes; produce requests have no answers here.
async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, requests: usize) {
    let mut peer = Peer::new(stream);
    if peer.tell_versions().await.is_none() {
        return;
    }
    for _ in 0..requests {
        let Some(asked) = peer.next().await else { return };
        if asked.key == ApiKey::METADATA {
            peer.answer_metadata(&asked).await;
        }
    }
}

/// Tells its versions, and nothing after that.
async fn fall_silent(stream: DuplexStream) {
    let mut peer = Peer::new(stream);
    peer.tell_versions().await;
    while peer.next().await.is_some() {}
}

async fn ask(connection: &Connection) -> Result<MetadataResponse> {
    connection.call(&MetadataRequest::default(), 12, Patience::default()).await
}

/// Connects and asks.
async fn reach(pool: &Pool, kind: Use) -> Result<MetadataResponse> {
    ask(&pool.connection(THERE, kind).await?).await
}

fn elapsed(since: Instant) -> Duration {
    clock::now() - since
}
