//! The settings of reaching brokers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::allow::Allow;
use super::proxy::Proxy;
use super::resolve::Resolve;
#[cfg(feature = "rustls")]
use super::tls::Tls;
use super::{Address, Connect};
use crate::error::Result;

/// How brokers are reached: names, addresses, sockets, proxies and TLS.
///
/// The same settings hold for every broker, whether it was given or another broker told of it: nothing that a
/// broker says can switch TLS off or take a way around the proxy.
///
/// ```
/// use weir::net::{Address, Config, Proxy};
/// let config = Config::new()
///     .proxy(Proxy::socks5("proxy.example.com:1080".parse()?).credentials("me", "secret"))
///     .allow_advertised(["*.kafka.example.com"])?;
/// # let _ = config;
/// # Ok::<(), weir::Error>(())
/// ```
#[derive(Clone)]
pub struct Config {
    #[cfg(feature = "rustls")]
    pub(super) tls: Option<Tls>,
    pub(super) proxy: Option<Proxy>,
    pub(super) connect: Option<Arc<dyn Connect>>,
    pub(super) resolver: Option<Arc<dyn Resolve>>,
    pub(super) map: Option<Arc<Map>>,
    pub(super) allow: Option<Allow>,
    pub(super) resolve_timeout: Duration,
    pub(super) addresses_max: usize,
    pub(super) head_start: Duration,
    pub(super) keepalive: bool,
    pub(super) send_buffer: Option<u32>,
    pub(super) receive_buffer: Option<u32>,
}

/// A user's function from an advertised address to where it is reached from here.
pub(super) type Map = dyn Fn(&Address) -> Address + Send + Sync;

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl Config {
    /// Plain TCP to wherever names lead, by the operating system's resolver.
    pub fn new() -> Self {
        Self {
            #[cfg(feature = "rustls")]
            tls: None,
            proxy: None,
            connect: None,
            resolver: None,
            map: None,
            allow: None,
            resolve_timeout: Duration::from_secs(5),
            addresses_max: 16,
            head_start: Duration::from_millis(250),
            keepalive: true,
            send_buffer: None,
            receive_buffer: None,
        }
    }

    /// TLS on every connection.
    #[cfg(feature = "rustls")]
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// The same way with TLS, the usual if none is set.
    #[cfg(feature = "oidc")]
    pub(crate) fn with_tls(mut self) -> Self {
        self.tls.get_or_insert_default();
        self
    }

    /// The same way without TLS, for protocols that have protection of their own.
    #[cfg(any(feature = "oidc", feature = "gssapi"))]
    #[cfg_attr(not(feature = "rustls"), allow(unused_mut, reason = "there is none to take away"))]
    pub(crate) fn without_tls(mut self) -> Self {
        #[cfg(feature = "rustls")]
        {
            self.tls = None;
        }
        self
    }

    /// The cryptography that TLS uses, or would use.
    #[cfg(feature = "oidc")]
    pub(crate) fn crypto_provider(&self) -> Result<Arc<rustls::crypto::CryptoProvider>> {
        self.tls.as_ref().map_or_else(|| Tls::new().provider_in_use(), Tls::provider_in_use)
    }

    /// Every connection through a proxy. Names of brokers are given to the proxy as they are, not looked up here.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// The user's own way to a stream of bytes, in place of names, TCP and the proxy. TLS, if set, runs on top.
    #[must_use]
    pub fn connect_with(mut self, connect: impl Connect) -> Self {
        self.connect = Some(Arc::new(connect));
        self
    }

    /// The user's own look-up of names.
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolve) -> Self {
        self.resolver = Some(Arc::new(resolver));
        self
    }

    /// Where to go in place of an address that a broker advertised: for tunnels and forwarded ports.
    ///
    /// The function says where the broker is, not who it is: TLS and SASL go on to check the advertised host,
    /// unless [`Tls::server_name`](crate::net::tls::Tls::server_name) says otherwise. It is called at each connection
    /// attempt, must not block, and is not called for the addresses that the client was given.
    #[must_use]
    pub fn map_advertised(mut self, map: impl Fn(&Address) -> Address + Send + Sync + 'static) -> Self {
        self.map = Some(Arc::new(map));
        self
    }

    /// Connects to no advertised address but these; without this, to any.
    ///
    /// A pattern is a host (`broker-1.example.com`), a domain with everything in it (`*.example.com`) or a number
    /// (`192.0.2.7`, `[::1]`), and `:port` may follow. Upper and lower case are the same. What is compared is where
    /// the connection would go, so after [`map_advertised`](Self::map_advertised), and before names are looked up.
    /// The addresses that the client was given are not asked.
    ///
    /// # Errors
    /// [`is_invalid`](crate::Error::is_invalid) if a pattern is none.
    pub fn allow_advertised<S: AsRef<str>>(mut self, patterns: impl IntoIterator<Item = S>) -> Result<Self> {
        self.allow = Some(Allow::new(patterns)?);
        Ok(self)
    }

    /// The time for looking up one name; 5 s if not set. The deadline of the whole connection holds too.
    #[must_use]
    pub fn resolve_timeout(mut self, timeout: Duration) -> Self {
        self.resolve_timeout = timeout.min(super::clock::FOREVER);
        self
    }

    /// The most addresses of one host that are tried for a connection; 16 if not set, and at least 1.
    #[must_use]
    pub fn addresses_max(mut self, max: usize) -> Self {
        self.addresses_max = max.max(1);
        self
    }

    /// The time after which the next address of a host is tried beside one that has not answered (RFC 8305);
    /// 250 ms if not set.
    #[must_use]
    pub fn address_head_start(mut self, head_start: Duration) -> Self {
        self.head_start = head_start.min(super::clock::FOREVER);
        self
    }

    /// Whether the system probes idle connections (`SO_KEEPALIVE`), with its own intervals; on if not set.
    #[must_use]
    pub fn keepalive(mut self, on: bool) -> Self {
        self.keepalive = on;
        self
    }

    /// The socket's send buffer in bytes; if not set, the system finds it by itself, which is mostly better.
    #[must_use]
    pub fn send_buffer_bytes(mut self, bytes: u32) -> Self {
        self.send_buffer = Some(bytes);
        self
    }

    /// The socket's receive buffer in bytes; if not set, the system finds it by itself, which is mostly better.
    #[must_use]
    pub fn receive_buffer_bytes(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut all = f.debug_struct("Config");
        #[cfg(feature = "rustls")]
        all.field("tls", &self.tls);
        all.field("proxy", &self.proxy)
            .field("connect", &self.connect)
            .field("resolver", &self.resolver)
            .field("map", &self.map.is_some())
            .field("allow", &self.allow)
            .field("resolve_timeout", &self.resolve_timeout)
            .field("addresses_max", &self.addresses_max)
            .field("head_start", &self.head_start)
            .field("keepalive", &self.keepalive)
            .field("send_buffer", &self.send_buffer)
            .field("receive_buffer", &self.receive_buffer)
            .finish()
    }
}
