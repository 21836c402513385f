//! The sockets of a proxy: one thread with a runtime of its own, one task that accepts, one for each link.
//!
//! A link's task reads while its machine wants bytes, writes what the machine gives, and holds no more than
//! one read and one write a direction beside the machine's queue.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::log::EventKind;
use super::machine::{DIRECTIONS, Link, Out, Rules};
use super::rule::{Direction, End};

/// Links that a proxy carries at a time; a client beyond them is reset.
const LINKS_MAX: usize = 4096;

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

/// Bytes taken from a socket at a time.
const READ_MAX: usize = 16 << 10;

/// The broker is near; it answers at once or not at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// After a clean close the peers have this long to read it before unread bytes make it a reset.
const CLOSE_GRACE: Duration = Duration::from_millis(200);

/// Between two tries to get a socket from the system.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// Without a timer: as good as never.
const NEVER: Duration = Duration::from_hours(24);

/// What the handle and the tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Wakes tasks when rules change.
    rules_changed: watch::Sender<()>,
    /// Wakes async waiters when the log grows.
    pub(super) log_changed: watch::Sender<()>,
    /// Wakes blocking waiters when the log grows, and when the door moves.
    grew: Condvar,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) rules: Rules,
    pub(super) upstream: Option<SocketAddr>,
    /// Whether the port listens.
    pub(super) listens: bool,
}

impl State {
    /// What others wait for a change of.
    fn versions(&self) -> (u64, u64, bool) {
        (self.rules.generation(), self.rules.log.version(), self.listens)
    }
}

impl Shared {
    pub(super) fn new(seed: u64, upstream: Option<SocketAddr>) -> Self {
        Self {
            state: Mutex::new(State { rules: Rules::new(seed), upstream, listens: true }),
            rules_changed: watch::Sender::new(()),
            log_changed: watch::Sender::new(()),
            grew: Condvar::new(),
        }
    }

    /// Works on the state and wakes whoever waits for what changed.
    pub(super) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.versions();
        let done = work(&mut state);
        let after = state.versions();
        drop(state);
        if before.0 != after.0 {
            self.rules_changed.send_replace(());
        }
        if before.1 != after.1 {
            self.log_changed.send_replace(());
        }
        if before != after {
            self.grew.notify_all();
        }
        done
    }

    /// Blocks until the state is as wanted, or until the time is over: whether it is.
    pub(super) fn wait(&self, time: Duration, mut wanted: impl FnMut(&State) -> bool) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.grew.wait_timeout_while(state, time, |state| !wanted(state));
        let (state, _) = done.unwrap_or_else(PoisonError::into_inner);
        wanted(&state)
    }
}

/// Runs a proxy until `stop` resolves; tells its address, or why there is none, first.
pub(super) fn run(
    shared: &Arc<Shared>,
    stop: oneshot::Receiver<()>,
    started: &std::sync::mpsc::Sender<io::Result<SocketAddr>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            drop(started.send(Err(error)));
            return;
        }
    };
    runtime.block_on(async {
        match Door::new() {
            Ok(door) => {
                drop(started.send(Ok(door.address)));
                tokio::select! {
                    _ = stop => {}
                    () = accept(shared, door) => {}
                }
            }
            Err(error) => drop(started.send(Err(error))),
        }
    });
    // The end of the runtime is the end of its tasks and their sockets.
}

/// The port of a proxy, open or closed.
struct Door {
    address: SocketAddr,
    /// Bound and not listening: keeps the port ours while the listener is away.
    _kept: TcpSocket,
    listener: Option<TcpListener>,
}

