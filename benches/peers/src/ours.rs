//! weir's side of the work, written as a user would write it: with the public API alone.

use bytes::Bytes;
use weir::protocol::{Decode, Encode, Message, Reader, Segments, Writer};

/// Reads a message that fills `frame`.
pub fn decode<M: Message + Decode>(frame: &Bytes, version: i16) -> M {
    let mut reader = Reader::new(frame);
    let message = <M as Message>::decode(&mut reader, version).expect("a frame of the peer's decodes");
    reader.finish().expect("nothing is left over");
    message
}

/// Writes a message into a buffer that has room for `capacity` bytes at the start.
pub fn encode<M: Message + Encode>(message: &M, version: i16, capacity: usize) -> Segments {
    let mut writer = Writer::with_capacity(capacity);
    Message::encode(message, &mut writer, version).expect("a message that was decoded encodes");
    writer.finish()
}
