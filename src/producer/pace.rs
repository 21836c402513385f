//! How far records may run ahead of their brokers before they wait for them, memory or not.
//!
//! A broker takes five requests at a time. What is queued behind those makes nothing faster: it is only older when it
//! is sent, and no cache holds it any more, so that writing a batch and sending it cost half as much again. So
//! while brokers answer, a record waits for them once a request more than they take is closed. Memory is there for
//! brokers that do not answer: for each [`PATIENCE`] without room records may run one [`STRETCH`] further, until
//! all memory is in use.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::net::clock;

/// How long a record waits at most. With [`STRETCH`] it makes what a gigabit link carries: less than that is never left.
const PATIENCE: Duration = Duration::from_millis(10);

/// By how many bytes records may run further ahead after that.
const STRETCH: usize = 1 << 20;

/// See the module. Told of batches, and read for each record.
#[derive(Debug)]
pub(crate) struct Pace {
    /// What one broker takes, and a request more, in bytes.
    each: usize,
    ahead: AtomicBool,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    /// Bytes of closed batches that are not done.
    closed: usize,
    /// Brokers that there are connections to.
    brokers: usize,
    /// What is allowed beside what they take.
    more: usize,
}

impl Pace {
    pub(crate) fn new(requests: usize, request_size: usize) -> Self {
        Self {
            each: requests.saturating_add(1).saturating_mul(request_size),
            ahead: AtomicBool::new(false),
            state: Mutex::new(State { closed: 0, brokers: 1, more: 0 }),
            news: Notify::new(),
        }
    }

    /// Whether a record should wait.
    #[inline]
    pub(crate) fn is_ahead(&self) -> bool {
        self.ahead.load(Relaxed)
    }

    /// There are connections to so many brokers.
    pub(crate) fn brokers(&self, count: usize) {
        self.change(|state| state.brokers = count.max(1));
    }

    /// A batch of so many bytes was closed.
    pub(crate) fn closed(&self, bytes: usize) {
        self.change(|state| state.closed = state.closed.saturating_add(bytes));
    }

    /// It is done.
    pub(crate) fn done(&self, bytes: usize) {
        self.change(|state| {
            state.closed = state.closed.saturating_sub(bytes);
            // Slower than it comes, so that a pause does not leave a long queue behind it.
            state.more = state.more.saturating_sub(bytes / 4);
        });
    }

    /// Waits until brokers have taken something, or have not for too long. Safe to drop.
    pub(crate) async fn wait(&self) {
        let mut news = std::pin::pin!(self.news.notified());
        news.as_mut().enable();
        if !self.is_ahead() {
            return;
        }
        let until = clock::now() + PATIENCE;
        if tokio::time::timeout_at(until.into(), news).await.is_err() {
            self.change(|state| state.more = state.more.saturating_add(STRETCH));
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let most = self.each.saturating_mul(state.brokers).saturating_add(state.more);
        // Some way back, so that whoever waits is not woken for each small batch.
        let before = self.ahead.load(Relaxed);
        let ahead = state.closed > if before { most - self.each / 8 } else { most };
        self.ahead.store(ahead, Relaxed);
        let caught_up = before && !ahead;
        drop(state);
        if caught_up {
            self.news.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn records_wait_for_what_brokers_take() {
        let pace = Pace::new(5, 100);
        pace.closed(600);
        assert!(!pace.is_ahead());
        pace.closed(1);
        let mut wait = pin!(pace.wait());
        assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        pace.done(100);
        let before = clock::now();
        wait.await;
        assert_eq!(clock::now(), before);
        pace.closed(100);
        pace.brokers(2);
        assert!(!pace.is_ahead(), "two brokers take twice as much");
    }

    #[tokio::test(start_paused = true)]
    async fn where_brokers_do_not_answer_there_is_memory() {
        let pace = Pace::new(1, 100);
        pace.closed(1000);
        let before = clock::now();
        pace.wait().await;
        assert_eq!(clock::now() - before, PATIENCE);
        assert!(!pace.is_ahead());
        pace.closed(STRETCH);
        assert!(pace.is_ahead());
        pace.wait().await;
        assert!(!pace.is_ahead());
        // What was allowed beside is taken back once they answer.
        pace.done(STRETCH + 1000);
        pace.closed(2 * STRETCH);
        assert!(pace.is_ahead());
    }
}
