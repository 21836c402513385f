//! Every message of Kafka's protocol as a public type, and dispatch over all of them.
//!
//! Each API has a module with its request and its response: [`fetch::FetchRequest`],
//! [`fetch::FetchResponse`]. A message is one struct for all its versions; the version is an argument
//! of [`Message::encode`] and [`Message::decode`]. A field that a version does not have keeps Kafka's
//! default when it is read; when it is set and written all the same, that is an error, unless Kafka's
//! specs say that it may be left out.
//!
//! ```
//! use weir::protocol::{Message, Reader, Writer, metadata::MetadataRequest};
//!
//! let request = MetadataRequest { topics: None, ..Default::default() };
//! let mut writer = Writer::default();
//! request.encode(&mut writer, 12)?;
//! let bytes = writer.finish().into_bytes();
//!
//! let mut reader = Reader::new(&bytes);
//! assert_eq!(MetadataRequest::decode(&mut reader, 12)?, request);
//! reader.finish()?;
//! # Ok::<(), weir::Error>(())
//! ```
//!
//! Where the type is known only at run time, [`decode_request`], [`decode_response`] and [`decode`]
//! give an [`AnyMessage`]; [`messages`] lists all types.

use bytes::Bytes;

pub use crate::frame::{Answer, Exchange, Frames};
pub use crate::messages::*;
pub use crate::wire::any::{AnyMessage, Kind, MessageType};
pub use crate::wire::{
    ApiKey, Decode, Encode, Field, Legacy, Message, Reader, Request, Segments, Str, UnknownTags, Uuid, Writer,
};
use crate::{Error, Result};

/// All message types, by kind and then by API key or name.
pub fn messages() -> &'static [MessageType] {
    dispatch::ALL
}

/// Decodes a message and encodes it again.
///
/// `kind` is `request`, `response`, `data` or `header`, `name` as in Kafka's specs, such as
/// `FetchRequest`. Bytes that Kafka wrote come back the same. Fails if there is no such message or
/// version, if the bytes are malformed, and if any are left over.
#[allow(clippy::needless_pass_by_value, reason = "what is decoded from the bytes shares them")]
pub fn recode(kind: &str, name: &str, version: i16, bytes: Bytes) -> Result<Bytes> {
    let message = decode(kind, name, version, &bytes)?;
    let mut writer = Writer::default();
    message.encode_any(&mut writer, version)?;
    Ok(writer.finish().into_bytes())
}

/// Decodes a message by its kind and name, as [`recode`] takes them. No byte may be left over.
pub fn decode(kind: &str, name: &str, version: i16, bytes: &Bytes) -> Result<Box<dyn AnyMessage>> {
    decode_whole(by_name(kind, name)?, version, bytes)
}

/// Decodes the body of a request by its API. No byte may be left over.
pub fn decode_request(key: ApiKey, version: i16, bytes: &Bytes) -> Result<Box<dyn AnyMessage>> {
    decode_whole(by_key(Kind::Request, key)?, version, bytes)
}

/// Decodes the body of a response by its API. No byte may be left over.
pub fn decode_response(key: ApiKey, version: i16, bytes: &Bytes) -> Result<Box<dyn AnyMessage>> {
    decode_whole(by_key(Kind::Response, key)?, version, bytes)
}

/// Draws a message from a seed and encodes it: valid in its version, and fond of the edges.
///
/// The same seed gives the same bytes within a release of this crate.
#[cfg(feature = "draw")]
pub fn draw(kind: &str, name: &str, version: i16, seed: u64) -> Result<Bytes> {
    let found = by_name(kind, name)?;
    if !found.versions.contains(&version) {
        return Err(Error::unsupported("no such version to draw").in_message(found.name, version));
    }
    let mut entropy = crate::wire::draw::Entropy::new(seed);
    let message = (found.draw)(&mut entropy, version);
    let mut writer = Writer::default();
    message.encode_any(&mut writer, version)?;
    Ok(writer.finish().into_bytes())
}

fn decode_whole(found: &MessageType, version: i16, bytes: &Bytes) -> Result<Box<dyn AnyMessage>> {
    let mut reader = Reader::new(bytes);
    let message = (found.decode)(&mut reader, version)?;
    reader.finish().map_err(|e| e.in_message(found.name, version))?;
    Ok(message)
}

fn by_name(kind: &str, name: &str) -> Result<&'static MessageType> {
    dispatch::ALL.iter().find(|found| found.name == name && found.kind.as_str() == kind).ok_or_else(|| {
        Error::unsupported(format!("no {} named {}", kind.escape_debug(), name.escape_debug()))
    })
}

fn by_key(kind: Kind, key: ApiKey) -> Result<&'static MessageType> {
    dispatch::ALL
        .binary_search_by_key(&(kind, Some(key)), |found| (found.kind, found.key))
        .ok()
        .and_then(|at| dispatch::ALL.get(at))
        .ok_or_else(|| Error::unsupported(format!("no API with key {}", key.0)))
}
