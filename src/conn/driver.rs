//! The task of one connection: it reaches the broker, then moves bytes between the socket and the
//! machine until the machine says that it is over. It decides nothing about Kafka.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Sleep;

use super::connection::{Core, Ended, Reply, Shared};
use super::handshake::Expected;
use super::machine::{Machine, Output};
use super::outbox::Outbox;
use super::sasl::{Peer, Session};
use super::time::after;
use crate::frame::Frames;
use crate::net::{self, Address, BoxFuture, Dialer, Link, Origin, clock};
use crate::observe::Event;
use crate::wire::HiddenBytes;
use crate::{Error, Result, Secret};

/// Turns of the loop before other tasks get theirs.
const TURNS_MAX: usize = 32;

/// The driver wakes at least this often.
const TICK_MAX: Duration = Duration::from_secs(30);

/// Spare buffers of a connection that has been silent for this long are given up.
const BUFFERS_KEPT: Duration = Duration::from_secs(10);

/// Where to, and when.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) dialer: Dialer,
    pub(super) address: Address,
    pub(super) origin: Origin,
    pub(super) expected: Expected,
    pub(super) not_before: Option<Instant>,
    pub(super) setup_timeout: Duration,
    pub(super) ask_version: i16,
    pub(super) chance: u64,
}

/// Lives as long as the connection. Whatever happens to this future (it is never polled, a panic, the end
/// of the runtime, the end of the client), all who wait on the connection are told.
pub(super) fn run(shared: Arc<Shared>, start: Start) -> impl Future<Output = ()> + Send + 'static {
    let guard = Guard(shared);
    async move {
        let opened = guard.0.unless_closing(open(&guard.0, start)).await;
        match opened {
            Ok(driver) => driver.await,
            Err(error) => guard.0.finish(error, false),
        }
    }
}

async fn open(shared: &Arc<Shared>, start: Start) -> Result<Driver> {
    let Start { dialer, address, origin, expected, setup_timeout, ask_version, chance, not_before } = start;
    if let Some(time) = not_before {
        clock::sleep_until(time).await;
    }
    let began = clock::now();
    let setup_by = after(began, setup_timeout);
    let Link { reader, writer, encrypted, at, .. } = dialer.dial(&address, origin, setup_by).await?;
    let config = &shared.config;
    if let Some(mechanism) = &config.sasl
        && mechanism.wants_encryption()
        && !encrypted
        && !config.sasl_in_the_clear
    {
        let name = mechanism.name();
        return Err(Error::auth(format!(
            "{name} would show a secret without TLS, and was not told that it may"
        )));
    }
    let machine = Machine::start(Arc::clone(config), expected, ask_version, setup_by, chance, clock::now())?;
    let frames = Frames::new(config.early_frame_max);
    let peer = Peer { host: address.host().to_owned(), port: address.port(), encrypted };
    let mut core = shared.lock();
    if core.closing {
        return Err(Error::closed("before the connection was ready"));
    }
    core.machine = Some(machine);
    core.outbox = Some(Outbox::new(writer));
    drop(core);
    let timer = Box::pin(clock::sleep_until(setup_by));
    Ok(Driver {
        shared: Arc::clone(shared),
        at: at.map(|at| (dialer, at)),
        reader,
        frames,
        peer,
        session: Talk::Nobody,
        timer,
        began,
        said_at: began,
        last_read: began,
        outputs: Vec::new(),
        sent: Vec::new(),
    })
}

/// A session, as far as it has come.
type Said = (Box<dyn Session>, Option<Secret>);

