//! Messages as they cross a connection: a length, a header, a body; and which answer belongs to
//! which request.
//!
//! [`Frames`] cuts a stream of bytes into frames. [`Exchange`] numbers requests on their way out and
//! matches answers on their way in, for one connection as its client sees it. Both are pure: bytes
//! go in and come out, whoever owns the socket moves them.

use std::collections::VecDeque;
use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::messages::ErrorCode;
use crate::messages::api_versions::{ApiVersionsRequest, ApiVersionsResponse};
use crate::messages::request_header::RequestHeader;
use crate::messages::response_header::ResponseHeader;
use crate::wire::{ApiKey, Decode, Encode, Legacy, Message, Reader, Request, Segments, Str, Writer};
use crate::{Error, Result};

/// Bytes of the length in front of a frame.
const PREFIX: usize = 4;

/// A frame's buffer starts no larger than this, whatever length it claims, and grows as bytes come.
const START_MAX: usize = 64 << 10;

/// A read is given at least this much room, unless it is for the end of a frame.
const ROOM_MIN: usize = 8 << 10;

/// Buffers that are kept until what was cut from them is dropped, so that they can be used again...
const SPARES_MAX: usize = 4;

/// ...and the bytes in them, and in the one at hand between frames.
const SPARE_BYTES_MAX: usize = 16 << 20;

/// Cuts a stream of bytes into frames.
///
/// Memory follows the bytes that arrived: a peer that claims a large frame and sends little of it
/// costs little. Frames share the buffer that they came in; when all of a buffer's frames are dropped it
/// is used again, since fresh megabytes cost more in page faults than reading them does. After an error
/// the stream has no more frames; close the connection.
pub struct Frames {
    buf: BytesMut,
    /// The size of the buffer of which `buf` is the part that is free or not yet cut.
    size: usize,
    /// A frame was cut from it, and may be alive.
    cut: bool,
    /// Empty ends of buffers whose frames were alive when another was needed, with their sizes.
    spares: Vec<(BytesMut, usize)>,
    limit: usize,
}

/// Lengths alone: there may be secrets in it.
impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames(<{} bytes>, limit {})", self.buf.len(), self.limit)
    }
}

