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
use super::machine::Machine;
use super::outbox::Outbox;
use super::parked::{Prepared, ReadThrottle, Waiter};
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
pub(super) enum Reply {
    /// A task waits.
    Task(oneshot::Sender<Result<Option<Answer>>>),
    /// Something is to be done with it at once, by whoever has it.
    Hook(Hook),
}

type OnAnswer = Box<dyn FnOnce(Result<Option<Answer>>) + Send>;

/// Called once, whatever happens.
pub(super) struct Hook(Option<OnAnswer>);

impl Reply {
    /// Tells who waits, who may be gone: then it gives the answer back. To be called without a lock.
    pub(super) fn tell(self, answer: Result<Option<Answer>>) -> Option<Answer> {
        match self {
            Self::Task(sender) => sender.send(answer).err().and_then(Result::ok).flatten(),
            Self::Hook(mut hook) => {
                if let Some(then) = hook.0.take() {
                    then(answer);
                }
                None
            }
        }
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(died()));
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Task(_) => "Task",
            Self::Hook(_) => "Hook",
        })
    }
}

impl Waiter for Reply {
    fn is_gone(&self) -> bool {
        match self {
            Self::Task(sender) => sender.is_closed(),
            Self::Hook(_) => false,
        }
    }
}

fn died() -> Error {
    Error::internal("the connection's task died").maybe_done()
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
    kind: Use,
    /// What it is used for since it was taken over.
    taken_for: OnceLock<Use>,
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
            taken_for: OnceLock::new(),
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

    /// It serves that from now on.
    pub(super) fn take_for(&self, kind: Use) {
        let _ = self.0.taken_for.set(kind);
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
    pub(crate) async fn ended(&self) {
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
        let pending = (Pending::to::<R>(correlation, version), read_throttle::<R> as ReadThrottle);
        let started = clock::now();
        let answer = self.exchange(segments, Some(pending), patience, started).await;
        let decoded = match answer {
            Ok(Some(answer)) if is_long_work(&answer) => {
                let shared = Arc::clone(&self.0);
                let decoded = task::blocking(move || shared.decode::<R>(Some(answer))).await;
                // The answer came, whatever becomes of it here.
                decoded.map_err(Error::maybe_done).flatten()
            }
            answer => answer.and_then(|answer| self.0.decode::<R>(answer)),
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

    /// Asks the broker something, and does not wait: `then` gets what comes of it, once, whatever happens. It
    /// is called by the connection's task, or from here if the request cannot be sent, without a lock;
    /// it should be quick. Requests are sent in the order of these calls. One that is not `answered` comes to
    /// a default answer when it is on its way to the socket.
    pub(crate) fn begin<R>(
        &self,
        request: &R,
        version: i16,
        answered: bool,
        patience: Patience,
        then: impl FnOnce(Result<R::Response>) + Send + 'static,
    ) where
        R: Request + Encode,
        R::Response: Decode + Send + 'static,
    {
        let started = clock::now();
        let this = self.clone();
        let hook = Hook(Some(Box::new(move |answer| {
            then(match answer {
                Ok(None) => Ok(R::Response::default()),
                answer => {
                    this.told::<R>(version, started, answer.and_then(|answer| this.0.decode::<R>(answer)))
                }
            });
        })));
        let correlation = self.0.correlation.fetch_add(1, Relaxed);
        let encoded = encode_request(request, version, correlation, self.0.config.client_id.as_ref());
        let segments = match encoded {
            Ok(segments) => segments,
            Err(error) => return drop(Reply::Hook(hook).tell(Err(error))),
        };
        let pending =
            answered.then(|| (Pending::to::<R>(correlation, version), read_throttle::<R> as ReadThrottle));
        let prepared = self.prepare(segments, pending, patience);
        if let Err((reply, error)) = self.0.submit(prepared, Reply::Hook(hook), started) {
            drop(reply.tell(Err(error)));
        }
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
        pending: Option<(Pending, ReadThrottle)>,
        patience: Patience,
        now: Instant,
    ) -> Result<Option<Answer>> {
        let read = pending.map(|(_, read)| read);
        let prepared = self.prepare(segments, pending, patience);
        let (reply, answer) = oneshot::channel();
        self.0.submit(prepared, Reply::Task(reply), now).map_err(|(_, error)| error)?;
        let mut claim = Claim { shared: &self.0, answer, read };
        // The sender is dropped unused only if a task of ours died in between.
        (&mut claim.answer).await.unwrap_or_else(|_| Err(died()))
    }

    fn prepare(
        &self,
        segments: Segments,
        pending: Option<(Pending, ReadThrottle)>,
        patience: Patience,
    ) -> Prepared {
        let timeout = patience.timeout.unwrap_or(self.0.config.request_timeout);
        let timeout = timeout.saturating_add(patience.held);
        Prepared { segments, pending, timeout, deadline: patience.deadline }
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
                Ok(response)
            }
            Err(error) => {
                let error = error.with_broker(self.0.broker());
                self.0.hub.tell(&Event::Failed { broker, api, version, why: error.clone() });
                Err(error)
            }
        }
    }
}

/// One who waits for his answer. Whether he takes it or goes, its throttle time is obeyed.
struct Claim<'a> {
    shared: &'a Arc<Shared>,
    answer: oneshot::Receiver<Result<Option<Answer>>>,
    read: Option<ReadThrottle>,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        // It came, and was not looked at.
        if let (Ok(Ok(Some(answer))), Some(read)) = (self.answer.try_recv(), self.read) {
            self.shared.unclaimed(answer, read);
        }
    }
}

