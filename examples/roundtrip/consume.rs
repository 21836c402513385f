//! Reads a topic from its start to its end, and compares each record with the text.

use bytes::Bytes;
use weir::protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use weir::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use weir::protocol::metadata::MetadataResponseTopic;
use weir::records::{Batches, Compression, Decompressor, Record};

use super::PARTITIONS;
use super::java::Digest;
use super::support::{Connection, Result, check, name_of};
use super::text::Text;

const LATEST: i64 = -1;
const FETCH_BYTES: i32 = 4 << 20;

/// Reads and compares everything, and gives a digest of each partition as Java's side makes it.
pub(crate) fn all(
    connection: &mut Connection,
    topic: &MetadataResponseTopic,
    text: &Text,
    codec: Compression,
) -> Result<Vec<Digest>> {
    let ends = end_offsets(connection, topic)?;
    let total: i64 = ends.iter().sum();
    if total != text.len() as i64 {
        return Err(format!("the topic holds {total} records, {} were sent", text.len()).into());
    }
    let mut partitions: Vec<Reading<'_>> = (0..PARTITIONS)
        .map(|index| Reading { index, offset: 0, text, codec, digest: Digest::new(index) })
        .collect();
    let mut decompressor = Decompressor::new();
    while partitions.iter().zip(&ends).any(|(partition, end)| partition.offset < *end) {
        let answer = connection.call(&request(topic, &partitions, &ends))?;
        check("fetch", answer.error_code)?;
        for found in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
            check(&format!("fetch from partition {}", found.partition_index), found.error_code)?;
            let reading =
                partitions.get_mut(usize::try_from(found.partition_index)?).ok_or("a strange partition")?;
            reading.take(found.records.unwrap_or_default(), &mut decompressor)?;
        }
    }
    Ok(partitions.into_iter().map(|partition| partition.digest).collect())
}

fn end_offsets(connection: &mut Connection, topic: &MetadataResponseTopic) -> Result<Vec<i64>> {
    let partition = |index| ListOffsetsPartition {
        partition_index: index as i32,
        timestamp: LATEST,
        ..Default::default()
    };
    let wanted = ListOffsetsTopic {
        name: name_of(topic),
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..Default::default()
    };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![wanted], ..Default::default() };
    let answer = connection.call(&request)?;
    let mut ends = vec![0; PARTITIONS];
    for found in answer.topics.iter().flat_map(|topic| &topic.partitions) {
        check("list offsets", found.error_code)?;
        *ends.get_mut(usize::try_from(found.partition_index)?).ok_or("a strange partition")? = found.offset;
    }
    Ok(ends)
}

fn request(topic: &MetadataResponseTopic, partitions: &[Reading<'_>], ends: &[i64]) -> FetchRequest {
    let wanted = partitions.iter().zip(ends).filter(|(partition, end)| partition.offset < **end);
    let partitions = wanted.map(|(partition, _)| FetchPartition {
        partition: partition.index as i32,
        fetch_offset: partition.offset,
        partition_max_bytes: FETCH_BYTES,
        ..Default::default()
    });
    let topic = FetchTopic {
        topic: name_of(topic),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
        ..Default::default()
    };
    FetchRequest { max_wait_ms: 1000, min_bytes: 1, topics: vec![topic], ..Default::default() }
}

/// How far a partition is read.
struct Reading<'a> {
    index: usize,
    offset: i64,
    text: &'a Text,
    codec: Compression,
    digest: Digest,
}

impl Reading<'_> {
    fn take(&mut self, records: Bytes, decompressor: &mut Decompressor) -> Result<()> {
        for batch in Batches::new(records) {
            let batch = batch?;
            if batch.compression() != self.codec {
                return Err(
                    format!("a batch of {}, not {}", batch.compression().name(), self.codec.name()).into()
                );
            }
            let records = batch.records(decompressor)?;
            for record in &records {
                let record = record?;
                // A compressed batch is given whole, also when only its end was asked for.
                if record.offset() >= self.offset {
                    self.compare(&record)?;
                }
            }
            decompressor.recycle(records.into_bytes());
        }
        Ok(())
    }

    fn compare(&mut self, record: &Record<'_>) -> Result<()> {
        let n = usize::try_from(self.offset)? * PARTITIONS + self.index;
        let headers: Vec<_> = record.headers().map(|header| (header.key, header.value)).collect();
        let expected: Vec<_> = Text::headers(n).iter().map(|(key, value)| (key.as_bytes(), *value)).collect();
        let same = record.offset() == self.offset
            && record.timestamp() == Text::timestamp(n)
            && record.key() == Text::key(n).as_ref().map(String::as_bytes)
            && record.value() == self.text.value(n)
            && headers == expected;
        if !same {
            return Err(format!("record {n} came back as {record:?}").into());
        }
        self.digest.add(record);
        self.offset += 1;
        Ok(())
    }
}
