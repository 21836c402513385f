//! What makes a struct of fields a message: a name, versions, and for a request its API.

use std::fmt;
use std::ops::{RangeFrom, RangeInclusive};

use bytes::Bytes;

use crate::wire::{Decode, Encode, Reader, Writer};
use crate::{Error, ErrorCode, Result};

/// A message as a whole: a request, a response, a header or a data schema.
pub trait Message {
    /// Its name in Kafka's specs, such as `FetchRequest`.
    const NAME: &'static str;

    /// The versions that there are.
    const VERSIONS: RangeInclusive<i16>;

    /// The versions that write compact lengths and tagged fields (KIP-482).
    const FLEXIBLE: RangeFrom<i16>;

    /// For how long the broker asks to be left alone, in milliseconds (KIP-219); 0 where it says nothing.
    fn throttle_time_ms(&self) -> i32 {
        0
    }

    /// The error of a response as a whole; none where it has only errors of its parts.
    fn error_code(&self) -> ErrorCode {
        ErrorCode::NONE
    }

    /// Appends the message in that version. Fails if the version does not exist, or cannot carry a
    /// field that is set and may not be left out.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<()>
    where
        Self: Encode,
    {
        check_version::<Self>(version)?;
        Encode::write(self, w, version, Self::FLEXIBLE.contains(&version))
            .map_err(|e| e.in_message(Self::NAME, version))
    }

    /// The message in that version, in one piece. Nothing stands before it: length and header are
    /// added where requests are sent.
    fn to_bytes(&self, version: i16) -> Result<Bytes>
    where
        Self: Encode,
    {
        let mut writer = Writer::default();
        self.encode(&mut writer, version)?;
        Ok(writer.finish().into_bytes())
    }

    /// Reads the message in that version. Bytes left over are an error.
    fn from_bytes(bytes: &Bytes, version: i16) -> Result<Self>
    where
        Self: Decode,
    {
        let mut reader = Reader::new(bytes);
        let message = <Self as Message>::decode(&mut reader, version)?;
        reader.finish().map_err(|e| e.in_message(Self::NAME, version))?;
        Ok(message)
    }

    /// Reads the message in that version, and leaves the reader after it.
    fn decode(r: &mut Reader<'_>, version: i16) -> Result<Self>
    where
        Self: Decode,
    {
        check_version::<Self>(version)?;
        let mut message = Self::default();
        match Decode::read(&mut message, r, version, Self::FLEXIBLE.contains(&version)) {
            Ok(()) => Ok(message),
            Err(e) => Err(e.in_message(Self::NAME, version)),
        }
    }
}

fn check_version<M: Message + ?Sized>(version: i16) -> Result<()> {
    if M::VERSIONS.contains(&version) {
        return Ok(());
    }
    let (first, last) = (M::VERSIONS.start(), M::VERSIONS.end());
    Err(Error::unsupported(format!("there are versions {first} to {last}")).in_message(M::NAME, version))
}

/// A request.
pub trait Request: Message {
    /// Its API.
    const KEY: ApiKey;

    /// What answers it.
    type Response: Message;

    /// The version of the header in front of the request.
    fn request_header_version(version: i16) -> i16 {
        request_header_version(Self::KEY, version, Self::FLEXIBLE.contains(&version))
    }

    /// The version of the header in front of the response.
    fn response_header_version(version: i16) -> i16 {
        response_header_version(Self::KEY, Self::FLEXIBLE.contains(&version))
    }
}

/// Only the first `ControlledShutdown` has the header without a client id.
pub(super) fn request_header_version(key: ApiKey, version: i16, flexible: bool) -> i16 {
    match version {
        0 if key == ApiKey(7) => 0,
        _ if flexible => 2,
        _ => 1,
    }
}

/// `ApiVersions` keeps the first one, so that a client can read it before it knows what the broker
/// speaks (KIP-511).
pub(super) fn response_header_version(key: ApiKey, flexible: bool) -> i16 {
    i16::from(key != ApiKey(18) && flexible)
}

/// The number of an API. Those that Kafka has are constants of this type; any other is a value too.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiKey(pub i16);

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "Unknown({})", self.0),
        }
    }
}
