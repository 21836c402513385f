//! The settings of a consumer by Kafka's names, and which name is which method of its builder.

use std::sync::Arc;
use std::time::Duration;

use weir::consumer::assignors::{Assignor, CooperativeSticky, Range, RoundRobin, Sticky};
use weir::consumer::{Builder, GroupProtocol, Isolation, Reset};

/// What all clients share.
#[path = "../support/properties.rs"]
mod common;

pub(crate) use common::{Settings, read};

impl Settings<'_> {
    /// The consumer's part, but for commits.
    pub(crate) fn consumer(&self, mut builder: Builder) -> Result<Builder, String> {
        for (name, set) in TEXTS {
            if let Some(text) = self.text(name) {
                builder = set(builder, text);
            }
        }
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
        if let Some(on) = self.number("check.crcs")? {
            builder = builder.check_crcs(on);
        }
        builder = builder.group_protocol(match self.lower("group.protocol").as_deref() {
            None | Some("classic") => GroupProtocol::Classic,
            Some("consumer") => GroupProtocol::Consumer,
            Some(other) => return Err(format!("group.protocol={other}: classic or consumer")),
        });
        builder = builder.reset(match self.lower("auto.offset.reset").as_deref() {
            Some("earliest") => Reset::Earliest,
            None | Some("latest") => Reset::Latest,
            Some("none") => Reset::None,
            Some(other) => return Err(format!("auto.offset.reset={other}: earliest, latest or none")),
        });
        builder = builder.isolation(match self.lower("isolation.level").as_deref() {
            None | Some("read_uncommitted") => Isolation::ReadUncommitted,
            Some("read_committed") => Isolation::ReadCommitted,
            Some(other) => {
                return Err(format!("isolation.level={other}: read_uncommitted or read_committed"));
            }
        });
        let heartbeat = match (self.millis("heartbeat.interval.ms")?, self.millis("session.timeout.ms")?) {
            (Some(heartbeat), _) => heartbeat,
            (None, session) => Duration::from_secs(3).min(session.map_or(Duration::MAX, |time| time / 3)),
        };
        builder = builder.heartbeat_interval(heartbeat);
        let names = self.text("partition.assignment.strategy").unwrap_or("range");
        let assignors: Result<Vec<_>, String> = names.split(',').map(assignor).collect();
        Ok(builder.assignors(assignors?))
    }

    fn lower(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_lowercase)
    }
}

/// By its own name or that of Java's class.
fn assignor(name: &str) -> Result<Arc<dyn Assignor>, String> {
    let class = name.trim().rsplit('.').next().unwrap_or_default();
    Ok(match class {
        "range" | "RangeAssignor" => Arc::new(Range),
        "roundrobin" | "RoundRobinAssignor" => Arc::new(RoundRobin),
        "sticky" | "StickyAssignor" => Arc::new(Sticky),
        "cooperative-sticky" | "CooperativeStickyAssignor" => Arc::new(CooperativeSticky),
        _ => return Err(format!("{name} is no assignor")),
    })
}

type Set<T> = (&'static str, fn(Builder, T) -> Builder);
type Text = (&'static str, fn(Builder, &str) -> Builder);

const TEXTS: [Text; 4] = [
    ("group.id", Builder::group),
    ("group.instance.id", Builder::group_instance),
    ("group.remote.assignor", Builder::remote_assignor),
    ("client.rack", Builder::rack),
];

const DURATIONS: [Set<Duration>; 3] = [
    ("session.timeout.ms", Builder::session_timeout),
    ("max.poll.interval.ms", Builder::max_poll_interval),
    ("fetch.max.wait.ms", Builder::fetch_max_wait),
];

const SIZES: [Set<usize>; 3] = [
    ("fetch.min.bytes", Builder::fetch_min_bytes),
    ("fetch.max.bytes", Builder::fetch_max_bytes),
    ("max.partition.fetch.bytes", Builder::max_partition_fetch_bytes),
];

/// All names that something above or the program stands for.
pub(crate) const KNOWN: [&str; 18] = [
    "group.id",
    "group.instance.id",
    "group.remote.assignor",
    "client.rack",
    "session.timeout.ms",
    "max.poll.interval.ms",
    "fetch.max.wait.ms",
    "fetch.min.bytes",
    "fetch.max.bytes",
    "max.partition.fetch.bytes",
    "check.crcs",
    "group.protocol",
    "auto.offset.reset",
    "isolation.level",
    "heartbeat.interval.ms",
    "partition.assignment.strategy",
    "auto.commit.interval.ms",
    "enable.auto.commit",
];
