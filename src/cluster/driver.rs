//! The cluster as the client holds it: the machines behind a lock that is never held while waiting, and a
//! task that sends what they want to know.
//!
//! The task starts one more for each request of the machines, so that a broker that is silent about
//! metadata holds up no look-up of a coordinator. Whatever such a task comes to, a panic included, the
//! machine hears of its end. Callers wait for the machines' state to change, and look again.

use std::future::poll_fn;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Instant;

use tokio::sync::{Notify, watch};

use super::brokers::{Brokers, Link};
use super::config::Config;
use super::coordinators::{self, Coordinators, Find, Said};
use super::metadata::hints::Hints;
use super::metadata::index::{Indexed, index};
use super::metadata::machine::{Ask, Machine};
use super::metadata::{Leader, Snapshot, TopicKey, request::request};
use crate::conn::{Lane, Target};
use crate::messages::find_coordinator::FindCoordinatorRequest;
use crate::messages::metadata::{MetadataRequest, MetadataResponse};
use crate::net::clock;
use crate::net::task::{self, Task};
use crate::observe::{Event, Hub, Lookup, Use};
use crate::wire::{Request, Str};
use crate::{Error, Result};

/// Topics and partitions of an answer, and topics known before, beyond which it is read on a thread of its
/// own: they take up to a microsecond each.
const LARGE: usize = 1000;

/// The cluster behind the connections `P`. Clones are the same; with the last one its tasks end.
#[derive(Debug, Clone)]
pub(crate) struct Cluster<P: Brokers> {
    pub(super) inner: Arc<Inner<P>>,
    _driver: Arc<Task>,
}

pub(super) struct Inner<P> {
    pub(super) pool: P,
    pub(super) hub: Hub,
    pub(super) config: Config,
    state: Mutex<State>,
    /// Wakes the task: there is something to be sent earlier than it knows.
    kick: Notify,
    /// Counts changes of the state that somebody may wait for.
    changed: watch::Sender<u64>,
    /// Numbers that were given out.
    lanes: AtomicU32,
}

pub(super) struct State {
    pub(super) metadata: Machine,
    pub(super) coordinators: Coordinators,
    /// The broker that answered what always the same one is to answer.
    pub(super) same: Option<i32>,
    pub(super) closed: bool,
    seed: u64,
    /// When the task wakes by itself.
    armed: Option<Instant>,
    /// The snapshot of which the connections know the brokers.
    published: Arc<Snapshot>,
}

impl<P: Brokers> Cluster<P> {
    /// A cluster of which nothing is known but the bootstrap addresses. Nothing is asked before somebody
    /// wants something. Jitter is drawn from the seed. To be called on a runtime.
    pub(crate) fn new(pool: P, config: Config, hub: Hub, seed: u64) -> Self {
        let metadata = Machine::new(config.metadata.clone(), pool.bootstrap_len(), seed);
        let state = State {
            metadata,
            coordinators: Coordinators::new(config.metadata.backoff, seed.rotate_left(21)),
            same: None,
            closed: false,
            seed: seed.rotate_left(42),
            armed: None,
            published: Arc::default(),
        };
        let inner = Arc::new(Inner {
            pool,
            hub,
            config,
            state: Mutex::new(state),
            kick: Notify::new(),
            changed: watch::Sender::new(0),
            lanes: AtomicU32::new(0),
        });
        let driver = task::spawn(drive(Arc::clone(&inner)));
        Self { inner, _driver: Arc::new(driver) }
    }

