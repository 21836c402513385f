//! Interleaved timing: entrants that do the same work take turns, and are compared round by round.
//!
//! A round gives each entrant one sample, some milliseconds long, in an order that rotates, so that
//! what one entrant leaves in the caches and the branch predictor falls to each of the others in
//! turn. The clock is the CPU time of this thread: waiting for a core is not counted, though a
//! shared cache and a shared sibling core still show. They show in both sides of a ratio.

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long and how often to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Turns that each entrant gets.
    pub rounds: usize,
    /// How long one turn lasts, about.
    pub sample: Duration,
}

impl Default for Plan {
    fn default() -> Self {
        Self { rounds: 40, sample: Duration::from_millis(5) }
    }
}

struct Entrant<'a> {
    name: &'static str,
    /// Does the work that many times over.
    work: Box<dyn FnMut(u64) + 'a>,
}

/// Several ways to do one piece of work.
#[must_use]
pub struct Contest<'a> {
    name: String,
    units: u64,
    bytes: u64,
    entrants: Vec<Entrant<'a>>,
}

impl fmt::Debug for Contest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Contest({}, {} entrants)", self.name, self.entrants.len())
    }
}

impl<'a> Contest<'a> {
    /// A contest whose work is on `units` things (records, partitions) in `bytes` bytes.
    pub fn new(name: impl Into<String>, units: usize, bytes: usize) -> Self {
        Self { name: name.into(), units: units as u64, bytes: bytes as u64, entrants: Vec::new() }
    }

    /// Adds one way to do the work. What it returns is kept from the optimizer, and dropped on the
    /// clock, because a user pays for that too.
    pub fn entrant<T>(mut self, name: &'static str, mut work: impl FnMut() -> T + 'a) -> Self {
        let work = Box::new(move |times| {
            for _ in 0..times {
                black_box(work());
            }
        });
        self.entrants.push(Entrant { name, work });
        self
    }

    /// Lets them all run.
    #[must_use]
    pub fn run(mut self, plan: Plan) -> Outcome {
        let times: Vec<u64> =
            self.entrants.iter_mut().map(|entrant| calibrate(&mut *entrant.work, plan.sample)).collect();
        let mut samples = vec![Vec::with_capacity(plan.rounds); self.entrants.len()];
        for round in 0..plan.rounds {
            for turn in 0..self.entrants.len() {
                let i = (round + turn) % self.entrants.len();
                let spent = time(&mut *self.entrants[i].work, times[i]);
                samples[i].push(spent.as_nanos() as f64 / times[i] as f64);
            }
        }
        let lines =
            self.entrants.iter().zip(samples).map(|(entrant, nanos)| Line { name: entrant.name, nanos });
        Outcome { name: self.name, units: self.units, bytes: self.bytes, lines: lines.collect() }
    }
}

/// How many times the work must be done to fill a sample; warms it up on the way.
fn calibrate(work: &mut dyn FnMut(u64), sample: Duration) -> u64 {
    let mut times = 1;
    loop {
        let spent = time(work, times);
        if spent * 4 >= sample {
            let fill = sample.as_secs_f64() / spent.as_secs_f64() * times as f64;
            return (fill as u64).max(1);
        }
        times *= 2;
    }
}

fn time(work: &mut dyn FnMut(u64), times: u64) -> Duration {
    let start = thread_time();
    work(times);
    thread_time().saturating_sub(start)
}

fn thread_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// What one entrant took.
#[derive(Debug)]
pub struct Line {
    pub name: &'static str,
    /// Nanoseconds for the work done once, one figure a round.
    nanos: Vec<f64>,
}

impl Line {
    pub fn spread(&self) -> Spread {
        Spread::of(self.nanos.clone())
    }
}

/// What a contest came to.
#[derive(Debug)]
pub struct Outcome {
    pub name: String,
    pub units: u64,
    pub bytes: u64,
    pub lines: Vec<Line>,
}

impl Outcome {
    /// How many times as long as `under` the entrant `over` took, in the rounds.
    pub fn ratio(&self, over: &str, under: &str) -> Spread {
        let rounds = self.line(over).nanos.iter().zip(&self.line(under).nanos);
        Spread::of(rounds.map(|(over, under)| over / under).collect())
    }

    fn line(&self, name: &str) -> &Line {
        let found = self.lines.iter().find(|line| line.name == name);
        found.unwrap_or_else(|| panic!("{} has no entrant {name}", self.name))
    }
}

/// The middle of some figures, and the tenths at both ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let at = |part: f64| figures[((figures.len() - 1) as f64 * part).round() as usize];
        Self { low: at(0.1), median: at(0.5), high: at(0.9) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_work_takes_about_twice_the_time() {
        let busy = |loops: u64| move || (0..loops).fold(1_u64, |n, i| black_box(n.rotate_left(5) ^ i));
        let plan = Plan { rounds: 11, sample: Duration::from_millis(2) };
        let outcome =
            Contest::new("spin", 1, 1).entrant("one", busy(2_000)).entrant("two", busy(4_000)).run(plan);
        let ratio = outcome.ratio("two", "one").median;
        assert!((1.7..2.3).contains(&ratio), "{ratio}");
        assert_eq!(outcome.lines[0].nanos.len(), 11);
    }

    #[test]
    fn a_spread_is_the_median_and_the_outer_tenths() {
        let spread = Spread::of((0..=100).rev().map(f64::from).collect());
        assert_eq!(spread, Spread { low: 10.0, median: 50.0, high: 90.0 });
        assert_eq!(Spread::of(vec![3.0]), Spread { low: 3.0, median: 3.0, high: 3.0 });
    }
}
