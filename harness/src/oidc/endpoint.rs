//! What the endpoints answer, in good ways and in bad ones.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::http::{self, Request};
use super::token::{check, seconds_now};
use super::{AUDIENCE, Behaviour, CLIENT_ID, CLIENT_SECRET, Seen, Shared};
use crate::process::wait_a_little;

const JWT_BEARER_GRANT: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const JWT_BEARER_ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Bytes of a body that nobody should read.
const HUGE: u64 = 1 << 30;

/// A refusal: status, code and description (RFC 6749, 5.2).
type Refusal = (&'static str, &'static str, String);

pub(super) fn answer(to: &mut impl Write, request: &Request, tls: bool, shared: &Shared) -> io::Result<()> {
    shared.state().seen.push(Seen {
        method: request.method.clone(),
        path: request.path.clone(),
        tls,
        authorization: request.authorization.clone(),
        fields: request.fields.clone(),
    });
    let path = request.path.split('?').next().unwrap_or_default();
    match (request.method.as_str(), path) {
        ("GET", "/jwks") => ok(to, &json!({ "keys": [shared.signer.jwk()] })),
        ("GET", "/.well-known/openid-configuration") => ok(
            to,
            &json!({
                "issuer": shared.name(),
                "jwks_uri": shared.url(tls, "/jwks"),
                "token_endpoint": shared.url(tls, "/token"),
            }),
        ),
        ("POST", "/token") => misbehave(to, request, shared),
        // Where the redirection leads; whoever follows gets what he wants, and is found out.
        ("POST" | "GET", "/elsewhere") => good(to, request, shared, Behaviour::Good),
        (_, "/token" | "/jwks") => http::answer(to, "405 Method Not Allowed", "", "{}"),
        _ => http::answer(to, "404 Not Found", "", "{}"),
    }
}

fn ok(to: &mut impl Write, body: &Value) -> io::Result<()> {
    http::answer(to, "200 OK", "", &body.to_string())
}

fn misbehave(to: &mut impl Write, request: &Request, shared: &Shared) -> io::Result<()> {
    let behaviour = shared.state().behaviour;
    match behaviour {
        Behaviour::Good | Behaviour::ExpiredToken | Behaviour::ForeignToken | Behaviour::BadToken => {
            good(to, request, shared, behaviour)
        }
        Behaviour::Slow(time) => {
            stay_silent(time, shared);
            good(to, request, shared, behaviour)
        }
        Behaviour::Redirect => {
            let location = format!("Location: {}/elsewhere\r\n", shared.name());
            http::answer(to, "302 Found", &location, "{}")
        }
        Behaviour::HugeBody => huge(to, shared),
        Behaviour::HangUp => Ok(()),
        Behaviour::Refuse => {
            refuse(to, &("400 Bad Request", "invalid_request", "it was told to refuse".into()))
        }
        Behaviour::Unavailable => http::answer(to, "503 Service Unavailable", "", "{}"),
        Behaviour::NotJson => http::answer(to, "200 OK", "", "<html>welcome</html>"),
        Behaviour::NoToken => ok(to, &json!({ "token_type": "Bearer" })),
    }
}

fn good(to: &mut impl Write, request: &Request, shared: &Shared, how: Behaviour) -> io::Result<()> {
    match grant(request, shared) {
        Ok(subject) => issue(to, &subject, request.field("scope"), shared, how),
        Err(refusal) => refuse(to, &refusal),
    }
}

fn refuse(to: &mut impl Write, (status, error, description): &Refusal) -> io::Result<()> {
    let body = json!({ "error": error, "error_description": description });
    http::answer(to, status, "", &body.to_string())
}

/// Who may have a token.
fn grant(request: &Request, shared: &Shared) -> Result<String, Refusal> {
    match request.field("grant_type") {
        Some("client_credentials") => client(request, shared),
        Some(JWT_BEARER_GRANT) => {
            let assertion = request.field("assertion").unwrap_or_default();
            asserted(assertion, shared).map_err(|why| ("400 Bad Request", "invalid_grant", why))
        }
        other => {
            Err(("400 Bad Request", "unsupported_grant_type", format!("{:?}", other.unwrap_or_default())))
        }
    }
}