    /// What is known of the cluster now.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.inner.lock().metadata.snapshot())
    }

    /// Says that topics are used. Those that are not known are asked for.
    pub(crate) fn want(&self, topics: impl IntoIterator<Item = TopicKey>) {
        self.inner.with(|state, now| {
            topics.into_iter().for_each(|topic| state.metadata.handle_want(topic, now));
        });
    }

    /// Says that topics are used, and that what is known of them does not do.
    pub(crate) fn lacking(&self, topics: impl IntoIterator<Item = TopicKey>) {
        self.inner.with(|state, now| {
            topics.into_iter().for_each(|topic| state.metadata.handle_want(topic, now));
            if !state.metadata.has_added() {
                state.metadata.handle_lacking(now);
            }
        });
    }

    /// A number to draw chance from.
    pub(crate) fn seed(&self) -> u64 {
        self.inner.seed()
    }

    /// Tells of changes of what is known.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes()
    }

    /// A ready connection for producing to a broker. Safe to drop: what was begun goes on.
    pub(crate) async fn producing(&self, broker: i32) -> Result<P::Link> {
        self.inner.pool.connection(Target::Broker(broker), Use::Produce.into()).await
    }

    /// A ready connection for fetching from a broker, which nobody else uses who has another number. Safe to drop:
    /// what was begun goes on.
    pub(crate) async fn fetching(&self, broker: i32, number: u32) -> Result<P::Link> {
        self.inner.pool.connection(Target::Broker(broker), Lane { kind: Use::Fetch, number }).await
    }

    /// A number for somebody whose requests wait long at brokers, so that he waits for nobody else's.
    pub(crate) fn lane(&self) -> u32 {
        self.inner.lanes.fetch_add(1, Ordering::Relaxed).wrapping_add(1)
    }

    /// A ready connection to a broker for what is not records. Safe to drop: what was begun goes on.
    pub(crate) async fn connection(&self, broker: i32) -> Result<P::Link> {
        self.inner.pool.connection(Target::Broker(broker), Use::General.into()).await
    }

    /// Keeps all topics of the cluster known from now on.
    pub(crate) fn want_all(&self) {
        self.inner.with(|state, now| state.metadata.handle_want_all(now));
    }

    /// Says that metadata is old, as an error shows. It is asked for again, after a pause if that was
    /// done lately.
    pub(crate) fn stale(&self) {
        self.inner.with(|state, now| state.metadata.handle_stale(now));
    }

    /// Takes over leaders that came with an error (KIP-951). Says how many partitions they moved.
    pub(crate) fn hint(&self, hints: &Hints) -> usize {
        self.inner.with(|state, _| state.metadata.handle_hints(hints))
    }

    /// Says that this broker is not the coordinator of a key any more, as an error shows.
    pub(crate) fn lost_coordinator(&self, lookup: Lookup, key: &Str, broker: i32) {
        self.inner.with(|state, now| state.coordinators.handle_lost(lookup, key, broker, now));
    }

    /// Waits until the cluster was reached. Safe to drop.
    ///
    /// # Errors
    /// Why no broker answers: after `api_timeout`, or as soon as each bootstrap address was tried if
    /// trying again would not change it.
    pub(crate) async fn connect(&self) -> Result<()> {
        let deadline = clock::now() + self.inner.config.api_timeout;
        let wait = self.inner.wait(deadline, |state, now| {
            let known = state.metadata.snapshot().brokers().len() > 0;
            if !known {
                state.metadata.handle_lacking(now);
            }
            known.then_some(())
        });
        wait.await
    }

    /// Asks for metadata and waits until it was had, or was tried for. Safe to drop.
    pub(crate) async fn refresh(&self, deadline: Instant) -> Result<Arc<Snapshot>> {
        let number = self.inner.with(|state, now| {
            state.metadata.handle_stale(now);
            state.metadata.next_refresh()
        });
        let done = |state: &mut State, _| {
            let over = state.metadata.refreshed() >= number && state.metadata.error().is_none();
            over.then(|| Arc::clone(state.metadata.snapshot()))
        };
        self.inner.wait(deadline, done).await
    }

    /// The leader of a partition and its epoch; waits until there is one. Safe to drop.
    ///
    /// # Errors
    /// The topic's error if waiting is of no use; the time that is over, with what was lacking.
    pub(crate) async fn leader(
        &self,
        topic: &TopicKey,
        partition: i32,
        deadline: Instant,
    ) -> Result<(i32, i32)> {
        let look = |state: &mut State, now| {
            state.metadata.handle_want(topic.clone(), now);
            match state.metadata.snapshot().leader(topic, partition) {
                Leader::Known { broker, epoch } => return Some(Ok((broker, epoch))),
                Leader::Refused(code) => {
                    return Some(Err(Error::broker_said(code, format!("topic {topic:?}"))));
                }
                Leader::None | Leader::Unknown => {}
            }
            if !state.metadata.has_added() {
                state.metadata.handle_lacking(now);
            }
            None
        };
        self.inner.wait(deadline, look).await?
    }

    /// The coordinator of a group or transactional id; waits until it is found. Safe to drop.
    ///
    /// # Errors
    /// Why there is none for us; the time that is over.
    pub(crate) async fn coordinator(&self, lookup: Lookup, key: &Str, deadline: Instant) -> Result<i32> {
        let look = |state: &mut State, now| match state.coordinators.handle_want(lookup, key, now) {
            coordinators::Found::At(id) if state.metadata.snapshot().broker(id).is_some() => Some(Ok(id)),
            coordinators::Found::At(id) => {
                state.coordinators.handle_lost(lookup, key, id, now);
                state.metadata.handle_lacking(now);
                None
            }
            coordinators::Found::Refused(code) => Some(Err(Error::broker_said(code, "no coordinator"))),
            coordinators::Found::Wait => None,
        };
        self.inner.wait(deadline, look).await?
    }

    /// Takes no more requests, and fails those that wait for something of the cluster. Does not wait.
    pub(crate) fn close(&self) {
        self.inner.with(|state, _| state.closed = true);
        self.inner.kick.notify_one();
        self.inner.changed.send_modify(|count| *count += 1);
    }
}

