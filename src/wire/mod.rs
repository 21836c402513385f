//! Bytes to values and back: the lowest layer, with no knowledge of any one message.
//!
//! [`Reader`] and [`Writer`] are the two ends; [`field`] says how each type of Kafka's lies between
//! them; the [`message!`] macro makes structs, encoders and decoders out of the tables of
//! `messages/`. Decoding is for bytes that may be hostile: every length is checked against what is
//! left before memory is taken, so that memory grows with bytes that arrived, not with numbers that
//! claim.

#[cfg(feature = "protocol")]
pub(crate) mod any;
pub(crate) mod field;
mod hidden;
mod ints;
mod macros;
mod message;
mod reader;
pub(crate) mod tags;
#[cfg(test)]
#[allow(unreachable_pub, reason = "tables give public structs")]
mod tests;
mod text;
mod uuid;
pub(crate) mod varint;
mod writer;

#[cfg(feature = "draw")]
pub(crate) mod draw;

pub use field::{Decode, Encode, Field, Legacy};
pub use hidden::HiddenBytes;
pub use ints::Ints;
pub(crate) use macros::{api_keys, message, request, versions};
pub use message::{ApiKey, Message, Request};
pub use reader::Reader;
pub use tags::UnknownTags;
pub use text::Str;
pub use uuid::Uuid;
pub use writer::{Segments, Writer};
