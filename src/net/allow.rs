//! The hosts that a broker may send us to.

use super::Address;
use crate::error::{Error, Result};

/// Patterns of addresses, any of which may match.
#[derive(Debug, Clone)]
pub(super) struct Allow(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    /// In lower case, without the last dot; of a domain, with the dot before it.
    host: String,
    /// Any name that ends in `host`.
    domain: bool,
    port: Option<u16>,
}

impl Allow {
    pub(super) fn new<S: AsRef<str>>(patterns: impl IntoIterator<Item = S>) -> Result<Self> {
        patterns.into_iter().map(|pattern| Pattern::new(pattern.as_ref())).collect::<Result<_>>().map(Self)
    }

    /// Whether a connection may go to `to`.
    pub(super) fn allows(&self, to: &Address) -> bool {
        let host = plain(to.name());
        self.0.iter().any(|pattern| {
            let host_fits = if pattern.domain { host.ends_with(&pattern.host) } else { host == pattern.host };
            host_fits && pattern.port.is_none_or(|port| port == to.port())
        })
    }
}

impl Pattern {
    fn new(text: &str) -> Result<Self> {
        let (domain, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        // A port that is not there is any port; the address needs one to be read.
        let has_port = rest.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let read = if has_port { rest.parse::<Address>() } else { format!("{rest}:1").parse() };
        let address = read.map_err(|error| error.within("the pattern of allowed hosts"))?;
        if domain && address.ip().is_some() {
            return Err(Error::invalid("the pattern of allowed hosts: a number after '*.'"));
        }
        let host = if domain { format!(".{}", plain(address.name())) } else { plain(address.name()) };
        Ok(Self { host, domain, port: has_port.then_some(address.port()) })
    }
}

/// One way to write a host, so that two can be compared.
fn plain(host: &str) -> String {
    match host.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.to_string(),
        Err(_) => host.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_matches_is_allowed() {
        let allow = Allow::new(["*.Example.com", "db:9092", "192.0.2.7", "[::1]", "[::2]:5"]).unwrap();
        for (address, allowed) in [
            ("a.example.COM.:1", true),
            ("a.b.example.com:1", true),
            ("example.com:1", false),
            ("evilexample.com:1", false),
            ("a.example.com.evil.net:1", false),
            ("db:9092", true),
            ("db:9093", false),
            ("192.0.2.7:1", true),
            ("192.0.2.70:1", false),
            ("[0:0::1]:7", true),
            ("[::2]:5", true),
            ("[::2]:6", false),
        ] {
            assert_eq!(allow.allows(&address.parse().unwrap()), allowed, "{address}");
        }
        assert!(!Allow::new::<&str>([]).unwrap().allows(&"a:1".parse().unwrap()));
    }

    #[test]
    fn a_pattern_that_is_none_is_refused() {
        for bad in ["", "*", "*.", "a*b", "a:0", "*.192.0.2.7", "::1", "a b"] {
            assert!(Allow::new([bad]).unwrap_err().is_invalid(), "{bad}");
        }
    }
}
