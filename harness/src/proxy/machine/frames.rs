//! Kafka's frames seen as they pass: where each begins and ends, and which API it belongs to.
//!
//! Pure. Bytes of either way go in, the same bytes come out in parts, none of them beyond a frame. Only the
//! head of a frame (12 bytes of a request, 8 of a response) is kept back until it is whole; everything else
//! passes as it came, so a frame of any length costs nothing.
//!
//! Responses come in the order of requests, and say whose they are only by correlation id. A request that
//! has no response (Produce with acks=0, one that was swallowed) is given up when a later one is answered.
//! After `SaslHandshake` version 0 raw tokens pass, which have a length and no header. What cannot be Kafka
//! (TLS, HTTP) is passed on without frames from there to the end of the link.

use std::collections::VecDeque;

use bytes::{Buf, Bytes, BytesMut};

use crate::proxy::rule::Direction;

/// A length above this is no frame of Kafka's: brokers refuse requests above 100 MiB, and `HTTP` and a TLS
/// record, read as lengths, are larger.
const FRAME_MAX: usize = 256 << 20;

/// Requests that are remembered; the oldest is forgotten first, and its response then has no API.
const IN_FLIGHT_MAX: usize = 4096;

const PREFIX: usize = 4;
const SASL_HANDSHAKE: i16 = 17;

/// A frame that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame {
    /// None for a raw token, and for a response to nobody.
    pub(crate) api: Option<i16>,
    pub(crate) correlation: Option<i32>,
    /// With the length in front.
    pub(crate) size: u64,
}

/// Some bytes of one frame, or of a link without frames.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// The frame, if these are its first bytes.
    pub(crate) opens: Option<Frame>,
    pub(crate) bytes: Bytes,
    /// Whether these are its last.
    pub(crate) ends: bool,
}

/// Two of a kind, one a direction.
#[derive(Debug, Default)]
pub(crate) struct Pair<T> {
    pub(crate) requests: T,
    pub(crate) responses: T,
}

impl<T> Pair<T> {
    pub(crate) fn of(&self, direction: Direction) -> &T {
        match direction {
            Direction::Requests => &self.requests,
            Direction::Responses => &self.responses,
        }
    }

    pub(crate) fn of_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Requests => &mut self.requests,
            Direction::Responses => &mut self.responses,
        }
    }
}

/// Follows the frames of one link.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    cuts: Pair<Cutter>,
    in_flight: VecDeque<Sent>,
    opaque: bool,
    /// `SaslHandshake` v0 passed, and no request since.
    tokens: bool,
}

#[derive(Debug, Default)]
struct Cutter {
    head: BytesMut,
    /// What the present frame has yet to bring.
    left: usize,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    api: Option<i16>,
    correlation: Option<i32>,
}

impl Frames {
    /// The next part of what came; none when all of it is passed or kept back.
    pub(crate) fn next(&mut self, direction: Direction, input: &mut Bytes) -> Option<Part> {
        let cut = self.cuts.of_mut(direction);
        if cut.left > 0 && !self.opaque {
            let bytes = input.split_to(cut.left.min(input.len()));
            cut.left -= bytes.len();
            let ends = cut.left == 0;
            return (!bytes.is_empty()).then_some(Part { opens: None, bytes, ends });
        }
        loop {
            if self.opaque {
                return self.rest(direction).or_else(|| {
                    let bytes = std::mem::take(input);
                    (!bytes.is_empty()).then_some(Part { opens: None, bytes, ends: false })
                });
            }
            let cut = self.cuts.of_mut(direction);
            let Some(wanted) = cut.wanted(direction) else {
                self.opaque = true;
                continue;
            };
            if wanted == cut.head.len() {
                return Some(self.open(direction));
            }
            if input.is_empty() {
                return None;
            }
            let now = input.split_to((wanted - cut.head.len()).min(input.len()));
            cut.head.extend_from_slice(&now);
        }
    }

