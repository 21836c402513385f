//! A member in a thread and a runtime of its own, so that it can be stopped or killed with all that works for it.

use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use weir::consumer::{Batch, Consumer, Event, TopicPartition};

use super::check::Entry;
use super::{LONG, Mode, SECOND, connect, number};

/// What all members of a group write down, in the order of time.
pub(super) type Log = Arc<Mutex<Vec<Entry>>>;

/// What a member is to do.
pub(super) enum Order {
    /// In order.
    Leave,
    Die,
    /// Nothing of it moves for so long.
    Freeze(Duration),
}

pub(super) struct Handle {
    pub(super) id: usize,
    orders: mpsc::UnboundedSender<Order>,
    thread: JoinHandle<()>,
}

impl Handle {
    pub(super) fn join(bootstrap: &str, group: &str, mode: Mode, id: usize, log: &Log) -> Self {
        let (orders, given) = mpsc::unbounded_channel();
        let (bootstrap, group, log) = (bootstrap.to_owned(), group.to_owned(), Arc::clone(log));
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(live(bootstrap, group, mode, id, Arc::clone(&log), given));
            // What it left behind has no time to say anything.
            drop(runtime);
        });
        Self { id, orders, thread }
    }

    pub(super) fn order(&self, order: Order) {
        drop(self.orders.send(order));
    }

    /// Waits until it has done what it was told last.
    pub(super) fn end(self, order: Order) {
        self.order(order);
        self.thread.join().expect("a member lives well");
    }
}

fn write(log: &Log, entry: Entry) {
    log.lock().unwrap().push(entry);
}

fn numbers<'a>(partitions: impl IntoIterator<Item = &'a TopicPartition>) -> Vec<i32> {
    partitions.into_iter().map(TopicPartition::partition).collect()
}

async fn live(
    bootstrap: String,
    group: String,
    mode: Mode,
    id: usize,
    log: Log,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let kafka = connect(&bootstrap).await;
    // Some commit by themselves, the others each batch.
    let explicit = id % 2 == 1;
    let settings = mode.member(&kafka, &group).auto_commit((!explicit).then_some(SECOND));
    let mut consumer = settings.topics([super::TOPIC]).build().unwrap();
    let mut failures = 0;
    loop {
        let event = tokio::select! {
            biased;
            order = orders.recv() => match order {
                Some(Order::Leave) => return leave(consumer, id, &log).await,
                Some(Order::Freeze(time)) => {
                    #[allow(clippy::disallowed_methods, reason = "the whole runtime is to stand still")]
                    std::thread::sleep(time);
                    continue;
                }
                Some(Order::Die) | None => {
                    write(&log, Entry::Dead(id));
                    // Without a word to the group: its runtime ends before anything is sent.
                    return drop(consumer);
                }
            },
            event = consumer.next_event() => event,
        };
        match event {
            Ok(Some(Event::Assigned(partitions))) => write(&log, Entry::Assigned(id, numbers(&partitions))),
            Ok(Some(Event::Revoked(revoked))) => {
                write(&log, Entry::Handed(id, numbers(revoked.partitions())));
                revoked.done();
            }
            Ok(Some(Event::Lost { partitions, .. })) => write(&log, Entry::Lost(id, numbers(&partitions))),
            Ok(Some(Event::Batch(batch))) => {
                write(&log, Entry::Read(id, batch.partition(), records(&batch)));
                if explicit {
                    // Whether it is done is told by what the group has at the end.
                    drop(consumer.commit(&batch));
                }
            }
            Ok(other) => panic!("{id}: {other:?}"),
            Err(error) => {
                failures += 1;
                assert!(failures < 100, "{id}: {error:?}");
                super::say(&format!("group chaos: member {id} of {mode:?}: {error}"));
            }
        }
    }
}

fn records(batch: &Batch) -> Vec<(i64, u32)> {
    batch.iter().map(|record| (record.offset(), number(record.value()))).collect()
}

/// Nothing is in its hands any more.
async fn leave(consumer: Consumer, id: usize, log: &Log) {
    write(log, Entry::Handed(id, numbers(&consumer.assignment())));
    consumer.close(LONG).await.unwrap();
    // Those that were assigned and never told.
    write(log, Entry::Dead(id));
}
