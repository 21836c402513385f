//! Names: of users, of services, of the realm that both are in.

use std::fmt;

use super::der::{self, Der};
use crate::{Error, Result};

/// A name in a realm: `user@EXAMPLE.COM`, `kafka/broker.example.com@EXAMPLE.COM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Principal {
    pub(super) parts: Vec<String>,
    pub(super) realm: String,
}

/// Kinds of names (RFC 4120 section 6.2), of which KDCs take little notice.
const USER: i64 = 1;
const SERVICE: i64 = 2;
const SERVICE_ON_HOST: i64 = 3;

impl Principal {
    /// Reads `part/part@REALM`; a backslash takes its special meaning from what follows it. `realm` is taken where
    /// there is none.
    pub(super) fn parse(text: &str, realm: Option<&str>) -> Result<Self> {
        let bad = || Error::invalid(format!("no Kerberos principal: {text:?}"));
        let (mut parts, mut own_realm) = (vec![String::new()], None::<String>);
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let c = match c {
                '\\' => chars.next().ok_or_else(bad)?,
                '@' if own_realm.is_some() => return Err(bad()),
                '@' => {
                    own_realm = Some(String::new());
                    continue;
                }
                '/' if own_realm.is_none() => {
                    parts.push(String::new());
                    continue;
                }
                c => c,
            };
            own_realm.as_mut().or(parts.last_mut()).ok_or_else(bad)?.push(c);
        }
        let realm = own_realm.or(realm.map(str::to_owned)).unwrap_or_default();
        if realm.is_empty() || parts.iter().any(String::is_empty) || text.contains('\0') {
            return Err(bad());
        }
        Ok(Self { parts, realm })
    }

    /// The service of a host in a realm.
    pub(super) fn service(name: &str, host: &str, realm: &str) -> Self {
        Self { parts: vec![name.to_owned(), host.to_owned()], realm: realm.to_owned() }
    }

    /// The service that gives the tickets of a realm.
    pub(super) fn tickets(realm: &str) -> Self {
        Self::service("krbtgt", realm, realm)
    }

    /// The name without the realm, as messages have it.
    pub(super) fn encode(&self, service: bool) -> Vec<u8> {
        let kind = match (service, self.parts.first().map(String::as_str)) {
            (false, _) => USER,
            (true, Some("krbtgt")) => SERVICE,
            (true, _) => SERVICE_ON_HOST,
        };
        let parts: Vec<u8> =
            self.parts.iter().flat_map(|part| der::element(der::STRING, &[part.as_bytes()])).collect();
        der::element(
            der::SEQUENCE,
            &[&der::integer(0, kind), &der::field(1, &der::element(der::SEQUENCE, &[&parts]))],
        )
    }

    /// Whether a name in a message, and the realm beside it, are this.
    pub(super) fn is(&self, mut name: Der<'_>, realm: &[u8]) -> Result<bool> {
        let mut fields = name.expect(der::SEQUENCE)?;
        let mut parts = fields.field(1)?.expect(der::SEQUENCE)?;
        let mut same = realm == self.realm.as_bytes();
        for own in &self.parts {
            same &= !parts.0.is_empty() && parts.expect(der::STRING)?.0 == own.as_bytes();
        }
        Ok(same && parts.0.is_empty())
    }

    /// What a password is mixed with where the KDC says nothing else.
    pub(super) fn salt(&self) -> Vec<u8> {
        [self.realm.clone(), self.parts.concat()].concat().into_bytes()
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.parts.join("/"), self.realm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        for (text, shown) in [
            ("me@A.B", "[\"me\"] A.B"),
            ("kafka/host.name@A.B", "[\"kafka\", \"host.name\"] A.B"),
            ("me", "[\"me\"] DEFAULT"),
            ("a\\@b\\/c@R/S", "[\"a@b/c\"] R/S"),
        ] {
            let principal = Principal::parse(text, Some("DEFAULT")).unwrap();
            assert_eq!(format!("{:?} {}", principal.parts, principal.realm), shown, "{text}");
        }
        for wrong in ["", "@R", "a@", "a@b@c", "a//b", "/a", "a\\", "a\0@R"] {
            assert!(Principal::parse(wrong, Some("DEFAULT")).unwrap_err().is_invalid(), "{wrong}");
        }
        assert!(Principal::parse("me", None).is_err());
    }

    #[test]
    fn a_name_is_known_again_in_a_message() {
        let name = Principal::service("kafka", "host", "R");
        let encoded = name.encode(true);
        assert!(name.is(Der(&encoded), b"R").unwrap());
        assert!(!name.is(Der(&encoded), b"S").unwrap());
        for other in ["kafka/host2@R", "kafka@R", "kafka/host/x@R"] {
            let other = Principal::parse(other, None).unwrap().encode(true);
            assert!(!name.is(Der(&other), b"R").unwrap());
        }
        assert!(name.is(Der(&[]), b"R").is_err());
    }
}
