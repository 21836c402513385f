//! Reckoning with times, where settings and brokers may say any number.

use std::time::{Duration, Instant};

use crate::net::clock::FOREVER;

/// `time` after `now`, or a time that nobody lives to see.
pub(super) fn after(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or_else(|| now + FOREVER)
}

/// The earlier of two times, of which either may never come.
pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_time_is_too_far() {
        let now = Instant::now();
        assert!(after(now, Duration::MAX) > now + Duration::from_hours(24));
        assert_eq!(after(now, Duration::from_secs(1)), now + Duration::from_secs(1));
        let later = Some(after(now, Duration::from_secs(1)));
        assert_eq!(earlier(later, Some(now)), Some(now));
        assert_eq!((earlier(None, later), earlier(None, None)), (later, None));
    }
}
