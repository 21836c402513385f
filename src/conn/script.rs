//! A broker's side of the protocol, for tests: requests as they were sent, answers as Kafka writes them.

use bytes::Bytes;

use crate::messages::api_versions::{ApiVersion, ApiVersionsResponse};
use crate::messages::request_header::RequestHeader;
use crate::messages::sasl_handshake::SaslHandshakeResponse;
use crate::wire::{ApiKey, Decode, Encode, Message, Reader, Request};

/// What the broker read: a request's header and body.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation: i32,
    pub(crate) whole: Bytes,
}

impl Asked {
    pub(crate) fn parse(frame: &Bytes) -> Self {
        let (len, rest) = frame.split_first_chunk::<4>().unwrap();
        assert_eq!(u32::from_be_bytes(*len) as usize, rest.len(), "the length is right");
        Self::parse_body(frame.slice(4..))
    }

    /// A request without the length before it.
    pub(crate) fn parse_body(whole: Bytes) -> Self {
        let rest = &whole[..];
        let int16 = |at: usize| i16::from_be_bytes([rest[at], rest[at + 1]]);
        let correlation = i32::from_be_bytes(rest[4..8].try_into().unwrap());
        Self { key: ApiKey(int16(0)), version: int16(2), correlation, whole }
    }

    pub(crate) fn body<R: Request + Decode>(&self) -> R {
        assert_eq!(self.key, R::KEY);
        let mut reader = Reader::new(&self.whole);
        let version = R::request_header_version(self.version);
        let header = <RequestHeader as Message>::decode(&mut reader, version).unwrap();
        assert_eq!(header.client_id.0.as_deref(), Some("weir"));
        R::from_bytes(&self.whole.slice(reader.position()..), self.version).unwrap()
    }

    /// The length of the request with its header.
    pub(crate) fn body_len(&self) -> usize {
        self.whole.len()
    }

    pub(crate) fn answer<R: Request>(&self, response: &R::Response) -> Bytes
    where
        R::Response: Encode,
    {
        assert_eq!(self.key, R::KEY);
        let flexible = R::response_header_version(self.version) > 0;
        answer(self.correlation, flexible, &response.to_bytes(self.version).unwrap())
    }
}

pub(crate) fn answer(correlation: i32, flexible: bool, body: &[u8]) -> Bytes {
    let tags: &[u8] = if flexible { &[0] } else { &[] };
    [&correlation.to_be_bytes()[..], tags, body].concat().into()
}

pub(crate) fn versions(apis: &[(i16, i16, i16)]) -> ApiVersionsResponse {
    let api = |&(api_key, min_version, max_version): &(i16, i16, i16)| ApiVersion {
        api_key,
        min_version,
        max_version,
        ..Default::default()
    };
    ApiVersionsResponse { api_keys: apis.iter().map(api).collect(), ..Default::default() }
}

pub(crate) fn mechanisms(names: &[&str]) -> SaslHandshakeResponse {
    SaslHandshakeResponse {
        mechanisms: names.iter().map(|name| (*name).into()).collect(),
        ..Default::default()
    }
}
