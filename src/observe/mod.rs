//! Seeing what the client does: typed events, counters, latencies.
//!
//! The layers above tell a `Hub` what happens to connections, requests and the cluster's state. It
//! counts, hands the [`Event`] to whoever listens, and says it to `tracing`. Nothing is told per
//! record, nothing in it is secret, and words from a broker are escaped before they get here.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// What happened, as values.
mod event;
/// Latencies in buckets.
mod histogram;
/// What was counted.
mod stats;

pub use event::{Event, Lookup, Refreshed, Use};
pub use histogram::Latencies;
pub use stats::{ApiStats, Stats};

use stats::Counters;

type Listener = Box<dyn Fn(&Event) + Send + Sync>;

/// Where all events of one client come together. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Hub(Arc<Inner>);

#[derive(Default)]
struct Inner {
    counters: Counters,
    listener: Option<Listener>,
}

impl Hub {
    /// With someone who is told each event. He is called where it happens, with no lock held: he must
    /// be quick, and he may call the client. His panics are caught.
    pub(crate) fn new(listener: Option<Listener>) -> Self {
        Self(Arc::new(Inner { counters: Counters::default(), listener }))
    }

    /// Tells that something happened. Not to be called with a lock held. A listener that panics is not ours
    /// to die of: the tasks that tell him serve all callers, and tell him again while they end.
    pub(crate) fn tell(&self, event: &Event) {
        self.0.counters.count(event);
        event.trace();
        if let Some(listener) = &self.0.listener
            && catch_unwind(AssertUnwindSafe(|| listener(event))).is_err()
        {
            tracing::error!("the listener to events panicked");
        }
    }

    /// What was counted until now.
    pub(crate) fn stats(&self) -> Stats {
        self.0.counters.stats()
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("listener", &self.0.listener.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::wire::ApiKey;
    use crate::{Error, ErrorCode};

    #[test]
    fn events_are_counted_and_told() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ears = Arc::clone(&heard);
        let hub = Hub::new(Some(Box::new(move |event| ears.lock().unwrap().push(format!("{event:?}")))));
        let broker: Arc<str> = "1 (localhost:9092)".into();
        let elapsed = Duration::from_micros(1500);
        hub.tell(&Event::Connected { broker: Arc::clone(&broker), kind: Use::Fetch, elapsed });
        let api = ApiKey::METADATA;
        hub.tell(&Event::Answered { broker: Arc::clone(&broker), api, version: 12, elapsed });
        hub.tell(&Event::Answered { broker: Arc::clone(&broker), api, version: 12, elapsed: elapsed * 4 });
        hub.tell(&Event::Failed {
            broker: Arc::clone(&broker),
            api,
            version: 12,
            why: Error::timeout("30 s"),
        });
        let why = Error::broker_said(ErrorCode::NOT_CONTROLLER, "");
        hub.tell(&Event::Retried { api, attempt: 1, backoff: elapsed, why });
        hub.tell(&Event::Throttled { broker: Arc::clone(&broker), api, time: elapsed });
        hub.tell(&Event::Lost { broker, kind: Use::Fetch, why: Error::io("reset by the peer") });

        let stats = hub.stats();
        assert_eq!((stats.connections_opened, stats.connections_lost, stats.connections_open), (1, 1, 0));
        assert_eq!((stats.retries, stats.throttles), (1, 1));
        let (key, metadata) = &stats.apis[0];
        assert_eq!((*key, metadata.answered, metadata.failed), (ApiKey::METADATA, 2, 1));
        assert_eq!(metadata.latencies.count(), 2);
        assert!(metadata.latencies.quantile(1.0) >= elapsed * 4);
        assert_eq!(heard.lock().unwrap().len(), 7);
    }

    #[test]
    fn a_listener_may_ask_for_the_counters() {
        let hub = Arc::new(std::sync::OnceLock::<Hub>::new());
        let inner = Arc::clone(&hub);
        let listener = move |_: &Event| {
            assert_eq!(inner.get().unwrap().stats().rebootstraps, 1);
        };
        hub.set(Hub::new(Some(Box::new(listener)))).unwrap();
        hub.get().unwrap().tell(&Event::Rebootstrapped { why: "no broker answers" });
    }
}