/// Who speaks in an authentication.
enum Talk {
    Nobody,
    /// The session works on what it says next.
    Session(BoxFuture<'static, Result<Said>>),
    /// It is the broker's turn.
    Broker(Box<dyn Session>),
}

/// What a look at the socket came to.
struct Read {
    /// Bytes came.
    some: bool,
    /// Whether there is more, or the end, or nothing for now.
    after: Poll<Result<()>>,
}

struct Driver {
    shared: Arc<Shared>,
    /// The address that took the connection, until it was of use.
    at: Option<(Dialer, SocketAddr)>,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    frames: Frames,
    peer: Peer,
    session: Talk,
    timer: Pin<Box<Sleep>>,
    began: Instant,
    /// When the authentication at hand began.
    said_at: Instant,
    last_read: Instant,
    /// Empty between turns; kept for its memory.
    outputs: Vec<Output<Reply>>,
    /// Those whose requests have left and have no answer; likewise.
    sent: Vec<Reply>,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        for turn in 1..=TURNS_MAX {
            let mut news = this.poll_session(cx);
            let read = this.poll_read(cx);
            news |= read.after.is_ready();
            // After a standstill of this process all times are over, and yet answers may be there to be
            // read: they are, first.
            let now = clock::now();
            let mut outputs = std::mem::take(&mut this.outputs);
            this.turn(read, now, turn == TURNS_MAX, cx, &mut outputs);
            for reply in this.sent.drain(..) {
                drop(reply.tell(Ok(None)));
            }
            for output in outputs.drain(..) {
                // To tell someone his answer changes nothing here; whatever else is done may.
                news |= !matches!(output, Output::Answered(..) | Output::Failed(..));
                if this.act(output) {
                    return Poll::Ready(());
                }
            }
            this.outputs = outputs;
            if !news && !this.is_due(now, cx) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Driver {
    /// Lets the session work, and tells the machine what it says.
    fn poll_session(&mut self, cx: &mut Context<'_>) -> bool {
        let Talk::Session(session) = &mut self.session else { return false };
        let Poll::Ready(said) = session.as_mut().poll(cx) else { return false };
        let mut over = false;
        let token = said.map(|(session, token)| {
            over = token.is_some() && session.is_over();
            self.session = if token.is_some() { Talk::Broker(session) } else { Talk::Nobody };
            token
        });
        let mut core = self.shared.lock();
        if let Some(machine) = &mut core.machine {
            machine.handle_said(token, clock::now());
            if over {
                machine.handle_said(Ok(None), clock::now());
            }
        }
        true
    }

    /// Reads what there is; and again at once after that, so that mostly it is known in the same turn that
    /// there is no more for now, and one turn is all that an answer takes.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Read {
        let mut read = Read { some: false, after: Poll::Pending };
        for _ in 0..2 {
            read.after = match pin!(self.reader.read_buf(self.frames.space())).poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Ok(0)) => Poll::Ready(Err(Error::io("the broker closed the connection"))),
                Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
                Poll::Ready(Err(error)) => Poll::Ready(Err(net::lost(error))),
            };
            if !matches!(read.after, Poll::Ready(Ok(()))) {
                break;
            }
            read.some = true;
        }
        read
    }

    /// Gives the machine what was read and the time, writes what it has, and takes what it wants done.
    fn turn(
        &mut self,
        read: Read,
        now: Instant,
        last: bool,
        cx: &mut Context<'_>,
        outputs: &mut Vec<Output<Reply>>,
    ) {
        let mut core = self.shared.lock();
        let core = &mut *core;
        let Core { machine: Some(machine), broken, .. } = core else { return };
        if read.some {
            self.last_read = now;
            loop {
                match self.frames.next_frame() {
                    Ok(Some(frame)) => machine.handle_frame(frame, now),
                    Ok(None) => break,
                    Err(error) => {
                        machine.handle_lost(error);
                        break;
                    }
                }
            }
        }
        if read.after.is_pending() || last {
            machine.handle_timeout(now);
        }
        if let Poll::Ready(Err(error)) = read.after {
            machine.handle_lost(error);
        }
        if let Some(error) = broken.take() {
            machine.handle_lost(error);
        }
        if let Err(error) = core.write(now, cx)
            && let Some(machine) = &mut core.machine
        {
            machine.handle_lost(error);
        }
        if !core.driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            core.driver = Some(cx.waker().clone());
        }
        let Some(machine) = &mut core.machine else { return };
        // Woken at least once in a while, so that a request on an idle connection need not wake us only to
        // say how long it waits. An alarm that comes too soon costs less than setting it at each turn.
        let latest = after(now, self.shared.config.request_timeout.min(TICK_MAX));
        let due = machine.poll_timeout().map_or(latest, |due| due.min(latest));
        if core.armed.is_none_or(|armed| due < armed || armed <= now) {
            core.armed = Some(due);
            self.timer.as_mut().reset(due.into());
        }
        while let Some(output) = machine.poll_output() {
            outputs.push(output);
        }
        self.sent.extend(core.take_sent());
        if let Some(Output::Dead { why, old }) = outputs.last() {
            // Seen by all from now on, before anyone hears of it: nobody counts on a dead connection.
            let why = why.clone().with_broker(self.shared.broker());
            core.end(why, *old, now);
        }
    }

    fn is_due(&mut self, now: Instant, cx: &mut Context<'_>) -> bool {
        let due = self.timer.as_mut().poll(cx).is_ready();
        if due && now.saturating_duration_since(self.last_read) >= BUFFERS_KEPT {
            self.frames.release();
        }
        due
    }

    /// Does what the machine wants; true if that is the end.
    fn act(&mut self, output: Output<Reply>) -> bool {
        let shared = &self.shared;
        let (broker, kind) = (Arc::clone(shared.broker()), shared.kind());
        match output {
            Output::Answered(reply, answer, read) => {
                let unclaimed = match reply {
                    Some(reply) => reply.tell(Ok(Some(answer))),
                    None => Some(answer),
                };
                if let Some(answer) = unclaimed {
                    shared.unclaimed(answer, read);
                }
            }
            Output::Failed(reply, error) => drop(reply.tell(Err(error))),
            Output::Begin => self.begin_session(),
            Output::Respond(challenge) => self.respond(challenge),
            Output::Authenticated { again } => {
                let elapsed = clock::now().saturating_duration_since(self.said_at);
                let mechanism = shared.config.sasl.as_ref().map_or("", |mechanism| mechanism.name()).into();
                shared.hub.tell(&Event::Authenticated { broker, mechanism, again, elapsed });
            }
            Output::Ready(versions) => {
                self.at = None;
                self.frames.set_limit(shared.config.frame_max);
                let elapsed = clock::now().saturating_duration_since(self.began);
                shared.lock().ready_at = Some(clock::now());
                drop(shared.versions.set(versions));
                shared.changed.notify_waiters();
                shared.hub.tell(&Event::Connected { broker, kind, elapsed });
            }
            Output::Dead { why, old } => {
                // The name's other addresses first, the next time.
                if let Some((dialer, at)) = self.at.take() {
                    dialer.avoid(at);
                }
                shared.finish(why, old);
                return true;
            }
        }
        false
    }

    fn begin_session(&mut self) {
        let Some(mechanism) = self.shared.config.sasl.clone() else { return };
        let peer = self.peer.clone();
        self.said_at = clock::now();
        self.session = Talk::Session(Box::pin(async move {
            let mut session = mechanism.begin(&peer).await?;
            let token = session.respond(None).await?;
            Ok((session, token))
        }));
    }

    fn respond(&mut self, challenge: HiddenBytes) {
        if let Talk::Broker(mut session) = std::mem::replace(&mut self.session, Talk::Nobody) {
            self.session = Talk::Session(Box::pin(async move {
                let token = session.respond(Some(&challenge)).await?;
                Ok((session, token))
            }));
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A word of goodbye where the socket takes it at once; nobody waits for it.
        if let Some(mut outbox) = self.shared.lock().outbox.take() {
            drop(outbox.poll_shutdown(&mut Context::from_waker(std::task::Waker::noop())));
        }
    }
}

