//! Making one connection: the steps from a broker's address to a stream that Kafka's frames can go over.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

use super::config::Config;
#[cfg(feature = "rustls")]
use super::tls::Connector;
use super::{Address, Transport, race, resolve, until};
use crate::error::{Error, Result};

/// Who said that there is a broker at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The user.
    Bootstrap,
    /// A broker. The user's function and his list of allowed hosts hold for it.
    Advertised,
}

/// A connected stream, in two halves that work at the same time.
pub(crate) struct Link {
    /// What the broker sends.
    pub(crate) reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What goes to the broker. It takes vectored writes where the socket does.
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it is connected to, for people: the address that the name led to, or the proxy.
    pub(crate) peer: String,
    /// The address that the name led to, for [`Dialer::avoid`]; none through a proxy or the user's transport.
    pub(crate) at: Option<SocketAddr>,
    /// Whether TLS runs on it.
    pub(crate) encrypted: bool,
}

/// Makes connections as a [`Config`] says. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Dialer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    #[cfg(feature = "rustls")]
    tls: Option<Connector>,
    /// Addresses that took a connection and did nothing good with it, the latest last.
    avoided: Mutex<VecDeque<SocketAddr>>,
}

/// Addresses to avoid that are remembered.
const AVOIDED_MAX: usize = 64;

impl Dialer {
    /// Checks the settings, and reads the certificates and keys that they name.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid) if a file is missing or is not what it should be.
    pub(crate) async fn new(config: Config) -> Result<Self> {
        #[cfg(feature = "rustls")]
        let tls = match &config.tls {
            Some(tls) => Some(Connector::new(tls.clone()).await?),
            None => None,
        };
        #[cfg(not(feature = "rustls"))]
        std::future::ready(()).await;
        Ok(Self(Arc::new(Inner {
            config,
            #[cfg(feature = "rustls")]
            tls,
            avoided: Mutex::default(),
        })))
    }

    /// Has the other addresses of a name tried before this one from now on. For a connection that came about and was
    /// of no use: a host that is stopped, or half dead, still takes connections, and would always win (KIP-302).
    pub(crate) fn avoid(&self, at: SocketAddr) {
        let mut avoided = self.avoided();
        avoided.retain(|known| *known != at);
        avoided.push_back(at);
        if avoided.len() > AVOIDED_MAX {
            avoided.pop_front();
        }
    }

    pub(super) fn avoided(&self) -> MutexGuard<'_, VecDeque<SocketAddr>> {
        self.0.avoided.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a broker that advertises that address is reached as if the user had given it.
    pub(crate) fn is_plain(&self, advertised: &Address) -> bool {
        let Config { map, allow, .. } = &self.0.config;
        map.is_none() && allow.as_ref().is_none_or(|allow| allow.allows(advertised))
    }

    /// Connects to the broker at `to`. Safe to drop: nothing of the attempt is left but, perhaps, a look-up that
    /// the system cannot cancel.
    ///
    /// # Errors
    /// They all name `to`. [`is_invalid`](Error::is_invalid): not an allowed host. [`is_io`](Error::is_io): not
    /// found, refused, lost. [`is_timeout`](Error::is_timeout): not done by the deadline. [`is_auth`](Error::is_auth):
    /// the proxy or one side of TLS did not accept the other.
    pub(crate) async fn dial(&self, to: &Address, origin: Origin, deadline: Instant) -> Result<Link> {
        let linked = self.connect(to, origin, deadline).await;
        linked.map_err(|error| error.with_broker(to))
    }

