//! What the wire and the bytes cost: a blocking socket, batches of a megabyte encoded by hand with their
//! checksum, five requests in flight, no idempotence, no answer to each record. No client can reach it.
//!
//!     produce-floor MODE BROKER TOPIC COUNT SIZE CODEC
//!
//! The broker is the leader of the topic's four partitions.

use std::time::Instant;

use weir_clients::Fail;
use weir_clients::load::{BATCH_SIZE, Job, Meter, Mode, WARM_UP, pool};
use weir_clients::wire::Wire;

const PARTITIONS: u32 = 4;

fn main() -> Result<(), Fail> {
    let job = Job::from_args()?;
    let pool = pool(job.size);
    let mut values = pool.chunks_exact(job.size).cycle();
    match job.mode {
        Mode::Produce => {
            let meter = Meter::start()?;
            let mut wire = Wire::connect(&job.broker, &job.topic, &job.codec)?;
            let mut partition = 0;
            let (mut left, most) = (job.count, BATCH_SIZE - job.size.min(BATCH_SIZE) - 16);
            while left > 0 {
                while left > 0 {
                    left -= 1;
                    if wire.append(values.next().unwrap_or_default()) > most {
                        break;
                    }
                }
                wire.send(partition)?;
                partition = (partition + 1) % PARTITIONS;
            }
            let acked = wire.finish()?;
            meter.report("floor", &job, acked, Vec::new())
        }
        Mode::Latency => {
            let mut wire = Wire::connect(&job.broker, &job.topic, &job.codec)?;
            let mut trip = |value| {
                let began = Instant::now();
                wire.append(value);
                wire.send(0)?;
                Ok::<_, Fail>((wire.finish()?, began.elapsed()))
            };
            for value in values.by_ref().take(WARM_UP) {
                trip(value)?;
            }
            let meter = Meter::start()?;
            let (mut trips, mut acked) = (Vec::with_capacity(job.count), 0);
            for value in values.take(job.count) {
                let (all, time) = trip(value)?;
                acked = all - WARM_UP;
                trips.push(time);
            }
            meter.report("floor", &job, acked, trips)
        }
        mode => Err(mode.elsewhere()),
    }
}
