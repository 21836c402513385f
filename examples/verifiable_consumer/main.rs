//! A member of a group for tests that watch it from outside: it takes the flags of kafkatest's `VerifiableConsumer`,
//! and says as JSON, a line each, what it was assigned, read, and committed. SIGTERM and SIGINT end it in order.
//!
//!     cargo run --example verifiable_consumer -- --bootstrap-server localhost:9092 --topic numbers \
//!         --group-id readers --max-messages 1000
//!
//! `flags` reads the command line, `properties` a file with Kafka's names for settings, `run` reads and reports.

use std::process::ExitCode;

/// The end that others want.
#[path = "../support/ended.rs"]
mod ended;
/// The command line.
mod flags;
/// Kafka's names for settings.
mod properties;
/// Reads and reports.
mod run;

#[tokio::main]
async fn main() -> ExitCode {
    let job = match flags::Job::read(std::env::args().skip(1)) {
        Ok(job) => job,
        Err(words) => {
            eprintln!("verifiable_consumer: {words}\n{}", flags::USAGE);
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
            eprintln!("verifiable_consumer: {error}");
            ExitCode::FAILURE
        }
    }
}
