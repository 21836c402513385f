//! The producer's task: what has to be waited for. It takes over metadata, makes connections, gets producer ids,
//! and wakes when something is due. It ends when the producer is closed and nothing is left; if it ends
//! otherwise, all that is left fails.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::machine_identity::Ask;
use super::shared::{Link, Shared, State};
use super::topic::{leader_of, learn, refusal_of};
use super::transaction::Transactions;
use crate::cluster::Options;
use crate::cluster::metadata::TopicKey;
use crate::conn::Connection;
use crate::messages::init_producer_id::InitProducerIdRequest;
use crate::net::clock;
use crate::net::task::{self, Task};
use crate::{Error, ErrorCode};

/// Topics are asked about for as long as they are named this often.
const WANT_EVERY: Duration = Duration::from_mins(1);

/// Lives as long as the producer and what it has accepted.
pub(crate) async fn keep(shared: Arc<Shared>) {
    let end = End(&shared);
    let mut changes = shared.cluster.changes();
    let mut errands: Vec<Task> = Vec::new();
    let mut want_at = clock::now() + WANT_EVERY;
    loop {
        #[cfg(test)]
        assert!(!shared.fail_point.load(std::sync::atomic::Ordering::Relaxed), "planted");
        changes.mark_unchanged();
        shared.look();
        shared.fail_refused();
        shared.pump();
        if shared.is_over() {
            break;
        }
        let now = clock::now();
        if now >= want_at {
            want_at = now + WANT_EVERY;
            shared.forget_idle(now);
            shared.cluster.want(shared.topics().iter().map(|topic| TopicKey::Name(topic.name.clone())));
        }
        errands.retain(|errand| !errand.is_finished());
        errands.extend(shared.errands(now));
        let due = shared.due().map_or(want_at, |due| due.min(want_at));
        wait(&shared, &mut changes, due).await;
    }
    drop(end);
}

