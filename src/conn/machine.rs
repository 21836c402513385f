//! One connection as a machine: what is in flight, what waits, when time is up.
//!
//! Inputs are `submit`, `handle_*` and `close`, each with the time; after one of them the caller takes
//! all of `poll_transmit` (bytes for the broker, in order) and `poll_output`, and asks `poll_timeout`
//! when to call `handle_timeout`. There is no socket here, no clock and no runtime.
//!
//! A broker answers the requests of one connection in their order, so what is in flight is a queue.
//! A request waits here, parked, while the broker wants quiet (KIP-219), while who we are is being
//! renewed (KIP-368), or while too many are in flight.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::config::Config;
use super::handshake::{Expected, Handshake, Next};
use super::versions::Versions;
use crate::frame::{Answer, Pending};
use crate::wire::{HiddenBytes, Segments};
use crate::{Error, ErrorCode, Result, Secret};

/// Who waits for an answer.
pub(super) trait Waiter {
    /// Whether nobody waits any more, so that a request that was not sent need not be.
    fn is_gone(&self) -> bool;
}

/// A request, ready to be sent.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) segments: Segments,
    /// What its answer will be; nothing for a request that brokers do not answer.
    pub(super) pending: Option<Pending>,
    /// How long the broker may take, from when it is sent. When that is over, the connection is.
    pub(super) timeout: Duration,
    /// When the one who asked gives up, wherever the request is then. The connection goes on.
    pub(super) deadline: Option<Instant>,
}

/// What the machine wants done, or known.
#[derive(Debug)]
pub(super) enum Output<W> {
    /// An answer came; none for a request that has none, which is on its way now.
    Answered(W, Option<Answer>),
    /// A request came to nothing.
    Failed(W, Error),
    /// Begin a session of the mechanism, and tell what it says by `handle_said`.
    Begin,
    /// Let the session respond to this, and tell what it says by `handle_said`.
    Respond(HiddenBytes),
    /// The broker accepted who we are; for the second time or later.
    Authenticated { again: bool },
    /// Requests may be submitted.
    Ready(Arc<Versions>),
    /// The connection is over: write nothing more, close it. `old`: perhaps because the broker is so
    /// old that it does not know the question for versions.
    Dead { why: Error, old: bool },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not usable yet.
    Opening,
    Ready,
    /// Authenticating again; new requests are parked.
    Renewing,
    /// What is in flight or parked is finished, nothing new is taken.
    Closing,
    Dead,
}

#[derive(Debug)]
enum Owner<W> {
    User(W),
    /// The one who asked has given up; the answer comes all the same.
    Nobody,
    Handshake,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Flight<W> {
    owner: Owner<W>,
    pending: Pending,
    /// When the broker has taken too long.
    stuck: Instant,
    deadline: Option<Instant>,
}

/// A request that waits to be sent.
#[derive(Debug)]
struct Parked<W> {
    waiter: W,
    request: Prepared,
}

/// The machine of one connection. `W` is handed back with each answer.
#[derive(Debug)]
pub(super) struct Machine<W> {
    config: Arc<Config>,
    phase: Phase,
    handshake: Handshake,
    flights: VecDeque<Flight<W>>,
    parked: VecDeque<Parked<W>>,
    transmit: VecDeque<Segments>,
    outputs: VecDeque<Output<W>>,
    /// When a connection that is not ready has taken too long, or a renewal.
    setup_by: Instant,
    quiet_until: Option<Instant>,
    renew_at: Option<Instant>,
    /// A hundredth of the lifetime of a session, 85 to 95, at which it is renewed.
    renew_percent: u32,
    last_used: Instant,
    authenticated: bool,
    /// Not later than the earliest time of any flight.
    earliest: Option<Instant>,
}

impl<W: Waiter> Machine<W> {
    /// A connection that was just reached, and asks for versions in the version given. `chance` is any
    /// number; it spreads the renewals of many connections.
    pub(super) fn start(
        config: Arc<Config>,
        expected: Expected,
        ask_version: i16,
        setup_by: Instant,
        chance: u64,
        now: Instant,
    ) -> Result<Self> {
        let (handshake, next) = Handshake::start(Arc::clone(&config), expected, ask_version)?;
        let mut machine = Self {
            config,
            phase: Phase::Opening,
            handshake,
            flights: VecDeque::new(),
            parked: VecDeque::new(),
            transmit: VecDeque::new(),
            outputs: VecDeque::new(),
            setup_by,
            quiet_until: None,
            renew_at: None,
            renew_percent: 85 + (chance % 11) as u32,
            last_used: now,
            authenticated: false,
            earliest: None,
        };
        machine.go_on(next, now);
        Ok(machine)
    }