impl<P: Brokers> Inner<P> {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock but a defect, and then the machines are still whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the machines hear something, and hands on what comes of it.
    pub(super) fn with<T>(&self, hear: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = clock::now();
        let mut state = self.lock();
        let (version, rounds) = (state.metadata.snapshot().version, state.metadata.rounds());
        let heard = hear(&mut state, now);
        let snapshot = Arc::clone(state.metadata.snapshot());
        if !snapshot.has_brokers_of(&state.published) {
            // Under the lock, so that an older list never comes after a newer one.
            self.pool.set_brokers(snapshot.addresses(), snapshot.cluster_id().cloned());
            state.published = Arc::clone(&snapshot);
        }
        let events = state.events();
        let next = state.next();
        let earlier = next.is_some_and(|next| state.armed.is_none_or(|armed| next < armed));
        if earlier {
            state.armed = next;
        }
        let moved = version != snapshot.version || rounds != state.metadata.rounds() || !events.is_empty();
        drop(state);
        if earlier {
            self.kick.notify_one();
        }
        for event in &events {
            self.hub.tell(event);
        }
        if moved {
            self.changed.send_modify(|count| *count += 1);
        }
        heard
    }

    /// A number to draw jitter from.
    pub(super) fn seed(&self) -> u64 {
        let mut state = self.lock();
        state.seed = state.seed.wrapping_add(1);
        state.seed
    }

    /// Tells of changes that come after this.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How much each broker has to do.
    pub(super) fn load(&self, id: i32) -> Option<usize> {
        self.pool.load(Target::Broker(id))
    }

    /// Looks until there is something to be seen, after each change of the state.
    async fn wait<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&mut State, Instant) -> Option<T>,
    ) -> Result<T> {
        loop {
            let mut changes = self.changes();
            let seen = self.with(|state, now| {
                state.usable()?;
                look(state, now).map_or_else(|| state.hope().map(|()| None), |seen| Ok(Some(seen)))
            })?;
            if let Some(seen) = seen {
                return Ok(seen);
            }
            self.pause(&mut changes, deadline).await?;
        }
    }

    /// Waits for a change, or until what is wanted has to be said again.
    ///
    /// # Errors
    /// The deadline, with what is known about why it was waited for.
    pub(super) async fn pause(&self, changes: &mut watch::Receiver<u64>, deadline: Instant) -> Result<()> {
        let patience = clock::now() + self.config.lookup_timeout;
        let waited = tokio::time::timeout_at(deadline.min(patience).into(), changes.changed()).await;
        if waited.is_err() && clock::now() >= deadline {
            return Err(self.lock().overdue());
        }
        Ok(())
    }
}