impl Frames {
    /// For frames of at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buf: BytesMut::new(), size: 0, cut: false, spares: Vec::new(), limit }
    }

    /// Changes the largest frame that is let through: small before authentication, larger after.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Gives up the memory that is kept to be used again, but for a frame that has begun to arrive. For a
    /// stream on which nothing has come for a while.
    pub fn release(&mut self) {
        self.spares = Vec::new();
        if self.buf.is_empty() {
            (self.buf, self.size, self.cut) = (BytesMut::new(), 0, false);
        }
    }

    /// Where to put the bytes that come next. There is always room for some.
    pub fn space(&mut self) -> &mut BytesMut {
        let wanted = match self.claimed() {
            Some(claim) => (claim + PREFIX).saturating_sub(self.buf.len()),
            None => ROOM_MIN,
        };
        let too_large = self.buf.is_empty() && self.size > SPARE_BYTES_MAX;
        if too_large || self.buf.capacity() - self.buf.len() < wanted.clamp(1, ROOM_MIN) {
            self.make_room(wanted);
        }
        &mut self.buf
    }

    /// Finds room for more: in this buffer when its frames are gone, in another whose frames are, or in
    /// new memory.
    #[cold]
    fn make_room(&mut self, wanted: usize) {
        let len = self.buf.len();
        // Doubling: what was sent so far is what it may cost at most again.
        let more = wanted.clamp(2 * ROOM_MIN, len.max(START_MAX));
        let worth_keeping = len > 0 || self.size <= SPARE_BYTES_MAX;
        if self.cut && worth_keeping && self.size >= len + more && self.buf.try_reclaim(self.size - len) {
            self.cut = false;
            return;
        }
        if let Some(mut spare) = self.take_spare(len + wanted, len + more) {
            spare.0.extend_from_slice(&self.buf);
            self.swap(spare);
        } else if self.cut || !worth_keeping {
            let mut new = BytesMut::with_capacity(len + more);
            new.extend_from_slice(&self.buf);
            let size = new.capacity();
            self.swap((new, size));
        } else {
            // Exactly so much: growing in place might take twice that.
            let mut new = BytesMut::with_capacity(len + more);
            new.extend_from_slice(&self.buf);
            self.size = new.capacity();
            self.buf = new;
        }
    }

    /// A spare buffer that nobody uses any more: one that holds the whole frame, or else one that holds
    /// at least what would be allocated.
    fn take_spare(&mut self, whole: usize, least: usize) -> Option<(BytesMut, usize)> {
        for needed in [whole, least] {
            let mut free = self.spares.iter_mut();
            if let Some(at) = free.position(|(spare, size)| *size >= needed && spare.try_reclaim(*size)) {
                return Some(self.spares.remove(at));
            }
        }
        None
    }

    /// Goes on in another buffer, and keeps this one if it is worth it.
    fn swap(&mut self, (buf, size): (BytesMut, usize)) {
        let mut old = std::mem::replace(&mut self.buf, buf);
        let old_size = std::mem::replace(&mut self.size, size);
        let fits = (START_MAX..=SPARE_BYTES_MAX).contains(&old_size);
        self.cut = false;
        if !fits {
            return;
        }
        old.clear();
        self.spares.push((old, old_size));
        // The oldest go first: who still holds their frames may hold them for long.
        while self.spares.len() > SPARES_MAX
            || self.spares.iter().map(|(_, size)| size).sum::<usize>() > SPARE_BYTES_MAX
        {
            self.spares.remove(0);
        }
    }

    /// Adds bytes that came.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let space = self.space();
            let (now, later) = bytes.split_at(bytes.len().min(space.capacity() - space.len()));
            space.put_slice(now);
            bytes = later;
        }
    }

    /// The next frame, without its length, if it is whole. It shares the buffer it came in.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>> {
        let Some((prefix, _)) = self.buf.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let claim = i32::from_be_bytes(*prefix);
        let len =
            usize::try_from(claim).map_err(|_| Error::malformed(format!("a frame of {claim} bytes")))?;
        if len > self.limit {
            if let Some(words) = foreign(prefix) {
                return Err(Error::malformed(words));
            }
            return Err(Error::limit(format!("a frame of {len} bytes, {} are allowed", self.limit)));
        }
        if self.buf.len() - PREFIX < len {
            return Ok(None);
        }
        self.buf.advance(PREFIX);
        self.cut = true;
        Ok(Some(self.buf.split_to(len).freeze()))
    }

    fn claimed(&self) -> Option<usize> {
        let (prefix, _) = self.buf.split_first_chunk::<PREFIX>()?;
        usize::try_from(i32::from_be_bytes(*prefix)).ok().map(|claim| claim.min(self.limit))
    }
}

/// Says which protocol begins with these bytes, if it is a known one that is not Kafka's. The usual
/// mistakes are a wrong port and TLS on one side only. No frame begins like any of these within the
/// largest that a client takes: as a length, the smallest of them (TLS) is 352 MB.
pub(crate) fn foreign(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x15, 3, 0..=4, ..] => {
            Some("the peer speaks TLS and refused what it was sent: is TLS switched on here?")
        }
        [0x16, 3, 0..=4, ..] => Some("the peer speaks TLS: is TLS switched on here?"),
        [b'H', b'T', b'T', b'P', ..] => Some("the peer speaks HTTP, not Kafka: is the port right?"),
        [b'S', b'S', b'H', b'-', ..] => Some("the peer speaks SSH, not Kafka: is the port right?"),
        _ => None,
    }
}

/// The client's side of one connection: requests out in order, answers in by the same order.
#[derive(Debug)]
pub struct Exchange {
    client_id: Option<Str>,
    next_correlation: i32,
    in_flight: VecDeque<Pending>,
    in_flight_max: usize,
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    correlation: i32,
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    header_version: i16,
}

impl Pending {
    /// What answers an `R` that was sent with this number in this version.
    pub(crate) fn to<R: Request>(correlation: i32, version: i16) -> Self {
        Self { correlation, key: R::KEY, version, header_version: R::response_header_version(version) }
    }

