//! Weir beside a raw socket and other clients, on one broker, in one run.
//!
//! Times on a shared machine move by a fifth within a minute, so entrants take turns, round after
//! round, and what counts is the ratio within a round: the medians of those are printed.
//!
//! - `roundtrip`: one record at a time, each acknowledged by all replicas before the next; and the time
//!   from nothing to the first acknowledgement.
//! - `produce`: all records at once and one at a time, by weir's `examples/bench.rs`, the floor and the peers,
//!   each a program of its own (`produce-*`) that takes the same arguments and says the same line.
//! - `consume`: the same of reading, from topics that are filled once; and from produce to receive.
//! - `metadata`: a cluster of a hundred thousand partitions, and how long it holds up other tasks.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, Instant};

pub mod entrants;
pub mod fetch;
pub mod floor;
pub mod large;
#[path = "../../../examples/support/load.rs"]
pub mod load;
pub mod turns;
pub mod wire;

/// The error of a bench is told to a person and ends it.
pub type Fail = Box<dyn std::error::Error + Send + Sync>;

/// A client that is ready to send: each call is one record, acknowledged.
pub trait Sender: Send {
    fn send(&mut self) -> Pin<Box<dyn Future<Output = Result<(), Fail>> + Send + '_>>;
}

/// How a client comes to be ready.
pub type Start = fn(
    bootstrap: String,
    topic: String,
) -> Pin<Box<dyn Future<Output = Result<Box<dyn Sender>, Fail>> + Send>>;

/// The median, in microseconds.
pub fn median_us(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
}

/// The median of figures.
pub fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Times `count` records, one after the other.
pub async fn sequential(sender: &mut dyn Sender, count: usize) -> Result<Vec<Duration>, Fail> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let began = Instant::now();
        sender.send().await?;
        times.push(began.elapsed());
    }
    Ok(times)
}
