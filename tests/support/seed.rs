//! The seed of a test that draws: a fresh one, printed, or the one that repeats a run.

use std::env;
use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// The seed for `who`, told on standard error even by a test that passes.
pub(crate) fn seed(who: &str) -> u64 {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_nanos() as u64;
    let seed = number("WEIR_SEED").unwrap_or_else(now);
    say(&format!("{who}: WEIR_SEED={seed} repeats this run"));
    seed
}

/// The number in an environment variable, if it is set. What is no number fails the test.
pub(crate) fn number(variable: &str) -> Option<u64> {
    let value = env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} is no number: {value}")))
}

/// Prints a line even from a test that passes: what was covered, and with which seed, belongs in the log.
pub(crate) fn say(line: &str) {
    drop(std::io::stderr().lock().write_all(format!("{line}\n").as_bytes()));
}