    /// What was kept back of a head that now never becomes whole.
    pub(crate) fn rest(&mut self, direction: Direction) -> Option<Part> {
        let bytes = self.cuts.of_mut(direction).head.split().freeze();
        (!bytes.is_empty()).then_some(Part { opens: None, bytes, ends: false })
    }

    fn open(&mut self, direction: Direction) -> Part {
        let cut = self.cuts.of_mut(direction);
        let bytes = cut.head.split().freeze();
        let mut head = bytes.clone();
        // `wanted` saw to it that there is a length, and that it is none below zero.
        let size = head.try_get_i32().unwrap_or(0) as usize;
        cut.left = size - head.len().min(size);
        let ends = cut.left == 0;
        let sent = match direction {
            Direction::Requests => self.request(&mut head),
            Direction::Responses => self.response(&mut head),
        };
        let size = (size + PREFIX) as u64;
        Part { opens: Some(Frame { api: sent.api, correlation: sent.correlation, size }), bytes, ends }
    }

    fn request(&mut self, head: &mut Bytes) -> Sent {
        let header = (|| {
            let api = head.try_get_i16().ok()?;
            let version = head.try_get_i16().ok()?;
            Some((api, version, head.try_get_i32().ok()?))
        })();
        // While tokens pass, a header is believed only if its numbers are small, as Kafka's are: tokens
        // begin with text or with ASN.1.
        let header = header.filter(|(api, version, _)| {
            !self.tokens || ((0..1024).contains(api) && (0..64).contains(version))
        });
        let sent = match header {
            Some((api, version, correlation)) => {
                self.tokens = api == SASL_HANDSHAKE && version == 0;
                Sent { api: Some(api), correlation: Some(correlation) }
            }
            None => Sent { api: None, correlation: None },
        };
        if self.in_flight.len() == IN_FLIGHT_MAX {
            self.in_flight.pop_front();
        }
        self.in_flight.push_back(sent);
        sent
    }

    fn response(&mut self, head: &mut Bytes) -> Sent {
        let correlation = head.try_get_i32().ok();
        let whose =
            correlation.and_then(|_| self.in_flight.iter().position(|sent| sent.correlation == correlation));
        if let Some(whose) = whose
            && let Some(sent) = self.in_flight.drain(..=whose).next_back()
        {
            return sent;
        }
        if self.in_flight.front().is_some_and(|sent| sent.correlation.is_none()) {
            self.in_flight.pop_front();
            return Sent { api: None, correlation: None };
        }
        Sent { api: None, correlation }
    }
}

