//! One HTTP request to a token endpoint and its answer, over a connection of its own.
//!
//! Here are only bytes and bounds; what they mean is for `request` and `response`.

use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper_util::rt::TokioIo;
use zeroize::Zeroizing;

use super::endpoint::Endpoint;
use super::request::Request;
use super::response::Response;
use crate::net::{Dialer, Origin, task};
use crate::{Error, Result, Secret};

/// The largest body of an answer, in bytes.
const BODY_MAX: usize = 1024 * 1024;
/// The largest head of an answer, in bytes; also what is read at once.
const HEAD_MAX: usize = 64 * 1024;

/// Sends the request and reads the answer whole, whatever its status is: no redirect is followed. The caller
/// bounds the time; `deadline` is for connecting.
pub(super) async fn exchange(
    dialer: &Dialer,
    endpoint: &Endpoint,
    request: &Request,
    deadline: Instant,
) -> Result<Response> {
    let link = dialer.dial(&endpoint.address, Origin::Bootstrap, deadline).await;
    let link = link.map_err(|error| error.within("the identity provider cannot be reached"))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_MAX)
        .handshake(TokioIo::new(tokio::io::join(link.reader, link.writer)))
        .await
        .map_err(broken)?;
    // Ends with this function: whatever else the provider sends is not read.
    let _running = task::spawn(async move { drop(connection.await) });
    let mut answer = sender.send_request(http_request(endpoint, request)?).await.map_err(broken)?;
    Ok(Response { status: answer.status().as_u16(), body: body(answer.body_mut()).await? })
}

fn http_request(endpoint: &Endpoint, request: &Request) -> Result<hyper::Request<Full<Bytes>>> {
    let invalid = |error| Error::invalid("a token request that HTTP cannot carry").because(error);
    let mut http = hyper::Request::post(endpoint.path.as_str())
        .header(header::HOST, endpoint.authority.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::USER_AGENT, concat!("weir/", env!("CARGO_PKG_VERSION")))
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(header::CONNECTION, "close")
        .body(Full::new(shared(&request.body)))
        .map_err(invalid)?;
    if let Some(authorization) = &request.authorization {
        let mut value = HeaderValue::from_maybe_shared(shared(authorization))
            .map_err(|_| Error::invalid("a client id that HTTP cannot carry"))?;
        value.set_sensitive(true);
        http.headers_mut().insert(header::AUTHORIZATION, value);
    }
    Ok(http)
}

/// The same bytes for the HTTP library, still overwritten when the last owner is done.
fn shared(secret: &Secret) -> Bytes {
    struct Owner(Secret);
    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            self.0.expose()
        }
    }
    Bytes::from_owner(Owner(secret.clone()))
}

/// Memory grows with what came, not with what the head claims.
async fn body(incoming: &mut Incoming) -> Result<Secret> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(frame) = incoming.frame().await {
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if body.len() + data.len() > BODY_MAX {
            return Err(Error::auth(format!("the identity provider answers more than {BODY_MAX} bytes")));
        }
        body.extend_from_slice(&data);
    }
    Ok(body.into())
}

/// The library's errors tell what was wrong with the head and nothing that stood in it.
fn broken(error: hyper::Error) -> Error {
    if error.is_parse() || error.is_user() {
        return Error::auth(format!("the identity provider's answer is no HTTP: {error}")).because(error);
    }
    Error::io("the connection to the identity provider broke").because(error)
}
