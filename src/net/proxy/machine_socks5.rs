//! SOCKS 5: greeting, password if the proxy wants one, request, reply (RFC 1928, RFC 1929).

// The address as data; nothing is connected here.
use core::net::IpAddr;

use zeroize::Zeroizing;

use super::super::Address;
use super::{Machine, Step};
use crate::error::{Error, Result};
use crate::secret::Secret;

const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_OF_THEM: u8 = 0xff;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

pub(super) struct Socks5 {
    state: State,
    /// What is to be sent and has not been asked for yet.
    output: Option<Zeroizing<Vec<u8>>>,
    /// What came and makes no whole message yet.
    input: Vec<u8>,
    /// The password message, until it is sent or not needed.
    login: Option<Zeroizing<Vec<u8>>>,
    request: Vec<u8>,
}

/// What the proxy is to say next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Method,
    LoginStatus,
    Reply,
    Done,
}

impl Socks5 {
    pub(super) fn new(to: &Address, login: Option<(&str, &Secret)>) -> Result<Self> {
        let login = login.map(|(user, password)| login_message(user, password)).transpose()?;
        let methods: &[u8] = if login.is_some() { &[NO_LOGIN, PASSWORD] } else { &[NO_LOGIN] };
        let mut greeting = Zeroizing::new(vec![VERSION, methods.len() as u8]);
        greeting.extend(methods);
        Ok(Self {
            state: State::Method,
            output: Some(greeting),
            input: Vec::new(),
            login,
            request: request(to)?,
        })
    }

    /// Takes the next whole message out of the input, if it is there.
    fn take_message(&mut self) -> Result<Option<Vec<u8>>> {
        let Some(length) = message_length(self.state, &self.input)? else { return Ok(None) };
        if self.input.len() < length {
            return Ok(None);
        }
        Ok(Some(self.input.drain(..length).collect()))
    }

    fn handle_message(&mut self, message: &[u8]) -> Result<()> {
        match (self.state, message) {
            (State::Method, [VERSION, NO_LOGIN]) => {
                self.login = None;
                self.ask();
            }
            (State::Method, [VERSION, PASSWORD]) => match self.login.take() {
                Some(login) => {
                    self.output = Some(login);
                    self.state = State::LoginStatus;
                }
                None => return Err(Error::auth("it wants a user and a password, which are not set")),
            },
            (State::Method, [VERSION, NONE_OF_THEM]) => {
                return Err(Error::auth("it accepts none of our ways to log in"));
            }
            (State::Method, [VERSION, method]) => {
                return Err(Error::malformed(format!("it chose the method {method}, which was not offered")));
            }
            // RFC 1929 says version 1; some say 5, and mean the same.
            (State::LoginStatus, [LOGIN_VERSION | VERSION, 0]) => self.ask(),
            (State::LoginStatus, [LOGIN_VERSION | VERSION, _]) => {
                return Err(Error::auth("it refused the user or the password"));
            }
            (State::Reply, [VERSION, 0, ..]) => self.state = State::Done,
            (State::Reply, [VERSION, code, ..]) => return Err(refused(*code)),
            (_, [version, ..]) => {
                return Err(Error::malformed(format!("it answered in version {version}: no SOCKS 5 proxy")));
            }
            (_, []) => return Err(Error::malformed("an empty answer")),
        }
        Ok(())
    }

    fn ask(&mut self) {
        self.output = Some(Zeroizing::new(std::mem::take(&mut self.request)));
        self.state = State::Reply;
    }
}

impl Machine for Socks5 {
    fn poll(&mut self) -> Step {
        match self.output.take() {
            Some(bytes) => Step::Send(bytes),
            None if self.state == State::Done => Step::Done,
            None => Step::Receive,
        }
    }

    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.input.extend_from_slice(bytes);
        if let Some(message) = self.take_message()? {
            self.handle_message(&message)?;
            // It is our turn, or everything was said.
            if !self.input.is_empty() {
                return Err(Error::malformed("it sent more than its answer"));
            }
        }
        Ok(())
    }
}

/// The length of the message that `input` begins with, once that can be told; at most 262 bytes.
fn message_length(state: State, input: &[u8]) -> Result<Option<usize>> {
    if input.first().is_some_and(|version| ![VERSION, LOGIN_VERSION].contains(version)) {
        // Whatever it is, its length means nothing.
        return Ok(Some(1));
    }
    if state != State::Reply {
        return Ok(Some(2));
    }
    Ok(Some(match input {
        // A refusal: some proxies leave out the address then, or close after it.
        [_, 1..=u8::MAX, ..] => input.len(),
        [_, 0, _, IPV4, ..] => 4 + 4 + 2,
        [_, 0, _, IPV6, ..] => 4 + 16 + 2,
        [_, 0, _, NAME, length, ..] => 5 + usize::from(*length) + 2,
        [] | [_] | [_, 0] | [_, 0, _] | [_, 0, _, NAME] => return Ok(None),
        [_, 0, _, kind, ..] => {
            return Err(Error::malformed(format!("its answer has an address of the unknown type {kind}")));
        }
    }))
}

fn login_message(user: &str, password: &Secret) -> Result<Zeroizing<Vec<u8>>> {
    let password = password.expose();
    let mut message = Zeroizing::new(Vec::with_capacity(3 + user.len() + password.len()));
    message.push(LOGIN_VERSION);
    for part in [user.as_bytes(), password] {
        match u8::try_from(part.len()) {
            Ok(length) if length > 0 => message.push(length),
            _ => return Err(Error::invalid("SOCKS 5 takes a user and a password of 1 to 255 bytes each")),
        }
        message.extend_from_slice(part);
    }
    Ok(message)
}

fn request(to: &Address) -> Result<Vec<u8>> {
    let mut request = vec![VERSION, CONNECT, 0];
    match to.ip() {
        Some(IpAddr::V4(ip)) => {
            request.push(IPV4);
            request.extend(ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            request.push(IPV6);
            request.extend(ip.octets());
        }
        None if to.host().contains(':') => {
            return Err(Error::invalid("an address with a zone means nothing to a proxy"));
        }
        None => {
            request.push(NAME);
            // An address's host is at most 255 bytes long.
            request.push(to.host().len() as u8);
            request.extend(to.host().bytes());
        }
    }
    request.extend(to.port().to_be_bytes());
    Ok(request)
}

/// RFC 1928, section 6.
fn refused(code: u8) -> Error {
    let why = match code {
        1 => "it failed",
        2 => return Error::auth("its rules do not allow this connection"),
        3 => "the network is unreachable from it",
        4 => "the host is unreachable from it",
        5 => "the connection from it was refused",
        6 => "the time to live expired",
        7 => return Error::unsupported("it does not know CONNECT"),
        8 => return Error::unsupported("it does not know this type of address"),
        _ => return Error::io(format!("it failed with the unknown code {code}")),
    };
    Error::io(why)
}
