//! What the wire costs: a blocking socket, one request whose bytes never change, and nothing read of
//! the answer but its error code.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use weir::protocol::Exchange;
use weir::protocol::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use weir::records::{BatchBuilder, NewRecord, Stamp};

use crate::Fail;

/// A version that names topics, and that all brokers from 2.4 on have.
pub const VERSION: i16 = 9;

/// A produce request of one record of 100 bytes for partition 0.
pub fn request(topic: &str) -> Result<ProduceRequest, Fail> {
    let mut builder = BatchBuilder::new();
    builder.append(&NewRecord::new(1_700_000_000_000).value(&[b'x'; 100]))?;
    let partition = PartitionProduceData {
        index: 0,
        records: Some(builder.seal(&Stamp::default(), None)?),
        ..PartitionProduceData::default()
    };
    let topic = TopicProduceData {
        name: topic.into(),
        partition_data: vec![partition],
        ..TopicProduceData::default()
    };
    Ok(ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..ProduceRequest::default() })
}

/// A connected socket with its request.
#[derive(Debug)]
pub struct Floor {
    socket: TcpStream,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Floor {
    pub fn connect(bootstrap: &str, topic: &str) -> Result<Self, Fail> {
        let socket = TcpStream::connect(bootstrap)?;
        socket.set_nodelay(true)?;
        let request = Exchange::new(Some("floor"), 1).request(&request(topic)?, VERSION)?;
        Ok(Self { socket, request: request.into_bytes().to_vec(), answer: vec![0; 4096] })
    }

    /// One record there, and its acknowledgement back.
    pub fn send(&mut self) -> Result<(), Fail> {
        self.socket.write_all(&self.request)?;
        let mut got = 0;
        loop {
            let read = self.socket.read(self.answer.get_mut(got..).unwrap_or_default())?;
            if read == 0 {
                return Err("the broker closed the connection".into());
            }
            got += read;
            if let Some((length, rest)) = self.answer.split_first_chunk::<4>()
                && got >= 4 + u32::from_be_bytes(*length) as usize
            {
                return check(rest);
            }
        }
    }
}

/// Correlation id, header tags, one topic, its name, one partition, its index, and the error code.
fn check(answer: &[u8]) -> Result<(), Fail> {
    let name = usize::from(*answer.get(6).ok_or("a short answer")?) - 1;
    match answer.get(7 + name + 5..7 + name + 7) {
        Some([0, 0]) => Ok(()),
        other => Err(format!("the broker answered {other:?}").into()),
    }
}
