//! The task of one connection: it reaches the broker, then moves bytes between the socket and the
//! machine until the machine says that it is over. It decides nothing about Kafka.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::time::Sleep;

use super::connection::{Core, Ended, Reply, Shared};
use super::handshake::Expected;
use super::machine::{Machine, Output};
use super::outbox::Outbox;
use super::sasl::{Peer, Session};
use crate::frame::Frames;
use crate::net::{self, Address, BoxFuture, Dialer, Link, Origin, clock};
use crate::observe::Event;
use crate::wire::HiddenBytes;
use crate::{Error, Result, Secret};

/// Turns of the loop before other tasks get theirs.
const TURNS_MAX: usize = 32;

/// Where to, and when.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) dialer: Dialer,
    pub(super) address: Address,
    pub(super) origin: Origin,
    pub(super) expected: Expected,
    pub(super) not_before: Option<Instant>,
    pub(super) setup_timeout: std::time::Duration,
    pub(super) ask_version: i16,
    pub(super) chance: u64,
}

/// Lives as long as the connection. Whatever happens to this future (a panic, the end of the runtime,
/// the end of the client), all who wait on the connection are told.
pub(super) async fn run(shared: Arc<Shared>, start: Start) {
    let guard = Guard(shared);
    if let Some(time) = start.not_before {
        clock::sleep_until(time).await;
    }
    let began = clock::now();
    match open(&guard.0, start, began).await {
        Ok(driver) => driver.await,
        Err(error) => guard.0.finish(error, false),
    }
}

async fn open(shared: &Arc<Shared>, start: Start, began: Instant) -> Result<Driver> {
    let Start { dialer, address, origin, expected, setup_timeout, ask_version, chance, .. } = start;
    let setup_by = began + setup_timeout;
    let Link { reader, writer, encrypted, .. } = dialer.dial(&address, origin, setup_by).await?;
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
        reader,
        frames,
        peer,
        session: Talk::Nobody,
        timer,
        began,
        said_at: began,
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

struct Driver {
    shared: Arc<Shared>,
    reader: Box<dyn AsyncRead + Send + Unpin>,
    frames: Frames,
    peer: Peer,
    session: Talk,
    timer: Pin<Box<Sleep>>,
    began: Instant,
    /// When the authentication at hand began.
    said_at: Instant,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        for _ in 0..TURNS_MAX {
            let mut news = this.poll_session(cx);
            let read = this.poll_read(cx);
            news |= matches!(read, Poll::Ready(Ok(())));
            let outputs = this.turn(read, cx);
            for output in outputs {
                news = true;
                if this.act(output) {
                    return Poll::Ready(());
                }
            }
            if !news && !this.is_due(cx) {
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
        let token = said.map(|(session, token)| {
            self.session = if token.is_some() { Talk::Broker(session) } else { Talk::Nobody };
            token
        });
        let mut core = self.shared.lock();
        if let Some(machine) = &mut core.machine {
            machine.handle_said(token, clock::now());
        }
        true
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<()>> {
        match pin!(self.reader.read_buf(self.frames.space())).poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Error::io("the broker closed the connection"))),
            Poll::Ready(Ok(_)) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(net::lost(error))),
        }
    }

    /// Gives the machine what was read and the time, writes what it has, and takes what it wants done.
    fn turn(&mut self, read: Poll<Result<()>>, cx: &mut Context<'_>) -> Vec<Output<Reply>> {
        let now = clock::now();
        let mut core = self.shared.lock();
        let Core { machine: Some(machine), broken, .. } = &mut *core else { return Vec::new() };
        if let Poll::Ready(Ok(())) = read {
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
        machine.handle_timeout(now);
        if let Poll::Ready(Err(error)) = read {
            machine.handle_lost(error);
        }
        if let Some(error) = broken.take() {
            machine.handle_lost(error);
        }
        core.fill_outbox();
        if let Some(Poll::Ready(Err(error))) = core.outbox.as_mut().map(|outbox| outbox.poll_write(cx))
            && let Some(machine) = &mut core.machine
        {
            machine.handle_lost(net::lost(error));
        }
        if !core.driver.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            core.driver = Some(cx.waker().clone());
        }
        // Woken at least once in a while, so that a request on an idle connection need not wake us only to
        // say how long it waits.
        let latest = now + self.shared.config.request_timeout;
        let armed =
            core.machine.as_ref().and_then(Machine::poll_timeout).map_or(latest, |due| due.min(latest));
        if core.armed != Some(armed) {
            core.armed = Some(armed);
            self.timer.as_mut().reset(armed.into());
        }
        std::iter::from_fn(|| core.machine.as_mut().and_then(Machine::poll_output)).collect()
    }

    fn is_due(&mut self, cx: &mut Context<'_>) -> bool {
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Does what the machine wants; true if that is the end.
    fn act(&mut self, output: Output<Reply>) -> bool {
        let shared = &self.shared;
        let (broker, kind) = (Arc::clone(&shared.broker), shared.kind);
        match output {
            // Who asked may be gone.
            Output::Answered(reply, answer) => drop(reply.send(Ok(answer))),
            Output::Failed(reply, error) => drop(reply.send(Err(error))),
            Output::Begin => self.begin_session(),
            Output::Respond(challenge) => self.respond(challenge),
            Output::Authenticated { again } => {
                let elapsed = clock::now().saturating_duration_since(self.said_at);
                let mechanism = shared.config.sasl.as_ref().map_or("", |mechanism| mechanism.name()).into();
                shared.hub.tell(&Event::Authenticated { broker, mechanism, again, elapsed });
            }
            Output::Ready(versions) => {
                self.frames.set_limit(shared.config.frame_max);
                let elapsed = clock::now().saturating_duration_since(self.began);
                drop(shared.versions.set(versions));
                shared.changed.notify_waiters();
                shared.hub.tell(&Event::Connected { broker, kind, elapsed });
            }
            Output::Dead { why, old } => {
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

impl Shared {
    /// Notes how the connection ended, and tells.
    fn finish(&self, why: Error, old: bool) {
        let why = why.with_broker(&self.broker);
        let mut core = self.lock();
        if core.ended.is_some() {
            return;
        }
        let ended = Ended { why: why.clone(), old, at: clock::now() };
        core.ended = Some(ended);
        core.driver = None;
        drop(core);
        self.changed.notify_waiters();
        let (broker, kind) = (Arc::clone(&self.broker), self.kind);
        let event = match self.versions.get() {
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
        let why = match std::thread::panicking() {
            true => Error::internal("the connection's task panicked"),
            false => Error::closed("the client or its runtime has ended"),
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
                    drop(reply.send(Err(error)));
                }
            }
        }
    }
}
