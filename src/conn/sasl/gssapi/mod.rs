//! GSSAPI: Kerberos 5, all of it in Rust, without a library of the system.
//!
//! ```text
//! KDC    <- who we are, proved by a key or a password     -> a ticket for tickets    (machine_kdc)
//! KDC    <- that ticket, and the broker's name            -> a ticket for the broker (machine_kdc)
//! broker <- that ticket, and a proof that its key is ours -> a proof that it is the broker (machine_gss)
//! broker <- no security layer, and as whom we act                                    (machine_gss)
//! ```
//!
//! What is there: keytabs and passwords; AES with SHA-1 (RFC 3962) and with SHA-2 (RFC 8009); KDCs that are given or
//! stand in a `krb5.conf`, over TCP. What is not: tickets of another realm than the client's, KDCs found by DNS,
//! credential caches, UDP, DES and RC4.
//!
//! Tickets are kept while they are good, so a new connection mostly asks no KDC.

mod conf;
mod crypto;
mod der;
mod driver;
mod keytab;
mod machine_gss;
mod machine_kdc;
mod principal;
#[cfg(test)]
mod tests;
mod time;

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use self::driver::{Driver, Source};
use self::machine_gss::{Chance, Context};
use self::machine_kdc::Ticket;
use self::principal::Principal;
use crate::conn::sasl::{Mechanism, Peer, Session, check_token_len};
use crate::net::{Address, BoxFuture, Config};
use crate::{Error, Result, Secret};

/// GSSAPI with Kerberos 5 (RFC 4752, KIP-12). Clones share their tickets.
///
/// ```no_run
/// # fn f() -> weir::Result<()> {
/// use weir::conn::sasl::gssapi::Gssapi;
///
/// let kerberos = Gssapi::keytab("billing@EXAMPLE.COM", "/etc/security/billing.keytab")
///     .kdc("kdc.example.com:88")
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Gssapi {
    driver: Arc<Driver>,
    service_name: Arc<str>,
}

impl Gssapi {
    /// As `principal`, by its key in a keytab file, which is read when a first ticket is fetched, so that new keys may
    /// be put there. Without `@REALM` the realm is `krb5.conf`'s default.
    pub fn keytab(principal: impl Into<String>, path: impl Into<PathBuf>) -> GssapiBuilder {
        GssapiBuilder::new(principal.into(), Source::Keytab(path.into()))
    }

    /// As `principal`, by its password.
    pub fn password(principal: impl Into<String>, password: impl Into<Secret>) -> GssapiBuilder {
        GssapiBuilder::new(principal.into(), Source::Password(password.into()))
    }
}

/// Settings of a [`Gssapi`]. A KDC must be given, or a `krb5.conf` that names one.
#[derive(Debug)]
pub struct GssapiBuilder {
    principal: String,
    source: Source,
    kdcs: Vec<String>,
    conf: Option<PathBuf>,
    service_name: String,
    network: Config,
}

impl GssapiBuilder {
    fn new(principal: String, source: Source) -> Self {
        let service_name = "kafka".to_owned();
        Self { principal, source, kdcs: Vec::new(), conf: None, service_name, network: Config::new() }
    }

    /// A KDC of the client's realm: `host`, `host:port` or `[address]:port`. Without a port it is 88. Several are
    /// tried in the order in which they are given, before those of a `krb5.conf`; each has 3 s for each answer.
    #[must_use]
    pub fn kdc(mut self, address: impl Into<String>) -> Self {
        self.kdcs.push(address.into());
        self
    }

    /// A `krb5.conf`, for the default realm and the KDCs of the client's realm; nothing else in it is looked at. It is
    /// read by [`build`](Self::build).
    #[must_use]
    pub fn krb5_conf(mut self, path: impl Into<PathBuf>) -> Self {
        self.conf = Some(path.into());
        self
    }

    /// The first part of the brokers' principals (`sasl.kerberos.service.name`); `kafka` at first. The second is
    /// the broker's host name as it was configured or advertised, and is not looked up in the DNS.
    #[must_use]
    pub fn service_name(mut self, name: impl Into<String>) -> Self {
        self.service_name = name.into();
        self
    }

    /// How KDCs are reached: a proxy, a resolver. At first as the operating system would. TLS in it is not used.
    #[must_use]
    pub fn network(mut self, network: Config) -> Self {
        self.network = network;
        self
    }

