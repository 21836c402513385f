//! When to connect again after failures (KIP-580), and how long that may take (KIP-601).

use std::time::{Duration, Instant};

use super::config::Config;

/// The failures in a row of connecting to one broker for one use.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reconnect {
    failures: u32,
    not_before: Option<Instant>,
}

impl Reconnect {
    /// Connecting failed, or a connection broke right after it. `chance` is any number.
    pub(super) fn failed(&mut self, config: &Config, chance: u64, now: Instant) {
        let wait = doubled(config.backoff, self.failures, config.backoff_max);
        // Between four and six fifths of it.
        let wait = wait.mul_f64(0.8 + f64::from((chance % 1000) as u32) * 0.0004);
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.checked_add(wait);
    }

    /// A connection became ready, and lasted.
    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// When the next attempt may begin.
    pub(super) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// How long the next attempt may take.
    pub(super) fn setup_timeout(&self, config: &Config) -> Duration {
        doubled(config.setup_timeout, self.failures, config.setup_timeout_max)
    }
}

fn doubled(first: Duration, times: u32, most: Duration) -> Duration {
    let factor = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
    first.saturating_mul(factor).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit_and_vary_by_a_fifth() {
        let (config, now) = (Config::default(), Instant::now());
        for (chance, factor) in [(0, 0.8), (500, 1.0), (999, 1.1996)] {
            let mut reconnect = Reconnect::default();
            assert_eq!(reconnect.not_before(), None);
            for base in [100, 200, 400, 800, 1000, 1000] {
                reconnect.failed(&config, chance, now);
                let wait = reconnect.not_before().unwrap() - now;
                assert!((wait.as_secs_f64() * 1000.0 - f64::from(base) * factor).abs() < 1.0, "{wait:?}");
            }
            reconnect.succeeded();
            assert_eq!(reconnect.not_before(), None);
        }
    }

    #[test]
    fn an_attempt_may_take_longer_after_failures() {
        let (config, now) = (Config::default(), Instant::now());
        let mut reconnect = Reconnect::default();
        for seconds in [10, 20, 30, 30] {
            assert_eq!(reconnect.setup_timeout(&config), Duration::from_secs(seconds));
            reconnect.failed(&config, 7, now);
        }
        for _ in 0..100 {
            reconnect.failed(&config, 7, now);
        }
        assert_eq!(reconnect.setup_timeout(&config), config.setup_timeout_max);
    }
}