impl Core {
    /// Notes how the connection ended, unless that was noted.
    fn end(&mut self, why: Error, old: bool, now: Instant) {
        let ready_for = self.ready_at.map(|since| now.saturating_duration_since(since));
        self.ended.get_or_insert(Ended { why, old, at: now, ready_for });
    }
}

impl Shared {
    /// What the future gives, unless the connection is closed before. The future is a user's code in
    /// part, and polled without the lock.
    async fn unless_closing<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        let mut future = pin!(future);
        poll_fn(|cx| {
            let mut core = self.lock();
            if core.closing {
                return Poll::Ready(Err(Error::closed("before the connection was ready")));
            }
            core.driver = Some(cx.waker().clone());
            drop(core);
            future.as_mut().poll(cx)
        })
        .await
    }

    /// Notes how the connection ended, and tells, once.
    fn finish(&self, why: Error, old: bool) {
        let mut core = self.lock();
        core.end(why.with_broker(self.broker()), old, clock::now());
        core.driver = None;
        let Some(ended) = core.ended.clone() else { return };
        let told = std::mem::replace(&mut core.told, true);
        drop(core);
        if told {
            return;
        }
        self.changed.notify_waiters();
        let (broker, kind, why) = (Arc::clone(self.broker()), self.kind(), ended.why);
        let event = match ended.ready_for {
            Some(_) => Event::Lost { broker, kind, why },
            None => Event::ConnectFailed { broker, kind, why },
        };
        self.hub.tell(&event);
    }
}

/// Tells all who wait, in whatever way the task ends.
struct Guard(Arc<Shared>);

impl Drop for Guard {
    fn drop(&mut self) {
        let why = if std::thread::panicking() {
            Error::internal("the connection's task panicked")
        } else {
            Error::closed("the client or its runtime has ended")
        };
        self.0.finish(why.clone(), false);
        let mut core = self.0.lock();
        let machine = core.machine.take();
        core.outbox = None;
        drop(core);
        if let Some(mut machine) = machine {
            machine.handle_lost(why);
            while let Some(output) = machine.poll_output() {
                if let Output::Failed(reply, error) = output {
                    drop(reply.tell(Err(error)));
                }
            }
        }
    }
}