    /// Takes a frame as the answer.
    pub(crate) fn answered(self, frame: &Bytes) -> Result<Answer> {
        if frame.len() < PREFIX {
            let len = frame.len();
            return Err(Error::malformed(format!("a frame of {len} bytes has no room for a correlation id")));
        }
        let mut reader = Reader::new(frame);
        let header = <ResponseHeader as Message>::decode(&mut reader, self.header_version)?;
        if header.correlation_id != self.correlation {
            let (found, wanted) = (header.correlation_id, self.correlation);
            return Err(Error::malformed(format!(
                "an answer with correlation id {found} in place of {wanted}"
            )));
        }
        Ok(Answer { key: self.key, version: self.version, body: frame.slice(reader.position()..) })
    }
}

/// Encodes a request with its length and header. Fails if the version cannot carry it.
pub(crate) fn encode_request<R: Request + Encode>(
    request: &R,
    version: i16,
    correlation: i32,
    client_id: Option<&Str>,
) -> Result<Segments> {
    let header = RequestHeader {
        request_api_key: R::KEY.0,
        request_api_version: version,
        correlation_id: correlation,
        client_id: match R::request_header_version(version) {
            0 => RequestHeader::default().client_id,
            _ => Legacy(client_id.cloned()),
        },
        ..RequestHeader::default()
    };
    let mut writer = Writer::with_capacity(256);
    writer.put(&[0; PREFIX]);
    Message::encode(&header, &mut writer, R::request_header_version(version))?;
    Message::encode(request, &mut writer, version)?;
    let len = writer.len() - PREFIX;
    let prefix = i32::try_from(len).map_err(|_| Error::limit(format!("a request of {len} bytes")))?;
    writer.patch(0, prefix.to_be_bytes());
    Ok(writer.finish())
}

/// An answer whose body is not decoded yet.
#[derive(Clone)]
pub struct Answer {
    /// The API of the request that it answers.
    pub key: ApiKey,
    /// The version of that request, and so of this.
    pub version: i16,
    /// The body, without the header.
    pub body: Bytes,
}

/// Without the body, of which the length is told: there may be secrets in it.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, version, body } = self;
        write!(f, "Answer({key:?} version {version}, <{} bytes>)", body.len())
    }
}

impl Exchange {
    /// A connection without a request in flight, for at most `in_flight_max` of them. A client id is
    /// shown in the broker's logs, metrics and quotas.
    pub fn new(client_id: Option<&str>, in_flight_max: usize) -> Self {
        Self {
            client_id: client_id.map(Str::from),
            next_correlation: 0,
            in_flight: VecDeque::new(),
            in_flight_max,
        }
    }

    /// How many requests wait for an answer.
    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Encodes a request that will be answered, with length and header. Fails, and changes nothing,
    /// if the version cannot carry it or too many requests wait already.
    pub fn request<R: Request + Encode>(&mut self, request: &R, version: i16) -> Result<Segments> {
        if self.in_flight.len() >= self.in_flight_max {
            return Err(Error::limit(format!("{} requests are in flight already", self.in_flight.len())));
        }
        let correlation = self.next_correlation;
        let segments = self.encode(request, version)?;
        self.in_flight.push_back(Pending::to::<R>(correlation, version));
        Ok(segments)
    }

    /// Encodes a request that brokers do not answer: a produce request with `acks` 0.
    pub fn request_without_answer<R: Request + Encode>(
        &mut self,
        request: &R,
        version: i16,
    ) -> Result<Segments> {
        self.encode(request, version)
    }

    /// Encodes a request with the next correlation id, which it then has used up.
    fn encode<R: Request + Encode>(&mut self, request: &R, version: i16) -> Result<Segments> {
        let segments = encode_request(request, version, self.next_correlation, self.client_id.as_ref())?;
        self.next_correlation = self.next_correlation.wrapping_add(1);
        Ok(segments)
    }

    /// Takes a frame as the answer to the oldest request in flight. After an error nothing on this
    /// connection can be trusted: all requests in flight have an unknown outcome.
    pub fn answer(&mut self, frame: &Bytes) -> Result<Answer> {
        let Some(expected) = self.in_flight.front().copied() else {
            return Err(Error::malformed("an answer that nothing was asked for"));
        };
        let answer = expected.answered(frame)?;
        self.in_flight.pop_front();
        Ok(answer)
    }
}

