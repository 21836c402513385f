//! A broker that is none, for measuring a producer alone: it leads every topic that it is asked for, each with the
//! same number of partitions, keeps no record, and acknowledges all of them in order.
//!
//! One blocking thread a connection. Offsets go on where the last batch of the partition ended, and a batch that
//! does not follow in sequence is refused, as by a broker, so that a measured run was also a right one.

use std::collections::HashMap;
use std::error::Error;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use bytes::Bytes;
use weir::protocol::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use weir::protocol::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use weir::protocol::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use weir::protocol::produce::{
    PartitionProduceResponse, ProduceRequest, ProduceResponse, TopicProduceResponse,
};
use weir::protocol::request_header::RequestHeader;
use weir::protocol::response_header::ResponseHeader;
use weir::protocol::{Decode, Encode, ErrorCode, Ints, Message as _, Reader, Request, Str, Uuid};

type Fail = Box<dyn Error + Send + Sync>;

/// API key, lowest and highest version: `Produce` and `Metadata` by name, `ApiVersions`, `InitProducerId`.
const APIS: [(i16, i16, i16); 4] = [(0, 3, 12), (3, 1, 12), (18, 0, 4), (22, 0, 4)];

/// The offset behind the last record, and the sequence that must come next.
type Ends = Arc<Mutex<HashMap<(Str, i32), (i64, i32)>>>;

/// Binds a port of the loopback and serves from then on; says at which address.
pub(crate) fn serve(partitions: i32) -> Result<String, Fail> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let ends = Ends::default();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let broker = Acker { port: address.port(), partitions, ends: Arc::clone(&ends) };
            // It ends when the client does.
            thread::spawn(move || drop(broker.talk(stream)));
        }
    });
    Ok(address.to_string())
}

struct Acker {
    port: u16,
    partitions: i32,
    ends: Ends,
}

impl Acker {
    fn talk(&self, mut stream: TcpStream) -> Result<(), Fail> {
        stream.set_nodelay(true)?;
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut frame)?;
            let frame = Bytes::from(frame);
            let number = |at: usize| frame.get(at..)?.first_chunk().copied().map(i16::from_be_bytes);
            let (Some(key), Some(version)) = (number(0), number(2)) else { return Ok(()) };
            let answer = match key {
                0 => answer::<ProduceRequest>(&frame, version, |asked| self.produce(asked))?,
                3 => answer::<MetadataRequest>(&frame, version, |asked| self.metadata(asked))?,
                18 => answer::<ApiVersionsRequest>(&frame, version, |_| versions())?,
                22 => answer::<InitProducerIdRequest>(&frame, version, |_| identity())?,
                other => return Err(format!("nobody should ask for {other}").into()),
            };
            stream.write_all(&answer)?;
        }
    }

    fn metadata(&self, asked: MetadataRequest) -> MetadataResponse {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            leader_epoch: 0,
            replica_nodes: Ints::from(vec![1]),
            isr_nodes: Ints::from(vec![1]),
            ..MetadataResponsePartition::default()
        };
        let topics = asked.topics.unwrap_or_default().into_iter().map(|topic| MetadataResponseTopic {
            topic_id: Uuid::from_bytes(1_u128.to_be_bytes()),
            name: topic.name,
            partitions: (0..self.partitions).map(partition).collect(),
            ..MetadataResponseTopic::default()
        });
        let (host, port) = ("127.0.0.1".into(), self.port.into());
        let broker = MetadataResponseBroker { node_id: 1, host, port, ..Default::default() };
        let topics = topics.collect();
        MetadataResponse { brokers: vec![broker], controller_id: 1, topics, ..MetadataResponse::default() }
    }

    fn produce(&self, asked: ProduceRequest) -> ProduceResponse {
        let mut ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        let responses = asked.topic_data.into_iter().map(|topic| {
            let partitions = topic.partition_data.into_iter().map(|partition| {
                let (offset, sequence) = ends.entry((topic.name.clone(), partition.index)).or_default();
                let batch = partition.records.unwrap_or_default();
                let (base_offset, code) = append(&batch, offset, sequence);
                PartitionProduceResponse {
                    index: partition.index,
                    error_code: code.0,
                    base_offset,
                    log_start_offset: 0,
                    ..PartitionProduceResponse::default()
                }
            });
            let partition_responses = partitions.collect();
            TopicProduceResponse { name: topic.name.clone(), partition_responses, ..Default::default() }
        });
        ProduceResponse { responses: responses.collect(), ..ProduceResponse::default() }
    }
}

/// Takes a batch whose sequence follows, without looking at its records.
fn append(batch: &[u8], offset: &mut i64, sequence: &mut i32) -> (i64, ErrorCode) {
    let number = |at: usize| batch.get(at..at + 4).and_then(|four| four.first_chunk()).copied();
    let (Some(first), Some(count)) = (number(53), number(57)) else {
        return (-1, ErrorCode::CORRUPT_MESSAGE);
    };
    let (first, count) = (i32::from_be_bytes(first), i32::from_be_bytes(count));
    if first != *sequence {
        return (-1, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    }
    let base = *offset;
    *offset += i64::from(count);
    *sequence = sequence.wrapping_add(count) & i32::MAX;
    (base, ErrorCode::NONE)
}

fn versions() -> ApiVersionsResponse {
    let api = |(api_key, min_version, max_version)| ApiVersion {
        api_key,
        min_version,
        max_version,
        ..Default::default()
    };
    ApiVersionsResponse { api_keys: APIS.map(api).to_vec(), ..ApiVersionsResponse::default() }
}

fn identity() -> InitProducerIdResponse {
    InitProducerIdResponse { producer_id: 1, producer_epoch: 0, ..InitProducerIdResponse::default() }
}

/// A whole answer: length, header and body.
fn answer<R: Request + Decode>(
    frame: &Bytes,
    version: i16,
    say: impl FnOnce(R) -> R::Response,
) -> Result<Vec<u8>, Fail>
where
    R::Response: Encode,
{
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader, R::request_header_version(version))?;
    let asked = R::from_bytes(&frame.slice(reader.position()..), version)?;
    let head = ResponseHeader { correlation_id: header.correlation_id, ..ResponseHeader::default() };
    let (head, body) = (head.to_bytes(R::response_header_version(version))?, say(asked).to_bytes(version)?);
    Ok([&((head.len() + body.len()) as u32).to_be_bytes()[..], &head, &body].concat())
}