    async fn connect(&self, to: &Address, origin: Origin, deadline: Instant) -> Result<Link> {
        let config = &self.0.config;
        let at = match (&config.map, origin) {
            (Some(map), Origin::Advertised) => map(to),
            _ => to.clone(),
        };
        if origin == Origin::Advertised && config.allow.as_ref().is_some_and(|allow| !allow.allows(&at)) {
            return Err(Error::invalid(format!("a broker advertised {to}, but {at} is not an allowed host")));
        }
        if let Some(connect) = &config.connect {
            let stream =
                until(deadline, || "the user's own connect".to_owned(), connect.connect(&at)).await??;
            return self.secure(stream, to, at.to_string(), deadline, split).await;
        }
        let Some(proxy) = &config.proxy else {
            let (stream, address) = self.tcp(&at, deadline).await?;
            let linked = self.secure(stream, to, address.to_string(), deadline, split_socket).await;
            return match linked {
                Ok(link) => Ok(Link { at: Some(address), ..link }),
                Err(error) => {
                    self.avoid(address);
                    Err(error)
                }
            };
        };
        let through = |error: Error| error.within(format_args!("the proxy {}", proxy.address()));
        let (mut stream, _) = self.tcp(proxy.address(), deadline).await.map_err(through)?;
        let doing = || "no answer to what was asked".to_owned();
        until(deadline, doing, proxy.handshake(&mut stream, &at)).await.flatten().map_err(through)?;
        let peer = format!("{at} through the proxy {}", proxy.address());
        self.secure(stream, to, peer, deadline, split_socket).await
    }

    /// A TCP connection to the first address of `to` that answers.
    async fn tcp(&self, to: &Address, deadline: Instant) -> Result<(TcpStream, SocketAddr)> {
        let config = &self.0.config;
        let mut addresses = resolve::addresses(config, to, deadline).await?;
        {
            let avoided = self.avoided();
            // The earliest failure first among them, so that all get their turn.
            addresses.sort_by_key(|address| {
                avoided.iter().position(|known| known == address).map_or(0, |at| at + 1)
            });
        }
        race::first(addresses, config.head_start, deadline, |address| async move {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            if config.keepalive {
                socket.set_keepalive(true)?;
            }
            if let Some(bytes) = config.send_buffer {
                socket.set_send_buffer_size(bytes)?;
            }
            if let Some(bytes) = config.receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            let stream = socket.connect(address).await?;
            // Frames are written whole; waiting for more would only delay them.
            stream.set_nodelay(true)?;
            Ok((stream, address))
        })
        .await
    }

    /// TLS over a stream if it is configured, or the stream itself, cut in halves by `halves`.
    #[cfg_attr(not(feature = "rustls"), allow(clippy::unused_async, unused_variables, reason = "TLS waits"))]
    async fn secure<T: Transport>(
        &self,
        stream: T,
        to: &Address,
        peer: String,
        deadline: Instant,
        halves: impl FnOnce(T) -> Halves,
    ) -> Result<Link> {
        #[cfg(feature = "rustls")]
        if let Some(tls) = &self.0.tls {
            let (reader, writer) = split(tls.handshake(stream, to, deadline).await?);
            return Ok(Link { reader, writer, peer, at: None, encrypted: true });
        }
        let (reader, writer) = halves(stream);
        Ok(Link { reader, writer, peer, at: None, encrypted: false })
    }
}

type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

/// Two halves that share the stream under a lock.
fn split<T: Transport>(stream: T) -> Halves {
    let (reader, writer) = tokio::io::split(stream);
    (Box::new(reader), Box::new(writer))
}

/// Two halves that work without a lock, as a socket's can.
fn split_socket(stream: TcpStream) -> Halves {
    let (reader, writer) = stream.into_split();
    (Box::new(reader), Box::new(writer))
}

/// Why reading or writing a connected [`Link`] failed. A certificate that the broker refuses is told only then,
/// after the handshake (TLS 1.3), and is not the network's failure.
#[cold]
pub(crate) fn lost(error: io::Error) -> Error {
    #[cfg(feature = "rustls")]
    if let Some(refused) = super::tls::refusal(&error) {
        return refused;
    }
    error.into()
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("peer", &self.peer)
            .field("encrypted", &self.encrypted)
            .field("vectored", &self.writer.is_write_vectored())
            .finish_non_exhaustive()
    }
}
