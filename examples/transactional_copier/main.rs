//! Copies records from one topic to another in transactions that also commit what was read, for tests that watch it
//! from outside: it takes the flags of kafkatest's `TransactionalMessageCopier`, and says as JSON, a line each, how far
//! it has come. SIGTERM and SIGINT end it behind a transaction.
//!
//!     cargo run --example transactional_copier -- --bootstrap-server localhost:9092 --transactional-id copier-0 \
//!         --consumer-group copiers --input-topic numbers --input-partition 0 --output-topic copies
//!
//! `flags` reads the command line, `run` copies and reports.

use std::process::ExitCode;

/// The end that others want.
#[path = "../support/ended.rs"]
mod ended;
/// The command line.
mod flags;
/// Copies and reports.
mod run;

#[tokio::main]
async fn main() -> ExitCode {
    let job = match flags::Job::read(std::env::args().skip(1)) {
        Ok(job) => job,
        Err(words) => {
            eprintln!("transactional_copier: {words}\n{}", flags::USAGE);
            return ExitCode::FAILURE;
        }
    };
    let result = match ended::ended() {
        Ok(ended) => run::run(job, std::io::stdout(), ended).await,
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("transactional_copier: {error}");
            ExitCode::FAILURE
        }
    }
}