/// The client, by a secret in the header, a secret in the body, or an assertion.
fn client(request: &Request, shared: &Shared) -> Result<String, Refusal> {
    let invalid = |why: String| ("401 Unauthorized", "invalid_client", why);
    if let Some(kind) = request.field("client_assertion_type") {
        if kind != JWT_BEARER_ASSERTION {
            return Err(invalid("an assertion of an unknown type".into()));
        }
        return asserted(request.field("client_assertion").unwrap_or_default(), shared).map_err(invalid);
    }
    let in_header = request.authorization.as_deref().and_then(basic);
    let in_body = request.field("client_id").zip(request.field("client_secret"));
    let (id, secret) = match (in_header, in_body) {
        (Some(pair), None) => pair,
        (None, Some((id, secret))) => (id.to_owned(), secret.to_owned()),
        (Some(_), Some(_)) => return Err(invalid("credentials in two places".into())),
        (None, None) => return Err(invalid("no credentials".into())),
    };
    if (id.as_str(), secret.as_str()) == (CLIENT_ID, CLIENT_SECRET) {
        Ok(id)
    } else {
        Err(invalid("no such client".into()))
    }
}

/// Name and secret, each URL-encoded before they were joined (RFC 6749, 2.3.1).
fn basic(header: &str) -> Option<(String, String)> {
    let bytes = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    let decode = |part: &str| {
        form_urlencoded::parse(part.as_bytes()).next().map(|(text, _)| text.into_owned()).unwrap_or_default()
    };
    Some((decode(id), decode(secret)))
}

/// The subject of an assertion for us.
fn asserted(assertion: &str, shared: &Shared) -> Result<String, String> {
    let audiences = [shared.name(), shared.url(false, "/token"), shared.url(true, "/token")];
    let keys = shared.state().client_keys.clone();
    let claims = check(assertion, &keys, &audiences)?;
    claims.get("sub").and_then(Value::as_str).map(str::to_owned).ok_or_else(|| "it has no sub".to_owned())
}

fn issue(
    to: &mut impl Write,
    subject: &str,
    scope: Option<&str>,
    shared: &Shared,
    how: Behaviour,
) -> io::Result<()> {
    let (now, lifetime) = (seconds_now(), shared.state().lifetime.as_secs());
    let issued = if how == Behaviour::ExpiredToken { now.saturating_sub(2 * lifetime + 3600) } else { now };
    let claims = json!({
        "iss": shared.name(),
        "sub": subject,
        "aud": if how == Behaviour::ForeignToken { "somebody-else" } else { AUDIENCE },
        "scope": scope.unwrap_or_default(),
        "iat": issued,
        "exp": issued + lifetime,
    });
    let token = match how {
        Behaviour::BadToken => "not.a.token".to_owned(),
        _ => shared.signer.sign(&claims).map_err(io::Error::other)?,
    };
    let mut body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": lifetime });
    if let (Some(scope), Some(fields)) = (scope, body.as_object_mut()) {
        fields.insert("scope".to_owned(), scope.into());
    }
    ok(to, &body)
}

/// Until the time is over or the issuer ends.
fn stay_silent(time: Duration, shared: &Shared) {
    let until = Instant::now() + time;
    while Instant::now() < until && !shared.state().ended {
        wait_a_little();
    }
}

/// As much of the announced body as the other side takes.
fn huge(to: &mut impl Write, shared: &Shared) -> io::Result<()> {
    write!(
        to,
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {HUGE}\r\n\r\n{{\"access_token\":\""
    )?;
    let chunk = [b'x'; 8 << 10];
    for _ in 0..HUGE / chunk.len() as u64 {
        if shared.state().ended {
            break;
        }
        to.write_all(&chunk)?;
    }
    Ok(())
}
