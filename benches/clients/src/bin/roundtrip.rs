//! One record at a time, acknowledged by all replicas before the next, and how long the first takes.
//!
//!     cargo run --release --bin roundtrip -- HOST:PORT [ROUNDS] [RECORDS] [CLIENT,...]
//!
//! It makes a topic `roundtrip` there, of one partition. For each client: the median of one round trip,
//! its ratio to the floor's in the same round (median over the rounds), and the same for the time from
//! nothing to the first acknowledgement. `WEIR_RUNTIME=current` runs all on one thread.

use std::time::Instant;

use weir_clients::{Fail, entrants, median, median_us, sequential};

const TOPIC: &str = "roundtrip";

fn main() -> Result<(), Fail> {
    let current = std::env::var("WEIR_RUNTIME").is_ok_and(|kind| kind == "current");
    let mut runtime = if current {
        tokio::runtime::Builder::new_current_thread()
    } else {
        tokio::runtime::Builder::new_multi_thread()
    };
    runtime.enable_all().worker_threads(2).build()?.block_on(run())
}

async fn run() -> Result<(), Fail> {
    let mut args = std::env::args().skip(1);
    let bootstrap = args.next().ok_or("which broker? HOST:PORT")?;
    let rounds: usize = args.next().map_or(Ok(15), |n| n.parse())?;
    let records: usize = args.next().map_or(Ok(500), |n| n.parse())?;
    entrants::create(&bootstrap, TOPIC).await?;
    let only = args.next();
    let chosen =
        |name: &str| name == "floor" || only.iter().all(|only| only.split(',').any(|one| one == name));
    let entrants: Vec<_> = entrants::all().into_iter().filter(|(name, _)| chosen(name)).collect();
    let mut trips = vec![Vec::new(); entrants.len()];
    let mut colds = vec![Vec::new(); entrants.len()];
    for round in 0..=rounds {
        for (place, (name, start)) in entrants.iter().enumerate() {
            let (bootstrap, start) = (bootstrap.clone(), *start);
            // In a task of its own, as in a service.
            let measured = tokio::spawn(async move {
                let began = Instant::now();
                let mut sender = start(bootstrap, TOPIC.to_owned()).await?;
                sender.send().await?;
                let cold = began.elapsed();
                let mut times = sequential(&mut *sender, records).await?;
                Ok::<_, Fail>((cold.as_secs_f64() * 1e6, median_us(&mut times)))
            });
            let (cold, trip) = measured.await?.map_err(|error| format!("{name}: {error}"))?;
            // The first round warms up.
            if round > 0 {
                colds[place].push(cold);
                trips[place].push(trip);
            }
        }
    }
    println!("{:10} {:>12} {:>8} {:>14} {:>8}", "client", "round trip", "ratio", "first answer", "ratio");
    let ratios = |all: &[Vec<f64>], place: usize| {
        let mut ratios: Vec<f64> = all[place].iter().zip(&all[0]).map(|(ours, floor)| ours / floor).collect();
        median(&mut ratios)
    };
    for (place, (name, _)) in entrants.iter().enumerate() {
        let (trip, cold) = (median(&mut trips[place].clone()), median(&mut colds[place].clone()));
        let (trip_ratio, cold_ratio) = (ratios(&trips, place), ratios(&colds, place));
        println!("{name:10} {trip:>9.1} us {trip_ratio:>8.2} {cold:>11.0} us {cold_ratio:>8.2}");
    }
    Ok(())
}
