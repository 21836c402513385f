//! What is said on a connection before it can be used: which versions the broker has (KIP-35,
//! KIP-511), that it is the one we mean (KIP-1242), and by SASL who we are (KIP-43, KIP-152). A
//! renewal (KIP-368) is the second half of it once more.
//!
//! Pure: [`Handshake`] is told what the broker answers and what the mechanism's session says, and
//! tells what comes next. Requests go out, and answers come in, by way of the connection's machine.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::config::Config;
use super::sasl::check_token_len;
use super::throttle;
use super::versions::Versions;
use crate::error::quoted;
use crate::frame::{Answer, Pending, encode_request};
use crate::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::messages::sasl_authenticate::SaslAuthenticateRequest;
use crate::messages::sasl_handshake::SaslHandshakeRequest;
use crate::wire::{ApiKey, Encode, HiddenBytes, Request, Segments, Str};
use crate::{Error, ErrorCode, Result, Secret};

/// Tokens that a broker may ask for in one authentication; the longest mechanism needs four.
const ROUNDS_MAX: u32 = 10;

/// A session that ends sooner than this is renewed after this, whatever the broker says.
const LIFETIME_MIN: Duration = Duration::from_secs(1);

/// Far above what the numbers of other requests reach, and read as positive.
const FIRST_CORRELATION: i32 = 0x7000_0000;

/// The newest version of the question for versions that a broker is asked which broke off once: known
/// since Kafka 2.4, and the first to tell features.
const ASK_AGAIN_VERSION: i16 = 3;

/// Whom we mean to reach: a broker of a cluster, both by their ids. Nobody in particular at the
/// addresses that the user gave.
pub(super) type Expected = Option<(Str, i32)>;

/// What comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// This request, whose answer is wanted.
    Request(Segments, Pending),
    /// This token, as a frame without a header: brokers before 1.0 know no other way.
    Raw(HiddenBytes),
    /// A session of the mechanism is to begin, and say its first token.
    Begin,
    /// The session is to respond to this.
    Respond(HiddenBytes),
    /// The broker's answer is awaited still.
    Wait,
    /// The broker accepted. A session that ends says when.
    Done(Option<Duration>),
}

/// Where a handshake stands.
#[derive(Debug)]
enum State {
    /// Asked which versions there are, in this version of the question.
    AskedVersions(i16),
    /// Asked for the mechanism, in this version of the question.
    AskedMechanism(i16),
    /// The session is to say something.
    Session { raw: bool, rounds: u32 },
    /// A token is on its way.
    SentToken { raw: bool, rounds: u32 },
    /// Nothing is to be said.
    Idle,
    /// It went wrong.
    Failed,
}

/// The handshake of one connection.
#[derive(Debug)]
pub(super) struct Handshake {
    config: Arc<Config>,
    state: State,
    expected: Expected,
    /// The name of the mechanism. Kept, since the mechanism is a user's code and this runs under a lock.
    mechanism: Option<Str>,
    /// Began in the oldest version, because the broker broke off in a newer one.
    fell_back: bool,
    versions: Arc<Versions>,
    throttle_ms: i32,
    correlation: i32,
    lifetime: Option<Duration>,
}

impl Handshake {
    /// Begins with the question for versions, in the version given: 0 for a broker that broke off
    /// when it was asked in a newer one.
    pub(super) fn start(config: Arc<Config>, expected: Expected, version: i16) -> Result<(Self, Next)> {
        let pinned = config.pins.ours(ApiKey::API_VERSIONS).map_or(version, |ours| *ours.end());
        let version = version.min(pinned).max(0);
        let mut handshake = Self {
            state: State::Idle,
            expected,
            mechanism: config.sasl.as_ref().map(|mechanism| mechanism.name().into()),
            fell_back: version == 0 && pinned > 0,
            config,
            versions: Arc::default(),
            throttle_ms: 0,
            correlation: FIRST_CORRELATION,
            lifetime: None,
        };
        let next = handshake.ask_versions(version)?;
        Ok((handshake, next))
    }

    /// What the broker can do, once it said so.
    pub(super) fn versions(&self) -> &Arc<Versions> {
        &self.versions
    }

