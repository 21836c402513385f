//! What is done about a token, without a clock and without a network: which one is used, when the next is
//! fetched, and how often that is tried.
//!
//! The driver calls [`Cache::ask`] for each authentication and does as it is told; the end of a fetch comes back
//! as [`Cache::granted`] or [`Cache::failed`]. [`Retries`] says how long to wait between the tries of one fetch.

use std::time::{Duration, Instant};

use crate::Error;
use crate::conn::sasl::Token;

/// How early a token is renewed at the latest: this long before its end, or at half of its life if that is less.
const RENEW_BEFORE_END: Duration = Duration::from_mins(5);
/// After a fetch that failed while the old token is good, the next one waits this long.
const RENEW_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// A failure answers everybody for this long, so that many connections make no storm of requests.
const FAILURE_KEPT: Duration = Duration::from_secs(1);
/// No token is kept longer, whatever it says.
const LIFETIME_MAX: Duration = Duration::from_hours(30 * 24);

/// What to do for one who wants a token.
#[derive(Debug)]
pub(super) enum Plan {
    /// This one is good.
    Use(Token),
    /// This one is good, but the next is to be fetched meanwhile.
    UseAndFetch(Token),
    /// There is none: fetch one, and wait for it.
    Fetch,
    /// There is none, but a fetch is under way: wait for that.
    Wait,
    /// The last fetch failed just now.
    Refuse(Error),
}

/// The token that is held, and how the last fetch ended.
#[derive(Debug, Default)]
pub(super) struct Cache {
    held: Option<Held>,
    failure: Option<(Instant, Error)>,
}

#[derive(Debug)]
struct Held {
    token: Token,
    renew: Instant,
    end: Instant,
}

impl Cache {
    /// Somebody wants a token; `fetching` says whether a fetch is under way.
    pub(super) fn ask(&mut self, now: Instant, fetching: bool) -> Plan {
        match &self.held {
            Some(held) if now >= held.end => self.held = None,
            Some(held) if fetching || now < held.renew => return Plan::Use(held.token.clone()),
            Some(held) => return Plan::UseAndFetch(held.token.clone()),
            None => {}
        }
        if fetching {
            return Plan::Wait;
        }
        match &self.failure {
            Some((at, error)) if now < *at + FAILURE_KEPT => Plan::Refuse(error.clone()),
            _ => Plan::Fetch,
        }
    }

    /// A token came that lives for `lifetime` from now. `draw` is a random number.
    pub(super) fn granted(&mut self, now: Instant, token: Token, lifetime: Duration, draw: u32) {
        let lifetime = lifetime.min(LIFETIME_MAX);
        self.failure = None;
        self.held = Some(Held { token, renew: now + renewal(lifetime, draw), end: now + lifetime });
    }

    /// A fetch failed for good. A token that is still good stays.
    pub(super) fn failed(&mut self, now: Instant, error: Error) {
        if let Some(held) = &mut self.held {
            held.renew = now + RENEW_AGAIN_AFTER;
        }
        self.failure = Some((now, error));
    }
}

/// When in its life a token is renewed: between 80 and 85 % of it, drawn anew each time so that many clients do
/// not come at once, and earlier if less than [`RENEW_BEFORE_END`] would be left (Java's defaults).
fn renewal(lifetime: Duration, draw: u32) -> Duration {
    let latest = lifetime.saturating_sub(RENEW_BEFORE_END.min(lifetime / 2));
    let part = f64::from(draw) / f64::from(u32::MAX);
    lifetime.mul_f64(0.85).min(latest).mul_f64(1.0 - part * (0.05 / 0.85))
}

/// The tries of one fetch.
#[derive(Debug)]
pub(super) struct Retries {
    left: u32,
    next: Duration,
}

const WAIT_FIRST: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(10);

impl Retries {
    pub(super) fn new(tries_max: u32) -> Self {
        Self { left: tries_max.saturating_sub(1), next: WAIT_FIRST }
    }

