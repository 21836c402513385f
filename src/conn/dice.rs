//! Chance, from a seed, so that a run can be repeated: who is asked first, and how pauses are spread.

use std::time::Duration;

/// Numbers that look random, from a seed: splitmix64. Not for secrets.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0 if there is none. The bias of the remainder does not matter here.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            _ => (self.roll() % end as u64) as usize,
        }
    }

    /// `time`, give or take a fifth.
    pub(crate) fn spread(&mut self, time: Duration) -> Duration {
        let percent = 80 + (self.roll() % 41) as u32;
        time.saturating_mul(percent) / 100
    }
}

/// The seeds of a model: the one that repeats a run first, then those from 0 on.
///
/// `WEIR_SEED` names the one, `WEIR_MODEL_SEEDS` how many the others are instead of `count`.
#[cfg(test)]
pub(crate) fn seeds(count: u64) -> impl Iterator<Item = u64> {
    let number = |name| std::env::var(name).ok().map(|number| number.parse().expect("a number"));
    number("WEIR_SEED").into_iter().chain(0..number("WEIR_MODEL_SEEDS").unwrap_or(count))
}
