//! What speaks at the other end, when TLS was expected and it is not: told from its first bytes, in words.
//!
//! Where Kafka's frames are expected, the splitter of frames asks the same of their first bytes.

use crate::frame::foreign;

/// First bytes to keep; more are not looked at.
pub(crate) const HEAD_BYTES: usize = 8;

/// Says what begins with these bytes where a TLS record was expected, unless it is one.
pub(crate) fn not_tls(head: &[u8]) -> Option<&'static str> {
    match head {
        // The four types of record in a handshake and after, each with the major version 3.
        [0x14..=0x17, 3, ..] | [0x14..=0x17] | [] => None,
        [b'H', b'T', b'T', b'P', ..] | [b'S', b'S', b'H', b'-', ..] => foreign(head),
        _ => Some("the peer answered in something that is not TLS: is its listener a plaintext one?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_tls_is_named() {
        assert!(not_tls(b"HTTP/1.1 400").unwrap().contains("HTTP"));
        assert!(not_tls(&[0, 0, 0, 42]).unwrap().contains("plaintext"));
        for tls in [&[0x16, 3, 3, 0, 80][..], &[0x15, 3, 1, 0, 2], &[]] {
            assert_eq!(not_tls(tls), None);
        }
    }
}
