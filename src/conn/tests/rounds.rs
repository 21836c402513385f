//! Round trips: over real sockets, many at once, and what one of them costs.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_requests_at_once_come_back_over_a_real_socket() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, usize::MAX));
        }
    });
    let dialer = Dialer::new(crate::net::Config::new()).await.unwrap();
    let pool = Pool::new(Config::default(), dialer, Hub::default(), vec![address], 1);
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let pool = pool.clone();
        asking.spawn(async move {
            for _ in 0..100 {
                reach(&pool, Use::General).await.unwrap();
            }
        });
    }
    assert_eq!(asking.join_all().await.len(), 64);
    assert_eq!(pool.load(THERE), Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_large_request_goes_through_a_narrow_pipe() {
    use crate::messages::produce::ProduceRequest;
    let seen = Arc::new(AtomicUsize::new(0));
    let sum = Arc::clone(&seen);
    let brokers = Brokers::new(move |_, stream| {
        let sum = Arc::clone(&sum);
        async move {
            let mut peer = Peer::new(stream);
            peer.tell_versions().await;
            while let Some(asked) = peer.next().await {
                if asked.key == ApiKey::METADATA {
                    peer.answer_metadata(&asked).await;
                } else {
                    sum.fetch_add(asked.body_len(), Relaxed);
                }
            }
        }
    });
    let pool = brokers.pool(Config::default()).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    let transactional_id = Some("x".repeat(30_000).as_str().into());
    let request = ProduceRequest { transactional_id, ..Default::default() };
    for _ in 0..20 {
        connection.send(&request, 9, Patience::default()).await.unwrap();
    }
    // It is behind them all.
    ask(&connection).await.unwrap();
    assert!(seen.load(Relaxed) > 20 * 30_000);
}

/// How often a small round trip on a ready connection allocates, the broker's side not counted: it is a
/// fixed answer, found once.
#[test]
fn a_round_trip_takes_few_allocations() {
    const ROUNDS: usize = 1000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (pool, connection) = runtime.block_on(async {
        let brokers = Brokers::new(|_, stream| parrot(stream));
        let pool = brokers.pool(Config::default()).await;
        let connection = pool.connection(THERE, Use::General).await.unwrap();
        for _ in 0..ROUNDS {
            ask(&connection).await.unwrap();
        }
        (pool, connection)
    });
    let started = std::time::Instant::now();
    let counted = allocation_counter::measure(|| {
        runtime.block_on(async {
            for _ in 0..ROUNDS {
                ask(&connection).await.unwrap();
            }
        });
    });
    let took = started.elapsed() / ROUNDS as u32;
    let (each, bytes) = (counted.count_total as usize / ROUNDS, counted.bytes_total as usize / ROUNDS);
    println!("a round trip: {each} allocations, {bytes} bytes, {took:?} with the broker's part");
    assert!(each <= 6, "{each}");
    drop((pool, runtime));
}

/// Answers metadata requests without an allocation.
async fn parrot(stream: DuplexStream) {
    let mut peer = Peer::new(stream);
    peer.tell_versions().await;
    let Some(first) = peer.next().await else { return };
    let frame = first.answer::<MetadataRequest>(&MetadataResponse::default());
    let mut answer = [&(frame.len() as u32).to_be_bytes()[..], &frame].concat();
    let mut stream = peer.stream;
    let _ = stream.write_all(&answer).await;
    let mut request = vec![0; 4 + first.body_len()];
    while stream.read_exact(&mut request).await.is_ok() {
        answer[4..8].copy_from_slice(&request[8..12]);
        let _ = stream.write_all(&answer).await;
    }
}