/// Waits for a kick, for news of the cluster, or until `due`.
async fn wait(shared: &Shared, changes: &mut watch::Receiver<u64>, due: Instant) {
    let mut kicked = pin!(shared.kick.notified());
    let mut changed = pin!(changes.changed());
    let mut sleep = pin!(clock::sleep_until(due));
    poll_fn(|cx| {
        let ready = kicked.as_mut().poll(cx).is_ready()
            || changed.as_mut().poll(cx).is_ready()
            || Pin::new(&mut sleep).as_mut().poll(cx).is_ready();
        if ready { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

impl Shared {
    /// Takes over what is known of the cluster now.
    fn look(&self) {
        let snapshot = self.cluster.snapshot();
        let now = clock::now();
        let mut state = self.lock();
        if state.snapshot.version == snapshot.version {
            return;
        }
        state.snapshot = Arc::clone(&snapshot);
        let State { lanes, core, .. } = &mut *state;
        for (line, lane) in lanes {
            core.handle_leader(*line, leader_of(&snapshot, &lane.topic.name, lane.partition), now);
        }
        drop(state);
        self.topics().iter().for_each(|topic| learn(topic, &snapshot));
    }

    /// Fails what is for topics that brokers refuse for good: it has no leader, and will have none.
    fn fail_refused(self: &Arc<Self>) {
        let mut refused = Vec::new();
        {
            let state = self.lock();
            for line in state.core.homeless() {
                if let Some(lane) = state.lanes.get(&line)
                    && let Some(error) = refusal_of(&state.snapshot, &lane.topic.name)
                {
                    refused.push((Arc::clone(lane), error));
                }
            }
        }
        for (lane, error) in refused {
            // On its line it is failed like the others; it is not worth being sealed.
            drop(lane.close(self));
            self.with_core(|core, now| core.fail_line(lane.line, &error, now));
        }
    }

    /// Whether nothing is left to be done.
    fn is_over(self: &Arc<Self>) -> bool {
        let fatal = self.lock().fatal.clone();
        if let Some(error) = fatal
            && self.check_open().is_ok()
        {
            self.fail_all(&error);
        }
        // Records that were taken while it was being closed may be in batches that are open still.
        self.check_open().is_err() && self.close_batches().is_empty() && self.may_leave()
    }

    /// When something is due, which is then armed.
    fn due(&self) -> Option<Instant> {
        let mut state = self.lock();
        let transactions = state.transactions.as_ref().and_then(Transactions::poll_timeout);
        let due = state.core.poll_timeout().into_iter().chain(state.identity.poll_timeout());
        let due = due.chain(transactions).min();
        state.armed = due;
        due
    }

    /// What has to be waited for, each in a task of its own.
    fn errands(self: &Arc<Self>, now: Instant) -> Vec<Task> {
        let mut state = self.lock();
        let mut tasks = Vec::new();
        let wanted: Vec<i32> = state.core.wanted_brokers().collect();
        for broker in wanted {
            if let std::collections::btree_map::Entry::Vacant(link) = state.links.entry(broker) {
                link.insert(Link::Wanted);
                tasks.push(task::spawn(connect(Arc::clone(self), broker)));
            }
        }
        if let Some(ask) = state.identity.poll_request(now) {
            tasks.push(task::spawn(identify(Arc::clone(self), ask)));
        }
        tasks.extend(self.ask_coordinator(&mut state, now));
        let homeless: Vec<TopicKey> = state
            .core
            .homeless()
            .filter_map(|line| Some(TopicKey::Name(state.lanes.get(&line)?.topic.name.clone())))
            .collect();
        drop(state);
        if !homeless.is_empty() {
            self.cluster.lacking(homeless);
        }
        tasks
    }

    /// There is a connection: gives its place.
    fn linked(&self, broker: i32, connection: Connection) -> u64 {
        let now = clock::now();
        let mut state = self.lock();
        state.places += 1;
        let place = state.places;
        state.links.insert(broker, Link::Ready { connection, place });
        state.core.handle_place(broker, Some(place), now);
        let brokers = state.links.len();
        drop(state);
        self.pace.brokers(brokers);
        place
    }
}

async fn connect(shared: Arc<Shared>, broker: i32) {
    let connection = shared.cluster.producing(broker).await;
    match connection {
        Ok(connection) => {
            let place = shared.linked(broker, connection.clone());
            shared.pump();
            // What comes after its end is not sent there first, to find out.
            connection.ended().await;
            shared.lock().lose(broker, place, clock::now());
        }
        Err(error) => {
            // The pool pauses before it tries again; here only so that nothing spins if it fails at once.
            clock::sleep_until(clock::now() + shared.settings.backoff.first).await;
            if error.is_closed() {
                shared.fail_all(&error);
            }
            shared.cluster.stale();
            shared.lock().links.remove(&broker);
        }
    }
    shared.kick.notify_one();
}

async fn identify(shared: Arc<Shared>, ask: Ask) {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        ..InitProducerIdRequest::default()
    };
    let options = Options {
        once: true,
        deadline: Some(clock::now() + shared.settings.request_timeout),
        ..Options::default()
    };
    let answer = shared.cluster.request(request, &options).await;
    {
        let mut state = shared.lock();
        let now = clock::now();
        match answer {
            Ok(said) => {
                let code = ErrorCode(said.error_code);
                state.identity.handle_answer(ask.ticket, code, said.producer_id, said.producer_epoch, now);
            }
            Err(error) => state.identity.handle_failure(ask.ticket, error, now),
        }
    }
    shared.pump();
    shared.kick.notify_one();
}

/// Whatever ends the task, nobody waits for ever.
struct End<'a>(&'a Arc<Shared>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        let why = if std::thread::panicking() {
            Error::internal("the producer's task panicked")
        } else {
            Error::closed("the producer or its runtime has ended")
        };
        self.0.fail_all(&why);
    }
}