    /// For how long the broker asked for quiet when it told its versions, in milliseconds.
    pub(super) fn throttle_ms(&self) -> i32 {
        self.throttle_ms
    }

    /// Whether it still asks for versions, so that a broken connection may be the answer of an old broker.
    pub(super) fn asks_versions(&self) -> bool {
        matches!(self.state, State::AskedVersions(version) if version > 0)
    }

    /// Whether we prove to the broker who we are.
    pub(super) fn authenticates(&self) -> bool {
        self.mechanism.is_some()
    }

    /// Whether the next frame is a token without a header.
    pub(super) fn wants_raw(&self) -> bool {
        matches!(self.state, State::SentToken { raw: true, .. })
    }

    /// Authenticates once more on the same connection.
    pub(super) fn renew(&mut self) -> Result<Next> {
        self.ask_mechanism()
    }

    /// Takes the broker's answer to the last request.
    pub(super) fn answered(&mut self, answer: &Answer) -> Result<Next> {
        match mem::replace(&mut self.state, State::Failed) {
            State::AskedVersions(asked) => self.told_versions(asked, answer),
            State::AskedMechanism(asked) => self.told_mechanisms(asked, answer),
            State::SentToken { raw: false, rounds } => self.told_token(rounds, answer),
            _ => Err(Error::malformed("an answer that the handshake did not ask for")),
        }
    }

    /// Takes a token without a header.
    pub(super) fn answered_raw(&mut self, token: Bytes) -> Result<Next> {
        match mem::replace(&mut self.state, State::Failed) {
            State::SentToken { raw: true, rounds } => self.challenged(true, rounds, token.into()),
            _ => Err(Error::malformed("a token that the handshake did not ask for")),
        }
    }

    /// Takes what the session says: a token, or that it is done. That may follow right on its last token, to
    /// which brokers before 1.0 say nothing where the mechanism has nothing to say; others answer each.
    pub(super) fn said(&mut self, token: Option<Secret>) -> Result<Next> {
        let (raw, rounds) = match mem::replace(&mut self.state, State::Failed) {
            State::Session { raw, rounds } => (raw, rounds),
            State::SentToken { raw: true, rounds } if token.is_none() => (true, rounds),
            sent @ State::SentToken { .. } if token.is_none() => {
                self.state = sent;
                return Ok(Next::Wait);
            }
            _ => return Err(Error::internal("a token that nobody asked for")),
        };
        let Some(token) = token else {
            if rounds == 0 {
                return Err(Error::auth("the mechanism said nothing"));
            }
            self.state = State::Idle;
            return Ok(Next::Done(self.lifetime.take()));
        };
        check_token_len("our", token.expose().len())?;
        let token = HiddenBytes::from(token);
        let next = if raw {
            Next::Raw(token)
        } else {
            let version = self.versions.version_of(ApiKey::SASL_AUTHENTICATE)?;
            let request = SaslAuthenticateRequest { auth_bytes: token, ..Default::default() };
            self.request(&request, version)?
        };
        self.state = State::SentToken { raw, rounds: rounds + 1 };
        Ok(next)
    }

