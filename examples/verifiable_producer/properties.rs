//! Settings by Kafka's names: a properties file, and which name is which method of the builders.

use std::time::Duration;

use weir::Client;
use weir::producer::{Acks, Builder};
use weir::records::Compression;

/// The names and values of a Java properties file: `name=value` or `name: value`, `#` or `!` before comments, and a
/// backslash where a line goes on in the next.
pub(crate) fn read(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut whole = String::new();
    for line in text.lines() {
        let line = line.trim_start();
        if whole.is_empty() && line.starts_with(['#', '!']) {
            continue;
        }
        if let Some(begun) = line.strip_suffix('\\') {
            whole.push_str(begun);
            continue;
        }
        whole.push_str(line);
        let pair = std::mem::take(&mut whole);
        if !pair.trim().is_empty() {
            let (name, value) = pair.split_once(['=', ':']).unwrap_or((&pair, ""));
            found.push((name.trim().to_owned(), value.trim().to_owned()));
        }
    }
    found
}

/// The settings of a client and its producer. Names that nothing here stands for are warned of.
pub(crate) struct Settings<'a> {
    all: &'a [(String, String)],
}

impl<'a> Settings<'a> {
    pub(crate) fn new(all: &'a [(String, String)]) -> Self {
        for (name, _) in all {
            if !KNOWN.contains(&&name[..]) {
                eprintln!("verifiable_producer: {name} is not known here and changes nothing");
            }
        }
        Self { all }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.all.iter().rev().find(|(known, _)| known == name).map(|(_, value)| &value[..])
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, String> {
        let parse = |text: &str| text.parse().map_err(|_| format!("{name}={text}: no such number"));
        self.text(name).map(parse).transpose()
    }

    fn millis(&self, name: &str) -> Result<Option<Duration>, String> {
        Ok(self.number(name)?.map(Duration::from_millis))
    }

    /// A first and a longest time, of which either may be missing.
    fn range(
        &self,
        first: &str,
        most: &str,
        usual: [u64; 2],
    ) -> Result<Option<(Duration, Duration)>, String> {
        let (first, most) = (self.millis(first)?, self.millis(most)?);
        let [usual_first, usual_most] = usual.map(Duration::from_millis);
        let any = first.is_some() || most.is_some();
        Ok(any.then(|| (first.unwrap_or(usual_first), most.unwrap_or(usual_most))))
    }

    /// The client's part.
    pub(crate) fn client(&self, bootstrap: &str) -> Result<weir::Builder, String> {
        match self.text("security.protocol") {
            None | Some("PLAINTEXT") => {}
            Some(other) => {
                return Err(format!("security.protocol={other}: this program speaks PLAINTEXT alone"));
            }
        }
        let mut builder = Client::builder(bootstrap);
        if let Some(id) = self.text("client.id") {
            builder = builder.client_id(id);
        }
        if let Some(time) = self.millis("request.timeout.ms")? {
            builder = builder.request_timeout(time);
        }
        if let Some(time) = self.millis("metadata.max.age.ms")? {
            builder = builder.metadata_max_age(time);
        }
        if let Some(time) = self.millis("connections.max.idle.ms")? {
            builder = builder.idle_timeout(time);
        }
        let names = ("reconnect.backoff.ms", "reconnect.backoff.max.ms");
        if let Some((first, most)) = self.range(names.0, names.1, [50, 1000])? {
            builder = builder.backoff(first, most);
        }
        let names = ("socket.connection.setup.timeout.ms", "socket.connection.setup.timeout.max.ms");
        if let Some((first, most)) = self.range(names.0, names.1, [10_000, 30_000])? {
            builder = builder.setup_timeout(first, most);
        }
        Ok(builder)
    }

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

/// All names that something above stands for. The address comes by a flag.
const KNOWN: [&str; 26] = [
    "bootstrap.servers",
    "security.protocol",
    "client.id",
    "client.rack",
    "request.timeout.ms",
    "metadata.max.age.ms",
    "connections.max.idle.ms",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "socket.connection.setup.timeout.ms",
    "socket.connection.setup.timeout.max.ms",
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
