//! A broker that is none: it answers for a cluster of ten thousand topics with ten partitions each, of
//! which every answer tells another leader epoch, so that nothing in it is as it was.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use bytes::Bytes;
use weir::protocol::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use weir::protocol::list_offsets::{
    ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopicResponse,
};
use weir::protocol::metadata::{
    MetadataRequest, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use weir::protocol::request_header::RequestHeader;
use weir::protocol::response_header::ResponseHeader;
use weir::protocol::{Decode, Encode, Ints, Message, Reader, Request, Uuid};

use crate::Fail;

pub const TOPICS: usize = 10_000;
pub const PARTITIONS: i32 = 10;

/// A topic's name, of the length that names have.
pub fn name(topic: usize) -> String {
    format!("team-{:03}.service.events.{topic:05}", topic % 100)
}

/// Serves until the process ends; says on which port.
pub fn serve() -> Result<(), Fail> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    println!("{port}");
    for stream in listener.incoming() {
        let stream = stream?;
        // It ends when the client does.
        std::thread::spawn(move || drop(talk(stream, port)));
    }
    Ok(())
}

fn talk(mut stream: TcpStream, port: u16) -> Result<(), Fail> {
    stream.set_nodelay(true)?;
    for epoch in 0.. {
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut frame)?;
        let frame = Bytes::from(frame);
        let [key, version] = [0, 2].map(|at| i16::from_be_bytes([frame[at], frame[at + 1]]));
        let (correlation, body) = match key {
            18 => answer::<ApiVersionsRequest>(&frame, version, |_| versions())?,
            3 => answer::<MetadataRequest>(&frame, version, |asked| metadata(&asked, port, epoch))?,
            2 => answer::<ListOffsetsRequest>(&frame, version, |asked| offsets(&asked))?,
            other => return Err(format!("nobody should ask for {other}").into()),
        };
        let length = (correlation.len() + body.len()) as u32;
        stream.write_all(&[&length.to_be_bytes()[..], &correlation, &body].concat())?;
    }
    Ok(())
}

/// The header and the body of the answer.
fn answer<R: Request + Decode>(
    frame: &Bytes,
    version: i16,
    say: impl FnOnce(R) -> R::Response,
) -> Result<(Bytes, Bytes), Fail>
where
    R::Response: Encode,
{
    let mut reader = Reader::new(frame);
    let header = RequestHeader::decode(&mut reader, R::request_header_version(version))?;
    let asked = R::from_bytes(&frame.slice(reader.position()..), version)?;
    let head = ResponseHeader { correlation_id: header.correlation_id, ..ResponseHeader::default() };
    Ok((head.to_bytes(R::response_header_version(version))?, say(asked).to_bytes(version)?))
}

fn versions() -> ApiVersionsResponse {
    let api = |(api_key, max_version)| ApiVersion { api_key, max_version, ..ApiVersion::default() };
    let api_keys = [(2, 10), (3, 13), (18, 4)].map(api).to_vec();
    ApiVersionsResponse { api_keys, ..ApiVersionsResponse::default() }
}

/// The topics that are asked for, or all.
pub fn metadata(asked: &MetadataRequest, port: u16, epoch: i32) -> MetadataResponse {
    let topic = |topic: usize| {
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: 1,
            leader_epoch: epoch,
            replica_nodes: Ints::from(vec![1, 2, 3]),
            isr_nodes: Ints::from(vec![1, 2, 3]),
            ..MetadataResponsePartition::default()
        };
        MetadataResponseTopic {
            name: Some(name(topic).as_str().into()),
            topic_id: Uuid::from_bytes((topic as u128 + 1).to_be_bytes()),
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..MetadataResponseTopic::default()
        }
    };
    let number = |name: &str| name.rsplit('.').next().and_then(|number| number.parse().ok());
    let topics = match &asked.topics {
        None => (0..TOPICS).map(topic).collect(),
        Some(some) => some.iter().filter_map(|topic| number(topic.name.as_deref()?)).map(topic).collect(),
    };
    let broker = MetadataResponseBroker {
        node_id: 1,
        host: "127.0.0.1".into(),
        port: port.into(),
        ..Default::default()
    };
    MetadataResponse { brokers: vec![broker], controller_id: 1, topics, ..MetadataResponse::default() }
}

fn offsets(asked: &ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = asked.topics.iter().map(|topic| {
        let partition = |partition_index| ListOffsetsPartitionResponse {
            partition_index,
            ..ListOffsetsPartitionResponse::default()
        };
        ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(|asked| partition(asked.partition_index)).collect(),
            ..ListOffsetsTopicResponse::default()
        }
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}