    fn ask_versions(&mut self, version: i16) -> Result<Next> {
        let mut request = ApiVersionsRequest {
            client_software_name: "weir".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        if let Some((cluster, node)) = &self.expected
            && self.config.check_identity
        {
            request.cluster_id = Some(cluster.clone());
            request.node_id = *node;
        }
        let next = self.request(&request, version)?;
        self.state = State::AskedVersions(version);
        Ok(next)
    }

    fn told_versions(&mut self, asked: i16, answer: &Answer) -> Result<Next> {
        let answer: ApiVersionsResponse = answer.decode_api_versions()?;
        let code = ErrorCode(answer.error_code);
        let versions = Versions::new(&answer, self.config.pins.clone());
        if code == ErrorCode::UNSUPPORTED_VERSION && asked > 0 {
            // It says which it has, or, if it is old, nothing; every broker has the first.
            let theirs = versions.theirs(ApiKey::API_VERSIONS).map_or(0, |versions| *versions.end());
            return self.ask_versions(theirs.clamp(0, asked - 1));
        }
        if code == ErrorCode::REBOOTSTRAP_REQUIRED {
            return Err(Error::broker_said(code, "it is not the broker that was expected there"));
        }
        if code != ErrorCode::NONE {
            return Err(Error::broker_said(code, "it does not say which versions it has"));
        }
        if std::mem::take(&mut self.fell_back)
            && versions.theirs(ApiKey::API_VERSIONS).is_some_and(|theirs| theirs.contains(&ASK_AGAIN_VERSION))
        {
            // It is not old, so something else broke: without a newer form its features stay unknown.
            return self.ask_versions(ASK_AGAIN_VERSION);
        }
        if asked >= throttle::from(ApiKey::API_VERSIONS) {
            self.throttle_ms = answer.throttle_time_ms;
        }
        self.versions = Arc::new(versions);
        if self.mechanism.is_some() {
            return self.ask_mechanism();
        }
        self.state = State::Idle;
        Ok(Next::Done(None))
    }

    fn ask_mechanism(&mut self) -> Result<Next> {
        let Some(mechanism) = self.mechanism.clone() else {
            return Err(Error::internal("a renewal of what never was"));
        };
        let request = SaslHandshakeRequest { mechanism, ..Default::default() };
        // From version 1 on tokens travel in requests, which the broker must have too.
        let wrapped = self.versions.theirs(ApiKey::SASL_AUTHENTICATE).is_some();
        let version = match self.versions.version_of(ApiKey::SASL_HANDSHAKE)? {
            version if wrapped => version,
            _ => 0,
        };
        let next = self.request(&request, version)?;
        self.state = State::AskedMechanism(version);
        Ok(next)
    }

    fn told_mechanisms(&mut self, asked: i16, answer: &Answer) -> Result<Next> {
        let answer = answer.decode::<SaslHandshakeRequest>()?;
        let code = ErrorCode(answer.error_code);
        let ours = self.mechanism.as_ref().map_or("", Str::as_str);
        // Never another mechanism than the one configured, whatever the broker lists.
        let listed = answer.mechanisms.iter().any(|theirs| theirs.as_str() == ours);
        if code != ErrorCode::NONE || !listed {
            let theirs: Vec<String> =
                answer.mechanisms.iter().take(16).map(|name| quoted(name.as_bytes())).collect();
            let theirs =
                if theirs.is_empty() { "none: has this listener SASL?".into() } else { theirs.join(", ") };
            let error = Error::auth(format!("the broker does not take {ours}; it takes {theirs}"));
            return Err(if code == ErrorCode::NONE { error } else { error.with_code(code) });
        }
        self.state = State::Session { raw: asked == 0, rounds: 0 };
        Ok(Next::Begin)
    }

    fn told_token(&mut self, rounds: u32, answer: &Answer) -> Result<Next> {
        let answer = answer.decode::<SaslAuthenticateRequest>()?;
        let code = ErrorCode(answer.error_code);
        if code != ErrorCode::NONE {
            let words = answer.error_message.as_ref().map(|words| quoted(words.as_bytes()));
            let error = Error::auth(format!("the broker says {code} {}", words.unwrap_or_default()));
            return Err(error.with_code(code));
        }
        self.lifetime = match u64::try_from(answer.session_lifetime_ms) {
            Ok(lifetime @ 1..) => Some(Duration::from_millis(lifetime).max(LIFETIME_MIN)),
            _ => None,
        };
        self.challenged(false, rounds, answer.auth_bytes)
    }

    fn challenged(&mut self, raw: bool, rounds: u32, token: HiddenBytes) -> Result<Next> {
        if rounds >= ROUNDS_MAX {
            return Err(Error::auth(format!("no end after {rounds} rounds")));
        }
        check_token_len("the broker's", token.len())?;
        self.state = State::Session { raw, rounds };
        Ok(Next::Respond(token))
    }

    fn request<R: Request + Encode>(&mut self, request: &R, version: i16) -> Result<Next> {
        let correlation = self.correlation;
        self.correlation = self.correlation.wrapping_add(1).max(FIRST_CORRELATION);
        let segments = encode_request(request, version, correlation, self.config.client_id.as_ref())?;
        Ok(Next::Request(segments, Pending::to::<R>(correlation, version)))
    }
}
