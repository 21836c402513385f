//! What the programs of the produce and consume benchmarks share: weir's own (`examples/bench.rs`), and the floor
//! and the peers (`benches/clients`). So all take the same arguments, send the same values, measure in the same way
//! and say the same line.
//!
//! A program reads its [`Job`], has the [`pool`] of values, starts a [`Meter`] right before it makes its client,
//! and ends with [`Meter::report`] or [`Meter::report_read`], which fail unless each record has arrived.

use std::error::Error;
use std::fmt::Display;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::sys::resource::{Usage, UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;

/// Nothing here is worth more than a sentence for a person.
pub type Fail = Box<dyn Error + Send + Sync>;

/// The settings that all clients have, as far as they can.
pub const LINGER: Duration = Duration::from_millis(5);
pub const BATCH_SIZE: usize = 1_000_000;
pub const BUFFER_MEMORY: usize = 64 << 20;
/// How many acknowledgements are waited for at most, where a program waits for one after the other.
pub const WINDOW: usize = 100_000;
/// Records sent before latency is measured.
pub const WARM_UP: usize = 500;
/// What all consumers have: the bytes of a partition, and of all, in an answer.
pub const PARTITION_MAX: usize = 1 << 20;
pub const FETCH_MAX: usize = 50 << 20;

const POOL: usize = 16 << 20;
const USAGE: &str = "usage: MODE BROKER TOPIC COUNT SIZE CODEC [PARTITIONS]
  MODE    produce (all at once; CPU and rate), latency (one at a time until acknowledged; no linger),
          consume (all partitions from the beginning) or e2e (one at a time until received; on an empty topic)
  BROKER  HOST:PORT
  TOPIC   one that is there, or that the broker makes when it is asked for it
  COUNT   records
  SIZE    bytes of each value
  CODEC   none, gzip, snappy, lz4 or zstd
  PARTITIONS  of the topic: what is read by consume and e2e; 4 unless said";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Produce,
    Latency,
    Consume,
    E2e,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Produce => "produce",
            Self::Latency => "latency",
            Self::Consume => "consume",
            Self::E2e => "e2e",
        }
    }

    /// What a program says that does not have this mode.
    pub fn elsewhere(self) -> Fail {
        format!("another program has the mode {}", self.name()).into()
    }
}

/// What a program is to do.
#[derive(Debug, Clone)]
pub struct Job {
    pub mode: Mode,
    pub broker: String,
    pub topic: String,
    pub count: usize,
    pub size: usize,
    pub codec: String,
    pub partitions: i32,
}

impl Job {
    /// The job that the arguments describe.
    pub fn from_args() -> Result<Self, Fail> {
        let mut args: Vec<String> = std::env::args().skip(1).collect();
        let partitions = if args.len() == 7 { args.pop() } else { None };
        let partitions = partitions.map_or(Ok(4), |number| number.parse())?;
        let [mode, broker, topic, count, size, codec] = &args[..] else { return Err(USAGE.into()) };
        let mode = match &mode[..] {
            "produce" => Mode::Produce,
            "latency" => Mode::Latency,
            "consume" => Mode::Consume,
            "e2e" => Mode::E2e,
            _ => return Err(USAGE.into()),
        };
        let (count, size) = (count.parse()?, size.parse()?);
        if count == 0 || size == 0 || size > POOL || !CODECS.contains(&&codec[..]) {
            return Err(USAGE.into());
        }
        let (broker, topic, codec) = (broker.clone(), topic.clone(), codec.clone());
        Ok(Self { mode, broker, topic, count, size, codec, partitions })
    }

    /// How long a batch may wait for more records.
    pub fn linger(&self) -> Duration {
        if self.mode == Mode::Produce { LINGER } else { Duration::ZERO }
    }
}

