//! A connection as its users see it: a handle to the machine that its driver runs.
//!
//! A request is encoded by the caller, handed to the machine under a short lock, and, if nothing else
//! waits to be written, written at once by the caller: the driver need not be woken for it. Its answer
//! comes back by a channel of one, and is decoded by the caller.

use std::fmt;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::config::Config;
use super::machine::{Machine, Prepared, Waiter};
use super::outbox::Outbox;
use super::throttle;
use super::versions::Versions;
use crate::frame::{Answer, Pending, encode_request};
use crate::net::{self, clock, task};
use crate::observe::{Event, Hub, Use};
use crate::wire::{ApiKey, Decode, Encode, Message, Request, Segments};
use crate::{Error, Result};

/// Bytes of an answer beyond which it is decoded on a thread where that holds nobody up.
const ANSWER_LARGE: usize = 128 << 10;

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<Option<Answer>>>;

impl Waiter for Reply {
    fn is_gone(&self) -> bool {
        self.is_closed()
    }
}

/// How long a request may take.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Patience {
    /// How long the broker may take to answer, from when the request was sent or the answer before it
    /// came, whichever is later; the connection's own setting if it is not said. After that the
    /// connection is closed: nothing behind an answer that does not come can come either.
    pub(crate) timeout: Option<Duration>,
    /// How long the request lets the broker wait before it answers: in addition to that.
    pub(crate) held: Duration,
    /// When the caller gives up. The connection goes on.
    pub(crate) deadline: Option<Instant>,
}

/// A connection to a broker: ready, on its way to be, or ended. Clones are the same connection.
#[derive(Clone)]
pub(crate) struct Connection(pub(super) Arc<Shared>);

/// What the driver and the users of a connection share.
pub(super) struct Shared {
    broker: Arc<str>,
    /// The broker's name, where that was found out when it was connected.
    renamed: OnceLock<Arc<str>>,
    pub(super) kind: Use,
    pub(super) hub: Hub,
    pub(super) config: Arc<Config>,
    correlation: AtomicI32,
    pub(super) versions: OnceLock<Arc<Versions>>,
    core: Mutex<Core>,
    /// It became ready, or ended.
    pub(super) changed: Notify,
}

/// What is behind the lock.
#[derive(Debug, Default)]
pub(super) struct Core {
    /// None until the broker was reached.
    pub(super) machine: Option<Machine<Reply>>,
    pub(super) outbox: Option<Outbox>,
    /// Wakes the driver.
    pub(super) driver: Option<Waker>,
    /// When the driver wakes by itself at the latest.
    pub(super) armed: Option<Instant>,
    /// Writing failed where the driver did not see it.
    pub(super) broken: Option<Error>,
    pub(super) closing: bool,
    /// When it became ready.
    pub(super) ready_at: Option<Instant>,
    pub(super) ended: Option<Ended>,
    /// All were told that it ended.
    pub(super) told: bool,
}

/// How a connection ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) why: Error,
    /// Perhaps because the broker does not know the question for versions.
    pub(super) old: bool,
    pub(super) at: Instant,
    /// How long it was ready, if it was.
    pub(super) ready_for: Option<Duration>,
}

impl Connection {
    pub(super) fn new(broker: Arc<str>, kind: Use, hub: Hub, config: Arc<Config>) -> Self {
        Self(Arc::new(Shared {
            broker,
            renamed: OnceLock::new(),
            kind,
            hub,
            config,
            correlation: AtomicI32::new(0),
            versions: OnceLock::new(),
            core: Mutex::default(),
            changed: Notify::new(),
        }))
    }

    /// It is known now who is at the other end.
    pub(super) fn rename(&self, broker: Arc<str>) {
        let _ = self.0.renamed.set(broker);
    }

    /// Waits until requests are taken, and tells what the broker can do. Fails if the connection
    /// cannot be made, or has ended meanwhile. Safe to drop.
    pub(crate) async fn ready(&self) -> Result<&Arc<Versions>> {
        if let Some(versions) = self.0.versions.get()
            && self.0.lock().ended.is_none()
        {
            return Ok(versions);
        }
        loop {
            let changed = self.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if let Some(ended) = &self.0.lock().ended {
                return Err(ended.why.clone());
            }
            if let Some(versions) = self.0.versions.get() {
                return Ok(versions);
            }
            changed.await;
        }
    }

    /// What the broker can do, once the connection was ready.
    pub(crate) fn versions(&self) -> Result<&Arc<Versions>> {
        self.0.versions.get().ok_or_else(|| Error::internal("versions before the connection is ready"))
    }

    /// Waits until the connection has ended. Safe to drop.
    pub(super) async fn ended(&self) {
        loop {
            let changed = self.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            if self.0.lock().ended.is_some() {
                return;
            }
            changed.await;
        }
    }

