//! The machine against a scripted broker, which reads what is transmitted and answers when a test says so.

#![allow(clippy::unchecked_time_subtraction, reason = "times in tests are what they are")]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::*;
use crate::ErrorCode;
use crate::conn::sasl::{Mechanism, Peer, Session};
use crate::conn::script::{Asked, answer, mechanisms, versions};
use crate::conn::versions::Pins;
use crate::frame::encode_request;
use crate::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::messages::metadata::{MetadataRequest, MetadataResponse};
use crate::messages::sasl_authenticate::{SaslAuthenticateRequest, SaslAuthenticateResponse};
use crate::messages::sasl_handshake::{SaslHandshakeRequest, SaslHandshakeResponse};
use crate::net::BoxFuture;
use crate::wire::{Encode, Message, Request};

mod authentication;
mod generated;
mod opening;
mod requests;

const SEC: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

/// Who asked, by a number.
#[derive(Debug, Clone)]
struct Who {
    id: i32,
    gone: Arc<AtomicBool>,
}

impl Waiter for Who {
    fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }
}

/// A mechanism in name; the tests say what its session would.
#[derive(Debug)]
struct Fake(&'static str);

impl Mechanism for Fake {
    fn name(&self) -> &str {
        self.0
    }
    fn wants_encryption(&self) -> bool {
        false
    }
    fn begin<'a>(&'a self, _: &'a Peer) -> BoxFuture<'a, Result<Box<dyn Session>>> {
        Box::pin(std::future::ready(Err(Error::internal("the machine begins no session"))))
    }
}

/// The machine with its time, and what came out of it.
struct Bed {
    machine: Machine<Who>,
    now: Instant,
    /// Frames that the broker has read and not answered; a token without a header is one too.
    sent: VecDeque<Bytes>,
    /// How many frames there were in all.
    total: usize,
    /// `Answered` and `Failed` by who asked, and whether it says that it may have happened.
    done: Vec<(i32, Option<Error>)>,
    /// The throttle times of answers that nobody waits for.
    unclaimed: Vec<i32>,
    begin: usize,
    respond: Vec<Bytes>,
    authenticated: Vec<bool>,
    ready: Option<Arc<Versions>>,
    dead: Option<(Error, bool)>,
    ids: i32,
    /// Whether the socket takes what is written.
    writable: bool,
}

impl Bed {
    fn start(config: Config, expected: Expected, version: i16) -> Self {
        let now = crate::net::clock::now();
        let machine = Machine::start(Arc::new(config), expected, version, now + 10 * SEC, 5, now).unwrap();
        let mut bed = Self {
            machine,
            now,
            sent: VecDeque::new(),
            total: 0,
            done: Vec::new(),
            unclaimed: Vec::new(),
            begin: 0,
            respond: Vec::new(),
            authenticated: Vec::new(),
            ready: None,
            dead: None,
            ids: 0,
            writable: true,
        };
        bed.drain();
        bed
    }

    /// A connection that is ready, without authentication.
    fn ready(config: Config) -> Self {
        let mut bed = Self::start(config, None, 5);
        bed.tell_versions();
        assert!(bed.ready.is_some() && bed.dead.is_none());
        bed
    }

    /// A connection that is ready, to a broker that gives the session that lifetime.
    fn authenticated(config: Config, lifetime_ms: i64) -> Self {
        let mut bed = Self::start(Config { sasl: Some(Arc::new(Fake("FAKE"))), ..config }, None, 5);
        bed.tell_versions();
        bed.authenticate(lifetime_ms);
        assert!(bed.ready.is_some() && bed.dead.is_none());
        bed
    }

    fn drain(&mut self) {
        loop {
            while let Some(segments) = self.machine.poll_transmit() {
                assert!(self.dead.is_none(), "nothing is sent after the end");
                self.sent.push_back(segments.into_bytes());
                self.total += 1;
            }
            self.machine.handle_written(self.writable, self.now);
            if !self.machine.has_transmit() {
                break;
            }
        }
        while let Some(who) = self.machine.poll_sent() {
            self.done.push((who.id, None));
        }
        while let Some(output) = self.machine.poll_output() {
            assert!(self.dead.is_none(), "nothing comes after the end");
            match output {
                Output::Answered(None, answer, read) => self.unclaimed.push(read(&answer).unwrap()),
                Output::Answered(Some(who), answer, _) => {
                    let body = answer.decode::<MetadataRequest>().unwrap();
                    assert_eq!(body.throttle_time_ms, who.id, "the answer is for the one who asked");
                    self.done.push((who.id, None));
                }
                Output::Failed(who, error) => self.done.push((who.id, Some(error))),
                Output::Begin => self.begin += 1,
                Output::Respond(token) => self.respond.push(token.into_bytes()),
                Output::Authenticated { again } => self.authenticated.push(again),
                Output::Ready(versions) => self.ready = Some(versions),
                Output::Dead { why, old } => self.dead = Some((why, old)),
            }
        }
    }

    fn asked(&mut self) -> Asked {
        Asked::parse(&self.sent.pop_front().expect("a request"))
    }

    fn frame(&mut self, frame: Bytes) {
        self.machine.handle_frame(frame, self.now);
        self.drain();
    }

    fn respond<R: Request>(&mut self, response: &R::Response) -> Asked
    where
        R::Response: Encode,
    {
        let asked = self.asked();
        self.frame(asked.answer::<R>(response));
        asked
    }

    fn tell_versions(&mut self) {
        self.respond::<ApiVersionsRequest>(&versions(&[(3, 0, 12), (17, 0, 1), (18, 0, 5), (36, 0, 2)]));
    }

    /// Our part of the SASL exchange and the broker's.
    fn authenticate(&mut self, lifetime_ms: i64) {
        self.respond::<SaslHandshakeRequest>(&mechanisms(&["FAKE"]));
        self.say(Some(b"token"));
        let session_lifetime_ms = lifetime_ms;
        let token = SaslAuthenticateResponse { session_lifetime_ms, ..Default::default() };
        self.respond::<SaslAuthenticateRequest>(&token);
        self.say(None);
    }

    fn say(&mut self, token: Option<&[u8]>) {
        self.machine.handle_said(Ok(token.map(Secret::from)), self.now);
        self.drain();
    }

    /// Submits a metadata request; its number.
    fn submit_with(&mut self, timeout: Duration, deadline: Option<Instant>) -> (Who, Option<Error>) {
        self.ids += 1;
        let (id, request) = (self.ids, MetadataRequest::default());
        let segments = encode_request(&request, 12, id, Some(&"weir".into())).unwrap();
        let read: ReadThrottle = |answer| Ok(answer.decode::<MetadataRequest>()?.throttle_time_ms);
        let pending = Some((Pending::to::<MetadataRequest>(id, 12), read));
        self.submit_prepared(id, Prepared { segments, pending, timeout, deadline })
    }

    fn submit_prepared(&mut self, id: i32, prepared: Prepared) -> (Who, Option<Error>) {
        let who = Who { id, gone: Arc::default() };
        let refused = self.machine.submit(who.clone(), prepared, self.now).err().map(|(_, error)| error);
        self.drain();
        (who, refused)
    }

    fn submit(&mut self) -> i32 {
        let (who, refused) = self.submit_with(30 * SEC, None);
        assert!(refused.is_none(), "{refused:?}");
        who.id
    }

    /// The broker answers the first metadata request that it has, with the number of who asked.
    fn answer(&mut self) {
        let asked = self.asked();
        let throttle_time_ms = asked.correlation;
        let response = MetadataResponse { throttle_time_ms, ..Default::default() };
        self.frame(asked.answer::<MetadataRequest>(&response));
    }

    fn tick(&mut self) {
        self.machine.handle_timeout(self.now);
        self.drain();
        let next = self.machine.poll_timeout();
        assert!(next.is_none_or(|next| next > self.now), "no alarm goes off again and again");
    }

    /// Lets time pass, with every alarm on the way.
    fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(next) = self.machine.poll_timeout().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.tick();
        }
        self.now = end;
        self.tick();
    }

    fn answered(&self) -> Vec<i32> {
        self.done.iter().filter(|(_, error)| error.is_none()).map(|(id, _)| *id).collect()
    }

    fn failed(&self) -> Vec<(i32, bool)> {
        let failed = |(id, error): &(i32, Option<Error>)| Some((*id, error.as_ref()?.may_have_happened()));
        self.done.iter().filter_map(failed).collect()
    }

    fn why(&self) -> &Error {
        &self.dead.as_ref().expect("the connection is over").0
    }
}
