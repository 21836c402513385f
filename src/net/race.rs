//! Several addresses of one host, tried so that a dead one costs a moment and not the whole time
//! (KIP-302, KIP-602; RFC 8305).

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::clock;
use crate::error::{Error, Result};

/// Tries `candidates` in their order: the next one begins when one has failed, or when `head_start` has passed
/// without an outcome. The first to connect wins, and the others are dropped. The candidates are bounded by
/// the caller.
///
/// # Errors
/// When all have failed, what each of them said; a timeout at the deadline, with what was said until then.
pub(super) async fn first<C, T, F>(
    candidates: Vec<C>,
    head_start: Duration,
    deadline: Instant,
    connect: impl Fn(C) -> F,
) -> Result<T>
where
    C: fmt::Display + Copy,
    F: Future<Output = io::Result<T>> + Send,
{
    let count = candidates.len();
    let mut waiting = candidates.into_iter();
    let mut running: Vec<(C, Pin<Box<F>>)> = Vec::new();
    let mut failures = Vec::new();
    let mut last = None;
    loop {
        let now = clock::now();
        if let Some(candidate) = waiting.next() {
            running.push((candidate, Box::pin(connect(candidate))));
        }
        if running.is_empty() {
            let what = if count == 1 { String::new() } else { format!("none of {count} addresses: ") };
            let error = Error::io(what + &failures.join("; "));
            return Err(match last {
                Some(source) => error.because(source),
                None => error,
            });
        }
        let wake = if waiting.len() == 0 { deadline } else { deadline.min(now + head_start) };
        match until_any(&mut running, wake).await {
            Some((_, Ok(connected))) => return Ok(connected),
            Some((candidate, Err(error))) => {
                failures.push(format!("{candidate}: {error}"));
                last = Some(error);
            }
            None if clock::now() >= deadline => {
                failures.extend(running.iter().map(|(candidate, _)| format!("{candidate}: no answer")));
                return Err(Error::timeout(failures.join("; ")));
            }
            None => {}
        }
    }
}

/// Waits until one of the tries has an outcome, and takes it out; `None` at the time given.
async fn until_any<C, T, F>(running: &mut Vec<(C, Pin<Box<F>>)>, wake: Instant) -> Option<(C, io::Result<T>)>
where
    F: Future<Output = io::Result<T>>,
{
    let mut timer = pin!(clock::sleep_until(wake));
    poll_fn(|context| {
        for at in 0..running.len() {
            let Some((_, attempt)) = running.get_mut(at) else { break };
            if let Poll::Ready(outcome) = attempt.as_mut().poll(context) {
                let (candidate, _) = running.remove(at);
                return Poll::Ready(Some((candidate, outcome)));
            }
        }
        timer.as_mut().poll(context).map(|()| None)
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD_START: Duration = Duration::from_millis(250);

    /// Each candidate is (milliseconds until its outcome, whether it connects), named by its place.
    async fn run(script: &'static [(u64, bool)], within_ms: u64) -> (Result<usize>, u128) {
        let begun = clock::now();
        let deadline = begun + Duration::from_millis(within_ms);
        let won = first((0..script.len()).collect(), HEAD_START, deadline, |at| async move {
            let (delay, connects) = script[at];
            clock::sleep_until(clock::now() + Duration::from_millis(delay)).await;
            if connects { Ok(at) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
        });
        (won.await, (clock::now() - begun).as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_first_address_costs_one_head_start() {
        let (won, took) = run(&[(60_000, true), (10, true)], 10_000).await;
        assert_eq!((won.unwrap(), took), (1, 260));
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_passes_on_at_once() {
        let (won, took) = run(&[(1, false), (1, false), (1, true)], 10_000).await;
        assert_eq!((won.unwrap(), took), (2, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_address_wins_though_it_was_slow() {
        let (won, took) = run(&[(400, true), (400, true)], 10_000).await;
        assert_eq!((won.unwrap(), took), (0, 400));
    }

    #[tokio::test(start_paused = true)]
    async fn all_refusals_are_told() {
        let (won, took) = run(&[(1, false), (900, false)], 10_000).await;
        let error = won.unwrap_err();
        assert!(error.is_io() && error.is_retriable(), "{error}");
        assert!(error.to_string().contains("none of 2 addresses: 0: connection refused; 1:"), "{error}");
        assert_eq!(took, 901);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_all() {
        let (won, took) = run(&[(1, false), (60_000, true), (60_000, true)], 1_000).await;
        let error = won.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert!(error.to_string().contains("0: connection refused; 1: no answer; 2: no answer"), "{error}");
        assert_eq!(took, 1_000);
    }
}
