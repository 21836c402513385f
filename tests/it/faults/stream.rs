//! The steady stream: a task for each job, calls one after the other with a pause between, all through clones of
//! one client; and the whole log, read when it has ended.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use weir::protocol::fetch::{FetchPartition, FetchRequest, FetchTopic};
use weir::records::{Batches, Decompressor};
use weir::{Client, ErrorCode, Result};

use super::check::Place;
use super::job::{self, Job, PARTITIONS, TOPIC};
use super::record::{End, Record};

/// Between two calls of a task.
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Stream {
    record: Arc<Mutex<Record>>,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Stream {
    /// Begins. No call may take longer than `patience`.
    pub(super) fn start(runtime: &Runtime, client: &Client, patience: Duration) -> Self {
        let jobs = Job::all();
        let record = Record::new(jobs.iter().map(|job| job.name()), patience);
        let (record, stop) = (Arc::new(Mutex::new(record)), Arc::new(AtomicBool::new(false)));
        let run = |(lane, job)| {
            let (client, record, stop) = (client.clone(), Arc::clone(&record), Arc::clone(&stop));
            runtime.spawn(async move {
                let mut n = 0;
                while !stop.load(Relaxed) {
                    n += 1;
                    call(&client, &record, lane, job, n).await;
                    tokio::time::sleep(PAUSE).await;
                }
            })
        };
        let tasks = jobs.into_iter().enumerate().map(run).collect();
        Self { record, stop, tasks }
    }

    pub(super) fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().expect("nothing in this lock panics")
    }

    /// Waits until every lane works again, at most so long.
    pub(super) fn recovers(&self, most: Duration) -> Duration {
        let until = Instant::now() + most;
        loop {
            let mut record = self.record();
            let waiting = record.waiting().join(", ");
            if waiting.is_empty() {
                return record.recovered();
            }
            let summary = record.summary();
            drop(record);
            assert!(Instant::now() < until, "no recovery of {waiting} in {most:?}\n{summary}");
            weir_kafka_harness::wait_a_little();
        }
    }

    /// Ends all tasks after their last call, and gives what they wrote down.
    pub(super) fn end(self, runtime: &Runtime) -> Record {
        self.stop.store(true, Relaxed);
        for task in self.tasks {
            runtime.block_on(task).expect("no task of the stream panics");
        }
        let record = Arc::into_inner(self.record).expect("the tasks have ended");
        record.into_inner().expect("nothing in this lock panics")
    }
}

async fn call(client: &Client, record: &Mutex<Record>, lane: usize, job: Job, n: i64) {
    let write = || record.lock().expect("nothing in this lock panics");
    let began = Instant::now();
    match job {
        Job::Produce(partition) => {
            let value = format!("{partition}-{n}");
            let (end, fate) = job::produce(client, partition, &value).await;
            let mut record = write();
            record.told.insert(value, fate);
            record.heard(lane, began, &end);
        }
        Job::Offsets(group) => {
            let group = job::group_name(group);
            write().commits.entry(group.clone()).or_default().tried = n;
            let end = job::commit(client, &group, n).await;
            if matches!(end, End::Good) {
                write().commits.entry(group.clone()).or_default().acked = n;
            }
            write().heard(lane, began, &end);
            let began = Instant::now();
            let end = job::committed(client, &group).await.map_or_else(|end| end, |_| End::Good);
            write().heard(lane, began, &end);
        }
        _ => {
            let end = job.ask(client).await;
            write().heard(lane, began, &end);
        }
    }
}

/// The offset of every group.
pub(super) async fn read_commits(client: &Client, groups: &[String]) -> BTreeMap<String, i64> {
    let mut read = BTreeMap::new();
    for group in groups {
        read.insert(group.clone(), job::committed(client, group).await.expect("all is well at the end"));
    }
    read
}

/// Every record of the topic, with its place.
pub(super) async fn read_log(client: &Client) -> Result<Vec<(String, Place)>> {
    let ends = client.request(job::list_offsets(-1)).await?;
    let mut log = Vec::new();
    for partition in 0..PARTITIONS {
        let said = ends.topics[0].partitions.iter().find(|p| p.partition_index == partition);
        let end = said.map(|said| (said.error_code, said.offset)).expect("it was asked for");
        assert_eq!(end.0, 0, "partition {partition}");
        read_partition(client, partition, end.1, &mut log).await?;
    }
    Ok(log)
}

async fn read_partition(
    client: &Client,
    partition: i32,
    end: i64,
    log: &mut Vec<(String, Place)>,
) -> Result<()> {
    let mut decompressor = Decompressor::default();
    let mut next = 0;
    while next < end {
        let asked = FetchPartition {
            partition,
            fetch_offset: next,
            partition_max_bytes: 1 << 20,
            ..Default::default()
        };
        let topic = FetchTopic { topic: TOPIC.into(), partitions: vec![asked], ..Default::default() };
        let request = FetchRequest { max_wait_ms: 500, topics: vec![topic], ..Default::default() };
        let answer = client.request(request).await?;
        let said = &answer.responses[0].partitions[0];
        assert_eq!(ErrorCode(said.error_code), ErrorCode::NONE, "partition {partition} from {next}");
        let before = next;
        for batch in Batches::new(said.records.clone().unwrap_or_default()) {
            let batch = batch?;
            next = batch.next_offset();
            let records = batch.records(&mut decompressor)?;
            for record in &records {
                let record = record?;
                let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
                log.push((value, (partition, record.offset())));
            }
        }
        assert!(next > before, "partition {partition} ends at {end} and gives nothing from {next} on");
    }
    Ok(())
}
