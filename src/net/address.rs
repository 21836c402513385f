//! Where a broker is: a host and a port, as a user writes them and as brokers advertise them.
//!
//! Both come from outside. What is in an [`Address`] was checked here, so that it can go into a log, a
//! `CONNECT` line of a proxy or a TLS server name as it is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use crate::error::{Error, Result};

/// A host, by name or number, and a port.
///
/// Written `broker.example.com:9092`, `192.0.2.7:9092` or `[2001:db8::7]:9092`; a zone may follow an IPv6
/// address (`[fe80::1%eth0]:9092`). The port is never left out and is 1 to 65535. Names are ASCII, of letters,
/// digits, dots, `-` and `_`, at most 255 bytes; an international name is written in its `xn--` form.
///
/// ```
/// let address: weir::net::Address = "[::1]:9092".parse()?;
/// assert_eq!((address.host(), address.port()), ("::1", 9092));
/// assert_eq!(address.to_string(), "[::1]:9092");
/// # Ok::<(), weir::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    host: Box<str>,
    port: u16,
}

/// The longest host: a name of 253 bytes, and some room for dots that people add.
const HOST_BYTES_MAX: usize = 255;
/// As much of a bad address as an error repeats.
const SHOWN_CHARS_MAX: usize = 80;

impl Address {
    /// Of a host (an IPv6 address without brackets) and a port.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid) if the host is none or the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self> {
        if port == 0 {
            return Err(Error::invalid(format!("the port of '{}' is 0", shown(host))));
        }
        match host_fault(host) {
            None => Ok(Self { host: host.into(), port }),
            Some(fault) => Err(Error::invalid(format!("the host '{}' {fault}", shown(host)))),
        }
    }

    /// What a broker advertised; it counts ports in 32 bits, and says -1 for a broker that is away.
    pub(crate) fn advertised(host: &str, port: i32) -> Result<Self> {
        match u16::try_from(port) {
            Ok(port) => Self::new(host, port),
            Err(_) => Err(Error::invalid(format!("the advertised port {port} of '{}'", shown(host)))),
        }
    }

    /// A list of addresses, separated by commas: what Kafka calls `bootstrap.servers`.
    ///
    /// Blanks around an address and empty places are passed over, and a repeated address is taken once. The order
    /// is kept. The name of a listener before an address (`SSL://`) is refused, because it would not switch
    /// anything on.
    ///
    /// # Errors
    /// [`is_invalid`](Error::is_invalid) if an address is none, with its text, or if there is none at all.
    pub fn list(text: &str) -> Result<Vec<Self>> {
        let mut addresses = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let address = part.parse()?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(Error::invalid("a list of brokers without an address"));
        }
        Ok(addresses)
    }

    /// The name or number of the host; an IPv6 address is without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host without the dot that ends a full name. No certificate has that dot, and no SNI may.
    pub(crate) fn name(&self) -> &str {
        self.host.strip_suffix('.').unwrap_or(&self.host)
    }

    /// The host as a number, if it is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::invalid(format!("the address '{}' {why}", shown(text)));
        if text.contains("://") {
            return Err(bad(
                "has something before the host; write host:port, and say elsewhere if TLS is wanted",
            ));
        }
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (host, rest) =
                rest.split_once(']').ok_or_else(|| bad("has a bracket that does not close"))?;
            if !host.contains(':') {
                return Err(bad("has brackets around what is no IPv6 address"));
            }
            (host, rest.strip_prefix(':').ok_or_else(|| bad("has no port"))?)
        } else {
            let (host, port) = text.rsplit_once(':').ok_or_else(|| bad("has no port"))?;
            if host.contains(':') {
                return Err(bad("is an IPv6 address without brackets; write [address]:port"));
            }
            (host, port)
        };
        // `parse` would take a sign.
        let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        match port.parse() {
            Ok(port) if digits => Self::new(host, port),
            _ => Err(bad("has a port that is not a number from 1 to 65535")),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

/// What is wrong with a host.
fn host_fault(host: &str) -> Option<&'static str> {
    if host.is_empty() {
        return Some("is empty");
    }
    if host.len() > HOST_BYTES_MAX {
        return Some("is longer than 255 bytes");
    }
    if host.contains(':') {
        let (number, zone) = host.split_once('%').unwrap_or((host, "0"));
        let zone_is_fine = !zone.is_empty() && zone.bytes().all(in_name);
        return (number.parse::<Ipv6Addr>().is_err() || !zone_is_fine).then_some("is no IPv6 address");
    }
    if !host.bytes().all(in_name) {
        return Some("has a character that no host name has");
    }
    host.split('.').next().is_some_and(str::is_empty).then_some("begins with a dot")
}

fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')
}

/// Text from outside, fit to be shown.
fn shown(text: &str) -> String {
    super::shown(text, SHOWN_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written_alike() {
        for (text, host, port) in [
            ("localhost:9092", "localhost", 9092),
            ("broker_1.Example.com.:1", "broker_1.Example.com.", 1),
            ("192.0.2.7:65535", "192.0.2.7", 65535),
            ("[::1]:9092", "::1", 9092),
            ("[fe80::1%eth0.5]:9092", "fe80::1%eth0.5", 9092),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), text);
        }
        assert_eq!("a.b.:1".parse::<Address>().unwrap().name(), "a.b");
    }

    #[test]
    fn what_is_no_address_is_refused_with_its_text_escaped() {
        for (text, why) in [
            ("", "no port"),
            ("localhost", "no port"),
            ("localhost:", "not a number"),
            ("localhost:0", "is 0"),
            ("localhost:65536", "not a number"),
            ("localhost:+92", "not a number"),
            (":9092", "is empty"),
            (".:9092", "begins with a dot"),
            ("::1:9092", "without brackets"),
            ("[::1]", "no port"),
            ("[::1:9092", "does not close"),
            ("[a]:9092", "no IPv6"),
            ("[::1%]:9092", "no IPv6"),
            ("[::1%a b]:9092", "no IPv6"),
            ("SSL://a:9092", "before the host"),
            ("a b:9092", "no host name has"),
            ("a\r\nX: y:9092", "without brackets"),
            ("a\r\nX:9092", "no host name has"),
            ("b\u{fc}cher.example:9092", "no host name has"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.is_invalid(), "{error}");
            assert!(error.to_string().contains(why), "{text:?}: {error}");
            assert!(!error.to_string().contains('\n'), "{error}");
        }
        let long = Address::new(&"a".repeat(100_000), 1).unwrap_err();
        assert!(long.to_string().len() < 200, "{long}");
    }

    #[test]
    fn an_advertised_port_is_checked() {
        assert_eq!(Address::advertised("a", 9092).unwrap().to_string(), "a:9092");
        for port in [-1, 0, 65536, i32::MIN] {
            assert!(Address::advertised("a", port).unwrap_err().is_invalid());
        }
    }

    #[test]
    fn a_list_keeps_its_order_and_drops_repeats() {
        let list = Address::list(" b:2,a:1 ,, b:2,[::1]:3,").unwrap();
        assert_eq!(list.iter().map(ToString::to_string).collect::<Vec<_>>(), ["b:2", "a:1", "[::1]:3"]);
        assert!(Address::list(" , ").unwrap_err().is_invalid());
        assert!(Address::list("a:1,b").unwrap_err().to_string().contains("'b'"));
    }
}
