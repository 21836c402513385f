//! Control messages: weir against kafka-protocol, both ways.
//!
//! `cargo run --release --bin codec -- [--gate] [metadata] [api] [produce] [fetch]`

use std::process::ExitCode;

use bytes::BytesMut;
use kafka_protocol::messages::{ApiVersionsResponse, FetchResponse, MetadataResponse};
use weir_peers::contest::Contest;
use weir_peers::report::Report;
use weir_peers::{data, peer};

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
    let message = peer::metadata();
    let frame = peer::encoded(&message, peer::METADATA);
    if report.wants("metadata v12, decode") {
        let contest = Contest::new("metadata v12, decode", 1000, frame.len())
            .entrant("kafka-protocol", || peer::decode::<MetadataResponse>(&frame, peer::METADATA));
        report.run(contest);
    }
    if report.wants("metadata v12, encode") {
        let mut out = BytesMut::new();
        let contest =
            Contest::new("metadata v12, encode", 1000, frame.len()).entrant("kafka-protocol", || {
                peer::encode(&mut out, &message, peer::METADATA);
                out.len()
            });
        report.run(contest);
    }
}

/// The first response on every connection.
fn api_versions(report: &mut Report) {
    let name = "api versions v4, decode";
    if !report.wants(name) {
        return;
    }
    let frame = peer::encoded(&peer::api_versions(), peer::API_VERSIONS);
    let contest = Contest::new(name, 70, frame.len())
        .entrant("kafka-protocol", || peer::decode::<ApiVersionsResponse>(&frame, peer::API_VERSIONS));
    report.run(contest);
}

/// Ten batches of 110 kB in one request: how much is copied is what counts.
fn produce(report: &mut Report) {
    let name = "produce v9, encode";
    if !report.wants(name) {
        return;
    }
    let message = peer::produce(&peer::batch(&data::values()));
    let frame = peer::encoded(&message, peer::PRODUCE);
    let mut out = BytesMut::new();
    let contest = Contest::new(name, 10, frame.len()).entrant("kafka-protocol", || {
        peer::encode(&mut out, &message, peer::PRODUCE);
        out.len()
    });
    report.run(contest);
}

/// The message around the records, which stay as they are.
fn fetch(report: &mut Report) {
    let name = "fetch v16, decode the message";
    if !report.wants(name) {
        return;
    }
    let frame = peer::fetch_frame(&data::values());
    let contest = Contest::new(name, 10, frame.len())
        .entrant("kafka-protocol", || peer::decode::<FetchResponse>(&frame, peer::FETCH));
    report.run(contest);
}
