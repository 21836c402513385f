//! The ways into a broker: a transport, and on it an authentication or none.

use std::fmt;
use std::str::FromStr;

use crate::failure::Failure;

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP as it is.
    Plain,
    /// TLS with the broker's certificate.
    Tls,
    /// TLS with the client's certificate too.
    Mtls,
}

/// How a client proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// The password itself.
    Plain,
    /// RFC 5802 with SHA-256.
    ScramSha256,
    /// RFC 5802 with SHA-512.
    ScramSha512,
    /// A bearer token: unsigned, or of the issuer that the cluster was given (2.0 and later).
    OauthBearer,
    /// Kerberos, from the KDC that the cluster was given.
    Gssapi,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Plain, Self::ScramSha256, Self::ScramSha512, Self::OauthBearer, Self::Gssapi];

    /// The name in SASL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
            Self::Gssapi => "GSSAPI",
        }
    }

    pub(crate) fn is_scram(self) -> bool {
        matches!(self, Self::ScramSha256 | Self::ScramSha512)
    }
}

/// One way into each broker of a cluster; each has a port of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listener {
    pub(crate) transport: Transport,
    pub(crate) mechanism: Option<Mechanism>,
}

impl Listener {
    /// TCP without authentication.
    pub const fn plain() -> Self {
        Self { transport: Transport::Plain, mechanism: None }
    }

    /// TLS; the broker alone shows a certificate.
    pub const fn tls() -> Self {
        Self { transport: Transport::Tls, mechanism: None }
    }

    /// TLS; both show certificates.
    pub const fn mtls() -> Self {
        Self { transport: Transport::Mtls, mechanism: None }
    }

    /// SASL over TCP as it is.
    pub const fn sasl(mechanism: Mechanism) -> Self {
        Self { transport: Transport::Plain, mechanism: Some(mechanism) }
    }

    /// The same authentication over TLS.
    #[must_use]
    pub const fn over_tls(self) -> Self {
        Self { transport: Transport::Tls, ..self }
    }

    /// What carries its bytes.
    pub fn transport(self) -> Transport {
        self.transport
    }

    /// How its clients prove who they are.
    pub fn mechanism(self) -> Option<Mechanism> {
        self.mechanism
    }

    /// The listener's name in the broker's properties.
    pub(crate) fn name(self) -> String {
        let transport = match self.transport {
            Transport::Plain => "PLAINTEXT",
            Transport::Tls => "TLS",
            Transport::Mtls => "MTLS",
        };
        match self.mechanism {
            None => transport.to_owned(),
            Some(mechanism) => format!("{transport}_{}", mechanism.name().replace('-', "_")),
        }
    }

    /// Kafka's security protocol.
    pub(crate) fn protocol(self) -> &'static str {
        match (self.transport, self.mechanism) {
            (Transport::Plain, None) => "PLAINTEXT",
            (_, None) => "SSL",
            (Transport::Plain, Some(_)) => "SASL_PLAINTEXT",
            (_, Some(_)) => "SASL_SSL",
        }
    }

    pub(crate) fn is_tls(self) -> bool {
        self.transport != Transport::Plain
    }

    /// The host that clients are told. Kerberos needs a name; the others do with an address, which is never
    /// looked up.
    pub(crate) fn host(self) -> &'static str {
        if self.mechanism == Some(Mechanism::Gssapi) { "localhost" } else { "127.0.0.1" }
    }
}

/// As the command takes it: `plain`, `tls`, `mtls`, `sasl-plain:SCRAM-SHA-512`, `sasl-tls:PLAIN`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = match self.transport {
            Transport::Plain => "plain",
            Transport::Tls => "tls",
            Transport::Mtls => "mtls",
        };
        match self.mechanism {
            None => f.write_str(transport),
            Some(mechanism) => write!(f, "sasl-{transport}:{}", mechanism.name()),
        }
    }
}

impl FromStr for Listener {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let all = [Self::plain(), Self::tls(), Self::mtls()].into_iter();
        let sasl = Mechanism::ALL.into_iter().map(Self::sasl);
        all.chain(sasl.flat_map(|listener| [listener, listener.over_tls()]))
            .find(|listener| listener.to_string() == text)
            .ok_or_else(|| Failure::Broken(format!("not a listener: {text}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_read_as_it_is_written() {
        for text in ["plain", "tls", "mtls", "sasl-plain:SCRAM-SHA-512", "sasl-tls:PLAIN", "sasl-tls:GSSAPI"]
        {
            assert_eq!(text.parse::<Listener>().unwrap().to_string(), text);
        }
        for bad in ["", "TLS", "sasl-plain", "sasl-plain:scram", "sasl-mtls:PLAIN", "plain:PLAIN"] {
            assert!(bad.parse::<Listener>().is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_protocols_are_kafkas() {
        let scram = Listener::sasl(Mechanism::ScramSha512);
        assert_eq!((scram.name().as_str(), scram.protocol()), ("PLAINTEXT_SCRAM_SHA_512", "SASL_PLAINTEXT"));
        assert_eq!(scram.over_tls().protocol(), "SASL_SSL");
        assert_eq!((Listener::mtls().name().as_str(), Listener::mtls().protocol()), ("MTLS", "SSL"));
    }
}
