//! The settings of a producer by Kafka's names, and which name is which method of its builder.

use std::time::Duration;

use weir::producer::{Acks, Builder};
use weir::records::Compression;

/// What all clients share.
#[path = "../support/properties.rs"]
mod common;

pub(crate) use common::{Settings, read};

impl Settings<'_> {
    /// The producer's part.
    pub(crate) fn producer(&self, mut builder: Builder) -> Result<Builder, String> {
        let acks = match self.text("acks") {
            None | Some("-1" | "all") => Acks::All,
            Some("1") => Acks::Leader,
            Some("0") => Acks::None,
            Some(other) => return Err(format!("acks={other}: -1, all, 0 or 1")),
        };
        // As in Java: who asks for fewer acknowledgements and says no more has no idempotence.
        let idempotent = self.number("enable.idempotence")?.unwrap_or(acks == Acks::All);
        builder = builder.acks(acks).idempotence(idempotent);
        for (name, set) in DURATIONS {
            if let Some(time) = self.millis(name)? {
                builder = set(builder, time);
            }
        }
        for (name, set) in SIZES {
            if let Some(size) = self.number(name)? {
                builder = set(builder, size);
            }
        }
        if let Some((first, most)) = self.range("retry.backoff.ms", "retry.backoff.max.ms", [100, 1000])? {
            builder = builder.retry_backoff(first, most);
        }
        if let Some(rack) = self.text("client.rack") {
            builder = builder.rack(rack);
        }
        self.compression(builder)
    }

    fn compression(&self, builder: Builder) -> Result<Builder, String> {
        let Some(name) = self.text("compression.type") else { return Ok(builder) };
        let codec = match name {
            "none" => Compression::None,
            "gzip" => Compression::Gzip,
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4,
            "zstd" => Compression::Zstd,
            _ => return Err(format!("compression.type={name}: none, gzip, snappy, lz4 or zstd")),
        };
        Ok(match self.number(&format!("compression.{name}.level"))? {
            Some(level) => builder.compression_level(codec, level),
            None => builder.compression(codec),
        })
    }
}

type Set<T> = (&'static str, fn(Builder, T) -> Builder);

const DURATIONS: [Set<Duration>; 4] = [
    ("linger.ms", Builder::linger),
    ("delivery.timeout.ms", Builder::delivery_timeout),
    ("max.block.ms", Builder::max_block),
    ("request.timeout.ms", Builder::request_timeout),
];

const SIZES: [Set<usize>; 4] = [
    ("batch.size", Builder::batch_size),
    ("buffer.memory", Builder::buffer_memory),
    ("max.request.size", Builder::max_request_size),
    ("max.in.flight.requests.per.connection", Builder::max_in_flight),
];

/// All names that something above stands for.
pub(crate) const KNOWN: [&str; 16] = [
    "client.rack",
    "acks",
    "enable.idempotence",
    "linger.ms",
    "delivery.timeout.ms",
    "max.block.ms",
    "batch.size",
    "buffer.memory",
    "max.request.size",
    "max.in.flight.requests.per.connection",
    "retry.backoff.ms",
    "retry.backoff.max.ms",
    "compression.type",
    "compression.gzip.level",
    "compression.lz4.level",
    "compression.zstd.level",
];