impl Cutter {
    /// How long the head is, as far as it is known; none if this is no frame.
    fn wanted(&self, direction: Direction) -> Option<usize> {
        let Some(prefix) = self.head.first_chunk::<PREFIX>() else { return Some(PREFIX) };
        let size = usize::try_from(i32::from_be_bytes(*prefix)).ok().filter(|size| *size <= FRAME_MAX)?;
        let header = match direction {
            Direction::Requests => 8,
            Direction::Responses => 4,
        };
        Some(PREFIX + size.min(header))
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{Requests, Responses};
    use super::*;
    use crate::proxy::machine::wire::{framed, request, response};

    /// What a tracker tells of an input: for each frame that begins, its API and size.
    fn seen(frames: &mut Frames, direction: Direction, input: &[u8], step: usize) -> Vec<(Option<i16>, u64)> {
        let (mut said, mut passed) = (Vec::new(), Vec::new());
        for bytes in input.chunks(step) {
            let mut bytes = Bytes::copy_from_slice(bytes);
            while let Some(part) = frames.next(direction, &mut bytes) {
                said.extend(part.opens.map(|frame| (frame.api, frame.size)));
                passed.extend_from_slice(&part.bytes);
            }
            assert!(bytes.is_empty(), "all is taken");
        }
        passed.extend(frames.rest(direction).map(|part| part.bytes).unwrap_or_default());
        assert_eq!(passed, input, "the same bytes come out");
        said
    }

    #[test]
    fn requests_and_their_responses_are_known_however_they_are_cut() {
        let sent = [request(3, 1, b"metadata"), request(0, 2, b""), request(1, 3, &[7; 5000])].concat();
        let answers = [response(1, b"brokers"), response(2, b""), response(3, &[8; 9000])].concat();
        for step in [1, 2, 3, 5, 11, 12, 13, 100, 1 << 20] {
            let mut frames = Frames::default();
            let apis = [(Some(3), 20), (Some(0), 12), (Some(1), 5012)];
            assert_eq!(seen(&mut frames, Requests, &sent, step), apis, "{step}");
            let apis = [(Some(3), 15), (Some(0), 8), (Some(1), 9008)];
            assert_eq!(seen(&mut frames, Responses, &answers, step), apis, "{step}");
            assert!(frames.in_flight.is_empty());
        }
    }

    #[test]
    fn a_request_without_response_is_given_up() {
        let mut frames = Frames::default();
        let sent = [request(0, 1, b""), request(0, 2, b""), request(3, 3, b"")].concat();
        seen(&mut frames, Requests, &sent, 7);
        assert_eq!(seen(&mut frames, Responses, &response(3, b""), 7), [(Some(3), 8)]);
        assert!(frames.in_flight.is_empty());
        // An answer to nobody has no API and takes nobody's place.
        seen(&mut frames, Requests, &request(1, 4, b""), 7);
        assert_eq!(seen(&mut frames, Responses, &response(99, b""), 7), [(None, 8)]);
        assert_eq!(seen(&mut frames, Responses, &response(4, b""), 7), [(Some(1), 8)]);
    }

    #[test]
    fn tokens_after_the_old_handshake_have_no_header() {
        let mut frames = Frames::default();
        let mut one = |direction, bytes: &[u8]| {
            let said = seen(&mut frames, direction, bytes, 3);
            assert_eq!(said.len(), 1, "{said:?}");
            said[0].0
        };
        assert_eq!(one(Requests, &request(17, 1, b"\0\x05PLAIN")), Some(17));
        assert_eq!(one(Responses, &response(1, b"")), Some(17));
        for token in [
            &b"\0user\0password"[..],
            b"n,,n=user,r=nonce",
            b"c=bi",
            b"\x60\x82\x01\x02\x03\x04\x05\x06",
            b"",
        ] {
            assert_eq!(one(Requests, &framed(token)), None);
            assert_eq!(one(Responses, &framed(b"v=proof")), None);
        }
        // The last token of some mechanisms is not answered.
        assert_eq!(one(Requests, &framed(b"\x05\x04\x04\xff\0\0\0\0wrap")), None);
        assert_eq!(one(Requests, &request(3, 2, b"")), Some(3));
        assert_eq!(one(Responses, &response(2, b"")), Some(3));
    }

    #[test]
    fn what_is_not_kafka_passes_without_frames() {
        for other in
            [&b"\x16\x03\x01\x02\x00hello"[..], b"GET / HTTP/1.1\r\n\r\n", b"\xff\xff\xff\xffx", b"SSH-2"]
        {
            let mut frames = Frames::default();
            assert!(seen(&mut frames, Requests, other, 1).is_empty());
            assert!(seen(&mut frames, Requests, &request(3, 1, b""), 4).is_empty());
            assert!(seen(&mut frames, Responses, &response(1, b""), 4).is_empty());
        }
    }

    #[test]
    fn requests_that_are_never_answered_are_forgotten() {
        let mut frames = Frames::default();
        for correlation in 0..10_000 {
            seen(&mut frames, Requests, &request(0, correlation, b""), 1 << 20);
        }
        assert_eq!(frames.in_flight.len(), IN_FLIGHT_MAX);
        assert_eq!(seen(&mut frames, Responses, &response(1, b""), 100), [(None, 8)]);
        assert_eq!(seen(&mut frames, Responses, &response(9_999, b""), 100), [(Some(0), 8)]);
    }
}
