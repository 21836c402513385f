//! Getting tickets: the conversation with a KDC over TCP, and the tickets that are kept.
//!
//! What is said is decided in the machines; here are sockets, files, the clock and chance.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::OnceCell;

use super::keytab;
use super::machine_kdc::{self as kdc, AsExchange, AsStep, Chance, Credential, Now, Ticket};
use super::principal::Principal;
use crate::net::{Address, Config, Dialer, Origin, clock};
use crate::{Error, Result, Secret};

/// The longest answer of a KDC, in bytes. Tickets of users in many groups have some tens of thousands.
const ANSWER_MAX: u32 = 256 * 1024;
/// How long one KDC may take for one answer, so that the next is tried while there is time.
const KDC_TIMEOUT: Duration = Duration::from_secs(3);
/// A ticket that ends within this is not used any more.
const NEARLY_OVER_SECONDS: u64 = 60;
/// Tickets that are kept at most; a cluster has fewer brokers.
const KEPT_MAX: usize = 10_000;

/// Where the client's key is from.
#[derive(Debug, Clone)]
pub(super) enum Source {
    Keytab(PathBuf),
    Password(Secret),
}

/// All that does not change, and the tickets.
#[derive(Debug)]
pub(super) struct Driver {
    pub(super) client: Principal,
    pub(super) source: Source,
    /// Tried in turn.
    pub(super) kdcs: Vec<Address>,
    network: Config,
    /// Made when it is first used.
    dialer: OnceCell<Dialer>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    tickets: Option<Ticket>,
    services: BTreeMap<String, Ticket>,
}

impl Driver {
    pub(super) fn new(client: Principal, source: Source, kdcs: Vec<Address>, network: Config) -> Self {
        Self { client, source, kdcs, network, dialer: OnceCell::new(), kept: Mutex::default() }
    }

    /// A ticket for a service. One that was kept is taken out, and comes back by [`keep`](Self::keep) when
    /// it served: so one that a broker refuses is not shown twice.
    pub(super) async fn ticket(self: &Arc<Self>, service: &Principal) -> Result<Ticket> {
        let now = now();
        let (kept, tickets) = {
            let mut kept = self.kept();
            (kept.services.remove(&service.to_string()), kept.tickets.clone())
        };
        if let Some(ticket) = kept.filter(|ticket| is_good(ticket, now)) {
            return Ok(ticket);
        }
        if let Some(tickets) = tickets.filter(|tickets| is_good(tickets, now)) {
            match self.service_ticket(service, &tickets).await {
                // The KDC may have a new key, and refuse what the old one made.
                Err(error) if error.is_auth() => {}
                answer => return answer,
            }
        }
        let tickets = self.first_ticket().await?;
        let ticket = self.service_ticket(service, &tickets).await?;
        self.kept().tickets = Some(tickets);
        Ok(ticket)
    }

