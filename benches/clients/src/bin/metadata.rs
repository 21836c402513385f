//! A cluster of ten thousand topics with ten partitions each: how long its metadata holds up other tasks.
//!
//!     cargo run --release --bin metadata -- [SECONDS]
//!
//! The client runs on one thread, with a task that does nothing but come round again. Its longest gap is
//! told twice: by the clock, and by the processor time of that thread, which no other process can lengthen.
//! What the clock says on that machine anyway is told first.
//! All topics are wanted, since each of them is looked up by requests; then all metadata is had again and
//! again, changed each time, while requests go on.

use std::future::poll_fn;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use weir::protocol::Message as _;
use weir::protocol::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use weir::protocol::metadata::{MetadataRequest, MetadataResponse};
use weir_clients::large::{PARTITIONS, TOPICS, metadata, name, serve};
use weir_clients::{Fail, median_us};

/// Topics that one request looks up.
const AT_ONCE: usize = 100;

fn main() -> Result<(), Fail> {
    let argument = std::env::args().nth(1);
    if argument.as_deref() == Some("broker") {
        return serve();
    }
    let seconds = argument.map_or(Ok(10), |n| n.parse())?;
    decoding()?;
    // In a process of its own, so that its memory and its work are not counted.
    let mut broker = Command::new(std::env::current_exe()?).arg("broker").stdout(Stdio::piped()).spawn()?;
    let mut port = String::new();
    BufReader::new(broker.stdout.take().ok_or("no output")?).read_line(&mut port)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let measured = runtime.block_on(run(port.trim(), Duration::from_secs(seconds)));
    broker.kill()?;
    broker.wait()?;
    measured
}

fn decoding() -> Result<(), Fail> {
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let bytes = metadata(&all, 9092, 7).to_bytes(13)?;
    let mut times = Vec::new();
    for _ in 0..9 {
        let began = Instant::now();
        let decoded = MetadataResponse::from_bytes(&bytes, 13)?;
        times.push(began.elapsed());
        assert_eq!(decoded.topics.len(), TOPICS);
    }
    println!("answer of {} bytes, decoded in {:.0} us", bytes.len(), median_us(&mut times));
    Ok(())
}

async fn run(port: &str, time: Duration) -> Result<(), Fail> {
    let bootstrap = format!("127.0.0.1:{port}");
    let gaps = Gaps::default();
    let idling = tokio::spawn(gaps.clone().idle());
    tokio::time::sleep(time / 4).await;
    println!("with nothing to do, {}", gaps.take());
    let before = memory()?;
    let client =
        weir::Client::builder(&bootstrap).metadata_max_age(Duration::from_millis(500)).connect().await?;
    let all: Vec<_> = (0..TOPICS).collect();
    let began = Instant::now();
    for some in all.chunks(AT_ONCE) {
        client.request(look_up(some)).await?;
    }
    println!("all topics looked up after {:.0} ms, {}", began.elapsed().as_secs_f64() * 1e3, gaps.take());
    let (mut times, ends) = (Vec::new(), Instant::now() + time.saturating_sub(began.elapsed()));
    for some in all.chunks(AT_ONCE).cycle() {
        if Instant::now() >= ends {
            break;
        }
        let (request, began) = (look_up(some), Instant::now());
        let answer = client.request(request).await?;
        times.push(began.elapsed());
        assert_eq!(answer.topics.len(), AT_ONCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stats = client.stats();
    let partitions = AT_ONCE * PARTITIONS as usize;
    println!("{} requests of {partitions} partitions, {:.0} us each", times.len(), median_us(&mut times));
    println!("{} refreshes, {} failed", stats.metadata_refreshes, stats.metadata_failures);
    println!("memory: {:.1} MB more than before", memory()? - before);
    println!("from then on {}", gaps.take());
    idling.abort();
    Ok(())
}

fn look_up(topics: &[usize]) -> ListOffsetsRequest {
    let topics = topics.iter().map(|topic| {
        let partition =
            |partition_index| ListOffsetsPartition { partition_index, timestamp: -1, ..Default::default() };
        ListOffsetsTopic {
            name: name(*topic).as_str().into(),
            partitions: (0..PARTITIONS).map(partition).collect(),
            ..ListOffsetsTopic::default()
        }
    });
    ListOffsetsRequest { topics: topics.collect(), ..ListOffsetsRequest::default() }
}

/// The longest gaps since they were last told, in seconds: by the clock, and by processor time of the thread.
#[derive(Clone, Default)]
struct Gaps(Arc<Mutex<(f64, f64)>>);

impl Gaps {
    /// Comes round and round, behind all other tasks that are ready.
    async fn idle(self) {
        let worked = || {
            let time = clock_gettime(ClockId::ThreadCPUTime);
            time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
        };
        let mut last = (Instant::now(), worked());
        loop {
            let mut passed = false;
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if std::mem::replace(&mut passed, true) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            let now = (Instant::now(), worked());
            let mut longest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            *longest = (longest.0.max((now.0 - last.0).as_secs_f64()), longest.1.max(now.1 - last.1));
            last = now;
        }
    }

    fn take(&self) -> String {
        let (clock, work) = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        format!("longest gap: {:.1} ms by the clock, {:.1} ms of work", clock * 1e3, work * 1e3)
    }
}

/// Megabytes of this process that are in memory.
fn memory() -> Result<f64, Fail> {
    let pages = std::fs::read_to_string("/proc/self/statm")?;
    let resident: f64 = pages.split(' ').nth(1).ok_or("no number")?.parse()?;
    Ok(resident * rustix::param::page_size() as f64 / 1e6)
}
