//! A peer's byte stream: it comes out as the same frames however it is cut, and costs no more than was
//! sent; a frame answers a request or is a typed error.

use bytes::Bytes;
use weir::protocol::api_versions::ApiVersionsRequest;
use weir::protocol::fetch::FetchRequest;
use weir::protocol::metadata::MetadataRequest;
use weir::protocol::{Exchange, Frames};

const LIMIT: usize = 1 << 16;
/// A buffer starts no larger than this.
const START_MAX: usize = 64 << 10;

/// The first two bytes say how the rest is cut; the rest is what the peer sends.
pub fn check(input: &[u8]) {
    let Some(([step, jitter], stream)) = input.split_first_chunk() else { return };
    let (expected, broken) = plainly_cut(stream);
    let mut frames = Frames::new(LIMIT);
    let (mut found, mut failed, mut sent) = (Vec::new(), false, 0);
    let mut rest = stream;
    let mut chunk = usize::from(*step) + 1;
    while !rest.is_empty() && !failed {
        let (now, later) = rest.split_at(chunk.min(rest.len()));
        frames.push(now);
        sent += now.len();
        rest = later;
        chunk = (chunk * 31 + usize::from(*jitter)) % 700 + 1;
        failed = drain(&mut frames, &mut found);
        assert!(frames.space().capacity() <= 2 * sent + START_MAX, "{sent} bytes were sent");
    }
    assert_eq!((&found, failed), (&expected, broken));
    answers(&found);
}

/// Takes all frames that are whole; whether there was an error.
fn drain(frames: &mut Frames, found: &mut Vec<Bytes>) -> bool {
    loop {
        match frames.next_frame() {
            Ok(Some(frame)) => found.push(frame),
            Ok(None) => return false,
            Err(error) => {
                crate::assert_typed(&error);
                return true;
            }
        }
    }
}

/// The frames of a stream that came whole, and whether it ends in one that cannot be.
fn plainly_cut(mut stream: &[u8]) -> (Vec<Bytes>, bool) {
    let mut frames = Vec::new();
    while let Some((prefix, rest)) = stream.split_first_chunk::<4>() {
        let len = i32::from_be_bytes(*prefix);
        if !(0..=LIMIT as i32).contains(&len) {
            return (frames, true);
        }
        let Some((frame, rest)) = rest.split_at_checked(len as usize) else { break };
        frames.push(Bytes::copy_from_slice(frame));
        stream = rest;
    }
    (frames, false)
}

/// Gives the frames as answers to three requests in turn, with old and new headers.
fn answers(frames: &[Bytes]) {
    let mut exchange = Exchange::new(Some("fuzz"), 3);
    for frame in frames {
        while exchange.in_flight() < 3 {
            let asked = match exchange.in_flight() {
                0 => exchange.request(&ApiVersionsRequest::default(), 3),
                1 => exchange.request(&MetadataRequest::default(), 12),
                _ => exchange.request(&FetchRequest::default(), 4),
            };
            asked.expect("a request");
        }
        match exchange.answer(frame) {
            Ok(answer) => {
                assert!(frame.ends_with(&answer.body));
                assert_eq!(exchange.in_flight(), 2, "one was answered");
                let results = [
                    answer.decode::<ApiVersionsRequest>().err(),
                    answer.decode::<MetadataRequest>().err(),
                    answer.decode::<FetchRequest>().err(),
                ];
                let asked_otherwise = results.iter().flatten().filter(|error| error.is_invalid()).count();
                assert_eq!(asked_otherwise, 2, "it is the answer to one API");
            }
            Err(error) => {
                assert!(error.is_malformed(), "{error:?}");
                assert_eq!(exchange.in_flight(), 3, "an error answers nobody");
            }
        }
    }
}

/// Inputs for [`check`]: streams of a few answers with the right correlation ids.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let bodies = ["ApiVersionsResponse-3", "MetadataResponse-12", "FetchResponse-4"].map(|name| {
        let (name, version) = name.split_once('-').expect("a name and a version");
        let version = version.parse().expect("a number");
        (0..8).map(move |seed| weir::protocol::draw("response", name, version, seed).expect("it is there"))
    });
    let mut found = Vec::new();
    for (n, ((versions, metadata), fetch)) in
        bodies[0].clone().zip(bodies[1].clone()).zip(bodies[2].clone()).enumerate()
    {
        let mut input = vec![n as u8 * 30, n as u8];
        // The second answer's header is flexible: an empty section of tags stands behind the id.
        for (id, header, body) in [(0_i32, &[][..], versions), (1, &[0][..], metadata), (2, &[][..], fetch)] {
            let len = (4 + header.len() + body.len()) as i32;
            input.extend_from_slice(&[&len.to_be_bytes()[..], &id.to_be_bytes(), header, &body].concat());
        }
        found.push((format!("answers-{n}"), input));
    }
    found
}
