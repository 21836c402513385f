//! One plain, blocking connection to one broker, by hand: the protocol alone, with several requests in flight
//! in their order, which a producer will do.

use std::collections::HashMap;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use weir::protocol::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use weir::protocol::create_topics::{CreatableTopic, CreateTopicsRequest};
use weir::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use weir::protocol::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponseTopic};
use weir::protocol::{
    Answer, ApiKey, Decode, Encode, ErrorCode, Exchange, Frames, Message, Request, Segments, Str,
};

/// Nothing here is worth more than a sentence for a person.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const FRAME_MAX: usize = 100 << 20;
pub(crate) const IN_FLIGHT_MAX: usize = 5;
const PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PATIENCE: Duration = Duration::from_secs(5);

/// A connection that knows which versions its broker speaks.
pub(crate) struct Connection {
    stream: TcpStream,
    frames: Frames,
    chunk: Vec<u8>,
    exchange: Exchange,
    versions: HashMap<ApiKey, (i16, i16)>,
}

impl Connection {
    /// Connects to `host:port` and asks for the versions of each API.
    pub(crate) fn open(address: &str) -> Result<Self> {
        let stream = connect(address).map_err(|e| format!("{address}: {e}; an address is host:port"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(FIRST_PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut connection = Self {
            stream,
            frames: Frames::new(FRAME_MAX),
            chunk: vec![0; 64 << 10],
            exchange: Exchange::new(Some("weir-example"), IN_FLIGHT_MAX),
            versions: HashMap::new(),
        };
        let answered = connection.ask_versions().map_err(|e| {
            let hint = "is this the plaintext listener of a Kafka broker?";
            match e.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
                Some(ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    format!("{address}: no answer within {FIRST_PATIENCE:?}; {hint}")
                }
                _ => format!("{address}: {e}; {hint}"),
            }
        })?;
        connection.stream.set_read_timeout(Some(PATIENCE))?;
        for api in answered.api_keys {
            connection.versions.insert(ApiKey(api.api_key), (api.min_version, api.max_version));
        }
        Ok(connection)
    }

    /// Asks in our newest version. A broker that does not have it says so in version 0, and names
    /// those that it has (KIP-511).
    fn ask_versions(&mut self) -> Result<ApiVersionsResponse> {
        let request = ApiVersionsRequest {
            client_software_name: "weir".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let ours = *ApiVersionsRequest::VERSIONS.end();
        self.send(&request, ours)?;
        let theirs = self.receive()?.decode_api_versions()?;
        if ErrorCode(theirs.error_code) != ErrorCode::UNSUPPORTED_VERSION {
            return Ok(theirs);
        }
        let named = theirs.api_keys.iter().find(|api| ApiKey(api.api_key) == ApiKey::API_VERSIONS);
        let version = named.map_or(0, |api| api.max_version.min(ours));
        self.send(&request, version)?;
        Ok(self.receive()?.decode_api_versions()?)
    }

    /// The highest version of a request that both sides have.
    pub(crate) fn version<R: Request>(&self) -> Result<i16> {
        let ours = R::KEY.stable_versions().ok_or("an API without versions")?;
        let (lowest, highest) = self.versions.get(&R::KEY).ok_or(format!("the broker has no {}", R::KEY))?;
        let version = (*ours.end()).min(*highest);
        if version < *ours.start() || version < *lowest {
            return Err(format!("no common version of {}: {lowest}-{highest} there", R::KEY).into());
        }
        Ok(version)
    }

    /// Sends a request and waits for its answer.
    pub(crate) fn call<R>(&mut self, request: &R) -> Result<R::Response>
    where
        R: Request + Encode,
        R::Response: Decode,
    {
        self.start(request)?;
        self.finish::<R>()
    }

    /// Sends a request. Up to five may wait for their answers.
    pub(crate) fn start<R: Request + Encode>(&mut self, request: &R) -> Result<()> {
        let version = self.version::<R>()?;
        self.send(request, version)
    }

    /// Waits for the answer to the oldest request that was started.
    pub(crate) fn finish<R>(&mut self) -> Result<R::Response>
    where
        R: Request,
        R::Response: Decode,
    {
        Ok(self.receive()?.decode::<R>()?)
    }

    /// How many more requests may be started now.
    #[allow(dead_code, reason = "not every example fills its connection")]
    pub(crate) fn room(&self) -> usize {
        IN_FLIGHT_MAX - self.exchange.in_flight()
    }

    fn send<R: Request + Encode>(&mut self, request: &R, version: i16) -> Result<()> {
        let segments = self.exchange.request(request, version)?;
        write_all(&mut self.stream, &segments)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<Answer> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Ok(self.exchange.answer(&frame)?);
            }
            let read = self.stream.read(&mut self.chunk)?;
            match self.chunk.get(..read) {
                None | Some([]) => return Err("the broker closed the connection".into()),
                Some(bytes) => self.frames.push(bytes),
            }
        }
    }

    /// Creates a topic, and waits until its partitions have leaders.
    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) -> Result<MetadataResponseTopic> {
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            ..Default::default()
        };
        let created = self.call(&CreateTopicsRequest { topics: vec![topic], ..Default::default() })?;
        let code = ErrorCode(created.topics.first().ok_or("no answer about the topic")?.error_code);
        if !code.is_none() && code != ErrorCode::TOPIC_ALREADY_EXISTS {
            return Err(format!("{name} was not created: {code}").into());
        }
        for _ in 0..100 {
            let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
            let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
            let found = self.call(&request)?.topics.pop().ok_or("no metadata about the topic")?;
            if found.error_code == 0 && self.leaders_serve(&found)? {
                return Ok(found);
            }
            #[allow(clippy::disallowed_methods, reason = "there is no event to wait for")]
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(format!("{name} has no leaders after 10 seconds").into())
    }

