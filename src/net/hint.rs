//! What speaks at the other end, when it is not what was expected: told from its first bytes, in words.
//!
//! The usual mistakes are a wrong port and TLS on one side only. Those who read first bytes ask here: the TLS
//! handshake, and the connection that splits frames.

/// First bytes to keep; more are not looked at.
#[cfg_attr(not(feature = "rustls"), allow(dead_code, reason = "the TLS handshake alone keeps them"))]
pub(crate) const HEAD_BYTES: usize = 8;

/// Says which protocol begins with these bytes, if it is a known one that is not Kafka's.
///
/// No frame of Kafka begins like any of these within the largest frame that a client takes: as a length, the
/// smallest of them (TLS) is 352 MB.
pub(crate) fn foreign(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x15, 3, ..] => Some("the peer speaks TLS and refused what it was sent: is TLS switched on here?"),
        [0x16, 3, ..] => Some("the peer speaks TLS: is TLS switched on here?"),
        [b'H', b'T', b'T', b'P', ..] => Some("the peer speaks HTTP, not Kafka: is the port right?"),
        [b'S', b'S', b'H', b'-', ..] => Some("the peer speaks SSH, not Kafka: is the port right?"),
        _ => None,
    }
}

/// Says what begins with these bytes where a TLS record was expected, unless it is one.
#[cfg(feature = "rustls")]
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
    fn other_protocols_are_named() {
        for (head, name) in [
            (&b"HTTP/1.1 400"[..], "HTTP"),
            (b"SSH-2.0-x", "SSH"),
            (&[0x15, 3, 3, 0, 2], "TLS"),
            (&[0x16, 3, 1], "TLS"),
        ] {
            assert!(foreign(head).unwrap().contains(name));
        }
        for kafka in [&[0, 0, 0, 42, 0, 0, 0, 1][..], &[0x06, 0x40, 0, 0], &[]] {
            assert_eq!(foreign(kafka), None);
        }
    }

    #[cfg(feature = "rustls")]
    #[test]
    fn what_is_not_tls_is_named() {
        assert!(not_tls(b"HTTP/1.1 400").unwrap().contains("HTTP"));
        assert!(not_tls(&[0, 0, 0, 42]).unwrap().contains("plaintext"));
        for tls in [&[0x16, 3, 3, 0, 80][..], &[0x15, 3, 1, 0, 2], &[]] {
            assert_eq!(not_tls(tls), None);
        }
    }
}
