//! The time of day, for records that come without one. Reading the clock for each record costs more than
//! encoding it; so when records come quickly a task reads it every millisecond for all of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use crate::net::clock;
use crate::net::task::Home;

/// Records in one millisecond after which the clock is read for all.
const OFTEN: u32 = 32;
/// How long the task goes on reading when nobody asks.
const TICKS_IDLE: u32 = 20;

/// Milliseconds since 1970, to within about one.
#[derive(Debug)]
pub(crate) struct Coarse {
    home: Home,
    /// What the task read last; 0 while it does not run.
    ticked: AtomicI64,
    asked: AtomicBool,
    last: AtomicI64,
    reads: AtomicU32,
}

impl Coarse {
    pub(crate) fn new(home: Home) -> Arc<Self> {
        Arc::new(Self {
            home,
            ticked: AtomicI64::new(0),
            asked: AtomicBool::new(false),
            last: AtomicI64::new(0),
            reads: AtomicU32::new(0),
        })
    }

    #[inline]
    pub(crate) fn now(self: &Arc<Self>) -> i64 {
        let ticked = self.ticked.load(Relaxed);
        if ticked == 0 {
            return self.read();
        }
        if !self.asked.load(Relaxed) {
            self.asked.store(true, Relaxed);
        }
        ticked
    }

    #[cold]
    fn read(self: &Arc<Self>) -> i64 {
        let now = time_of_day();
        if self.last.swap(now, Relaxed) != now {
            self.reads.store(0, Relaxed);
        } else if self.reads.fetch_add(1, Relaxed) == OFTEN {
            self.ticked.store(now, Relaxed);
            self.home.detach(tick(Arc::clone(self)));
        }
        now
    }

    /// Reads the clock now, for whoever keeps the task from doing so.
    pub(crate) fn refresh(&self) {
        if self.ticked.load(Relaxed) != 0 {
            self.ticked.store(time_of_day(), Relaxed);
        }
    }
}

async fn tick(coarse: Arc<Coarse>) {
    let _stop = Stop(&coarse);
    let mut idle = 0;
    while idle < TICKS_IDLE {
        clock::sleep_until(clock::now() + Duration::from_millis(1)).await;
        coarse.ticked.store(time_of_day(), Relaxed);
        idle = if coarse.asked.swap(false, Relaxed) { 0 } else { idle + 1 };
    }
}

/// Whatever ends the task, the clock does not stand still.
struct Stop<'a>(&'a Coarse);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.ticked.store(0, Relaxed);
    }
}

fn time_of_day() -> i64 {
    let since = clock::time_of_day().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
