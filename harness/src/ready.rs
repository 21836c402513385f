//! Whether a broker answers, and whom it knows.
//!
//! One Metadata request of version 0, which every broker from 0.8 to 4.4 answers, written by hand: the harness
//! must not depend on the code that it serves.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// Size, API key 3, version 0, correlation id 1, client id "weir", no topics (which then means all).
const REQUEST: &[u8] = b"\x00\x00\x00\x12\x00\x03\x00\x00\x00\x00\x00\x01\x00\x04weir\x00\x00\x00\x00";

/// More than a cluster of ours needs, even with many topics.
const RESPONSE_MAX: u32 = 16 << 20;

/// The numbers of the brokers that this one knows to be alive.
pub(crate) fn known_brokers(address: SocketAddr) -> io::Result<BTreeSet<i32>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(REQUEST)?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let size = u32::from_be_bytes(size);
    if size > RESPONSE_MAX {
        return Err(io::Error::other(format!("a response of {size} bytes")));
    }
    let mut response = Vec::new();
    stream.take(u64::from(size)).read_to_end(&mut response)?;
    brokers(&response).ok_or_else(|| io::Error::other("not a response to Metadata"))
}

/// After the correlation id: the count, then number, host and port of each.
fn brokers(response: &[u8]) -> Option<BTreeSet<i32>> {
    let mut rest = response;
    if i32_of(&mut rest)? != 1 {
        return None;
    }
    let mut found = BTreeSet::new();
    for _ in 0..i32_of(&mut rest)? {
        found.insert(i32_of(&mut rest)?);
        let (length, after) = rest.split_first_chunk()?;
        rest = after.get(usize::from(u16::from_be_bytes(*length))..)?;
        i32_of(&mut rest)?;
    }
    Some(found)
}

fn i32_of(rest: &mut &[u8]) -> Option<i32> {
    let (head, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(i32::from_be_bytes(*head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_read_from_a_response() {
        let response =
            b"\0\0\0\x01\0\0\0\x02\0\0\0\x01\0\x03abc\0\0\x23\x84\0\0\0\x03\0\0\0\0\x23\x85\0\0\0\0";
        assert_eq!(brokers(response), Some([1, 3].into()));
        assert_eq!(brokers(b"\0\0\0\x01\0\0\0\0\0\0\0\0"), Some([].into()));
        assert_eq!(brokers(&response[..20]), None, "cut");
        assert_eq!(brokers(b"\0\0\0\x02\0\0\0\0"), None, "another's answer");
        assert_eq!(brokers(b"HTTP/1.1 400"), None);
    }
}
