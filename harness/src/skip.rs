//! Skips are never silent: each is a line on standard error that begins with `skipped:` and carries its
//! number, whether or not the test's output is captured.
//!
//! With `WEIR_SKIPS=deny` a skip is a failure. The CI sets it where Java and Maven are there, so that a
//! broken harness cannot pass as a poor machine.

use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::failure::Failure;

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says that `what` was not tested, and why. The test then returns.
///
/// # Panics
///
/// With `WEIR_SKIPS=deny`, so that the test fails.
pub fn skip(what: &str, why: &str) {
    let denied = std::env::var_os("WEIR_SKIPS").is_some_and(|value| value == "deny");
    assert!(!denied, "skips are denied here, but {what} would be skipped: {why}");
    let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Not `eprintln!`: the test runner would swallow that in a test that passes. One write, so that the
    // lines of tests that run side by side do not mix.
    let line = line(what, why, count);
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
}

/// What was made; or `None` for a skip, already printed.
///
/// # Panics
///
/// If it should have worked and did not, so that the test fails.
#[allow(clippy::panic, reason = "a helper of tests")]
pub fn unless_skipped<T>(what: &str, made: Result<T, Failure>) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(Failure::NotHere(why)) => {
            skip(what, &why);
            None
        }
        Err(Failure::Broken(why)) => panic!("{what}: {why}"),
    }
}

fn line(what: &str, why: &str, count: usize) -> String {
    format!("skipped: {what}: {} (skip {count})\n", why.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_is_one_line_that_can_be_counted() {
        assert_eq!(line("broker 4.4.0", "no java\n", 2), "skipped: broker 4.4.0: no java (skip 2)\n");
    }

    #[test]
    fn what_was_made_is_handed_on() {
        assert_eq!(unless_skipped("x", Ok(1)), Some(1));
    }

    #[test]
    #[should_panic(expected = "x: it burns")]
    fn what_is_broken_fails_the_test() {
        unless_skipped::<()>("x", Err(Failure::Broken("it burns".to_owned())));
    }
}
