//! Questions to brokers, written by hand: the harness must not depend on the code that it serves.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Long enough for a broker on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection that gives up rather than hang the tests.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&address, PATIENCE).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout above zero");
    stream
}

/// One request and its response, without the sizes.
pub(crate) fn exchange(stream: &mut (impl Read + Write), request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(&(request.len() as u32).to_be_bytes())?;
    stream.write_all(request)?;
    stream.flush()?;
    let mut size = [0; 4];
    stream.read_exact(&mut size)?;
    let mut response = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut response)?;
    Ok(response)
}

/// Whether what is at the other end answers `ApiVersions` as a broker does.
pub(crate) fn speaks_kafka(stream: &mut (impl Read + Write)) -> bool {
    let response = exchange(stream, b"\x00\x12\x00\x00\x00\x00\x00\x2a\x00\x04weir");
    response.is_ok_and(|response| response.starts_with(&[0, 0, 0, 42, 0, 0]) && response.len() > 60)
}

/// The addresses that a broker tells its clients: Metadata version 0 without a topic.
pub(crate) fn told_addresses(address: SocketAddr) -> Vec<String> {
    let response =
        exchange(&mut connect(address), b"\0\x03\0\0\0\0\0\x01\0\x04weir\0\0\0\0").expect("an answer");
    let number = |at: usize, size: usize| {
        response[at..at + size].iter().fold(0, |all, byte| all << 8 | usize::from(*byte))
    };
    let mut at = 8;
    let mut told: Vec<String> = (0..number(4, 4))
        .map(|_| {
            let length = number(at + 4, 2);
            let host = String::from_utf8_lossy(&response[at + 6..at + 6 + length]).into_owned();
            at += 10 + length;
            format!("{host}:{}", number(at - 4, 4))
        })
        .collect();
    told.sort();
    told
}
