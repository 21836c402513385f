//! The time. Machines get it as an argument; the drivers that call them take it from here, so that a
//! paused runtime moves all of it.

use std::time::{Duration, Instant, SystemTime};

/// What a user sets beyond this is as good as for ever. Added to any time of a run it still is one, which
/// `Duration::MAX` is not.
pub(crate) const FOREVER: Duration = Duration::from_hours(30 * 365 * 24);

/// Now, as the runtime's timer sees it: monotone, and virtual where a test pauses the runtime.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Waits until `deadline`.
pub(crate) fn sleep_until(deadline: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(deadline.into())
}

/// The time of day, for what is compared with clocks elsewhere: signatures, and when tokens end.
pub(crate) fn time_of_day() -> SystemTime {
    SystemTime::now()
}