impl Door {
    fn new() -> io::Result<Self> {
        let kept = bound(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = kept.local_addr()?;
        Ok(Self { address, _kept: kept, listener: Some(bound(address)?.listen(BACKLOG)?) })
    }

    /// Clients that wait to be accepted at a port that closes are reset.
    fn set_open(&mut self, open: bool) -> io::Result<()> {
        if !open {
            self.listener = None;
        } else if self.listener.is_none() {
            self.listener = Some(bound(self.address)?.listen(BACKLOG)?);
        }
        Ok(())
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        match &self.listener {
            Some(listener) => listener.accept().await.map(|(client, _)| client),
            None => std::future::pending().await,
        }
    }
}

fn bound(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

async fn accept(shared: &Arc<Shared>, mut door: Door) {
    let mut changed = shared.rules_changed.subscribe();
    let mut links = JoinSet::new();
    loop {
        changed.mark_unchanged();
        let moved = shared.with(|state| {
            state.rules.advance(Instant::now());
            let moved = door.set_open(!state.rules.refuses());
            state.listens = door.listener.is_some();
            moved.map(|()| state.rules.next_change())
        });
        let Ok(next) = moved else {
            // The port is kept, so this is a lack of descriptors; it may pass.
            tokio::time::sleep(RETRY_PAUSE).await;
            continue;
        };
        let wake = next.unwrap_or_else(|| Instant::now() + NEVER);
        tokio::select! {
            client = door.accept() => match client {
                Ok(client) => {
                    let numbered = shared.with(|state| {
                        let room = state.rules.links_open() < LINKS_MAX && !state.rules.refuses();
                        room.then(|| state.rules.open_link(Instant::now()))
                    });
                    match numbered {
                        Some(id) => drop(links.spawn(carry(shared.clone(), id, client))),
                        None => drop(client.set_zero_linger()),
                    }
                }
                Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
            },
            _ = changed.changed() => {}
            () = sleep_until(wake.into()) => {}
            Some(_) = links.join_next() => {}
        }
    }
}

/// A link from its first moment to its last.
async fn carry(shared: Arc<Shared>, id: u64, client: TcpStream) {
    let upstream = shared.with(|state| state.upstream);
    let connected = match upstream {
        Some(upstream) => timeout(CONNECT_TIMEOUT, TcpStream::connect(upstream)).await.ok(),
        None => None,
    };
    let end = if let Some(Ok(broker)) = connected {
        // Without this the kernel would put together what was cut into slices.
        drop(client.set_nodelay(true).and_then(|()| broker.set_nodelay(true)));
        let mut sockets = Sockets { client, broker };
        let end = relay(&shared, id, &mut sockets).await;
        sockets.close(end).await;
        end
    } else {
        shared.with(|state| state.rules.log.add(Instant::now(), id, EventKind::Unreachable));
        drop(client.set_zero_linger());
        Some(End::Reset)
    };
    shared.with(|state| state.rules.close_link(id, end, Instant::now()));
}

/// The two ends of a link.
struct Sockets {
    client: TcpStream,
    broker: TcpStream,
}

impl Sockets {
    fn sender(&self, direction: Direction) -> &TcpStream {
        match direction {
            Direction::Requests => &self.client,
            Direction::Responses => &self.broker,
        }
    }

    fn receiver(&self, direction: Direction) -> &TcpStream {
        match direction {
            Direction::Requests => &self.broker,
            Direction::Responses => &self.client,
        }
    }

    async fn finish(&mut self, direction: Direction) {
        let receiver = match direction {
            Direction::Requests => &mut self.broker,
            Direction::Responses => &mut self.client,
        };
        // A receiver that is gone needs no telling.
        drop(receiver.shutdown().await);
    }

    /// Ends both connections the same way; `None` if the peers did.
    async fn close(mut self, end: Option<End>) {
        match end {
            None => {}
            Some(End::Reset) => {
                drop(self.client.set_zero_linger());
                drop(self.broker.set_zero_linger());
            }
            Some(End::Close) => {
                for direction in DIRECTIONS {
                    self.finish(direction).await;
                }
                let drained = async { tokio::join!(drain(&self.client), drain(&self.broker)) };
                drop(timeout(CLOSE_GRACE, drained).await);
            }
        }
    }
}

/// Reads until the peer closed too: a socket closed over unread bytes sends a reset.
async fn drain(socket: &TcpStream) {
    let mut scratch = vec![0; READ_MAX];
    while socket.readable().await.is_ok() {
        match socket.try_read(&mut scratch) {
            Ok(0) => break,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => break,
            _ => {}
        }
    }
}

/// What a socket gave.
enum Came {
    Bytes(Bytes),
    End,
    Broke,
    /// It was not ready after all.
    Nothing,
}

/// Carries a link until it is over: by which end, if the proxy makes it.
async fn relay(shared: &Shared, id: u64, sockets: &mut Sockets) -> Option<End> {
    let mut changed = shared.rules_changed.subscribe();
    let mut link = shared.with(|state| Link::new(id, &mut state.rules, Instant::now()));
    let mut input = BytesMut::new();
    let (mut there, mut back) = (Bytes::new(), Bytes::new());
    loop {
        changed.mark_unchanged();
        shared.with(|state| link.handle_rules(&mut state.rules, Instant::now()));
        // Not through the queues: a receiver that takes nothing must not hold it up.
        if link.cut().is_some() {
            return link.cut();
        }
        for (direction, output) in [(Direction::Requests, &mut there), (Direction::Responses, &mut back)] {
            while output.is_empty() {
                match link.poll(direction, Instant::now()) {
                    Some(Out::Bytes(bytes)) => *output = bytes,
                    Some(Out::Finish) => sockets.finish(direction).await,
                    Some(Out::Cut(end)) => return Some(end),
                    None => break,
                }
            }
        }
        if link.over() {
            return None;
        }
        let wake = link.timeout().unwrap_or_else(|| Instant::now() + NEVER);
        let (reads_requests, reads_responses) =
            (link.wants_bytes(Direction::Requests), link.wants_bytes(Direction::Responses));
        let read = tokio::select! {
            _ = sockets.client.readable(), if reads_requests => Some(Direction::Requests),
            _ = sockets.broker.readable(), if reads_responses => Some(Direction::Responses),
            wrote = write(sockets.receiver(Direction::Requests), &mut there), if !there.is_empty() => {
                if wrote.is_err() { return Some(End::Reset) }
                None
            }
            wrote = write(sockets.receiver(Direction::Responses), &mut back), if !back.is_empty() => {
                if wrote.is_err() { return Some(End::Reset) }
                None
            }
            _ = changed.changed() => None,
            () = sleep_until(wake.into()) => None,
        };
        let Some(direction) = read else { continue };
        let came = receive(sockets.sender(direction), &mut input);
        shared.with(|state| {
            let (rules, now) = (&mut state.rules, Instant::now());
            match came {
                Came::Bytes(bytes) => link.handle_bytes(rules, direction, bytes, now),
                Came::End => link.handle_end(rules, direction, now),
                Came::Broke => link.handle_reset(rules, direction, now),
                Came::Nothing => {}
            }
        });
    }
}

fn receive(socket: &TcpStream, input: &mut BytesMut) -> Came {
    input.reserve(READ_MAX);
    match socket.try_read_buf(input) {
        Ok(0) => Came::End,
        Ok(_) => Came::Bytes(input.split().freeze()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Came::Nothing,
        Err(_) => Came::Broke,
    }
}

/// Writes some of the bytes. Cancel safe: what was written is taken away before it returns.
async fn write(socket: &TcpStream, bytes: &mut Bytes) -> io::Result<()> {
    socket.writable().await?;
    match socket.try_write(bytes) {
        Ok(written) => bytes.advance(written),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(())
}
