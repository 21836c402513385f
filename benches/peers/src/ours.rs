//! weir's side of the work, written as a user would write it: with the public API alone.

use bytes::Bytes;
use weir::protocol::fetch::FetchResponse;
use weir::protocol::{Decode, Encode, Message, Reader, Segments, Writer};
use weir::records::{BatchBuilder, Batches, Decompressor, NewRecord, Stamp};

use crate::data::BASE_TIMESTAMP;
use crate::floor::Seen;
use crate::peer;

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

/// Decodes a fetch response and looks at each record, checksums verified unless told otherwise.
pub fn walk_fetch(frame: &Bytes, decompressor: &mut Decompressor, check_crcs: bool) -> Seen {
    let response: FetchResponse = decode(frame, peer::FETCH);
    let mut seen = Seen::default();
    for partition in response.responses.into_iter().flat_map(|topic| topic.partitions) {
        for batch in Batches::new(partition.records.unwrap_or_default()).check_crcs(check_crcs) {
            let batch = batch.expect("a batch of the peer's is whole");
            let records = batch.records(decompressor).expect("it is not compressed");
            for record in &records {
                let record = record.expect("a record of the peer's is whole");
                seen.see(record.offset(), record.timestamp(), record.key(), record.value());
            }
        }
    }
    seen
}

/// Appends the values to a batch, a millisecond apart, and seals it.
pub fn encode_batch(builder: &mut BatchBuilder, values: &[Bytes]) -> Bytes {
    for (i, value) in values.iter().enumerate() {
        let record = NewRecord::new(BASE_TIMESTAMP + i as i64).value(value);
        builder.append(&record).expect("there is room in a batch");
    }
    builder.seal(&Stamp::default(), None).expect("a batch of records seals")
}
