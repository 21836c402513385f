//! Every codec through a real broker, and one of them past Java: what `examples/roundtrip` does, in small.

#[path = "../../../examples/roundtrip/consume.rs"]
mod consume;
#[path = "../../../examples/roundtrip/java.rs"]
mod java;
#[path = "../../../examples/roundtrip/produce.rs"]
mod produce;
#[path = "../../../examples/support/mod.rs"]
#[allow(dead_code, reason = "the examples use the rest")]
pub(super) mod support;
#[path = "../../../examples/roundtrip/text.rs"]
mod text;
#[path = "../../../examples/roundtrip/trip.rs"]
mod trip;

use weir::records::Compression;

use super::{VERSIONS, shared};

pub(crate) const PARTITIONS: usize = 3;

const RECORDS: usize = 5_000;

fn goes_round(version: &str) {
    let Some(broker) = shared(version) else { return };
    let bootstrap = broker.bootstrap.to_string();
    let java = java::Java::find(Some(version), &bootstrap).unwrap();
    let mut connection = support::Connection::open(&bootstrap).unwrap();
    let text = text::Text::of_this_package(RECORDS).unwrap();
    let codecs: Vec<_> = Compression::ALL.into_iter().rev().filter(|codec| codec.is_available()).collect();
    assert!(!codecs.is_empty());
    for (n, codec) in codecs.into_iter().enumerate() {
        // Java's programs take seconds to start: here one codec meets them, in the example all do.
        let java = java.as_ref().filter(|_| n == 0);
        trip::round_trip(&mut connection, java, &text, codec, 0).unwrap();
    }
}

#[test]
fn every_codec_goes_round_4_4_0() {
    goes_round(VERSIONS[0]);
}

#[test]
fn every_codec_goes_round_3_9_2() {
    goes_round(VERSIONS[1]);
}
