//! HTTP `CONNECT`: one request, and the head of one answer (RFC 9110, RFC 9112).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::Address;
use super::{Machine, Step};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// The longest head of an answer. Proxies say little; one that never ends its head must not fill memory.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// As much of the proxy's own words as an error repeats.
const SHOWN_CHARS_MAX: usize = 80;

pub(super) struct HttpConnect {
    request: Option<Zeroizing<Vec<u8>>>,
    head: Vec<u8>,
    done: bool,
}

impl HttpConnect {
    pub(super) fn new(to: &Address, login: Option<(&str, &Secret)>) -> Result<Self> {
        let target = to.to_string();
        let mut request = Zeroizing::new(Vec::with_capacity(1024));
        request.extend(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n").bytes());
        if let Some((user, password)) = login {
            if user.contains(':') {
                return Err(Error::invalid("basic authentication takes no colon in the user's name"));
            }
            let mut both = Zeroizing::new(Vec::with_capacity(user.len() + 1 + password.expose().len()));
            both.extend_from_slice(user.as_bytes());
            both.push(b':');
            both.extend_from_slice(password.expose());
            let encoded = Zeroizing::new(STANDARD.encode(&*both));
            // Room for all that follows: a vector that grows would leave a copy behind.
            request.reserve(64 + encoded.len());
            request.extend_from_slice(b"Proxy-Authorization: Basic ");
            request.extend_from_slice(encoded.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(b"\r\n");
        Ok(Self { request: Some(request), head: Vec::new(), done: false })
    }
}

impl Machine for HttpConnect {
    fn poll(&mut self) -> Step {
        match self.request.take() {
            Some(request) => Step::Send(request),
            None if self.done => Step::Done,
            None => Step::Receive,
        }
    }

    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        let searched = self.head.len().saturating_sub(3);
        self.head.extend_from_slice(bytes);
        let begins_right = b"HTTP/1.".iter().zip(&self.head).all(|(want, have)| want == have);
        if !begins_right {
            return Err(Error::malformed("it answered in something that is not HTTP/1"));
        }
        let unsearched = self.head.get(searched..).unwrap_or_default();
        let Some(end) = unsearched.windows(4).position(|four| four == b"\r\n\r\n") else {
            if self.head.len() > HEAD_BYTES_MAX {
                return Err(Error::limit(format!(
                    "the head of its answer is longer than {HEAD_BYTES_MAX} bytes"
                )));
            }
            return Ok(());
        };
        let line = self.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        judge(&String::from_utf8_lossy(line))?;
        if searched + end + 4 != self.head.len() {
            return Err(Error::malformed("it sent more than its answer"));
        }
        self.done = true;
        Ok(())
    }
}

/// What a status line says: `HTTP/1.1 200 Connection established`.
fn judge(line: &str) -> Result<()> {
    let code = line.split(' ').nth(1).unwrap_or_default();
    // `parse` would take a sign.
    let is_status = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_digit());
    let status = if is_status { code.parse::<u16>().ok() } else { None };
    let shown = crate::net::shown(line, SHOWN_CHARS_MAX);
    match status {
        Some(200..=299) => Ok(()),
        Some(401 | 407) => {
            Err(Error::auth(format!("it wants a user and a password, or other ones: '{shown}'")))
        }
        Some(403) => Err(Error::auth(format!("its rules do not allow this connection: '{shown}'"))),
        Some(405 | 501) => Err(Error::unsupported(format!("it does not take CONNECT: '{shown}'"))),
        Some(_) => Err(Error::io(format!("it refused: '{shown}'"))),
        None => Err(Error::malformed(format!("its answer has no status: '{shown}'"))),
    }
}