    /// Asks the broker something and waits for its answer: once, on this connection. The answer may
    /// hold error codes; that is for the caller to see.
    ///
    /// When the future is dropped, a request that was not sent never will be, and the answer to one
    /// that was is thrown away.
    ///
    /// # Errors
    /// [`may_have_happened`](Error::may_have_happened) tells whether the request had left.
    pub(crate) async fn call<R>(&self, request: &R, version: i16, patience: Patience) -> Result<R::Response>
    where
        R: Request + Encode,
        R::Response: Decode + Send + 'static,
    {
        let correlation = self.0.correlation.fetch_add(1, Relaxed);
        let segments = encode_request(request, version, correlation, self.0.config.client_id.as_ref())?;
        let pending = Pending::to::<R>(correlation, version);
        let started = clock::now();
        let answer = self.exchange(segments, Some(pending), patience, started).await;
        let decoded = match answer {
            Ok(Some(answer)) if is_long_work(&answer) => {
                let this = self.clone();
                let decoded = task::blocking(move || this.decode::<R>(Some(answer))).await;
                // The answer came, whatever becomes of it here.
                decoded.map_err(Error::maybe_done).flatten()
            }
            answer => answer.and_then(|answer| self.decode::<R>(answer)),
        };
        self.told::<R>(version, started, decoded)
    }

    /// Sends a request that brokers do not answer: a produce request with `acks` 0. Done when the
    /// request is on its way to the socket.
    pub(crate) async fn send<R>(&self, request: &R, version: i16, patience: Patience) -> Result<()>
    where
        R: Request + Encode,
    {
        let correlation = self.0.correlation.fetch_add(1, Relaxed);
        let segments = encode_request(request, version, correlation, self.0.config.client_id.as_ref())?;
        let started = clock::now();
        let sent = self.exchange(segments, None, patience, started).await;
        sent.map(|_| ()).map_err(|error| error.with_broker(self.0.broker()))
    }

    /// Whether requests are taken, now or soon.
    pub(crate) fn is_open(&self) -> bool {
        let core = self.0.lock();
        core.ended.is_none() && !core.closing && core.machine.as_ref().is_none_or(Machine::is_open)
    }

    /// Whether it was made before it was known to whom, and has nothing to do now.
    pub(super) fn is_spare(&self) -> bool {
        self.0.renamed.get().is_some() && self.is_open() && self.load() == 0
    }

    /// Requests that wait on this connection.
    pub(crate) fn load(&self) -> usize {
        self.0.lock().machine.as_ref().map_or(0, Machine::load)
    }

    /// Takes no more requests, and ends when those it has are done.
    pub(super) fn close(&self) {
        let mut core = self.0.lock();
        core.closing = true;
        if let Some(machine) = &mut core.machine {
            machine.close(clock::now());
        }
        core.wake_driver();
    }

    pub(super) fn end_of(&self) -> Option<Ended> {
        self.0.lock().ended.clone()
    }

    async fn exchange(
        &self,
        segments: Segments,
        pending: Option<Pending>,
        patience: Patience,
        now: Instant,
    ) -> Result<Option<Answer>> {
        let timeout = patience.timeout.unwrap_or(self.0.config.request_timeout);
        let timeout = timeout.saturating_add(patience.held);
        let prepared = Prepared { segments, pending, timeout, deadline: patience.deadline };
        let answer = self.0.submit(prepared, now)?;
        // The sender is dropped unused only if a task of ours died in between.
        answer.await.unwrap_or_else(|_| Err(Error::internal("the connection's task died").maybe_done()))
    }

    fn decode<R>(&self, answer: Option<Answer>) -> Result<R::Response>
    where
        R: Request,
        R::Response: Decode,
    {
        let Some(answer) = answer else { return Err(Error::internal("no answer")) };
        match answer.decode_start::<R>() {
            Ok((response, left)) => {
                if left > 0 {
                    let (broker, api, version) = (Arc::clone(self.0.broker()), R::KEY, answer.version);
                    self.0.hub.tell(&Event::LeftOver { broker, api, version, bytes: left });
                }
                Ok(response)
            }
            Err(error) => {
                // Who sends one such answer cannot be believed about the next.
                self.0.break_off(Error::io("the broker sent what cannot be decoded").because(error.clone()));
                Err(error.maybe_done())
            }
        }
    }

