//! Fetching tokens: one fetch at a time for all who wait, in a task that none of them owns.
//!
//! What to do is decided in `machine`; here it is done. No lock is held across an await.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OnceCell, watch};

use super::assertion::Assertion;
use super::endpoint::Endpoint;
use super::http;
use super::machine::{Cache, Plan, Retries};
use super::request::{self, Extras, Grant, Request};
use super::response;
use crate::conn::sasl::Token;
use crate::net::task::{self, Task};
use crate::net::{Config, Dialer, clock};
use crate::{Error, Result, Secret};

/// How a token is got: all that does not change.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) endpoint: Endpoint,
    pub(super) grant: Grant<Assertion>,
    pub(super) extras: Extras,
    pub(super) extensions: Vec<(String, String)>,
    pub(super) network: Config,
    /// Made when it is first used: certificates are read then.
    pub(super) dialer: OnceCell<Dialer>,
    pub(super) timeout: Duration,
    pub(super) tries_max: u32,
}

/// The tokens of one setup.
#[derive(Debug)]
pub(super) struct Driver {
    setup: Arc<Setup>,
    state: Arc<Mutex<State>>,
    /// Ends with us, so it is not in the state, which it shares.
    task: Mutex<Option<Task>>,
}

#[derive(Debug, Default)]
struct State {
    cache: Cache,
    /// Where the fetch under way will tell how it ended. Its sender is gone when it ended, or died.
    under_way: Option<watch::Receiver<Option<Result<Token>>>>,
}

impl Driver {
    pub(super) fn new(setup: Setup) -> Self {
        Self { setup: Arc::new(setup), state: Arc::default(), task: Mutex::default() }
    }

    pub(super) fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A token that is good now. Dropping the future leaves the fetch to the others.
    pub(super) async fn token(&self) -> Result<Token> {
        let mut answer = {
            let mut state = lock(&self.state);
            let under_way = state.under_way.clone().filter(|answer| answer.has_changed().is_ok());
            match (state.cache.ask(clock::now(), under_way.is_some()), under_way) {
                (Plan::Use(token), _) => return Ok(token),
                (Plan::Refuse(error), _) => return Err(error),
                (Plan::UseAndFetch(token), _) => {
                    self.fetch(&mut state);
                    return Ok(token);
                }
                (Plan::Wait, Some(answer)) => answer,
                (Plan::Wait | Plan::Fetch, _) => self.fetch(&mut state),
            }
        };
        match answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(answer)) => answer.clone(),
            _ => Err(Error::internal("the task that fetches tokens died")),
        }
    }

    /// Begins a fetch; who waits for it waits for what this returns.
    fn fetch(&self, state: &mut State) -> watch::Receiver<Option<Result<Token>>> {
        let (tell, answer) = watch::channel(None);
        state.under_way = Some(answer.clone());
        let (setup, shared) = (Arc::clone(&self.setup), Arc::clone(&self.state));
        let fetching = task::spawn(async move {
            let end = fetch(&setup).await;
            let mut state = lock(&shared);
            let end = end.map(|(token, lifetime)| {
                state.cache.granted(clock::now(), token.clone(), lifetime, random());
                token
            });
            if let Err(error) = &end {
                state.cache.failed(clock::now(), error.clone());
            }
            drop(state);
            // Nobody may be waiting any more.
            tell.send_replace(Some(end));
        });
        *lock(&self.task) = Some(fetching);
        answer
    }
}

/// Nothing that holds a lock here panics; if it did, what it left would still be a state.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn fetch(setup: &Arc<Setup>) -> Result<(Token, Duration)> {
    let mut retries = Retries::new(setup.tries_max);
    loop {
        let tried = tokio::time::timeout(setup.timeout, fetch_once(setup)).await;
        let error = match tried {
            Ok(Ok(granted)) => return Ok(granted),
            Ok(Err(error)) => error,
            Err(_) => Error::timeout(format!(
                "the identity provider {} did not answer within {:?}",
                setup.endpoint.authority, setup.timeout
            )),
        };
        match retries.after(&error, random()) {
            Some(wait) => clock::sleep_until(clock::now() + wait).await,
            None => return Err(error),
        }
    }
}

async fn fetch_once(setup: &Arc<Setup>) -> Result<(Token, Duration)> {
    let deadline = clock::now() + setup.timeout;
    let making = Arc::clone(setup);
    // May read files and sign.
    let (request, secrets) = tokio::task::spawn_blocking(move || make_request(&making))
        .await
        .map_err(|error| Error::internal("the task that makes an assertion died").because(error))??;
    let dialer = setup.dialer.get_or_try_init(|| Dialer::new(setup.network.clone())).await?;
    let answer = http::exchange(dialer, &setup.endpoint, &request, deadline).await?;
    let (mut token, lifetime) = response::read(&answer, clock::time_of_day(), &secrets)?;
    for (name, value) in &setup.extensions {
        token = token.extension(name, value)?;
    }
    Ok((token, lifetime))
}

/// The request, and the secrets in it.
fn make_request(setup: &Setup) -> Result<(Request, Vec<Secret>)> {
    let make = |assertion: &Assertion| {
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| Error::internal("the system gives no random bytes").because(error))?;
        assertion.make(clock::time_of_day(), &*setup.network.crypto_provider()?, id)
    };
    let grant = match &setup.grant {
        Grant::ClientSecret { id, secret } => Grant::ClientSecret { id: id.clone(), secret: secret.clone() },
        Grant::ClientAssertion { id, assertion } => {
            Grant::ClientAssertion { id: id.clone(), assertion: make(assertion)? }
        }
        Grant::JwtBearer { assertion } => Grant::JwtBearer { assertion: make(assertion)? },
    };
    let request = request::build(&grant, &setup.extras);
    let (Grant::ClientSecret { secret, .. }
    | Grant::ClientAssertion { assertion: secret, .. }
    | Grant::JwtBearer { assertion: secret }) = grant;
    let mut secrets = vec![secret];
    secrets.extend(request.authorization.clone());
    Ok((request, secrets))
}

/// Chance for spreading load; without it nothing goes wrong, it is only not spread.
fn random() -> u32 {
    getrandom::u32().unwrap_or(u32::MAX / 2)
}
