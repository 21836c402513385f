//! Frames as Kafka's clients and brokers write them, for the tests of the machine.

/// A body with its length in front.
pub(crate) fn framed(body: &[u8]) -> Vec<u8> {
    [&(body.len() as i32).to_be_bytes()[..], body].concat()
}

/// A request of version 0: 12 bytes, then the body.
pub(crate) fn request(api: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    framed(&[&api.to_be_bytes()[..], &[0; 2], &correlation.to_be_bytes(), body].concat())
}

/// A response: 8 bytes, then the body.
pub(crate) fn response(correlation: i32, body: &[u8]) -> Vec<u8> {
    framed(&[&correlation.to_be_bytes()[..], body].concat())
}
