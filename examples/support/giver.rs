//! A broker that is none, for measuring a consumer alone: it leads one topic of any number of partitions, each an
//! endless log of one batch over and over, and keeps fetch sessions.
//!
//! One blocking thread a connection. Answers are written piece by piece, so that it holds nothing but that batch. The
//! checksum of a batch does not cover its offset, which is what differs.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufWriter, Read as _, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use weir::protocol::api_versions::{ApiVersion, ApiVersionsResponse};
use weir::protocol::fetch::FetchRequest;
use weir::protocol::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use weir::protocol::metadata::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use weir::protocol::request_header::RequestHeader;
use weir::protocol::{ApiKey, Message as _, Reader};

type Fail = Box<dyn Error + Send + Sync>;

pub(crate) const TOPIC: &str = "orders";

/// What it serves: versions whose headers have no tagged fields.
const APIS: [(i16, i16, i16); 4] = [(1, 7, 11), (2, 1, 5), (3, 1, 8), (18, 0, 2)];

/// Binds a port of the loopback and serves from then on; says at which address. `records` are how many the batch has.
pub(crate) fn serve(partitions: i32, batch: Bytes, records: usize) -> Result<String, Fail> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let giver = Arc::new(Giver { address, partitions, batch, records: i64::try_from(records)? });
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let giver = Arc::clone(&giver);
            // It ends when the client does.
            thread::spawn(move || drop(giver.talk(stream)));
        }
    });
    Ok(address.to_string())
}

struct Giver {
    address: SocketAddr,
    partitions: i32,
    batch: Bytes,
    records: i64,
}

/// Of each partition of the session, the offset that is wanted and how many bytes at most; and whose turn it is.
#[derive(Default)]
struct Session {
    wanted: BTreeMap<i32, (i64, i32)>,
    turn: i32,
}

impl Giver {
    fn talk(&self, mut stream: TcpStream) -> Result<(), Fail> {
        stream.set_nodelay(true)?;
        let mut out = BufWriter::new(stream.try_clone()?);
        let mut session = Session::default();
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            stream.read_exact(&mut frame)?;
            let frame = Bytes::from(frame);
            let mut reader = Reader::new(&frame);
            let header = RequestHeader::decode(&mut reader, 1)?;
            let (rest, version) = (frame.slice(reader.position()..), header.request_api_version);
            let number = header.correlation_id.to_be_bytes();
            let body = match ApiKey(header.request_api_key) {
                ApiKey::FETCH => {
                    let asked = FetchRequest::from_bytes(&rest, version)?;
                    self.fetch(&asked, &mut session, number, version, &mut out)?;
                    out.flush()?;
                    continue;
                }
                ApiKey::LIST_OFFSETS => {
                    offsets(ListOffsetsRequest::from_bytes(&rest, version)?).to_bytes(version)?
                }
                ApiKey::METADATA => self.metadata().to_bytes(version)?,
                ApiKey::API_VERSIONS => versions().to_bytes(version)?,
                other => return Err(format!("nobody should ask for {other:?}").into()),
            };
            out.write_all(&u32::try_from(4 + body.len())?.to_be_bytes())?;
            out.write_all(&number)?;
            out.write_all(&body)?;
            out.flush()?;
        }
    }

    /// As many batches as are wanted, of the partitions in turn.
    fn fetch(
        &self,
        asked: &FetchRequest,
        session: &mut Session,
        number: [u8; 4],
        version: i16,
        out: &mut impl Write,
    ) -> Result<(), Fail> {
        if asked.session_epoch <= 0 {
            session.wanted.clear();
        }
        for partition in asked.topics.iter().flat_map(|topic| &topic.partitions) {
            session
                .wanted
                .insert(partition.partition, (partition.fetch_offset, partition.partition_max_bytes));
        }
        for partition in asked.forgotten_topics_data.iter().flat_map(|topic| topic.partitions.iter()) {
            session.wanted.remove(partition);
        }
        let (size, most) = (self.batch.len(), usize::try_from(asked.max_bytes)?);
        let mut chosen = Vec::new();
        let mut left = most;
        let (before, from): (Vec<_>, Vec<_>) = session.wanted.iter().partition(|(at, _)| **at < session.turn);
        for (&at, &(offset, max)) in from.into_iter().chain(before) {
            let batches = (usize::try_from(max)?.min(left) / size).max(usize::from(chosen.is_empty()));
            if batches == 0 {
                session.turn = at;
                break;
            }
            left = left.saturating_sub(batches * size);
            chosen.push((at, offset, batches));
        }
        // Preferred replicas come with version 11.
        let each = if version >= 11 { 42 } else { 38 };
        let records: usize = chosen.iter().map(|(_, _, batches)| batches * size).sum();
        let length = 4 + 4 + 2 + 4 + 4 + 2 + TOPIC.len() + 4 + chosen.len() * each + records;
        out.write_all(&u32::try_from(length)?.to_be_bytes())?;
        out.write_all(&number)?;
        // No throttling, no error, session 1, one topic.
        out.write_all(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1])?;
        out.write_all(&u16::try_from(TOPIC.len())?.to_be_bytes())?;
        out.write_all(TOPIC.as_bytes())?;
        out.write_all(&u32::try_from(chosen.len())?.to_be_bytes())?;
        for (at, offset, batches) in chosen {
            out.write_all(&at.to_be_bytes())?;
            out.write_all(&[0; 2])?;
            // The end that all replicas have, the stable end, and where the log begins.
            out.write_all(&i64::MAX.to_be_bytes())?;
            out.write_all(&i64::MAX.to_be_bytes())?;
            out.write_all(&[0; 8])?;
            out.write_all(&(-1_i32).to_be_bytes())?;
            if version >= 11 {
                out.write_all(&(-1_i32).to_be_bytes())?;
            }
            out.write_all(&u32::try_from(batches * size)?.to_be_bytes())?;
            for batch in 0..i64::try_from(batches)? {
                out.write_all(&(offset + batch * self.records).to_be_bytes())?;
                out.write_all(self.batch.get(8..).unwrap_or_default())?;
            }
        }
        Ok(())
    }

    fn metadata(&self) -> MetadataResponse {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            ..MetadataResponsePartition::default()
        };
        let topic = MetadataResponseTopic {
            name: Some(TOPIC.into()),
            partitions: (0..self.partitions).map(partition).collect(),
            ..MetadataResponseTopic::default()
        };
        let broker = MetadataResponseBroker {
            node_id: 1,
            host: self.address.ip().to_string().into(),
            port: self.address.port().into(),
            ..MetadataResponseBroker::default()
        };
        MetadataResponse {
            brokers: vec![broker],
            controller_id: 1,
            topics: vec![topic],
            ..Default::default()
        }
    }
}

/// All logs begin at 0.
fn offsets(asked: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = asked.topics.into_iter().map(|topic| ListOffsetsTopicResponse {
        name: topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|partition| ListOffsetsPartitionResponse {
                partition_index: partition.partition_index,
                offset: 0,
                ..ListOffsetsPartitionResponse::default()
            })
            .collect(),
        ..ListOffsetsTopicResponse::default()
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
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
