//! The handshake, by settings that are read again when their files have changed.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::super::{Address, Transport, clock, task, until};
use super::config::Tls;
use super::head::Head;
use super::{load, words};
use crate::error::{Error, Result};

/// How long a look at the files holds.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Makes TLS of a stream.
pub(crate) struct Connector {
    tls: Arc<Tls>,
    files: Arc<[PathBuf]>,
    state: Mutex<State>,
}

struct State {
    config: Arc<ClientConfig>,
    /// The files as they were when the config was read from them.
    stamps: Vec<Stamp>,
    look_at: Instant,
    /// What was wrong with the files when they were last read, so that it is said once.
    fault: Option<String>,
}

/// What shows that a file has changed; `None` if there is none.
type Stamp = Option<(SystemTime, u64)>;

impl Connector {
    /// Reads the files for the first time.
    pub(crate) async fn new(tls: Tls) -> Result<Self> {
        let files: Arc<[PathBuf]> = tls.files().into();
        let tls = Arc::new(tls);
        let (stamps, config) = {
            let (tls, files) = (Arc::clone(&tls), Arc::clone(&files));
            // The stamps first: what changes in between is seen at the next look.
            task::blocking(move || (stamps(&files), load::client_config(&tls))).await?
        };
        let state = State { config: config?, stamps, look_at: clock::now() + LOOK_EVERY, fault: None };
        Ok(Self { tls, files, state: Mutex::new(state) })
    }

    /// Runs the handshake over `stream`, with the broker that is known as `to`.
    pub(crate) async fn handshake<T: Transport>(
        &self,
        stream: T,
        to: &Address,
        deadline: Instant,
    ) -> Result<TlsStream<Head<T>>> {
        let name = self.server_name(to)?;
        let all = async {
            let connector = TlsConnector::from(self.current().await?);
            let done = connector.connect(name, Head::new(stream)).into_fallible().await;
            done.map_err(|(error, stream)| words::handshake(error, stream.head()))
        };
        until(deadline, || "the TLS handshake got no further".to_owned(), all).await?
    }

    /// Whom the certificate must be for. SNI carries it if it is a name.
    fn server_name(&self, to: &Address) -> Result<ServerName<'static>> {
        let name = match &self.tls.server_name {
            Some(name) => name.strip_suffix('.').unwrap_or(name),
            // No certificate knows the zone of an address.
            None if to.host().contains(':') => to.name().split('%').next().unwrap_or_default(),
            None => to.name(),
        };
        let bad =
            |_| Error::invalid(format!("'{}' is no name that a certificate can have", name.escape_debug()));
        ServerName::try_from(name.to_owned()).map_err(bad)
    }

    /// The config to use now. Safe to drop: then the next look is a second later.
    async fn current(&self) -> Result<Arc<ClientConfig>> {
        let now = clock::now();
        let (config, known) = {
            let mut state = self.lock();
            if self.files.is_empty() || now < state.look_at {
                return Ok(Arc::clone(&state.config));
            }
            state.look_at = now + LOOK_EVERY;
            (Arc::clone(&state.config), state.stamps.clone())
        };
        let (tls, files) = (Arc::clone(&self.tls), Arc::clone(&self.files));
        let look = move || {
            let found = stamps(&files);
            (found != known).then(|| (found, load::client_config(&tls)))
        };
        let Some((stamps, read)) = task::blocking(look).await? else { return Ok(config) };
        let mut state = self.lock();
        match read {
            Ok(config) => {
                tracing::info!(files = ?self.files, "TLS certificates or keys have changed and were read again");
                (state.config, state.stamps, state.fault) = (config, stamps, None);
            }
            // It is read again at each look: perhaps only one of two files has been written yet.
            Err(error) => {
                let fault = error.to_string();
                if state.fault.as_ref() != Some(&fault) {
                    tracing::warn!(%error, "changed TLS files cannot be used; what was read before stays in use");
                    state.fault = Some(fault);
                }
            }
        }
        Ok(Arc::clone(&state.config))
    }

    /// Nothing in the lock is half done when something panics.
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tls.fmt(f)
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let is = std::fs::metadata(path).ok()?;
        Some((is.modified().ok()?, is.len()))
    };
    files.iter().map(stamp).collect()
}
