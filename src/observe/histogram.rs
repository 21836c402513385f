//! Latencies in buckets: each power of two of microseconds in four, so that a quantile is never off by
//! more than a quarter. Recording is one addition, from any thread, without a lock.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets to a power of two.
const PARTS: usize = 4;

/// Powers of two: up to 2^32 microseconds, which is more than an hour.
const OCTAVES: usize = 32;

/// One bucket below a microsecond, and those above.
const BUCKETS: usize = OCTAVES * PARTS + 1;

/// Latencies as they are recorded.
#[derive(Debug)]
pub(super) struct Recorder {
    buckets: [AtomicU64; BUCKETS],
    sum: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { buckets: [const { AtomicU64::new(0) }; BUCKETS], sum: AtomicU64::new(0) }
    }
}

impl Recorder {
    pub(super) fn record(&self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        if let Some(bucket) = self.buckets.get(bucket_of(micros)) {
            bucket.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(micros, Relaxed);
    }

    pub(super) fn read(&self) -> Latencies {
        Latencies {
            buckets: self.buckets.iter().map(|bucket| bucket.load(Relaxed)).collect(),
            sum: Duration::from_micros(self.sum.load(Relaxed)),
        }
    }
}

fn bucket_of(micros: u64) -> usize {
    let Some(octave) = micros.checked_ilog2() else { return 0 };
    // The two bits below the highest say in which quarter of the octave it lies.
    let part = (micros << 2 >> octave) & 3;
    (1 + octave as usize * PARTS + part as usize).min(BUCKETS - 1)
}

/// The largest latency of a bucket, in microseconds.
fn end_of(bucket: usize) -> u64 {
    let Some(above) = bucket.checked_sub(1) else { return 0 };
    let (octave, part) = (above / PARTS, above % PARTS);
    ((1 << octave) * (PARTS + part + 1) as u64).div_ceil(PARTS as u64) - 1
}

/// Latencies that were recorded, in buckets whose upper ends are at most a quarter apart.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Latencies {
    buckets: Vec<u64>,
    sum: Duration,
}

impl Latencies {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// The latency that a part `q` of all, 0 to 1, did not exceed; up to a quarter too large. Zero if
    /// there are none.
    #[allow(clippy::cast_precision_loss, reason = "the buckets are coarser than that")]
    pub fn quantile(&self, q: f64) -> Duration {
        let count = self.count();
        let wanted = ((count as f64 * q.clamp(0.0, 1.0)).ceil() as u64).max(1);
        let mut below = 0;
        for (bucket, n) in self.buckets.iter().enumerate() {
            below += n;
            if below >= wanted {
                return Duration::from_micros(end_of(bucket));
            }
        }
        Duration::ZERO
    }

    /// The buckets that are not empty: the largest latency of each, and how many fell into it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u64)> {
        let filled = self.buckets.iter().enumerate().filter(|(_, n)| **n > 0);
        filled.map(|(bucket, n)| (Duration::from_micros(end_of(bucket)), *n))
    }
}

/// How many, and the half, the ninety-nine in a hundred and the all that were not slower: what fits into a line.
impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [0.5, 0.99, 1.0].map(|q| self.quantile(q));
        write!(f, "{} of p50 {half:?} p99 {most:?} max {all:?}", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_within_a_quarter_below_its_bucket_s_end() {
        for micros in (0..100_000_u64).chain([1 << 30, (1 << 32) - 1]) {
            let end = end_of(bucket_of(micros));
            assert!(end >= micros && end <= micros + micros / 4 + 1, "{micros} in a bucket to {end}");
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_come_from_the_bucket_that_holds_them() {
        let recorder = Recorder::default();
        assert_eq!(recorder.read().quantile(0.5), Duration::ZERO);
        for micros in 1..=100 {
            recorder.record(Duration::from_micros(micros));
        }
        let latencies = recorder.read();
        assert_eq!((latencies.count(), latencies.sum()), (100, Duration::from_micros(5050)));
        for (q, exact) in [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)] {
            let found = latencies.quantile(q).as_micros();
            assert!((exact..=exact + exact / 4 + 1).contains(&found), "{q}: {found}");
        }
        assert_eq!(latencies.buckets().map(|(_, n)| n).sum::<u64>(), 100);
        assert_eq!(format!("{latencies:?}"), "100 of p50 55µs p99 111µs max 111µs");
    }
}