    fn told<R: Request>(
        &self,
        version: i16,
        started: Instant,
        result: Result<R::Response>,
    ) -> Result<R::Response> {
        let (broker, api) = (Arc::clone(self.0.broker()), R::KEY);
        match result {
            Ok(response) => {
                let elapsed = clock::now().saturating_duration_since(started);
                self.0.hub.tell(&Event::Answered { broker, api, version, elapsed });
                if response.throttle_time_ms() > 0 {
                    self.throttle(R::KEY, version, response.throttle_time_ms());
                }
                Ok(response)
            }
            Err(error) => {
                let error = error.with_broker(self.0.broker());
                self.0.hub.tell(&Event::Failed { broker, api, version, why: error.clone() });
                Err(error)
            }
        }
    }

    fn throttle(&self, api: ApiKey, version: i16, time_ms: i32) {
        // Brokers before KIP-219 were quiet themselves before they answered.
        if version < throttle::from(api) {
            return;
        }
        let machine_told = |machine: &mut Machine<Reply>| machine.handle_throttle(time_ms, clock::now());
        let time = self.0.lock().machine.as_mut().and_then(machine_told);
        if let Some(time) = time {
            self.0.hub.tell(&Event::Throttled { broker: Arc::clone(self.0.broker()), api, time });
        }
    }
}

/// Whether decoding an answer would hold up other tasks: a megabyte of metadata takes several
/// milliseconds. Records are not decoded here, however many there are.
fn is_long_work(answer: &Answer) -> bool {
    answer.body.len() > ANSWER_LARGE && !matches!(answer.key, ApiKey::FETCH | ApiKey::SHARE_FETCH)
}

impl Shared {
    /// The broker, as people name it.
    pub(super) fn broker(&self) -> &Arc<str> {
        self.renamed.get().unwrap_or(&self.broker)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // Nothing panics under this lock but a defect, and then the state is still whole.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection from outside of the driver.
    fn break_off(&self, why: Error) {
        let mut core = self.lock();
        core.broken.get_or_insert(why);
        core.wake_driver();
    }

    fn submit(&self, prepared: Prepared, now: Instant) -> Result<oneshot::Receiver<Result<Option<Answer>>>> {
        let (reply, answer) = oneshot::channel();
        let mut core = self.lock();
        if let Some(ended) = &core.ended {
            return Err(Error::io("the connection has ended").because(ended.why.clone()));
        }
        let Some(machine) = &mut core.machine else {
            return Err(Error::internal("a request before the connection is ready"));
        };
        machine.submit(reply, prepared, now).map_err(|(_, error)| error)?;
        core.write_now(now);
        let sent: Vec<Reply> = core.take_sent().collect();
        drop(core);
        for reply in sent {
            drop(reply.send(Ok(None)));
        }
        Ok(answer)
    }
}

impl Core {
    /// Writes what the machine has for the broker, as far as the socket takes it, and tells the machine.
    pub(super) fn write(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<()> {
        let (Some(machine), Some(outbox)) = (&mut self.machine, &mut self.outbox) else { return Ok(()) };
        if !machine.has_transmit() && outbox.is_empty() {
            return Ok(());
        }
        loop {
            while let Some(segments) = machine.poll_transmit() {
                outbox.push(segments);
            }
            match outbox.poll_write(cx) {
                Poll::Ready(written) => written.map_err(net::lost)?,
                Poll::Pending => {
                    machine.handle_written(false, now);
                    return Ok(());
                }
            }
            machine.handle_written(true, now);
            // What waited for the socket can go now.
            if !machine.has_transmit() {
                return Ok(());
            }
        }
    }

    /// Writes from the caller's task what the machine has, if the socket takes it; else the driver will.
    fn write_now(&mut self, now: Instant) {
        // What is there already waits for the socket, and the driver with it.
        if self.outbox.as_ref().is_some_and(Outbox::is_empty) {
            // When the socket is full its readiness must wake the driver, not this task: the driver is
            // woken now, and asks again.
            if let Err(error) = self.write(now, &mut Context::from_waker(Waker::noop())) {
                self.broken.get_or_insert(error);
            }
        }
        let full = self.outbox.as_ref().is_some_and(|outbox| !outbox.is_empty());
        let Some(machine) = &self.machine else { return };
        let due = machine.poll_timeout();
        let late = due.is_some_and(|due| self.armed.is_none_or(|armed| due < armed));
        if full || late || self.broken.is_some() || machine.has_output() {
            self.wake_driver();
        }
    }

    /// Who waits for a request that has no answer, and is on its way now. To be told without the lock.
    pub(super) fn take_sent(&mut self) -> impl Iterator<Item = Reply> {
        // Where writing has failed, the driver will tell the machine, and they are told that.
        let whole = self.broken.is_none();
        std::iter::from_fn(move || self.machine.as_mut().filter(|_| whole)?.poll_sent())
    }

    pub(super) fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (broker, kind) = (self.0.broker(), self.0.kind);
        f.debug_struct("Connection").field("broker", broker).field("kind", &kind).finish_non_exhaustive()
    }
}
