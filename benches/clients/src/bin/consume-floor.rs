//! What the wire and the bytes cost: a blocking socket, one fetch after the other into one buffer, checksums, records
//! walked by hand. No client can reach it.
//!
//!     consume-floor MODE BROKER TOPIC COUNT SIZE CODEC [PARTITIONS]
//!
//! The broker is the leader of all of the topic's partitions.

use std::time::Instant;

use weir_clients::Fail;
use weir_clients::fetch::Reading;
use weir_clients::load::{Job, Meter, Mode, WARM_UP, pool};
use weir_clients::wire::Wire;

fn main() -> Result<(), Fail> {
    let job = Job::from_args()?;
    let connect = || Reading::connect(&job.broker, &job.topic, job.partitions);
    match job.mode {
        Mode::Consume => {
            let meter = Meter::start()?;
            let mut reading = connect()?;
            while reading.tally.count < job.count {
                reading.fetch()?;
            }
            meter.report_read("floor", &job, reading.tally)
        }
        Mode::E2e => {
            let pool = pool(job.size);
            let mut values = pool.chunks_exact(job.size).cycle();
            let mut wire = Wire::connect(&job.broker, &job.topic, &job.codec)?;
            let mut reading = connect()?;
            let mut trip = |value| {
                let began = Instant::now();
                let wanted = reading.tally.count + 1;
                wire.append(value);
                wire.send(0)?;
                while reading.tally.count < wanted {
                    reading.fetch()?;
                }
                let time = began.elapsed();
                wire.finish()?;
                Ok::<_, Fail>(time)
            };
            for value in values.by_ref().take(WARM_UP) {
                trip(value)?;
            }
            let mut trips = Vec::with_capacity(job.count);
            let meter = Meter::start()?;
            for value in values.take(job.count) {
                trips.push(trip(value)?);
            }
            meter.report("floor", &job, trips.len(), trips)
        }
        mode => Err(mode.elsewhere()),
    }
}