    /// Keeps a ticket that a broker took.
    pub(super) fn keep(&self, service: &Principal, ticket: Ticket) {
        let mut kept = self.kept();
        if kept.services.len() < KEPT_MAX {
            kept.services.insert(service.to_string(), ticket);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that holds the lock panics; if it did, tickets would still be tickets.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn first_ticket(self: &Arc<Self>) -> Result<Ticket> {
        let driver = Arc::clone(self);
        let credential = Arc::new(blocking(move || driver.credential()).await?);
        let chance = chance()?;
        let exchange = AsExchange { client: &self.client, credential: &credential, nonce: chance.nonce };
        let answer = self.ask(&exchange.request(now())).await?;
        let (step, nonce) = self.as_answer(&credential, chance.nonce, answer).await?;
        let proof = match step {
            AsStep::Done(ticket) => return Ok(ticket),
            AsStep::Prove(proof) => proof,
        };
        let answer = self.ask(&proof).await?;
        match self.as_answer(&credential, nonce, answer).await?.0 {
            AsStep::Done(ticket) => Ok(ticket),
            AsStep::Prove(_) => Err(Error::auth("the KDC wants another proof than an encrypted time")),
        }
    }

    /// Reads an answer where blocking is allowed: the key of a password takes its time.
    async fn as_answer(
        self: &Arc<Self>,
        credential: &Arc<Credential>,
        nonce: u32,
        answer: Vec<u8>,
    ) -> Result<(AsStep, u32)> {
        let (driver, credential, chance) = (Arc::clone(self), Arc::clone(credential), chance()?);
        blocking(move || {
            let mut exchange = AsExchange { client: &driver.client, credential: &credential, nonce };
            let step = exchange.answer(&answer, now(), &chance)?;
            Ok((step, exchange.nonce))
        })
        .await
        .map_err(|error| error.within(&self.client))
    }

    async fn service_ticket(&self, service: &Principal, tickets: &Ticket) -> Result<Ticket> {
        let chance = chance()?;
        let request = kdc::tgs_request(&self.client, service, tickets, now(), &chance);
        let answer = self.ask(&request).await?;
        kdc::tgs_answer(&answer, &self.client, service, tickets, chance.nonce)
    }

    fn credential(&self) -> Result<Credential> {
        let path = match &self.source {
            Source::Password(password) => return Ok(Credential::Password(password.clone())),
            Source::Keytab(path) => path,
        };
        let invalid = |what: String| Error::invalid(format!("the keytab {}: {what}", path.display()));
        let file = super::read_file(path).map_err(|error| invalid(error.to_string()).because(error))?;
        let keys = keytab::keys(&file, &self.client).map_err(|error| error.within(path.display()))?;
        if keys.is_empty() {
            return Err(invalid(format!("it has no key of AES for {}", self.client)));
        }
        Ok(Credential::Keys(keys))
    }

    /// Asks the KDCs in turn until one answers.
    async fn ask(&self, request: &[u8]) -> Result<Vec<u8>> {
        let mut last = Error::invalid("there is no KDC to ask");
        let dialer = self.dialer.get_or_try_init(|| Dialer::new(self.network.clone())).await?;
        for kdc in &self.kdcs {
            match tokio::time::timeout(KDC_TIMEOUT, ask_one(dialer, kdc, request)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error.within(format_args!("the KDC {kdc}")),
                Err(_) => {
                    last = Error::timeout(format!("the KDC {kdc} did not answer within {KDC_TIMEOUT:?}"));
                }
            }
        }
        Err(last)
    }
}

/// One request and its answer, each with its length in front (RFC 4120 section 7.2.2).
async fn ask_one(dialer: &Dialer, kdc: &Address, request: &[u8]) -> Result<Vec<u8>> {
    let mut link = dialer.dial(kdc, Origin::Bootstrap, clock::now() + KDC_TIMEOUT).await?;
    let len = (request.len() as u32).to_be_bytes();
    link.writer.write_all(&[&len, request].concat()).await?;
    link.writer.flush().await?;
    let len = link.reader.read_u32().await?;
    if len > ANSWER_MAX {
        return Err(Error::limit(format!("an answer of {len} bytes, at most {ANSWER_MAX}")));
    }
    let mut answer = Vec::new();
    // Memory grows with what comes.
    link.reader.take(u64::from(len)).read_to_end(&mut answer).await?;
    if answer.len() < len as usize {
        return Err(Error::io("it hung up before its answer was whole"));
    }
    Ok(answer)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal("a task of Kerberos died").because(error))?
}

fn is_good(ticket: &Ticket, now: Now) -> bool {
    ticket.end > now.seconds() + NEARLY_OVER_SECONDS
}

pub(super) fn now() -> Now {
    let now = clock::time_of_day().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now(now.as_micros() as u64)
}

fn chance() -> Result<Chance> {
    let mut confounder = [0; 16];
    random(&mut confounder)?;
    let mut nonce = [0; 4];
    random(&mut nonce)?;
    // It stays positive for KDCs that take it as signed.
    Ok(Chance { nonce: u32::from_be_bytes(nonce) >> 1, confounder })
}

pub(super) fn random(into: &mut [u8]) -> Result<()> {
    getrandom::fill(into).map_err(|error| Error::internal("the system gives no random bytes").because(error))
}