    /// How long to wait after a try that failed, within 20 % either way; `None` when it was the last, or when
    /// the same would only fail again.
    pub(super) fn after(&mut self, error: &Error, draw: u32) -> Option<Duration> {
        if self.left == 0 || !error.is_retriable() {
            return None;
        }
        self.left -= 1;
        let wait = self.next;
        self.next = (wait * 3).min(WAIT_MAX);
        Some(wait.mul_f64(0.8 + 0.4 * f64::from(draw) / f64::from(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::clock;

    const fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn token(value: &str) -> Token {
        Token::new(value).unwrap()
    }

    fn told(plan: &Plan) -> String {
        match plan {
            Plan::Use(token) => format!("use {}", String::from_utf8_lossy(token.value().expose())),
            Plan::UseAndFetch(token) => {
                format!("use {}, fetch", String::from_utf8_lossy(token.value().expose()))
            }
            Plan::Fetch => "fetch".to_owned(),
            Plan::Wait => "wait".to_owned(),
            Plan::Refuse(error) => format!("refuse: {error}"),
        }
    }

    #[test]
    fn a_token_is_used_renewed_and_given_up() {
        let start = clock::now();
        let mut cache = Cache::default();
        assert_eq!(told(&cache.ask(start, false)), "fetch");
        assert_eq!(told(&cache.ask(start, true)), "wait");
        cache.granted(start, token("one"), seconds(3600), 0);
        for (at, fetching, plan) in [
            (0, false, "use one"),
            (3059, false, "use one"),
            (3060, false, "use one, fetch"),
            (3061, true, "use one"),
            (3599, false, "use one, fetch"),
            (3600, true, "wait"),
            (3600, false, "fetch"),
        ] {
            assert_eq!(told(&cache.ask(start + seconds(at), fetching)), plan, "at {at}");
        }
    }

    #[test]
    fn a_failure_leaves_the_old_token_and_answers_for_a_while() {
        let start = clock::now();
        let mut cache = Cache::default();
        cache.granted(start, token("one"), seconds(3600), 0);
        cache.failed(start + seconds(3100), Error::auth("no more"));
        for (at, plan) in [(3100, "use one"), (3109, "use one"), (3110, "use one, fetch"), (3600, "fetch")] {
            assert_eq!(told(&cache.ask(start + seconds(at), false)), plan, "at {at}");
        }
        cache.failed(start + seconds(3600), Error::auth("no more"));
        cache.granted(start, token("short"), seconds(5), 0);
        cache.failed(start + seconds(3), Error::auth("no more"));
        assert_eq!(told(&cache.ask(start + seconds(4), false)), "use short");
        assert_eq!(told(&cache.ask(start + seconds(5), false)), "fetch");
        cache.failed(start + seconds(3601), Error::auth("no more"));
        let refused = "refuse: authentication failed: no more";
        assert_eq!(told(&cache.ask(start + seconds(3601), false)), refused);
        assert_eq!(told(&cache.ask(start + seconds(3602), false)), "fetch");
        cache.granted(start + seconds(3602), token("two"), seconds(60), 0);
        assert_eq!(told(&cache.ask(start + seconds(3602), false)), "use two");
    }

    #[test]
    fn renewal_is_early_enough_and_spread() {
        for (life, earliest, latest) in [(36_000, 28_800, 30_600), (600, 282, 300), (60, 28, 30), (0, 0, 0)] {
            let (first, last) = (renewal(seconds(life), u32::MAX), renewal(seconds(life), 0));
            assert!(
                first <= last && first >= seconds(earliest) && last <= seconds(latest),
                "{life}: {first:?} {last:?}"
            );
        }
        let mut cache = Cache::default();
        cache.granted(clock::now(), token("for-ever"), Duration::MAX, 7);
        assert_eq!(told(&cache.ask(clock::now(), false)), "use for-ever");
    }

    #[test]
    fn tries_are_few_and_only_where_they_can_help() {
        let mut retries = Retries::new(6);
        assert!(retries.after(&Error::auth("401"), 0).is_none());
        let waits: Vec<_> = std::iter::from_fn(|| retries.after(&Error::io("503"), u32::MAX / 2)).collect();
        assert_eq!(waits.len(), 5);
        for (wait, about_ms) in waits.iter().zip([100, 300, 900, 2700, 8100]) {
            assert!(wait.abs_diff(Duration::from_millis(about_ms)) < Duration::from_millis(2), "{waits:?}");
        }
    }
}