impl State {
    pub(super) fn usable(&self) -> Result<()> {
        if self.closed { Err(Error::closed("the client was closed")) } else { Ok(()) }
    }

    /// Fails if there will never be metadata.
    pub(super) fn hope(&self) -> Result<()> {
        self.metadata.hopeless().map_or(Ok(()), |error| Err(error.clone()))
    }

    /// The error of who waited for the cluster until his time was over.
    pub(super) fn overdue(&self) -> Error {
        let Some(why) = self.metadata.error() else {
            return Error::timeout("no broker has told yet who answers this");
        };
        let error = Error::timeout(format!("no broker can be reached; the last one tried: {why}"));
        let error = error.because(why.clone());
        match why.broker() {
            Some(broker) => error.with_broker(broker),
            None => error,
        }
    }

    fn next(&self) -> Option<Instant> {
        if self.closed {
            return None;
        }
        // Coordinators can be asked for only once a broker is known.
        let known = self.metadata.snapshot().brokers().len() > 0;
        let coordinators = self.coordinators.poll_timeout().filter(|_| known);
        self.metadata.poll_timeout().into_iter().chain(coordinators).min()
    }

    fn events(&mut self) -> Vec<Event> {
        let Self { metadata, coordinators, .. } = self;
        let metadata = std::iter::from_fn(|| metadata.poll_event());
        metadata.chain(std::iter::from_fn(|| coordinators.poll_event())).collect()
    }
}

/// What is to be sent for the machines.
enum Errand {
    Metadata(Ask),
    Coordinator(Find, i32),
}

/// The task: sends what the machines want, when they want it.
async fn drive<P: Brokers>(inner: Arc<Inner<P>>) {
    // They end with this task.
    let mut tasks: Vec<Task> = Vec::new();
    loop {
        while let Some(errand) = next_errand(&inner) {
            tasks.retain(|task| !task.is_finished());
            tasks.push(task::spawn(run(Arc::clone(&inner), errand)));
        }
        let kicked = inner.kick.notified();
        let armed = {
            let mut state = inner.lock();
            if state.closed {
                return;
            }
            state.armed = state.next();
            state.armed
        };
        match armed {
            Some(at) => drop(tokio::time::timeout_at(at.into(), kicked).await),
            None => kicked.await,
        }
    }
}

fn next_errand<P: Brokers>(inner: &Inner<P>) -> Option<Errand> {
    inner.with(|state, now| {
        if state.closed {
            return None;
        }
        let load = |id| inner.load(id);
        if let Some(ask) = state.metadata.poll_request(now, &load) {
            return Some(Errand::Metadata(ask));
        }
        if state.coordinators.poll_timeout().is_none_or(|at| at > now) {
            return None;
        }
        let Some(broker) = state.metadata.any(&load) else {
            // Nobody can be asked before a broker is known.
            state.metadata.handle_lacking(now);
            return None;
        };
        let find = state.coordinators.poll_request(now)?;
        Some(Errand::Coordinator(find, broker))
    })
}

async fn run<P: Brokers>(inner: Arc<Inner<P>>, errand: Errand) {
    match errand {
        Errand::Metadata(ask) => {
            let before = Arc::clone(&ask.base);
            let mut end = End { inner: &inner, ticket: ask.ticket, came: Came::Metadata(died()) };
            end.came = Came::Metadata(fetch(&inner, ask).await);
            drop(end);
            // To free what nobody looks at any more takes long too.
            if before.topics().len() >= LARGE {
                drop(task::blocking(move || drop(before)).await);
            }
        }
        Errand::Coordinator(find, broker) => {
            let mut end = End { inner: &inner, ticket: find.ticket, came: Came::Coordinators(died()) };
            end.came = Came::Coordinators(find_all(&inner, &find, broker).await);
        }
    }
}

