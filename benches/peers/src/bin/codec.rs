//! Control messages: weir against kafka-protocol, both ways.
//!
//! Each decodes the same frame, and encodes the message that it decoded from it; that the bytes are
//! the same again is checked first. Writing, kafka-protocol gets the better of its two ways, one
//! buffer for all turns; weir gives away what it wrote and starts each time with an empty buffer.
//!
//! `cargo run --release --bin codec -- [--gate] [metadata] [api] [produce] [fetch]`

use std::process::ExitCode;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsResponse, FetchResponse, MetadataResponse, ProduceRequest};
use kafka_protocol::protocol::{Decodable, Encodable};
use weir::protocol::{self, Decode, Encode, Message};
use weir_peers::contest::{Contest, Outcome};
use weir_peers::report::Report;
use weir_peers::{data, ours, peer};

/// How much faster than the peer weir is to be on metadata.
const FASTER: f64 = 1.5;

fn main() -> ExitCode {
    let mut report = match Report::from_args() {
        Ok(report) => report,
        Err(exit) => return exit,
    };
    metadata(&mut report);
    api_versions(&mut report);
    produce(&mut report);
    fetch(&mut report);
    report.finish()
}

/// A hundred topics of ten partitions: what a client of a large cluster reads every few minutes.
fn metadata(report: &mut Report) {
    type Weir = protocol::metadata::MetadataResponse;
    let frame = peer::encoded(&peer::metadata(), peer::METADATA);
    let name = "metadata v12, decode";
    if report.wants(name) {
        let outcome = decode::<Weir, MetadataResponse>(report, name, 1000, &frame, peer::METADATA);
        report.at_least(&outcome, "kafka-protocol", "weir", FASTER);
    }
    let name = "metadata v12, encode";
    if report.wants(name) {
        let outcome = encode::<Weir, MetadataResponse>(report, name, 1000, &frame, peer::METADATA);
        report.at_least(&outcome, "kafka-protocol", "weir", FASTER);
    }
}

/// The first response on every connection.
fn api_versions(report: &mut Report) {
    type Weir = protocol::api_versions::ApiVersionsResponse;
    let frame = peer::encoded(&peer::api_versions(), peer::API_VERSIONS);
    let name = "api versions v4, decode";
    if report.wants(name) {
        decode::<Weir, ApiVersionsResponse>(report, name, 70, &frame, peer::API_VERSIONS);
    }
}

/// Ten batches of 110 kB in one request: how much is copied is what counts.
fn produce(report: &mut Report) {
    type Weir = protocol::produce::ProduceRequest;
    let frame = peer::encoded(&peer::produce(&peer::batch(&data::values())), peer::PRODUCE);
    let name = "produce v9, encode";
    if report.wants(name) {
        encode::<Weir, ProduceRequest>(report, name, 10, &frame, peer::PRODUCE);
    }
}

/// The message around the records, which stay as they are.
fn fetch(report: &mut Report) {
    type Weir = protocol::fetch::FetchResponse;
    let frame = peer::fetch_frame(&data::values());
    let name = "fetch v16, decode the message";
    if report.wants(name) {
        decode::<Weir, FetchResponse>(report, name, 10, &frame, peer::FETCH);
    }
}

fn decode<W, P>(report: &mut Report, name: &str, units: usize, frame: &Bytes, version: i16) -> Outcome
where
    W: Message + Decode,
    P: Decodable,
{
    let contest = Contest::new(name, units, frame.len())
        .entrant("weir", || ours::decode::<W>(frame, version))
        .entrant("kafka-protocol", || peer::decode::<P>(frame, version));
    report.run(contest)
}

fn encode<W, P>(report: &mut Report, name: &str, units: usize, frame: &Bytes, version: i16) -> Outcome
where
    W: Message + Decode + Encode,
    P: Decodable + Encodable,
{
    let message: W = ours::decode(frame, version);
    assert!(ours::encode(&message, version, 0).into_bytes() == *frame, "weir wrote other bytes");
    let theirs: P = peer::decode(frame, version);
    let mut out = BytesMut::new();
    let contest = Contest::new(name, units, frame.len())
        .entrant("weir", || ours::encode(&message, version, frame.len()))
        .entrant("weir, buffer grows", || ours::encode(&message, version, 0))
        .entrant("kafka-protocol", || {
            peer::encode(&mut out, &theirs, version);
            out.len()
        })
        .entrant("kafka-protocol, buffer grows", || peer::encoded(&theirs, version));
    report.run(contest)
}
