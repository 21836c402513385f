//! One connection as a machine: what is in flight, what waits, when time is up.
//!
//! Inputs are `submit`, `handle_*` and `close`, each with the time; after one of them the caller takes
//! all of `poll_transmit` (bytes for the broker, in order), says by `handle_written` whether they have
//! left, takes `poll_sent` and `poll_output`, and asks `poll_timeout` when to call `handle_timeout`.
//! There is no socket here, no clock and no runtime.
//!
//! A broker answers the requests of one connection in their order, so what is in flight is a queue, and
//! only the one at its front can take too long. A request waits here, parked, while the broker wants
//! quiet (KIP-219), while who we are is being renewed (KIP-368), while the socket takes no more, or
//! while too many are in flight.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::config::Config;
use super::handshake::{Expected, Handshake, Next};
use super::parked::{Parked, Prepared, ReadThrottle, Waiter};
use super::time::{after, earlier};
use super::versions::Versions;
use crate::frame::{Answer, Pending};
use crate::wire::{ApiKey, HiddenBytes, Segments};
use crate::{Error, Result, Secret};

/// What the machine wants done, or known.
#[derive(Debug)]
pub(super) enum Output<W> {
    /// An answer came. Where nobody waits for it any more, it may still ask for quiet.
    Answered(Option<W>, Answer, ReadThrottle),
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

/// Opening -> Ready <-> Renewing; from each of them to Dead, which is the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The handshake is under way, and must be done by then.
    Opening {
        by: Instant,
    },
    Ready,
    /// Authenticating again; new requests are parked. Until all that was sent before is answered there
    /// is no telling how long it takes; from then on it has its time.
    Renewing {
        by: Option<Instant>,
    },
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
    read: ReadThrottle,
    timeout: Duration,
    deadline: Option<Instant>,
}

