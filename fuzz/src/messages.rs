//! Messages: any body is a typed error, or a value that is written and read again without change.
//!
//! The first two bytes of an input choose the message and its version, so that a mutation of them still
//! chooses one; the rest is the body.

use bytes::Bytes;
use weir::protocol::{Kind, MessageType, Writer, decode, decode_request, decode_response, draw, messages};

/// Decoding may hold this many times the bytes of the body.
const MEMORY_RATIO: usize = 40;
/// And this much beside: an error's text, the message itself.
const MEMORY_FREE: usize = 16 << 10;

/// Decodes the body that the input holds as one of these kinds.
pub fn check(kinds: &[Kind], input: &[u8]) {
    let Some(([which, version], body)) = input.split_first_chunk() else { return };
    let types = of(kinds);
    let chosen = types[usize::from(*which) % types.len()];
    let (first, last) = chosen.versions().into_inner();
    let version = first + i16::from(*version) % (last - first + 1);
    check_one(chosen, version, Bytes::copy_from_slice(body));
}

fn check_one(chosen: &MessageType, version: i16, body: Bytes) {
    let read = |bytes: &Bytes| match (chosen.kind(), chosen.api_key()) {
        (Kind::Request, Some(key)) => decode_request(key, version, bytes),
        (Kind::Response, Some(key)) => decode_response(key, version, bytes),
        (kind, _) => decode(kind.as_str(), chosen.name(), version, bytes),
    };
    let (result, peak) = crate::peak_of(|| read(&body));
    let allowed = MEMORY_RATIO * body.len() + MEMORY_FREE;
    assert!(peak <= allowed, "{chosen:?} v{version}: {} bytes took {peak} of memory", body.len());
    let message = match result {
        Ok(message) => message,
        Err(error) => return assert!(error.is_malformed(), "{error:?}"),
    };
    let write = |message: &dyn weir::protocol::AnyMessage| {
        let mut writer = Writer::default();
        message.encode_any(&mut writer, version).expect("what was read can be written");
        writer.finish().into_bytes()
    };
    let once = write(&*message);
    let again = read(&once).expect("what was written can be read");
    assert_eq!(write(&*again), once, "{chosen:?} v{version}");
    assert_eq!(format!("{again:?}"), format!("{message:?}"), "{chosen:?} v{version}");
}

/// Inputs for [`check`]: drawn messages of every type and version, with a name for each.
pub fn seeds(kinds: &[Kind]) -> Vec<(String, Vec<u8>)> {
    const EACH: u64 = 3;
    /// Longer ones make the fuzzer slow and teach it nothing.
    const LEN_MAX: usize = 2048;
    let mut found = Vec::new();
    for (which, chosen) in of(kinds).into_iter().enumerate() {
        for (choice, version) in chosen.versions().enumerate() {
            let drawn = (0..).map(|seed| {
                draw(chosen.kind().as_str(), chosen.name(), version, seed).expect("a version that there is")
            });
            let short = drawn.take(200).filter(|body| body.len() <= LEN_MAX).take(EACH as usize);
            for (n, body) in short.enumerate() {
                let input = [&[which as u8, choice as u8][..], &body[..]].concat();
                found.push((format!("{}-{version}-{n}", chosen.name()), input));
            }
        }
    }
    found
}

fn of(kinds: &[Kind]) -> Vec<&'static MessageType> {
    messages().iter().filter(|found| kinds.contains(&found.kind())).collect()
}