fn died<T>() -> Result<T> {
    Err(Error::internal("a look-up died"))
}

/// What a request came to.
enum Came {
    Metadata(Result<Indexed>),
    Coordinators(Result<Vec<Said>>),
}

/// Tells the machine of the end of its request, whatever becomes of the task.
struct End<'a, P: Brokers> {
    inner: &'a Inner<P>,
    ticket: u64,
    came: Came,
}

impl<P: Brokers> Drop for End<'_, P> {
    fn drop(&mut self) {
        let came = std::mem::replace(&mut self.came, Came::Metadata(died()));
        self.inner.with(|state, now| match came {
            Came::Metadata(Ok(indexed)) => state.metadata.handle_answer(self.ticket, indexed, now),
            Came::Metadata(Err(error)) => state.metadata.handle_failure(self.ticket, &error, now),
            Came::Coordinators(said) => state.coordinators.handle_end(self.ticket, said, now),
        });
    }
}

async fn fetch<P: Brokers>(inner: &Inner<P>, ask: Ask) -> Result<Indexed> {
    let deadline = clock::now() + inner.config.lookup_timeout;
    let Ask { target, scope, base, .. } = ask;
    let link = connect(inner, target, Use::General.into(), deadline).await?;
    let config = &inner.config.metadata;
    let version = *link.usable(MetadataRequest::KEY)?.end();
    let wanted = request(&scope, &base, config.auto_create_topics, version);
    let response = link.call(&wanted, version, deadline).await?;
    let (now, forget_after) = (clock::now(), config.forget_after);
    if size(&response) + base.topics().len() < LARGE {
        return index(&base, response, &scope, now, forget_after);
    }
    task::blocking(move || index(&base, response, &scope, now, forget_after)).await?
}

fn size(response: &MetadataResponse) -> usize {
    response.topics.iter().map(|topic| 1 + topic.partitions.len()).sum()
}

async fn find_all<P: Brokers>(inner: &Inner<P>, find: &Find, broker: i32) -> Result<Vec<Said>> {
    let deadline = clock::now() + inner.config.lookup_timeout;
    let asked = async {
        let link = connect(inner, Target::Broker(broker), Use::General.into(), deadline).await?;
        let version = *link.usable(FindCoordinatorRequest::KEY)?.end();
        let mut said = Vec::new();
        for request in find.requests(version) {
            let response = link.call(&request, version, deadline).await?;
            said.extend(coordinators::read(&request, response));
        }
        Ok(said)
    };
    let said: Result<Vec<Said>> = asked.await;
    inner.with(|state, now| match &said {
        Ok(said) => {
            let found = said.iter().filter_map(|said| said.broker.as_ref().ok());
            found.for_each(|broker| state.metadata.handle_broker(broker.clone()));
        }
        Err(error) if error.is_io() || error.is_timeout() => {
            state.metadata.handle_unreachable(broker);
            state.metadata.handle_stale(now);
        }
        Err(_) => {}
    });
    said
}

/// A connection that is ready, by the deadline.
pub(super) async fn connect<P: Brokers>(
    inner: &Inner<P>,
    to: Target,
    lane: Lane,
    deadline: Instant,
) -> Result<P::Link> {
    let mut connection = std::pin::pin!(inner.pool.connection(to, lane));
    // Mostly there is one, and no time to be watched.
    if let Poll::Ready(there) = poll_fn(|cx| Poll::Ready(connection.as_mut().poll(cx))).await {
        return there;
    }
    let connected = tokio::time::timeout_at(deadline.into(), connection).await;
    connected.unwrap_or_else(|_| {
        let at = inner.pool.address(to).unwrap_or_default();
        Err(Error::timeout("it took no connection, or said nothing on it, in time").with_broker(at))
    })
}

impl<P> std::fmt::Debug for Inner<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("config", &self.config).finish_non_exhaustive()
    }
}