    /// Checks the settings. No KDC is asked and no keytab is read yet.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid) if a name or an address is none, if no KDC is known, or if the `krb5.conf` cannot be
    /// read.
    pub fn build(self) -> Result<Gssapi> {
        let conf = match &self.conf {
            Some(path) => {
                let invalid = |error: std::io::Error| {
                    Error::invalid(format!("{}: {error}", path.display())).because(error)
                };
                conf::Conf::parse(&String::from_utf8_lossy(&read_file(path).map_err(invalid)?))
            }
            None => conf::Conf::default(),
        };
        let client = Principal::parse(&self.principal, conf.default_realm.as_deref())?;
        if self.service_name.is_empty() || self.service_name.contains(['/', '@', '\0']) {
            return Err(Error::invalid(format!("no Kerberos service name: {:?}", self.service_name)));
        }
        let of_conf = conf.kdcs.get(&client.realm).into_iter().flatten();
        let kdcs = self.kdcs.iter().chain(of_conf).map(|kdc| address(kdc)).collect::<Result<Vec<_>>>()?;
        if kdcs.is_empty() {
            return Err(Error::invalid(format!(
                "no KDC is known of the realm {}",
                client.realm.escape_debug()
            )));
        }
        let driver = Arc::new(Driver::new(client, self.source, kdcs, self.network.without_tls()));
        Ok(Gssapi { driver, service_name: self.service_name.into() })
    }
}

/// A host and a port that may be absent.
fn address(text: &str) -> Result<Address> {
    const KERBEROS: u16 = 88;
    let bad = || Error::invalid(format!("no address of a KDC: {text:?}"));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(bad)?,
        // More than one colon is an IPv6 address without a port.
        None if text.matches(':').count() == 1 => text.split_at(text.find(':').unwrap_or(text.len())),
        None => (text, ""),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)?,
        None if port.is_empty() => KERBEROS,
        None => return Err(bad()),
    };
    Address::new(host, port).map_err(|error| error.within("a KDC"))
}

/// Reads a small file whole.
fn read_file(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    const FILE_MAX: u64 = 1024 * 1024;
    let mut content = Zeroizing::new(Vec::new());
    std::fs::File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut content)?;
    if content.len() as u64 > FILE_MAX {
        return Err(std::io::Error::other(format!("more than {FILE_MAX} bytes")));
    }
    Ok(content)
}

impl fmt::Debug for Gssapi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gssapi")
            .field("client", &self.driver.client.to_string())
            .field("kdcs", &self.driver.kdcs)
            .field("service_name", &self.service_name)
            .finish_non_exhaustive()
    }
}

impl Mechanism for Gssapi {
    fn name(&self) -> &'static str {
        "GSSAPI"
    }

    /// Nothing secret crosses the connection.
    fn wants_encryption(&self) -> bool {
        false
    }

    /// Gets a ticket for the broker, from a KDC if none is kept.
    ///
    /// # Errors
    /// [`is_auth`](Error::is_auth) if a KDC refuses us or does not know the broker; [`is_io`](Error::is_io) or
    /// [`is_timeout`](Error::is_timeout) if none could be reached; [`is_invalid`](Error::is_invalid) if the keytab cannot
    /// be read or has no key for us.
    fn begin<'a>(&'a self, peer: &'a Peer) -> BoxFuture<'a, Result<Box<dyn Session>>> {
        Box::pin(async move {
            // Principals are written in small letters, and a name that ends in a dot is the same name.
            let host = peer.host.trim_end_matches('.').to_ascii_lowercase();
            let service = Principal::service(&self.service_name, &host, &self.driver.client.realm);
            let ticket = self.driver.ticket(&service).await?;
            let session = GssapiSession {
                driver: Arc::clone(&self.driver),
                service,
                ticket: Some(ticket),
                context: None,
            };
            Ok(Box::new(session) as Box<dyn Session>)
        })
    }
}

struct GssapiSession {
    driver: Arc<Driver>,
    service: Principal,
    /// Given back when it has served.
    ticket: Option<Ticket>,
    /// None before the first token, and after an error.
    context: Option<Context>,
}

impl Session for GssapiSession {
    fn respond<'a>(&'a mut self, challenge: Option<&'a [u8]>) -> BoxFuture<'a, Result<Option<Secret>>> {
        Box::pin(std::future::ready(self.step(challenge)))
    }

    fn is_over(&self) -> bool {
        self.context.as_ref().is_some_and(Context::is_over)
    }
}

impl GssapiSession {
    fn step(&mut self, challenge: Option<&[u8]>) -> Result<Option<Secret>> {
        let out_of_turn = || Error::auth("GSSAPI went on where it was at its end, or not begun");
        let client = &self.driver.client;
        match (challenge, self.context.take(), &self.ticket) {
            (None, None, Some(ticket)) => {
                let mut chance = Chance { confounder: [0; 16], key: [0; 32], sequence: 0 };
                driver::random(&mut chance.confounder)?;
                driver::random(&mut chance.key)?;
                let mut sequence = [0; 4];
                driver::random(&mut sequence)?;
                chance.sequence = u32::from_be_bytes(sequence);
                let (context, token) = Context::start(client, ticket, driver::now(), &chance);
                self.context = Some(context);
                check_token_len("our", token.len())?;
                Ok(Some(token.into()))
            }
            (Some(challenge), Some(context), _) => {
                check_token_len("the broker's", challenge.len())?;
                let (context, token) = context.respond(challenge, &client.to_string())?;
                if token.is_none()
                    && let Some(ticket) = self.ticket.take()
                {
                    self.driver.keep(&self.service, ticket);
                }
                self.context = Some(context);
                Ok(token.map(Secret::from))
            }
            _ => Err(out_of_turn()),
        }
    }
}
