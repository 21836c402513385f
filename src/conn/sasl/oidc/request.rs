//! What is sent to an identity provider: a form, and perhaps a header that says who we are (RFC 6749).
//!
//! Secrets go into the body or that header, never into the address.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::byte_serialize;
use zeroize::Zeroizing;

use crate::Secret;

/// How we get a token.
#[derive(Debug, Clone)]
pub(super) enum Grant<A> {
    /// Client id and secret, in the header `Authorization` (KIP-768).
    ClientSecret { id: String, secret: Secret },
    /// An assertion in place of the secret (KIP-1258, RFC 7523 section 2.2).
    ClientAssertion { id: Option<String>, assertion: A },
    /// An assertion that is itself the grant (KIP-1139, RFC 7523 section 2.1).
    JwtBearer { assertion: A },
}

/// What goes with any grant.
#[derive(Debug, Clone, Default)]
pub(super) struct Extras {
    pub(super) scope: Option<String>,
    /// More fields of the form; some providers want an `audience` or a `resource`.
    pub(super) parameters: Vec<(String, String)>,
    /// Whether id and secret are encoded as form fields before they are joined, as RFC 6749 says and not all
    /// providers expect.
    pub(super) urlencode_header: bool,
}

/// One request, but for its address.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) authorization: Option<Secret>,
    pub(super) body: Secret,
}

/// Names of form fields that the grants themselves use.
pub(super) const OWN_FIELDS: [&str; 6] =
    ["grant_type", "scope", "assertion", "client_id", "client_assertion", "client_assertion_type"];

/// The request for a grant whose assertion has been made.
pub(super) fn build(grant: &Grant<Secret>, extras: &Extras) -> Request {
    // The secrets are ASCII wherever they come from, but for what a user gave: then it is taken as it is.
    let mut fields: Vec<(&str, &[u8])> = Vec::new();
    let mut authorization = None;
    match grant {
        Grant::ClientSecret { id, secret } => {
            authorization = Some(basic(id, secret, extras.urlencode_header));
            fields.push(("grant_type", b"client_credentials"));
        }
        Grant::ClientAssertion { id, assertion } => {
            fields.push(("grant_type", b"client_credentials"));
            fields.extend(id.as_ref().map(|id| ("client_id", id.as_bytes())));
            fields.push(("client_assertion_type", b"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
            fields.push(("client_assertion", assertion.expose()));
        }
        Grant::JwtBearer { assertion } => {
            fields.push(("grant_type", b"urn:ietf:params:oauth:grant-type:jwt-bearer"));
            fields.push(("assertion", assertion.expose()));
        }
    }
    fields.extend(extras.scope.as_ref().map(|scope| ("scope", scope.as_bytes())));
    fields.extend(extras.parameters.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
    Request { authorization, body: form(&fields) }
}

fn form(fields: &[(&str, &[u8])]) -> Secret {
    // An encoded byte takes three at most: room for all, so that growing leaves no copy of a secret behind.
    let room = fields.iter().map(|(name, value)| (name.len() + value.len()) * 3 + 2).sum();
    let mut form = String::with_capacity(room);
    for (name, value) in fields {
        if !form.is_empty() {
            form.push('&');
        }
        form.extend(byte_serialize(name.as_bytes()));
        form.push('=');
        form.extend(byte_serialize(value));
    }
    form.into()
}

fn basic(id: &str, secret: &Secret, urlencode: bool) -> Secret {
    let put = |bytes: &[u8], joined: &mut Vec<u8>| {
        if urlencode {
            byte_serialize(bytes).for_each(|part| joined.extend_from_slice(part.as_bytes()));
        } else {
            joined.extend_from_slice(bytes);
        }
    };
    let mut joined = Zeroizing::new(Vec::with_capacity((id.len() + secret.expose().len()) * 3 + 1));
    put(id.as_bytes(), &mut joined);
    joined.push(b':');
    put(secret.expose(), &mut joined);
    let mut header = String::with_capacity(6 + joined.len().div_ceil(3) * 4);
    header.push_str("Basic ");
    STANDARD.encode_string(&*joined, &mut header);
    header.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(grant: &Grant<Secret>, extras: &Extras) -> (String, String) {
        let text = |secret: &Secret| String::from_utf8(secret.expose().to_vec()).unwrap();
        let request = build(grant, extras);
        (request.authorization.as_ref().map(text).unwrap_or_default(), text(&request.body))
    }

    #[test]
    fn a_client_secret_is_in_the_header_alone() {
        let grant = Grant::ClientSecret { id: "Aladdin".into(), secret: "open sesame".into() };
        let (header, body) = shown(&grant, &Extras::default());
        // The example of RFC 7617.
        assert_eq!(header, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(body, "grant_type=client_credentials");
        let extras = Extras {
            scope: Some("a b&c".into()),
            parameters: vec![("audience".into(), "https://x/ä".into())],
            urlencode_header: true,
        };
        let (header, body) =
            shown(&Grant::ClientSecret { id: "a:b".into(), secret: "c d+%".into() }, &extras);
        assert_eq!(header, format!("Basic {}", STANDARD.encode("a%3Ab:c+d%2B%25")));
        assert_eq!(body, "grant_type=client_credentials&scope=a+b%26c&audience=https%3A%2F%2Fx%2F%C3%A4");
    }

    #[test]
    fn assertions_are_in_the_body() {
        let extras = Extras { scope: Some("s".into()), ..Extras::default() };
        let assertion = || Secret::from("h.p.s-_");
        let (header, body) = shown(&Grant::JwtBearer { assertion: assertion() }, &extras);
        assert_eq!(header, "");
        assert_eq!(
            body,
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=h.p.s-_&scope=s"
        );
        let grant = Grant::ClientAssertion { id: Some("me".into()), assertion: assertion() };
        assert_eq!(
            shown(&grant, &extras).1,
            "grant_type=client_credentials&client_id=me&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth\
             %3Aclient-assertion-type%3Ajwt-bearer&client_assertion=h.p.s-_&scope=s"
        );
        let grant = Grant::ClientAssertion { id: None, assertion: assertion() };
        assert!(!shown(&grant, &extras).1.contains("client_id"));
    }
}
