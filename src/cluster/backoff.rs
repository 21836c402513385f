//! How long to wait before the next attempt (KIP-580).
//!
//! Chance comes from a seed, so that a run can be repeated; nothing here knows the time.

use std::time::Duration;

use crate::conn::Dice;

/// Waiting times that double from `first` to `most`, give or take a fifth each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_millis(100), most: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The time to wait after that many failures in a row; none before the first.
    pub(crate) fn after(self, failures: u32, dice: &mut Dice) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        let times = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        dice.spread(self.first.saturating_mul(times).min(self.most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_doubles_to_its_bound_and_is_spread() {
        let mut dice = Dice::new(7);
        assert_eq!(Backoff::default().after(0, &mut dice), Duration::ZERO);
        for (failures, middle) in
            [(1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (40, 1000), (u32::MAX, 1000)]
        {
            let mut seen = std::collections::BTreeSet::new();
            for _ in 0..200 {
                let waited = Backoff::default().after(failures, &mut dice).as_millis();
                assert!((middle * 8 / 10..=middle * 12 / 10).contains(&waited), "{failures}: {waited}");
                seen.insert(waited);
            }
            assert!(seen.len() > 20, "{failures} is spread");
        }
    }

    #[test]
    fn a_seed_gives_the_same_again() {
        let rolls = |seed| (0..8).scan(Dice::new(seed), |dice, _| Some(dice.roll())).collect::<Vec<_>>();
        assert_eq!(rolls(1), rolls(1));
        assert_ne!(rolls(1), rolls(2));
        assert_eq!(Dice::new(1).below(0), 0);
    }
}