    /// Takes a request. Gives it back with an error if the connection takes none: it was not sent.
    pub(super) fn submit(&mut self, waiter: W, request: Prepared, now: Instant) -> Result<(), (W, Error)> {
        match self.phase {
            Phase::Dead | Phase::Closing => return Err((waiter, Error::io("the connection is closed"))),
            Phase::Opening => {
                return Err((waiter, Error::internal("a request before the connection is ready")));
            }
            Phase::Ready | Phase::Renewing => {}
        }
        self.last_used = now;
        if self.parked.is_empty() && self.may_send(now) {
            self.send(waiter, request, now);
        } else if self.parked.len() < self.config.parked_max {
            self.parked.push_back(Parked { waiter, request });
        } else {
            let parked = self.parked.len();
            return Err((
                waiter,
                Error::limit(format!("{parked} requests wait for this connection already")),
            ));
        }
        Ok(())
    }

    /// Takes a frame from the broker.
    pub(super) fn handle_frame(&mut self, frame: Bytes, now: Instant) {
        if self.phase == Phase::Dead {
            return;
        }
        if self.handshake.wants_raw() && self.flights.is_empty() {
            let next = self.handshake.answered_raw(frame);
            return self.handshake_goes_on(next, now);
        }
        let Some(flight) = self.flights.front() else {
            return self.die(Error::malformed("an answer that nothing was asked for"));
        };
        let answer = match flight.pending.answered(&frame) {
            Ok(answer) => answer,
            Err(error) => return self.die(error),
        };
        self.last_used = now;
        match self.flights.pop_front().map(|flight| flight.owner) {
            Some(Owner::User(waiter)) => self.outputs.push_back(Output::Answered(waiter, Some(answer))),
            Some(Owner::Handshake) => {
                let next = self.handshake.answered(&answer);
                self.handshake_goes_on(next, now);
            }
            Some(Owner::Nobody) | None => {}
        }
        self.unpark(now);
    }

    /// Takes what the mechanism's session says after `Begin` or `Respond`.
    pub(super) fn handle_said(&mut self, token: Result<Option<Secret>>, now: Instant) {
        if self.phase != Phase::Dead {
            let next = token.and_then(|token| self.handshake.said(token));
            self.handshake_goes_on(next, now);
        }
    }

    /// The connection broke, or must not be trusted any more.
    pub(super) fn handle_lost(&mut self, why: Error) {
        self.die(why);
    }

    /// The broker asks for quiet. Obeyed up to the limit; gives for how long.
    pub(super) fn handle_throttle(&mut self, time_ms: i32, now: Instant) -> Option<Duration> {
        let time = Duration::from_millis(u64::try_from(time_ms).unwrap_or(0)).min(self.config.throttle_max);
        if time.is_zero() {
            return None;
        }
        let until = now + time;
        self.quiet_until = Some(self.quiet_until.map_or(until, |before| before.max(until)));
        Some(time)
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Dead => return,
            Phase::Opening | Phase::Renewing if now >= self.setup_by => {
                let what =
                    if self.authenticated { "renewing the authentication" } else { "making the connection" };
                return self.die(Error::timeout(what));
            }
            _ => {}
        }
        if self.earliest.is_some_and(|earliest| now >= earliest) {
            self.expire_flights(now);
        }
        self.expire_parked(now);
        if self.quiet_until.is_some_and(|until| now >= until) {
            self.quiet_until = None;
        }
        if self.phase == Phase::Ready && self.renew_at.is_some_and(|at| now >= at) {
            self.phase = Phase::Renewing;
            self.renew_at = None;
            self.setup_by = now + self.config.setup_timeout;
            let next = self.handshake.renew();
            self.handshake_goes_on(next, now);
        }
        self.unpark(now);
        self.end_if_idle(now);
    }

