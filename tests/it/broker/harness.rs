//! The harness tested on itself: brokers that answer, end with their owner, and leave nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use weir_kafka_harness::{Failure, unless_skipped};

use super::{Broker, VERSIONS, shared};

/// One row of an `ApiVersions` response: key, lowest and highest version.
type Range = (i16, i16, i16);

#[test]
fn each_version_says_what_it_speaks() {
    for version in VERSIONS {
        let Some(broker) = shared(version) else { continue };
        let ranges = api_versions(&mut broker.connect());
        assert!(ranges.iter().all(|(_, low, high)| low <= high), "{version}: {ranges:?}");
        let fetch = ranges.iter().find(|(key, ..)| *key == 1);
        let expected = if version.starts_with('4') { (1, 4, 18) } else { (1, 0, 17) };
        assert_eq!(fetch, Some(&expected), "{version}: {ranges:?}");
        // Produce, Metadata, ApiVersions, CreateTopics.
        for key in [0, 3, 18, 19] {
            assert!(ranges.iter().any(|range| range.0 == key), "{version} has no API {key}: {ranges:?}");
        }
    }
}

#[test]
fn a_version_is_started_once() {
    let version = VERSIONS[0];
    let (Some(one), Some(two)) = (shared(version), shared(version)) else { return };
    assert!(std::ptr::eq(one, two));
    assert_eq!(one.version, version);
}

#[test]
fn a_broker_ends_with_its_owner_and_leaves_nothing() {
    let version = VERSIONS[1];
    let started = Broker::start(version, &["num.partitions=3"]);
    let Some(broker) = unless_skipped(&format!("broker {version}"), started) else { return };
    let properties = std::fs::read_to_string(broker.cluster.node(1).properties_file()).unwrap();
    assert!(properties.contains("\nnum.partitions=3\n"), "{properties}");
    assert!(!api_versions(&mut broker.connect()).is_empty());
    let (bootstrap, dir) = (broker.bootstrap, broker.cluster.dir().to_owned());
    assert!(dir.exists());
    drop(broker);
    assert!(TcpStream::connect(bootstrap).is_err(), "something still listens");
    assert!(!dir.exists(), "{} is still there", dir.display());
}

#[test]
fn a_version_that_nobody_has_is_a_failure_and_not_a_hang() {
    let failure = Broker::start("not-a-version", &[]).unwrap_err();
    assert!(matches!(&failure, Failure::Broken(why) if why.contains("not a Kafka version")), "{failure:?}");
}

/// One exchange, written by hand: it must not depend on the code under test.
fn api_versions(stream: &mut TcpStream) -> Vec<Range> {
    let request = b"\x00\x12\x00\x00\x00\x00\x00\x2a\x00\x04weir";
    stream.write_all(&(request.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(request).unwrap();
    let mut size = [0; 4];
    stream.read_exact(&mut size).unwrap();
    let mut reply = vec![0; u32::from_be_bytes(size) as usize];
    stream.read_exact(&mut reply).unwrap();

    let (head, rows) = reply.split_at(10);
    let number = |at: usize| i16::from_be_bytes([head[at], head[at + 1]]);
    assert_eq!(&head[..4], [0, 0, 0, 42], "the correlation id comes back");
    assert_eq!(number(4), 0, "the error code");
    let rows: Vec<_> = rows.chunks(6).collect();
    assert_eq!(rows.len(), number(8) as usize, "as many rows as announced");
    rows.iter()
        .map(|row| <[u8; 6]>::try_from(*row).expect("six bytes a row, and nothing after the last"))
        .map(|[a, b, c, d, e, f]| {
            (i16::from_be_bytes([a, b]), i16::from_be_bytes([c, d]), i16::from_be_bytes([e, f]))
        })
        .collect()
}