impl Answer {
    /// Decodes the answer to `ApiVersions`. A broker that does not have the version that was asked in
    /// says so in version 0, with the versions that it has (KIP-511): look at the error code, and ask
    /// again in one of those.
    pub fn decode_api_versions(&self) -> Result<ApiVersionsResponse> {
        let refused = self.body.starts_with(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
        let version = if refused { 0 } else { self.version };
        Self { version, ..self.clone() }.decode::<ApiVersionsRequest>()
    }

    /// Decodes the body as the answer to an `R`, and tells how many bytes are left over: newer brokers
    /// have been seen to say more than they should, and what was understood is still right.
    #[cfg(feature = "client")]
    pub(crate) fn decode_start<R>(&self) -> Result<(R::Response, usize)>
    where
        R: Request,
        R::Response: Decode,
    {
        let mut reader = Reader::new(&self.body);
        let response = <R::Response as Message>::decode(&mut reader, self.version)?;
        Ok((response, self.body.len() - reader.position()))
    }

    /// Decodes the body as the answer to an `R`. Bytes left over are an error.
    pub fn decode<R>(&self) -> Result<R::Response>
    where
        R: Request,
        R::Response: Decode,
    {
        if R::KEY != self.key {
            return Err(Error::invalid(format!("an answer to {} read as one to {}", self.key, R::KEY)));
        }
        R::Response::from_bytes(&self.body, self.version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::metadata::MetadataRequest;
    use crate::messages::produce::ProduceRequest;

    const LIMIT: usize = 100 << 20;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as i32).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn frames_come_out_however_the_stream_is_cut() {
        let long = vec![7; 100_000];
        let bodies = [&b"abcd"[..], &long, b"12345"];
        let stream: Vec<u8> = bodies.iter().flat_map(|body| frame(body)).collect();
        for step in [1, 3, 4, 5, 4096, stream.len()] {
            let mut frames = Frames::new(LIMIT);
            let mut found = Vec::new();
            for piece in stream.chunks(step) {
                frames.push(piece);
                while let Some(frame) = frames.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, bodies, "cut every {step} bytes");
        }
    }

    #[test]
    fn b01_impossible_frame_sizes_are_errors() {
        for size in [-1, i32::MIN] {
            let mut frames = Frames::new(LIMIT);
            frames.push(&i32::to_be_bytes(size));
            assert!(frames.next_frame().unwrap_err().is_malformed(), "{size}");
        }
        // A frame may be that short after the first SaslHandshake, whose tokens have no header; an
        // answer may not.
        for size in 0..4 {
            let mut frames = Frames::new(LIMIT);
            frames.push(&frame(&vec![0; size]));
            let short = frames.next_frame().unwrap().unwrap();
            let (mut exchange, _) = asked();
            assert!(exchange.answer(&short).unwrap_err().is_malformed(), "{size}");
        }
    }

    #[test]
    fn b02_a_frame_over_the_limit_is_refused_before_memory_is_taken() {
        let mut frames = Frames::new(LIMIT);
        frames.push(&i32::MAX.to_be_bytes());
        assert!(frames.next_frame().unwrap_err().is_limit());
        assert!(frames.space().capacity() <= 2 * START_MAX);
    }

    #[test]
    fn b03_peers_that_speak_something_else_are_named() {
        for (start, name) in
            [(&b"HTTP/1.1 400"[..], "HTTP"), (b"SSH-2.0", "SSH"), (b"\x15\x03\x03\x00\x02", "TLS")]
        {
            let mut frames = Frames::new(LIMIT);
            frames.push(start);
            let error = frames.next_frame().unwrap_err();
            assert!(error.is_malformed() && error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn b04_a_large_claim_costs_no_more_than_twice_what_arrived() {
        let mut frames = Frames::new(LIMIT);
        frames.push(&(90_i32 << 20).to_be_bytes());
        let mut sent = 4;
        for _ in 0..2000 {
            assert!(frames.space().capacity() <= 2 * sent + START_MAX, "{sent}");
            frames.push(&[0; 1000]);
            sent += 1000;
            assert!(frames.next_frame().unwrap().is_none());
        }
    }

    fn asked() -> (Exchange, Vec<i32>) {
        let mut exchange = Exchange::new(Some("test"), 3);
        let request = ApiVersionsRequest::default();
        let ids = (0..3).map(|_| {
            let bytes = exchange.request(&request, 0).unwrap().into_bytes();
            i32::from_be_bytes(bytes[8..12].try_into().unwrap())
        });
        let ids = ids.collect();
        (exchange, ids)
    }

    #[test]
    fn b05_answers_out_of_order_unknown_or_twice_are_errors() {
        let answer = |id: i32| Bytes::from([&id.to_be_bytes()[..], b"body"].concat());
        let (mut exchange, ids) = asked();
        assert_eq!(exchange.answer(&answer(ids[0])).unwrap().body, &b"body"[..]);
        assert!(exchange.answer(&answer(ids[0])).unwrap_err().is_malformed(), "twice");
        assert!(exchange.answer(&answer(ids[2])).unwrap_err().is_malformed(), "out of order");
        assert!(exchange.answer(&answer(77)).unwrap_err().is_malformed(), "unknown");
        assert_eq!(exchange.in_flight(), 2, "an error answers nobody");
        let mut idle = Exchange::new(None, 1);
        assert!(idle.answer(&answer(0)).unwrap_err().is_malformed(), "nothing was asked");
    }

    fn correlation(request: Segments) -> i32 {
        i32::from_be_bytes(request.into_bytes()[8..12].try_into().unwrap())
    }

    #[test]
    fn a_request_without_an_answer_takes_a_number_and_waits_for_nothing() {
        let mut exchange = Exchange::new(None, 2);
        let produce = ProduceRequest::default();
        assert_eq!(correlation(exchange.request_without_answer(&produce, 9).unwrap()), 0);
        assert_eq!(exchange.in_flight(), 0);
        assert_eq!(correlation(exchange.request(&MetadataRequest::default(), 12).unwrap()), 1);
    }

    #[test]
    fn api_versions_are_read_from_a_broker_that_refuses_our_version() {
        let mut exchange = Exchange::new(None, 1);
        exchange.request(&ApiVersionsRequest::default(), 5).unwrap();
        // Correlation id, error 35, one API: ApiVersions 0 to 2, in version 0.
        let body = [0, 0, 0, 0, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 2];
        let answer = exchange.answer(&Bytes::copy_from_slice(&body)).unwrap();
        let versions = answer.decode_api_versions().unwrap();
        assert_eq!(ErrorCode(versions.error_code), ErrorCode::UNSUPPORTED_VERSION);
        assert_eq!((versions.api_keys[0].api_key, versions.api_keys[0].max_version), (18, 2));
        assert!(answer.decode::<ApiVersionsRequest>().is_err(), "it is no answer in version 5");
    }

    #[cfg(feature = "protocol")]
    #[test]
    fn the_first_controlled_shutdown_has_no_client_id() {
        use crate::messages::controlled_shutdown::ControlledShutdownRequest;
        let mut exchange = Exchange::new(Some("test"), 2);
        let mut framed = |version| {
            exchange.request(&ControlledShutdownRequest::default(), version).unwrap().into_bytes().len()
        };
        // Length, API key, version, correlation id; then a broker id.
        assert_eq!(framed(0), 4 + 8 + 4);
        assert_eq!(framed(1), 4 + 8 + 2 + 4 + 4);
    }

    #[test]
    fn the_in_flight_limit_holds_and_a_refused_request_changes_nothing() {
        let (mut exchange, _) = asked();
        assert!(exchange.request(&ApiVersionsRequest::default(), 0).unwrap_err().is_limit());
        let (mut exchange, mut fresh) = (Exchange::new(None, 2), Exchange::new(None, 2));
        assert!(exchange.request(&MetadataRequest::default(), 99).unwrap_err().is_unsupported());
        let request = MetadataRequest::default();
        let after = exchange.request(&request, 12).unwrap().into_bytes();
        assert_eq!(after, fresh.request(&request, 12).unwrap().into_bytes());
    }
}
