//! Tables for people, and a verdict for scripts.
//!
//! A binary makes one [`Report`] from its arguments, shows it every outcome, states its aims, and
//! ends with [`Report::finish`]. Aims are judged always; they decide the exit status with `--gate`.

use std::process::ExitCode;
use std::time::Duration;

use crate::contest::{Contest, Outcome, Plan};

const USAGE: &str = "\
options: --gate        fail when an aim is missed
         --rounds N    turns for each entrant (40)
         --sample-ms N length of a turn (5)
         WORD          run only what has WORD in its name (several: any of them)";

/// What to run, and what came out.
#[derive(Debug, Default)]
pub struct Report {
    plan: Plan,
    gate: bool,
    words: Vec<String>,
    aims: Vec<Aim>,
}

#[derive(Debug)]
struct Aim {
    what: String,
    wanted: String,
    measured: String,
    met: bool,
}

impl Report {
    /// Reads the process's arguments, or says in `Err` how the process is to end.
    pub fn from_args() -> Result<Self, ExitCode> {
        Self::parse(std::env::args().skip(1)).map_err(|message| {
            eprintln!("{message}\n{USAGE}");
            ExitCode::from(2)
        })
    }

    fn parse(args: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut report = Self::default();
        let mut args = args.into_iter();
        while let Some(arg) = args.next() {
            let mut number = || {
                let given = args.next().and_then(|n| n.parse().ok()).filter(|&n: &u64| n > 0);
                given.ok_or_else(|| format!("{arg} takes a number from 1 up"))
            };
            match arg.as_str() {
                "--gate" => report.gate = true,
                "--rounds" => report.plan.rounds = number()? as usize,
                "--sample-ms" => report.plan.sample = Duration::from_millis(number()?),
                option if option.starts_with('-') => return Err(format!("no option {option}")),
                word => report.words.push(word.to_owned()),
            }
        }
        Ok(report)
    }

    /// Whether a contest of this name was asked for.
    pub fn wants(&self, name: &str) -> bool {
        self.words.is_empty() || self.words.iter().any(|word| name.contains(word.as_str()))
    }

    /// Runs a contest and prints its table. The first entrant is what the others are set against.
    pub fn run(&mut self, contest: Contest<'_>) -> Outcome {
        let outcome = contest.run(self.plan);
        print_table(&outcome);
        outcome
    }

    /// Wants the ratio of two entrants' times to be `limit` or less.
    pub fn at_most(&mut self, outcome: &Outcome, over: &str, under: &str, limit: f64) {
        let median = outcome.ratio(over, under).median;
        self.aim(format!("{}: {over} / {under}", outcome.name), "at most", limit, median, median <= limit);
    }

    /// Wants the ratio of two entrants' times to be `limit` or more.
    pub fn at_least(&mut self, outcome: &Outcome, over: &str, under: &str, limit: f64) {
        let median = outcome.ratio(over, under).median;
        self.aim(format!("{}: {over} / {under}", outcome.name), "at least", limit, median, median >= limit);
    }

    /// Wants a figure that is no time (a count of allocations) to be `limit` or less.
    pub fn count_at_most(&mut self, what: impl Into<String>, figure: f64, limit: f64) {
        self.aim(what.into(), "at most", limit, figure, figure <= limit);
    }

    fn aim(&mut self, what: String, bound: &str, limit: f64, measured: f64, met: bool) {
        let wanted = format!("{bound} {limit:.2}");
        self.aims.push(Aim { what, wanted, measured: format!("{measured:.2}"), met });
    }

    /// Prints the verdicts; the exit status says whether the gate is passed.
    #[must_use]
    pub fn finish(self) -> ExitCode {
        if !self.aims.is_empty() {
            println!("| aim | wanted | measured | |\n|---|--:|--:|---|");
            for Aim { what, wanted, measured, met } in &self.aims {
                println!("| {what} | {wanted} | {measured} | {} |", if *met { "met" } else { "MISSED" });
            }
        }
        let missed = self.aims.iter().filter(|aim| !aim.met).count();
        if self.gate && missed > 0 {
            eprintln!("{missed} of {} aims missed", self.aims.len());
            return ExitCode::FAILURE;
        }
        ExitCode::SUCCESS
    }
}

fn print_table(outcome: &Outcome) {
    let Outcome { name, units, bytes, lines } = outcome;
    println!("### {name}: {units} x, {bytes} bytes\n");
    let Some(first) = lines.first().map(|line| line.name) else { return };
    println!("| | median ns | tenths | ns each | MB/s | x {first} |");
    println!("|---|--:|--:|--:|--:|--:|");
    for line in lines {
        let spread = line.spread();
        let ratio = outcome.ratio(line.name, first);
        println!(
            "| {} | {:.0} | {:.0} - {:.0} | {:.2} | {:.0} | {:.2} ({:.2} - {:.2}) |",
            line.name,
            spread.median,
            spread.low,
            spread.high,
            spread.median / *units as f64,
            *bytes as f64 * 1e3 / spread.median,
            ratio.median,
            ratio.low,
            ratio.high,
        );
    }
    println!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<Report, String> {
        Report::parse(args.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn arguments_are_read() {
        let report = parse("--gate --rounds 7 --sample-ms 3 fetch encode").unwrap();
        assert!(report.gate);
        assert_eq!((report.plan.rounds, report.plan.sample), (7, Duration::from_millis(3)));
        assert!(report.wants("fetch v16") && report.wants("batch encode") && !report.wants("crc"));
        assert!(parse("").unwrap().wants("anything"));
        for bad in ["--rounds", "--rounds x", "--rounds 0", "--rate 1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_missed_aim_fails_the_gate_only() {
        for (args, figure, passes) in [("--gate", 1.0, false), ("--gate", 0.0, true), ("", 1.0, true)] {
            let mut report = parse(args).unwrap();
            report.count_at_most("allocations", figure, 0.0);
            let wanted = if passes { ExitCode::SUCCESS } else { ExitCode::FAILURE };
            assert_eq!(format!("{:?}", report.finish()), format!("{wanted:?}"));
        }
    }
}