/// The names of the codecs, by their numbers.
pub const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// 16 MiB of values of `size` bytes, one behind the other: the first half of each is random, the second half a text
/// that goes on from value to value. The same in all programs.
pub fn pool(size: usize) -> Vec<u8> {
    let mut pool = vec![0; POOL / size * size];
    let mut text = TEXT.bytes().cycle();
    // SplitMix64, from a fixed seed.
    let mut state = 0x5EED_u64;
    let mut draw = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    for value in pool.chunks_exact_mut(size) {
        let (random, words) = value.split_at_mut(size / 2);
        for bytes in random.chunks_mut(8) {
            for (byte, drawn) in bytes.iter_mut().zip(draw()) {
                *byte = drawn;
            }
        }
        for (byte, letter) in words.iter_mut().zip(&mut text) {
            *byte = letter;
        }
    }
    pool
}

const TEXT: &str = "A weir is a low dam across a river, built to raise the water above it and to measure what \
    goes over. Boats pass by the lock beside it; fish climb the ladder; the rest of the river flows on, each \
    drop in its order, and none of them is lost or comes twice. ";

/// Clock and processor time since a moment.
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    used: Usage,
}

impl Meter {
    /// Begins to measure.
    pub fn start() -> Result<Self, Fail> {
        Ok(Self { used: getrusage(UsageWho::RUSAGE_SELF)?, began: Instant::now() })
    }

    /// Prints what `client` took for its job since the start, as one line of JSON, with the percentiles of `trips`
    /// where the job was to measure them. Fails unless all records arrived.
    pub fn report(
        &self,
        client: &str,
        job: &Job,
        arrived: usize,
        mut trips: Vec<Duration>,
    ) -> Result<(), Fail> {
        trips.sort_unstable();
        let at = |percent: usize| {
            let index = (trips.len() * percent).div_ceil(100).saturating_sub(1);
            trips.get(index).map_or(f64::NAN, |trip| trip.as_secs_f64() * 1e6)
        };
        let [p50, p90, p99] = [50, 90, 99].map(at);
        let percentiles = format!(r#","p50_us":{p50:.1},"p90_us":{p90:.1},"p99_us":{p99:.1}"#);
        self.print(client, job, arrived, if trips.is_empty() { "" } else { &percentiles })
    }

    /// The same of what was read, with its sum.
    pub fn report_read(&self, client: &str, job: &Job, tally: Tally) -> Result<(), Fail> {
        self.print(client, job, tally.count, &format!(r#","sum":{}"#, tally.sum))
    }

    #[allow(clippy::cast_precision_loss, reason = "for people to read")]
    fn print(&self, client: &str, job: &Job, arrived: usize, more: &str) -> Result<(), Fail> {
        let wall = self.began.elapsed().as_secs_f64();
        let now = getrusage(UsageWho::RUSAGE_SELF)?;
        let user = (now.user_time() - self.used.user_time()).num_microseconds() as f64 / 1e6;
        let sys = (now.system_time() - self.used.system_time()).num_microseconds() as f64 / 1e6;
        let faults = now.minor_page_faults() - self.used.minor_page_faults();
        let (name, n, Job { size, codec, .. }) = (job.mode.name(), job.count, job);
        let errors = n.saturating_sub(arrived);
        let (rate, each) = (arrived as f64 / wall, (user + sys) * 1e9 / n as f64);
        let rss = max_rss_kib()?;
        println!(
            r#"{{"client":"{client}","mode":"{name}","n":{n},"size":{size},"codec":"{codec}","wall_s":{wall:.6},"user_s":{user:.6},"sys_s":{sys:.6},"msgs_per_s":{rate:.1},"cpu_ns_per_msg":{each:.1},"max_rss_kib":{rss},"page_faults":{faults},"errors":{errors}{more}}}"#
        );
        if arrived == n { Ok(()) } else { Err(format!("{arrived} of {n} records arrived").into()) }
    }
}

/// What was read: how many records, and the sum of the first bytes and the lengths of their values, which says that
/// all clients have read the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub count: usize,
    pub sum: u64,
}

impl Tally {
    #[inline]
    pub fn add(&mut self, value: &[u8]) {
        self.count += 1;
        self.sum += u64::from(value.first().copied().unwrap_or_default()) + value.len() as u64;
    }
}

/// Tells a person why a record did not arrive, once: what follows is the same, a million times.
pub fn tell(error: &impl Display) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| eprintln!("a record did not arrive: {error}"));
}

/// The most memory that this process had at any time.
fn max_rss_kib() -> Result<u64, Fail> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
