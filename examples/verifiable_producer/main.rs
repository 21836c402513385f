//! A producer for tests that watch it from outside: it takes the flags of kafkatest's `VerifiableProducer`, sends
//! numbers, and says as JSON, a line each, what became of every one. SIGTERM and SIGINT end it in order.
//!
//!     cargo run --example verifiable_producer -- --bootstrap-server localhost:9092 --topic numbers \
//!         --max-messages 1000 --throughput 200
//!
//! `flags` reads the command line, `properties` a file with Kafka's names for settings, `run` sends and reports.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

/// The command line.
mod flags;
/// Kafka's names for settings.
mod properties;
/// Sends and reports.
mod run;

#[tokio::main]
async fn main() -> ExitCode {
    let job = match flags::Job::read(std::env::args().skip(1)) {
        Ok(job) => job,
        Err(words) => {
            eprintln!("verifiable_producer: {words}\n{}", flags::USAGE);
            return ExitCode::FAILURE;
        }
    };
    let ended = match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            }
        }
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("verifiable_producer: no signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run::run(job, std::io::stdout(), ended).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("verifiable_producer: {error}");
            ExitCode::FAILURE
        }
    }
}