/// The machine of one connection. `W` is handed back with each answer.
#[derive(Debug)]
pub(super) struct Machine<W> {
    config: Arc<Config>,
    phase: Phase,
    /// What is in flight or parked is finished, nothing new is taken.
    closing: bool,
    handshake: Handshake,
    flights: VecDeque<Flight<W>>,
    parked: Parked<W>,
    transmit: VecDeque<Segments>,
    /// Whose requests have no answer and have left.
    sent: VecDeque<W>,
    outputs: VecDeque<Output<W>>,
    /// Since when the broker could have answered the first in flight.
    turn_since: Instant,
    /// Not later than the first deadline in flight.
    flight_deadline: Option<Instant>,
    quiet_until: Option<Instant>,
    /// The socket takes no more.
    blocked_since: Option<Instant>,
    renew_at: Option<Instant>,
    /// A hundredth of the lifetime of a session, 85 to 95, at which it is renewed.
    renew_percent: u32,
    /// When a request was submitted or answered last.
    last_used: Instant,
    authenticated: bool,
    /// A request of a user was answered.
    answered: bool,
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
        let parked = Parked::new(&config);
        let mut machine = Self {
            config,
            phase: Phase::Opening { by: setup_by },
            closing: false,
            handshake,
            flights: VecDeque::new(),
            parked,
            transmit: VecDeque::new(),
            sent: VecDeque::new(),
            outputs: VecDeque::new(),
            turn_since: now,
            flight_deadline: None,
            quiet_until: None,
            blocked_since: None,
            renew_at: None,
            renew_percent: 85 + (chance % 11) as u32,
            last_used: now,
            authenticated: false,
            answered: false,
        };
        machine.go_on(next, now);
        Ok(machine)
    }

    /// Takes a request. Gives it back with an error if the connection takes none: it was not sent.
    pub(super) fn submit(&mut self, waiter: W, request: Prepared, now: Instant) -> Result<(), (W, Error)> {
        match self.phase {
            Phase::Opening { .. } => {
                return Err((waiter, Error::internal("a request before the connection is ready")));
            }
            Phase::Dead => return Err((waiter, Error::io("the connection is closed"))),
            _ if self.closing => return Err((waiter, Error::io("the connection is being closed"))),
            _ => {}
        }
        if request.deadline.is_some_and(|deadline| now >= deadline) {
            return Err((waiter, Error::timeout("no time was left for the request")));
        }
        self.unpark(now);
        self.last_used = now;
        if self.parked.is_empty() && self.may_send(now) {
            self.send(waiter, request, now);
            return Ok(());
        }
        self.parked.push(waiter, request)
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
        let read = flight.read;
        let owner = self.flights.pop_front().map(|flight| flight.owner);
        self.answered |= matches!(owner, Some(Owner::User(_) | Owner::Nobody));
        self.next_turn(now);
        match owner {
            Some(Owner::User(waiter)) => {
                self.last_used = now;
                self.outputs.push_back(Output::Answered(Some(waiter), answer, read));
            }
            Some(Owner::Handshake) => {
                let next = self.handshake.answered(&answer);
                self.handshake_goes_on(next, now);
            }
            Some(Owner::Nobody) => self.outputs.push_back(Output::Answered(None, answer, read)),
            None => {}
        }
        self.unpark(now);
        self.end_if_unused(now);
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

    /// Whether all that was transmitted has left. While it has not, requests are parked.
    pub(super) fn handle_written(&mut self, all: bool, now: Instant) {
        if self.phase == Phase::Dead {
            return;
        }
        if all {
            self.blocked_since = None;
            self.unpark(now);
            self.end_if_unused(now);
        } else {
            self.blocked_since.get_or_insert(now);
        }
    }

    /// The broker asks for quiet. Obeyed up to the limit; gives for how long.
    pub(super) fn handle_throttle(&mut self, time_ms: i32, now: Instant) -> Option<Duration> {
        let time = Duration::from_millis(u64::try_from(time_ms).unwrap_or(0)).min(self.config.throttle_max);
        if time.is_zero() || self.phase == Phase::Dead {
            return None;
        }
        let until = after(now, time);
        self.quiet_until = Some(self.quiet_until.map_or(until, |before| before.max(until)));
        // It reads nothing from us until then, so neither what is in flight nor a renewal can be answered.
        self.turn_since = self.turn_since.max(until);
        if let Phase::Renewing { by: Some(by) } = &mut self.phase {
            *by = (*by).max(after(until, self.config.setup_timeout));
        }
        Some(time)
    }

    /// Time has passed.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        match self.phase {
            Phase::Dead => return,
            Phase::Opening { by } if now >= by => return self.die(Error::timeout("making the connection")),
            Phase::Renewing { by: Some(by) } if now >= by => {
                return self.die(Error::timeout("renewing the authentication"));
            }
            _ => {}
        }
        if self.blocked_until().is_some_and(|until| now >= until) {
            return self.die(Error::timeout("the broker takes no bytes"));
        }
        if self.stuck_at().is_some_and(|at| now >= at) {
            let key = self.flights.front().map_or(ApiKey(-1), |flight| flight.pending.key);
            return self.die(Error::timeout(format!("no answer to {key}")));
        }
        self.expire_flights(now);
        for waiter in self.parked.expire(now) {
            self.outputs.push_back(Output::Failed(waiter, waited_too_long()));
        }
        self.quiet_until = self.quiet_until.filter(|until| now < *until);
        if self.renews_at().is_some_and(|at| now >= at) {
            // Not renewed only to be closed.
            self.end_if_unused(now);
            if self.phase == Phase::Ready {
                self.renew(now);
            }
        }
        self.unpark(now);
        self.end_if_unused(now);
    }

    /// Finishes what is in flight or parked, then ends; nothing new is taken.
    pub(super) fn close(&mut self, now: Instant) {
        match self.phase {
            Phase::Dead => {}
            Phase::Opening { .. } => self.die(Error::closed("before the connection was ready")),
            _ => {
                self.closing = true;
                self.unpark(now);
                self.end_if_unused(now);
            }
        }
    }

    /// Bytes for the broker.
    pub(super) fn poll_transmit(&mut self) -> Option<Segments> {
        self.transmit.pop_front()
    }

    /// Who waits for a request that has no answer, and is on its way now.
    pub(super) fn poll_sent(&mut self) -> Option<W> {
        self.sent.pop_front()
    }

    /// What is to be done or known.
    pub(super) fn poll_output(&mut self) -> Option<Output<W>> {
        self.outputs.pop_front()
    }

    /// Whether there are bytes for the broker.
    pub(super) fn has_transmit(&self) -> bool {
        !self.transmit.is_empty()
    }

    /// Whether there is something to be done or known.
    pub(super) fn has_output(&self) -> bool {
        !self.outputs.is_empty()
    }

    /// When to call `handle_timeout`, if nothing else happens before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let phase = match self.phase {
            Phase::Dead => return None,
            Phase::Opening { by } => Some(by),
            Phase::Renewing { by } => by,
            Phase::Ready => None,
        };
        let quiet = self.quiet_until.filter(|_| !self.parked.is_empty());
        let idle = (self.phase == Phase::Ready && self.is_unused())
            .then(|| after(self.last_used, self.config.idle_max));
        let first = earlier(phase, self.stuck_at());
        let first = earlier(first, self.blocked_until());
        let first = earlier(first, self.flight_deadline);
        let first = earlier(first, self.parked.deadline());
        let first = earlier(first, self.renews_at());
        earlier(earlier(first, quiet), idle)
    }

    /// Requests that wait for an answer or to be sent.
    pub(super) fn load(&self) -> usize {
        self.flights.len() + self.parked.len()
    }

    /// Whether requests are taken, now or soon.
    pub(super) fn is_open(&self) -> bool {
        !self.closing && self.phase != Phase::Dead
    }

    fn is_unused(&self) -> bool {
        self.flights.is_empty() && !self.has_unsent()
    }

    /// Whether something is still to be written.
    fn has_unsent(&self) -> bool {
        !self.parked.is_empty() || !self.transmit.is_empty() || self.blocked_since.is_some()
    }

    fn may_send(&self, now: Instant) -> bool {
        // A session past its time would have the broker break off: it is renewed first.
        self.phase == Phase::Ready
            && self.blocked_since.is_none()
            && self.quiet_until.is_none_or(|until| now >= until)
            && self.renew_at.is_none_or(|at| now < at)
            && self.flights.len() < self.config.in_flight_max.max(1)
    }

    fn send(&mut self, waiter: W, request: Prepared, now: Instant) {
        let Prepared { segments, pending, timeout, deadline } = request;
        self.transmit.push_back(segments);
        match pending {
            Some((pending, read)) => {
                self.flight_deadline = earlier(self.flight_deadline, deadline);
                self.expect(Flight { owner: Owner::User(waiter), pending, read, timeout, deadline }, now);
            }
            None => self.sent.push_back(waiter),
        }
    }

    fn expect(&mut self, flight: Flight<W>, now: Instant) {
        if self.flights.is_empty() {
            self.turn_since = now;
        }
        self.flights.push_back(flight);
    }

    /// The answer at the front came, so that the next can.
    fn next_turn(&mut self, now: Instant) {
        self.turn_since = self.quiet_until.map_or(now, |until| until.max(now));
        if self.phase == (Phase::Renewing { by: None })
            && matches!(self.flights.front(), Some(Flight { owner: Owner::Handshake, .. }))
        {
            self.phase = Phase::Renewing { by: Some(after(self.turn_since, self.config.setup_timeout)) };
        }
    }

    /// When the broker has taken too long for the request whose turn it is.
    fn stuck_at(&self) -> Option<Instant> {
        let flight = self.flights.front()?;
        // The handshake as a whole has a time of its own.
        (!matches!(flight.owner, Owner::Handshake)).then(|| after(self.turn_since, flight.timeout))
    }

    fn blocked_until(&self) -> Option<Instant> {
        self.blocked_since.map(|since| after(since, self.config.request_timeout))
    }

    /// When to authenticate again: not while the broker wants quiet, since it would not listen.
    fn renews_at(&self) -> Option<Instant> {
        let at = self.renew_at.filter(|_| self.phase == Phase::Ready)?;
        Some(self.quiet_until.map_or(at, |until| until.max(at)))
    }

    fn renew(&mut self, now: Instant) {
        let by = self.flights.is_empty().then(|| after(now, self.config.setup_timeout));
        self.phase = Phase::Renewing { by };
        self.renew_at = None;
        let next = self.handshake.renew();
        self.handshake_goes_on(next, now);
    }

    fn unpark(&mut self, now: Instant) {
        while !self.parked.is_empty() && self.may_send(now) {
            let Some((waiter, request)) = self.parked.pop() else { return };
            // What nobody waits for any more was never sent, and need not be.
            if waiter.is_gone() {
                continue;
            }
            if request.deadline.is_some_and(|deadline| now >= deadline) {
                self.outputs.push_back(Output::Failed(waiter, waited_too_long()));
            } else {
                self.send(waiter, request, now);
            }
        }
    }

    /// Lets those go who wait no longer. Their answers come all the same.
    fn expire_flights(&mut self, now: Instant) {
        if self.flight_deadline.is_none_or(|first| now < first) {
            return;
        }
        self.flight_deadline = None;
        for flight in &mut self.flights {
            if flight.deadline.is_some_and(|deadline| now >= deadline) {
                flight.deadline = None;
                if let Owner::User(waiter) = std::mem::replace(&mut flight.owner, Owner::Nobody) {
                    let error = Error::timeout(format!("no answer to {} yet", flight.pending.key));
                    self.outputs.push_back(Output::Failed(waiter, error.maybe_done()));
                }
            }
            self.flight_deadline = earlier(self.flight_deadline, flight.deadline);
        }
    }

    fn end_if_unused(&mut self, now: Instant) {
        let waited_for = |flight: &Flight<W>| matches!(flight.owner, Owner::User(_));
        if self.closing {
            if !self.has_unsent() && !self.flights.iter().rev().any(waited_for) {
                self.die(Error::closed("by this client"));
            }
        } else if self.phase == Phase::Ready
            && self.is_unused()
            && now >= after(self.last_used, self.config.idle_max)
        {
            self.die(Error::closed("idle"));
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
                let (owner, read) = (Owner::Handshake, (|_| Ok(0)) as ReadThrottle);
                let timeout = Duration::MAX;
                self.expect(Flight { owner, pending, read, timeout, deadline: None }, now);
            }
            Next::Raw(token) => self.transmit.push_back(Segments::framed(token.into_bytes())),
            Next::Begin => self.outputs.push_back(Output::Begin),
            Next::Respond(challenge) => self.outputs.push_back(Output::Respond(challenge)),
            Next::Done(lifetime) => self.become_ready(lifetime, now),
            Next::Wait => {}
        }
    }

    fn become_ready(&mut self, lifetime: Option<Duration>, now: Instant) {
        self.renew_at = lifetime.map(|lifetime| after(now, lifetime / 100 * self.renew_percent));
        if self.config.sasl.is_some() {
            self.outputs.push_back(Output::Authenticated { again: self.authenticated });
            self.authenticated = true;
        }
        let opening = matches!(self.phase, Phase::Opening { .. });
        self.phase = Phase::Ready;
        if opening {
            self.outputs.push_back(Output::Ready(Arc::clone(self.handshake.versions())));
            self.last_used = now;
            self.handle_throttle(self.handshake.throttle_ms(), now);
        }
        self.unpark(now);
        self.end_if_unused(now);
    }

    /// Whether versions were told and nothing after that, where we say nothing of who we are.
    fn was_cut_off_at_once(&self) -> bool {
        let waits = self.phase == Phase::Ready && !self.flights.is_empty();
        waits && !self.answered && !self.handshake.authenticates()
    }

    /// Ends the connection. What is in flight may have happened, what is parked has not.
    fn die(&mut self, why: Error) {
        if self.phase == Phase::Dead {
            return;
        }
        let opening = matches!(self.phase, Phase::Opening { .. });
        let broke = why.is_io() || why.is_malformed();
        let old = opening && broke && self.handshake.asks_versions();
        let why = if why.is_io() && self.handshake.wants_raw() {
            // Brokers before 1.0 cannot say no in words.
            why.within("while authenticating, which may have been refused")
        } else if why.is_io() && self.was_cut_off_at_once() {
            why.within("at the first request, as a listener does that wants SASL, which is not set")
        } else {
            why
        };
        self.phase = Phase::Dead;
        self.transmit.clear();
        let asked =
            |flight: Flight<W>| if let Owner::User(waiter) = flight.owner { Some(waiter) } else { None };
        let flights = std::mem::take(&mut self.flights).into_iter().filter_map(asked);
        for waiter in flights.chain(std::mem::take(&mut self.sent)) {
            self.outputs.push_back(Output::Failed(waiter, lost(&why).maybe_done()));
        }
        while let Some((waiter, _)) = self.parked.pop() {
            self.outputs.push_back(Output::Failed(waiter, lost(&why)));
        }
        self.outputs.push_back(Output::Dead { why, old });
    }
}

/// What a request is told whose connection ended: the cause, in a kind that says whether to try again.
/// Bytes that are no Kafka's, or a renewal that was refused, are to this request a broken connection.
fn lost(why: &Error) -> Error {
    if why.is_io() || why.is_internal() || why.is_timeout() || why.is_closed() {
        return why.clone();
    }
    Error::io("the connection ended").because(why.clone())
}

#[cold]
fn waited_too_long() -> Error {
    Error::timeout("waiting for the connection to take the request")
}

#[cfg(test)]
#[path = "machine_tests/mod.rs"]
mod tests;