    /// Whether the leaders that metadata names know of it yet.
    fn leaders_serve(&mut self, topic: &MetadataResponseTopic) -> Result<bool> {
        let partition =
            |index| ListOffsetsPartition { partition_index: index, timestamp: -1, ..Default::default() };
        let wanted = ListOffsetsTopic {
            name: name_of(topic),
            partitions: topic.partitions.iter().map(|p| partition(p.partition_index)).collect(),
            ..Default::default()
        };
        let request = ListOffsetsRequest { replica_id: -1, topics: vec![wanted], ..Default::default() };
        let answer = self.call(&request)?;
        Ok(answer.topics.iter().flat_map(|topic| &topic.partitions).all(|p| p.error_code == 0))
    }
}

/// Writes all pieces of a request, several with one call to the kernel.
fn write_all(stream: &mut TcpStream, segments: &Segments) -> std::io::Result<()> {
    let pieces: Vec<Bytes> = segments.iter().collect();
    let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let written = stream.write_vectored(rest)?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        IoSlice::advance_slices(&mut rest, written);
    }
    Ok(())
}

/// The name of a topic, which metadata may lack.
pub(crate) fn name_of(topic: &MetadataResponseTopic) -> Str {
    topic.name.clone().unwrap_or_default()
}

/// Fails with what a broker said, unless it said that nothing is wrong.
pub(crate) fn check(what: &str, code: i16) -> Result<()> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(format!("{what}: {code}").into()),
    }
}

/// Tries each address of a host, for a few seconds each.
fn connect(address: &str) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(ErrorKind::AddrNotAvailable);
    for candidate in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&candidate, FIRST_PATIENCE) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Says for a person how a program ended.
pub(crate) fn report(program: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closed our output has read enough.
        Err(e) if e.downcast_ref().map(std::io::Error::kind) == Some(ErrorKind::BrokenPipe) => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("{program}: {e}");
            ExitCode::FAILURE
        }
    }
}
