//! Bytes to values and back: the lowest layer, with no knowledge of any one message.

#[doc(hidden)]
pub mod varint;
