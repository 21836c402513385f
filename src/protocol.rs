//! Every message of Kafka's protocol as a public type, and dispatch over all of them.
//!
//! What to use for what:
//!
//! - One message, whose type you know: its struct and [`Message`]. Each API has a module with its request
//!   and its response: [`fetch::FetchRequest`], [`fetch::FetchResponse`]. What goes into `records` fields
//!   is made and read by [`records`](crate::records).
//! - A request to a cluster: `Client::request`, which finds the broker and the version.
//!   `examples/quickstart.rs` is made of that.
//! - A connection to a broker by hand: [`Frames`] cuts what arrives, [`Exchange`] frames what is sent and gives
//!   each [`Answer`] to its request. Only these add the length and the header that stand before a message
//!   on a connection. `examples/roundtrip` uses them with a plain socket.
//! - A message whose type is known only at run time: [`decode_request`] and [`decode_response`] by API key,
//!   [`decode`] and [`recode`] by name; each gives an [`AnyMessage`]. [`messages`] and [`message_type`] say
//!   what there is.
//!
//! A message is one struct for all its versions; the version is an argument. The docs of a field name
//! the versions that have it, its default unless that is zero, empty or null, and what becomes of it in
//! the others: *refused* means that it is an error to set it there, *ignored* that it is left out. So a
//! produce request in version 13, which has topic ids, says nothing of a topic's `name`, and fills in the
//! zero id if none is set: negotiate the version first, then set what it carries.
//!
//! ```
//! use weir::protocol::{Message, metadata::MetadataRequest};
//!
//! let request = MetadataRequest { topics: None, ..Default::default() };
//! let bytes = request.to_bytes(12)?;
//! assert_eq!(MetadataRequest::from_bytes(&bytes, 12)?, request);
//! # Ok::<(), weir::Error>(())
//! ```
//!
//! A new Kafka adds fields: write struct literals with `..Default::default()`, as above, and they go on
//! compiling.

use bytes::Bytes;

pub use crate::frame::{Answer, Exchange, Frames};
pub use crate::messages::*;
pub use crate::wire::any::{AnyMessage, Kind, MessageType};
pub use crate::wire::{
    ApiKey, Decode, Encode, Field, HiddenBytes, Ints, Legacy, Message, Reader, Request, Segments, Str,
    UnknownTags, Uuid, Writer,
};
use crate::{Error, Result};

/// All message types, by kind and then by API key or name.
pub fn messages() -> &'static [MessageType] {
    dispatch::ALL
}

/// The message type of a request or a response, by its API.
pub fn message_type(kind: Kind, key: ApiKey) -> Option<&'static MessageType> {
    by_key(kind, key).ok()
}

/// Decodes a message and encodes it again.
///
/// `kind` is `request`, `response`, `data` or `header`, `name` as in Kafka's specs, such as
/// `FetchRequest`. Bytes that Kafka wrote come back the same. Fails if there is no such message or
/// version, if the bytes are malformed, and if any are left over.
#[allow(clippy::needless_pass_by_value, reason = "what is decoded from the bytes shares them")]
pub fn recode(kind: &str, name: &str, version: i16, bytes: Bytes) -> Result<Bytes> {
    encode_whole(&*decode(kind, name, version, &bytes)?, version)
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
    let mut entropy = crate::wire::draw::Entropy::new(seed);
    encode_whole(&*(found.draw)(&mut entropy, version), version)
}

fn encode_whole(message: &dyn AnyMessage, version: i16) -> Result<Bytes> {
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
    let mut all = dispatch::ALL.iter();
    all.find(|found| found.name == name && found.kind.as_str() == kind).ok_or_else(|| no_such(kind, name))
}

#[cold]
fn no_such(kind: &str, name: &str) -> Error {
    let (kind, name) = (kind.escape_debug(), name.escape_debug());
    Error::unsupported(format!(
        "no {kind} named {name}; a kind is request, response, header or data, a name is like FetchRequest"
    ))
}

fn by_key(kind: Kind, key: ApiKey) -> Result<&'static MessageType> {
    dispatch::ALL
        .binary_search_by_key(&(kind, Some(key)), |found| (found.kind, found.key))
        .ok()
        .and_then(|at| dispatch::ALL.get(at))
        .ok_or_else(|| Error::unsupported(format!("no API with key {}", key.0)))
}
