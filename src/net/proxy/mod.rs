//! Proxies: asking another host to connect to the broker for us.
//!
//! The two protocols are machines (`machine_socks5.rs`, `machine_http.rs`): they are given the proxy's bytes and
//! say what to send, to read more, or that the way is open. This file carries the bytes. A broker
//! speaks only when it was asked, so bytes after the proxy's answer are an error and never data.

use std::fmt;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use zeroize::Zeroizing;

use super::Address;
use crate::error::{Error, Result};
use crate::secret::Secret;

mod machine_http;
mod machine_socks5;

/// A proxy that connects to brokers for the client.
///
/// The connection to the proxy itself is plain TCP; what goes through it is encrypted if TLS is on. `Debug` shows
/// no password.
#[derive(Clone)]
pub struct Proxy {
    kind: Kind,
    address: Address,
    login: Option<(Box<str>, Secret)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Socks5,
    Http,
}

impl Proxy {
    /// A SOCKS 5 proxy (RFC 1928). Names of brokers are looked up by the proxy.
    pub fn socks5(address: Address) -> Self {
        Self { kind: Kind::Socks5, address, login: None }
    }

    /// An HTTP proxy that takes `CONNECT` (RFC 9110, section 9.3.6). Names of brokers are looked up by the proxy.
    pub fn http(address: Address) -> Self {
        Self { kind: Kind::Http, address, login: None }
    }

    /// Who we are to the proxy: SOCKS 5 user name and password (RFC 1929), HTTP basic authentication (RFC 7617).
    ///
    /// Both cross the network readably. SOCKS 5 takes 1 to 255 bytes of each, and HTTP no colon in the name; what
    /// breaks that fails when connecting.
    #[must_use]
    pub fn credentials(mut self, user: &str, password: impl Into<Secret>) -> Self {
        self.login = Some((user.into(), password.into()));
        self
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Asks the proxy at the other end of `stream` for a way to `to`.
    pub(super) async fn handshake(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        to: &Address,
    ) -> Result<()> {
        let login = self.login.as_ref().map(|(user, password)| (&**user, password));
        match self.kind {
            Kind::Socks5 => drive(machine_socks5::Socks5::new(to, login)?, stream).await,
            Kind::Http => drive(machine_http::HttpConnect::new(to, login)?, stream).await,
        }
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.login.as_ref().map(|(user, _)| user);
        f.debug_struct("Proxy")
            .field("kind", &self.kind)
            .field("address", &self.address)
            .field("user", &user)
            .finish_non_exhaustive()
    }
}

/// What a machine wants next.
#[derive(Debug)]
enum Step {
    /// Send these bytes, which may hold a password.
    Send(Zeroizing<Vec<u8>>),
    /// Read, and hand over what came.
    Receive,
    /// The way is open.
    Done,
}

/// One conversation with a proxy.
trait Machine {
    /// What to do next. Until it has been done, this is not called again.
    fn poll(&mut self) -> Step;
    /// Takes what the proxy sent. An error ends the conversation.
    fn handle_bytes(&mut self, bytes: &[u8]) -> Result<()>;
}

/// Bytes read at once: more than a good answer has.
const READ_BYTES: usize = 1024;

async fn drive(mut machine: impl Machine, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
    let mut buffer = [0; READ_BYTES];
    loop {
        match machine.poll() {
            Step::Send(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            Step::Receive => {
                let count = stream.read(&mut buffer).await?;
                if count == 0 {
                    return Err(Error::io("it closed the connection in the middle of its answer"));
                }
                machine.handle_bytes(buffer.get(..count).unwrap_or_default())?;
            }
            Step::Done => return Ok(()),
        }
    }
}
