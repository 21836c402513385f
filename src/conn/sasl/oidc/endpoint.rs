//! The address of a token endpoint, and the guards on it: what it may be is decided once, before anything is sent.

use hyper::Uri;

use crate::net::Address;
use crate::{Error, Result};

/// A token endpoint that passed the guards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) address: Address,
    pub(super) secure: bool,
    /// What the header `Host` says.
    pub(super) authority: String,
    /// The path, and the query if there is one.
    pub(super) path: String,
}

/// What an address may be.
#[derive(Debug, Default)]
pub(super) struct Guards {
    pub(super) allow_plain: bool,
    pub(super) hosts: Option<Vec<String>>,
}

impl Endpoint {
    /// Errors name the host at most: the rest of a wrong address may hold what nobody should see.
    pub(super) fn parse(url: &str, guards: &Guards) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("the token endpoint {why}"));
        // hyper's type drops a fragment in silence.
        if url.contains('#') {
            return Err(bad("has a fragment"));
        }
        let uri: Uri = url.parse().map_err(|_| bad("is no URL"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if guards.allow_plain => false,
            Some("http") => return Err(bad("is not https, and a plain one was not allowed")),
            _ => return Err(bad("is no https URL")),
        };
        let authority = uri.authority().ok_or_else(|| bad("names no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("has a user name or password in it; give them apart"));
        }
        // Between the host and the end there is a port or nothing; hyper lets an empty or too large one pass.
        let after_host = authority.as_str().get(authority.host().len()..).unwrap_or_default();
        let port = match (after_host, authority.port_u16()) {
            ("", _) => {
                if secure {
                    443
                } else {
                    80
                }
            }
            (_, Some(port)) if port > 0 => port,
            _ => return Err(bad("has a port that is none")),
        };
        let host = authority.host().trim_matches(['[', ']']);
        if host.is_empty() {
            return Err(bad("names no host"));
        }
        let listed = |hosts: &Vec<String>| hosts.iter().any(|allowed| allowed.eq_ignore_ascii_case(host));
        if !guards.hosts.as_ref().is_none_or(listed) {
            return Err(bad(&format!(
                "is at {}, which is not on the list of allowed hosts",
                host.escape_debug()
            )));
        }
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        Ok(Self {
            address: Address::new(host, port)?,
            secure,
            authority: authority.as_str().to_owned(),
            path: path.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, expected: &str) {
        let guards = Guards::default();
        let found = match Endpoint::parse(url, &guards) {
            Ok(at) => {
                let (host, port) = (at.address.host(), at.address.port());
                format!("{host} {port} {} {} {}", at.secure, at.authority, at.path)
            }
            Err(error) => error.to_string().replace("invalid value: the token endpoint ", "no: "),
        };
        assert_eq!(found, expected, "{url}");
    }

    #[test]
    fn b41_only_https_with_nothing_odd() {
        check("https://idp.example/token", "idp.example 443 true idp.example /token");
        check("https://idp.example:8443/a/b?p=x", "idp.example 8443 true idp.example:8443 /a/b?p=x");
        check("https://[::1]:9/t", "::1 9 true [::1]:9 /t");
        check("https://idp.example", "idp.example 443 true idp.example /");
        check("http://idp.example/token", "no: is not https, and a plain one was not allowed");
        check("file:///etc/passwd", "no: is no URL");
        check("ftp://idp.example/token", "no: is no https URL");
        check("/token", "no: is no https URL");
        check("https:///token", "no: is no URL");
        check(
            "https://me:secret@idp.example/token",
            "no: has a user name or password in it; give them apart",
        );
        check("https://idp.example/token#x", "no: has a fragment");
        check("https://idp.example:0/", "no: has a port that is none");
        check("https://idp.example:/", "no: has a port that is none");
        check("https://idp.example:99999/", "no: has a port that is none");
        check("https://idp.example/a b", "no: is no URL");
        check("https://idp.example/a\r\nX: y", "no: is no URL");
        check("", "no: is no URL");
    }

    #[test]
    fn b41_guards_are_widened_and_narrowed_by_name() {
        let plain = Guards { allow_plain: true, hosts: None };
        let at = Endpoint::parse("http://127.0.0.1/t", &plain).unwrap();
        assert_eq!((at.address.port(), at.secure), (80, false));
        let listed = Guards { allow_plain: false, hosts: Some(vec!["IdP.example".into()]) };
        assert!(Endpoint::parse("https://idp.EXAMPLE/t", &listed).is_ok());
        for url in ["https://idp.example.evil/t", "https://evil/idp.example", "http://idp.example/t"] {
            assert!(Endpoint::parse(url, &listed).unwrap_err().is_invalid(), "{url}");
        }
        let none = Guards { allow_plain: false, hosts: Some(Vec::new()) };
        assert!(Endpoint::parse("https://idp.example/t", &none).is_err());
    }
}
