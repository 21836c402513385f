//! Writes: one batch for each partition in a request, up to five requests in flight.

use bytes::Bytes;
use weir::protocol::metadata::MetadataResponseTopic;
use weir::protocol::produce::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use weir::records::{BatchBuilder, Compression, Compressor, NewRecord, Stamp};

use super::support::{Connection, Result, check, name_of};
use super::text::Text;
use super::{PARTITIONS, support};

/// Uncompressed bytes of a batch.
const BATCH_BYTES: usize = 256 << 10;

/// Sends all of the text, in order in each partition, and gives the size of the batches.
pub(crate) fn all(
    connection: &mut Connection,
    topic: &MetadataResponseTopic,
    text: &Text,
    codec: Compression,
) -> Result<usize> {
    let mut compressor = Compressor::new(codec)?;
    let mut next = [0; PARTITIONS];
    for (partition, next) in next.iter_mut().enumerate() {
        *next = partition;
    }
    let (mut size, mut acked) = (0, [0; PARTITIONS]);
    while next.iter().any(|n| *n < text.len()) {
        let mut batches = Vec::with_capacity(PARTITIONS);
        for (partition, next) in next.iter_mut().enumerate().filter(|(_, next)| **next < text.len()) {
            let batch = seal_batch(text, next, &mut compressor)?;
            size += batch.len();
            batches.push((partition, batch));
        }
        if connection.room() == 0 {
            check_answer(&connection.finish::<ProduceRequest>()?, &mut acked)?;
        }
        connection.start(&request(topic, batches))?;
    }
    while connection.room() < support::IN_FLIGHT_MAX {
        check_answer(&connection.finish::<ProduceRequest>()?, &mut acked)?;
    }
    Ok(size)
}

/// Fills a batch from record `next` on, and moves `next` past it.
fn seal_batch(text: &Text, next: &mut usize, compressor: &mut Compressor) -> Result<Bytes> {
    let mut builder = BatchBuilder::with_capacity(BATCH_BYTES + 1024);
    while *next < text.len() && builder.size() < BATCH_BYTES {
        let key = Text::key(*next);
        let record = NewRecord::new(Text::timestamp(*next))
            .key_value(key.as_ref().map(String::as_bytes), text.value(*next))
            .headers(Text::headers(*next));
        builder.append(&record)?;
        *next += PARTITIONS;
    }
    Ok(builder.seal(&Stamp::default(), Some(compressor))?)
}

fn request(topic: &MetadataResponseTopic, batches: Vec<(usize, Bytes)>) -> ProduceRequest {
    let partition = |(index, records)| PartitionProduceData {
        index: index as i32,
        records: Some(records),
        ..Default::default()
    };
    let data = TopicProduceData {
        name: name_of(topic),
        topic_id: topic.topic_id,
        partition_data: batches.into_iter().map(partition).collect(),
        ..Default::default()
    };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![data], ..Default::default() }
}

/// Every partition took its batch, after the one before it.
fn check_answer(answer: &ProduceResponse, acked: &mut [i64; PARTITIONS]) -> Result<()> {
    for partition in answer.responses.iter().flat_map(|topic| &topic.partition_responses) {
        check(&format!("produce to partition {}", partition.index), partition.error_code)?;
        let index = usize::try_from(partition.index)?;
        let last = acked.get_mut(index).ok_or("an answer about a partition that was not asked about")?;
        if partition.base_offset < *last || (*last == 0 && partition.base_offset > 0) {
            return Err(format!("partition {index}: offset {} after {last}", partition.base_offset).into());
        }
        *last = partition.base_offset + 1;
    }
    Ok(())
}