    /// Finishes what is in flight or parked, then ends; nothing new is taken.
    pub(super) fn close(&mut self, now: Instant) {
        match self.phase {
            Phase::Dead => {}
            Phase::Opening => self.die(Error::closed("before the connection was ready")),
            _ => {
                self.phase = Phase::Closing;
                self.unpark(now);
                self.end_if_idle(now);
            }
        }
    }

    /// Bytes for the broker.
    pub(super) fn poll_transmit(&mut self) -> Option<Segments> {
        self.transmit.pop_front()
    }

    /// What is to be done or known.
    pub(super) fn poll_output(&mut self) -> Option<Output<W>> {
        self.outputs.pop_front()
    }

    /// When to call `handle_timeout`, if nothing else happens before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Dead {
            return None;
        }
        let setup = matches!(self.phase, Phase::Opening | Phase::Renewing).then_some(self.setup_by);
        let renew = self.renew_at.filter(|_| self.phase == Phase::Ready);
        let quiet = self.quiet_until.filter(|_| !self.parked.is_empty());
        let parked = self.parked.iter().filter_map(|parked| parked.request.deadline).min();
        let idle =
            (self.phase == Phase::Ready && self.is_unused()).then(|| self.last_used + self.config.idle_max);
        [setup, renew, quiet, parked, idle, self.earliest].into_iter().flatten().min()
    }

    /// Requests that wait for an answer or to be sent.
    pub(super) fn load(&self) -> usize {
        self.flights.len() + self.parked.len()
    }

    /// Whether requests are taken, now or soon.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Closing | Phase::Dead)
    }

    fn is_unused(&self) -> bool {
        self.flights.is_empty() && self.parked.is_empty()
    }

    fn may_send(&self, now: Instant) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Closing)
            && self.quiet_until.is_none_or(|until| now >= until)
            && self.flights.len() < self.config.in_flight_max
    }

    fn send(&mut self, waiter: W, request: Prepared, now: Instant) {
        let Prepared { segments, pending, timeout, deadline } = request;
        self.transmit.push_back(segments);
        match pending {
            Some(pending) => self.expect(Owner::User(waiter), pending, now + timeout, deadline),
            None => self.outputs.push_back(Output::Answered(waiter, None)),
        }
    }

    fn expect(&mut self, owner: Owner<W>, pending: Pending, stuck: Instant, deadline: Option<Instant>) {
        let first = deadline.map_or(stuck, |deadline| deadline.min(stuck));
        self.earliest = Some(self.earliest.map_or(first, |before| before.min(first)));
        self.flights.push_back(Flight { owner, pending, stuck, deadline });
    }

    fn unpark(&mut self, now: Instant) {
        while !self.parked.is_empty() && self.may_send(now) {
            let Some(Parked { waiter, request }) = self.parked.pop_front() else { return };
            // What nobody waits for any more was never sent, and need not be.
            if !waiter.is_gone() {
                self.send(waiter, request, now);
            }
        }
        if self.phase == Phase::Closing {
            self.end_if_idle(now);
        }
    }

    /// Gives up on flights whose time is over; a broker that has taken too long has lost its connection.
    fn expire_flights(&mut self, now: Instant) {
        if let Some(stuck) = self.flights.iter().find(|flight| now >= flight.stuck) {
            let key = stuck.pending.key;
            return self.die(Error::timeout(format!("no answer to {key}")));
        }
        for flight in &mut self.flights {
            if flight.deadline.is_some_and(|deadline| now >= deadline) {
                flight.deadline = None;
                if let Owner::User(waiter) = std::mem::replace(&mut flight.owner, Owner::Nobody) {
                    let error =
                        Error::timeout(format!("no answer to {} yet", flight.pending.key)).maybe_done();
                    self.outputs.push_back(Output::Failed(waiter, error));
                }
            }
        }
        let firsts =
            self.flights.iter().map(|flight| flight.deadline.map_or(flight.stuck, |d| d.min(flight.stuck)));
        self.earliest = firsts.min();
    }

    fn expire_parked(&mut self, now: Instant) {
        let over = |parked: &Parked<W>| parked.request.deadline.is_some_and(|deadline| now >= deadline);
        if !self.parked.iter().any(over) {
            return;
        }
        for parked in std::mem::take(&mut self.parked) {
            if over(&parked) {
                let error = Error::timeout("waiting for the connection to take the request");
                self.outputs.push_back(Output::Failed(parked.waiter, error));
            } else {
                self.parked.push_back(parked);
            }
        }
    }

    fn end_if_idle(&mut self, now: Instant) {
        if !self.is_unused() {
            return;
        }
        match self.phase {
            Phase::Ready if now >= self.last_used + self.config.idle_max => self.die(Error::closed("idle")),
            Phase::Closing => self.die(Error::closed("by this client")),
            _ => {}
        }
    }

    fn handshake_goes_on(&mut self, next: Result<Next>, now: Instant) {
        match next {
            Ok(next) => self.go_on(next, now),
            Err(error) => self.die(error),
        }
    }

    fn go_on(&mut self, next: Next, now: Instant) {
        match next {
            Next::Request(segments, pending) => {
                self.transmit.push_back(segments);
                // The whole has a time of its own.
                self.expect(Owner::Handshake, pending, self.setup_by, None);
            }
            Next::Raw(token) => self.transmit.push_back(Segments::framed(token.into_bytes())),
            Next::Begin => self.outputs.push_back(Output::Begin),
            Next::Respond(challenge) => self.outputs.push_back(Output::Respond(challenge)),
            Next::Done(lifetime) => self.become_ready(lifetime, now),
        }
    }

    fn become_ready(&mut self, lifetime: Option<Duration>, now: Instant) {
        self.renew_at = lifetime.and_then(|lifetime| now.checked_add(lifetime / 100 * self.renew_percent));
        if self.config.sasl.is_some() {
            self.outputs.push_back(Output::Authenticated { again: self.authenticated });
            self.authenticated = true;
        }
        if self.phase == Phase::Opening {
            self.outputs.push_back(Output::Ready(Arc::clone(self.handshake.versions())));
        }
        // A close that was asked for meanwhile stays.
        if self.phase != Phase::Closing {
            self.phase = Phase::Ready;
        }
        self.last_used = now;
        self.unpark(now);
    }

    /// Ends the connection. What is in flight may have happened, what is parked has not.
    fn die(&mut self, why: Error) {
        if self.phase == Phase::Dead {
            return;
        }
        let broke = why.is_io() || why.is_malformed() || why.code() == Some(ErrorCode::UNSUPPORTED_VERSION);
        let old = self.phase == Phase::Opening && broke && self.handshake.asks_versions();
        self.phase = Phase::Dead;
        self.transmit.clear();
        for flight in std::mem::take(&mut self.flights) {
            if let Owner::User(waiter) = flight.owner {
                self.outputs.push_back(Output::Failed(waiter, lost(&why).maybe_done()));
            }
        }
        for parked in std::mem::take(&mut self.parked) {
            self.outputs.push_back(Output::Failed(parked.waiter, lost(&why)));
        }
        self.outputs.push_back(Output::Dead { why, old });
    }
}

/// What a request is told whose connection ended: the cause, in a kind that says whether to try again.
/// Bytes that are no Kafka's, or a renewal that was refused, are to this request a broken connection.
fn lost(why: &Error) -> Error {
    if why.is_io() || why.is_internal() || why.is_timeout() {
        return why.clone();
    }
    Error::io("the connection ended").because(why.clone())
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