fn read_throttle<R>(answer: &Answer) -> Result<i32>
where
    R: Request,
    R::Response: Decode,
{
    Ok(answer.decode_start::<R>()?.0.throttle_time_ms())
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

    /// What it is used for.
    pub(super) fn kind(&self) -> Use {
        self.taken_for.get().copied().unwrap_or(self.kind)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        // Nothing panics under this lock but a defect, and then the state is still whole.
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
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
                    let (broker, api, version) = (Arc::clone(self.broker()), R::KEY, answer.version);
                    self.hub.tell(&Event::LeftOver { broker, api, version, bytes: left });
                }
                self.throttle(R::KEY, answer.version, response.throttle_time_ms());
                Ok(response)
            }
            Err(error) => {
                self.disbelieve(&error);
                Err(error.maybe_done())
            }
        }
    }

    /// An answer that nobody waits for any more. What it says of all that is sent here counts still.
    pub(super) fn unclaimed(self: &Arc<Self>, answer: Answer, read: ReadThrottle) {
        let hear = move |shared: &Self, answer: &Answer| match read(answer) {
            Ok(time_ms) => shared.throttle(answer.key, answer.version, time_ms),
            Err(error) => shared.disbelieve(&error),
        };
        if is_long_work(&answer) {
            let shared = Arc::clone(self);
            task::aside(move || hear(&shared, &answer));
        } else {
            hear(self, &answer);
        }
    }

    fn throttle(&self, api: ApiKey, version: i16, time_ms: i32) {
        // Brokers before KIP-219 were quiet themselves before they answered.
        if time_ms <= 0 || version < throttle::from(api) {
            return;
        }
        let mut core = self.lock();
        let time = core.machine.as_mut().and_then(|machine| machine.handle_throttle(time_ms, clock::now()));
        drop(core);
        if let Some(time) = time {
            self.hub.tell(&Event::Throttled { broker: Arc::clone(self.broker()), api, time });
        }
    }

    /// Who sends one answer that cannot be decoded cannot be believed about the next.
    fn disbelieve(&self, error: &Error) {
        self.break_off(Error::io("the broker sent what cannot be decoded").because(error.clone()));
    }

    /// Ends the connection from outside of the driver.
    fn break_off(&self, why: Error) {
        let mut core = self.lock();
        core.broken.get_or_insert(why);
        core.wake_driver();
    }

    /// Gives a request to the machine, and writes what can be written. Gives the reply back if that fails.
    fn submit(&self, prepared: Prepared, reply: Reply, now: Instant) -> Result<(), (Reply, Error)> {
        let mut core = self.lock();
        if let Some(ended) = &core.ended {
            return Err((reply, Error::io("the connection has ended").because(ended.why.clone())));
        }
        let Some(machine) = &mut core.machine else {
            return Err((reply, Error::internal("a request before the connection is ready")));
        };
        machine.submit(reply, prepared, now)?;
        core.write_now(now);
        let sent: Vec<Reply> = core.take_sent().collect();
        drop(core);
        for reply in sent {
            drop(reply.tell(Ok(None)));
        }
        Ok(())
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
        let (broker, kind) = (self.0.broker(), self.0.kind());
        f.debug_struct("Connection").field("broker", broker).field("kind", &kind).finish_non_exhaustive()
    }
}
