//! Connections through faults: what is made again, when, and what it costs.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::*;
use crate::conn::pool::Lane;

#[tokio::test(start_paused = true)]
async fn a_broker_that_was_told_that_it_may_wait_is_not_taken_for_lost() {
    let pool = Brokers::new(|_, stream| fall_silent(stream)).pool(Config::default()).await;
    let connection = pool.connection(THERE, Use::Group).await.unwrap();
    let start = clock::now();
    let patience = Patience { held: 300 * SEC, ..Patience::default() };
    let why = connection.call(&MetadataRequest::default(), 12, patience).await.unwrap_err();
    assert!(why.is_timeout() && why.may_have_happened(), "{why}");
    assert!((330 * SEC..335 * SEC).contains(&elapsed(start)), "{:?}", elapsed(start));
}

#[tokio::test(start_paused = true)]
async fn m06_a_silent_broker_costs_one_timeout() {
    let brokers = Brokers::new(|n, stream| async move {
        if n == 0 {
            fall_silent(stream).await;
        } else {
            serve(stream, usize::MAX).await;
        }
    });
    let pool = brokers.pool(Config::default()).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    let start = clock::now();
    let asking: Vec<_> = (0..10)
        .map(|_| {
            let connection = connection.clone();
            tokio::spawn(async move { ask(&connection).await })
        })
        .collect();
    for asked in asking {
        let why = asked.await.unwrap().unwrap_err();
        assert!(why.is_timeout() && why.is_retriable() && why.may_have_happened(), "{why}");
    }
    assert!(elapsed(start) < 31 * SEC, "all of them together: {:?}", elapsed(start));
    reach(&pool, Use::General).await.unwrap();
    assert!(elapsed(start) < 32 * SEC);
}

#[tokio::test(start_paused = true)]
async fn m06_a_broker_that_reads_nothing_costs_one_timeout_and_bounded_memory() {
    use crate::messages::produce::ProduceRequest;
    // Requests without answers, so that no answer can be missed.
    let brokers = Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        tokio::time::sleep(1000 * SEC).await;
        drop(peer);
    });
    let pool = brokers.pool(Config { parked_max: 50, ..Config::default() }).await;
    let connection = pool.connection(THERE, Use::Produce).await.unwrap();
    let request =
        ProduceRequest { transactional_id: Some("x".repeat(10_000).as_str().into()), ..Default::default() };
    let (mut sent, mut refused) = (0, 0);
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (connection, request) = (connection.clone(), request.clone());
        waiting.spawn(async move { connection.send(&request, 9, Patience::default()).await });
    }
    while let Some(done) = waiting.join_next().await {
        match done.unwrap() {
            Ok(()) => sent += 1,
            Err(error) if error.is_limit() => refused += 1,
            Err(error) => assert!(error.is_timeout() && !error.may_have_happened(), "{error}"),
        }
    }
    assert!((1..15).contains(&sent), "what the pipe takes, and one: {sent}");
    assert_eq!(refused, 100 - 50 - sent);
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn m07_a_peer_that_closes_an_idle_connection_costs_no_error() {
    let brokers = Brokers::new(|_, stream| serve(stream, 1));
    let pool = brokers.pool(Config::default()).await;
    for n in 1..=3 {
        reach(&pool, Use::General).await.unwrap();
        tokio::time::sleep(60 * SEC).await;
        assert_eq!(brokers.count(), n);
    }
}

/// TLS whose peer goes without a word reads like this.
struct Abrupt(DuplexStream);

impl AsyncRead for Abrupt {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.0).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before;
        Poll::Ready(if ended { Err(std::io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) })
    }
}

impl AsyncWrite for Abrupt {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn m07_an_end_without_goodbye_costs_no_error_either() {
    #[derive(Debug)]
    struct Way;
    impl Connect for Way {
        fn connect<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, Result<Box<dyn Transport>>> {
            let (ours, theirs) = tokio::io::duplex(4096);
            tokio::spawn(serve(theirs, 1));
            Box::pin(async { Ok(Box::new(Abrupt(ours)) as Box<dyn Transport>) })
        }
    }
    let dialer = Dialer::new(crate::net::Config::new().connect_with(Way)).await.unwrap();
    let pool = Pool::new(Config::default(), dialer, Hub::default(), vec!["b:1".parse().unwrap()], 1);
    for _ in 0..3 {
        reach(&pool, Use::General).await.unwrap();
        tokio::time::sleep(SEC).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_of_ours_is_closed_and_made_again() {
    let brokers = Brokers::good();
    let pool = brokers.pool(Config::default()).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    ask(&connection).await.unwrap();
    tokio::time::sleep(541 * SEC).await;
    assert!(!connection.is_open());
    let start = clock::now();
    reach(&pool, Use::General).await.unwrap();
    assert!(brokers.count() == 2 && elapsed(start) < 10 * MS, "without a pause: {:?}", elapsed(start));
}

#[tokio::test(start_paused = true)]
async fn m09_a_broker_that_breaks_off_at_new_versions_is_asked_in_the_first_once() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&asked);
    let brokers = Brokers::new(move |_, stream| {
        let log = Arc::clone(&log);
        async move {
            let mut peer = Peer::new(stream);
            let Some(asked) = peer.next().await else { return };
            log.lock().unwrap().push(asked.version);
            if asked.version > 0 {
                return;
            }
            peer.answer::<ApiVersionsRequest>(&asked, &versions(&[(3, 0, 1), (18, 0, 0)])).await;
            tokio::time::sleep(5 * SEC).await;
        }
    });
    let pool = brokers.pool(Config::default()).await;
    assert!(pool.connection(THERE, Use::General).await.unwrap_err().is_io());
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    assert_eq!(connection.ready().await.unwrap().version_of(ApiKey::METADATA).unwrap(), 1);
    assert_eq!(*asked.lock().unwrap(), [5, 0]);
    // Afterwards it may be a newer broker.
    connection.ended().await;
    assert!(pool.connection(THERE, Use::General).await.is_err());
    assert_eq!(*asked.lock().unwrap(), [5, 0, 5]);
}

/// How many attempts a minute are made by one who asks again at once after each failure.
async fn attempts_in_a_minute(brokers: Brokers) -> Vec<Duration> {
    let pool = brokers.pool(Config::default()).await;
    let asking = async {
        loop {
            if let Ok(connection) = pool.connection(THERE, Use::General).await {
                connection.ended().await;
            }
        }
    };
    let _ = tokio::time::timeout(60 * SEC, asking).await;
    let attempts = brokers.attempts.lock().unwrap();
    attempts.windows(2).map(|two| two[1] - two[0]).collect()
}

#[tokio::test(start_paused = true)]
async fn m10_failures_to_connect_are_no_storm() {
    let refusing = Brokers::maybe(|_, _| None);
    let closing = Brokers::new(|_, _| async {});
    // Ready, and then gone at once.
    let breaking = Brokers::new(|_, stream| serve(stream, 0));
    for (name, brokers) in [("refused", refusing), ("closed", closing), ("broken", breaking)] {
        let pauses = attempts_in_a_minute(brokers).await;
        println!("{name}: {} attempts in a minute", pauses.len() + 1);
        assert!((45..=80).contains(&pauses.len()), "{name}: {}", pauses.len());
        assert!(pauses[0] >= 80 * MS && pauses[0] <= 122 * MS, "{name}: {:?}", pauses[0]);
        assert!(pauses[10..].iter().all(|pause| *pause >= 800 * MS && *pause <= 1202 * MS), "{name}");
        let mut different = pauses[10..].to_vec();
        different.sort();
        different.dedup();
        assert!(different.len() > 10, "{name}: they vary");
    }
}

#[tokio::test(start_paused = true)]
async fn m10_many_who_wait_share_one_attempt() {
    let brokers = Brokers::maybe(|_, _| None);
    let pool = brokers.pool(Config::default()).await;
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let pool = pool.clone();
        waiting.spawn(async move { pool.connection(THERE, Use::General).await.is_err() });
    }
    assert!(waiting.join_all().await.into_iter().all(|failed| failed));
    assert!(brokers.count() <= 2, "{}", brokers.count());
}

#[tokio::test(start_paused = true)]
async fn m11_a_fetch_that_is_held_delays_no_other_request() {
    use crate::messages::fetch::{FetchRequest, FetchResponse};
    let brokers = Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        while let Some(asked) = peer.next().await {
            if asked.key == ApiKey::FETCH {
                tokio::time::sleep(20 * SEC).await;
                peer.answer::<FetchRequest>(&asked, &FetchResponse::default()).await;
            } else {
                peer.answer_metadata(&asked).await;
            }
        }
    });
    let pool = brokers.pool(Config::default()).await;
    let fetching = pool.connection(THERE, Use::Fetch).await.unwrap();
    let start = clock::now();
    let held =
        tokio::spawn(async move { fetching.call(&FetchRequest::default(), 11, Patience::default()).await });
    tokio::time::sleep(MS).await;
    assert_eq!(pool.load(THERE), Some(1));
    for kind in [Use::General, Use::Group, Use::Produce, Use::Admin] {
        reach(&pool, kind).await.unwrap();
    }
    // Nor another's fetch, if that has a number of its own.
    let other = Lane { kind: Use::Fetch, number: 1 };
    ask(&pool.connection(THERE, other).await.unwrap()).await.unwrap();
    assert!(elapsed(start) < SEC);
    held.await.unwrap().unwrap();
    assert!(elapsed(start) >= 20 * SEC);
    assert_eq!(brokers.count(), 6, "one for each use, made when it was wanted");
}

#[tokio::test(start_paused = true)]
async fn p21_an_answer_that_asks_for_quiet_is_obeyed() {
    let brokers = Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        while let Some(asked) = peer.next().await {
            let response = MetadataResponse { throttle_time_ms: 45_000, ..Default::default() };
            peer.answer::<MetadataRequest>(&asked, &response).await;
        }
    });
    let pool = brokers.pool(Config::default()).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    let start = clock::now();
    ask(&connection).await.unwrap();
    assert!(elapsed(start) < SEC);
    ask(&connection).await.unwrap();
    assert!(elapsed(start) >= 45 * SEC && elapsed(start) < 46 * SEC, "{:?}", elapsed(start));
    // Brokers before KIP-219 have waited themselves.
    tokio::time::sleep(45 * SEC).await;
    let start = clock::now();
    for _ in 0..2 {
        connection.call(&MetadataRequest::default(), 5, Patience::default()).await.unwrap();
    }
    assert!(elapsed(start) < SEC);
}

/// Asks a broker that answers after two seconds and wants quiet then; gives how long the next one waits.
async fn quiet_after<F: Future<Output = ()>>(give_up: impl FnOnce(Connection) -> F) -> Duration {
    let brokers = Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        while let Some(asked) = peer.next().await {
            tokio::time::sleep(2 * SEC).await;
            let response = MetadataResponse { throttle_time_ms: 45_000, ..Default::default() };
            peer.answer::<MetadataRequest>(&asked, &response).await;
        }
    });
    let pool = brokers.pool(Config::default()).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    let start = clock::now();
    give_up(connection.clone()).await;
    tokio::time::sleep((3 * SEC).saturating_sub(elapsed(start))).await;
    ask(&connection).await.unwrap();
    elapsed(start)
}

#[tokio::test(start_paused = true)]
async fn p21_an_answer_whose_asker_has_gone_is_obeyed_too() {
    // He had a deadline; he went before the answer came; he went and had not looked at it.
    let overdue = quiet_after(|connection| async move {
        let patience = Patience { deadline: Some(clock::now() + SEC), ..Patience::default() };
        let error = connection.call(&MetadataRequest::default(), 12, patience).await.unwrap_err();
        assert!(error.is_timeout(), "{error}");
    });
    let gone = quiet_after(|connection| async move {
        assert!(tokio::time::timeout(SEC, ask(&connection)).await.is_err());
    });
    let blind = quiet_after(|connection| async move {
        let mut asking: BoxFuture<'_, _> = Box::pin(ask(&connection));
        assert!(asking.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        tokio::time::sleep(3 * SEC).await;
        drop(asking);
    });
    for (name, time) in [("overdue", overdue.await), ("gone", gone.await), ("blind", blind.await)] {
        // Two seconds to the first answer, or three, and two to the second.
        assert!(time >= 49 * SEC && time <= 50 * SEC, "{name}: {time:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_moved_is_found_where_it_is() {
    let brokers = Brokers::good();
    let pool = brokers.pool(Config::default()).await;
    let at = |port: u16| BTreeMap::from([(7, format!("broker:{port}").parse::<Address>().unwrap())]);
    pool.set_brokers(at(1), None);
    let old = pool.connection(Target::Broker(7), Use::General).await.unwrap();
    ask(&old).await.unwrap();
    pool.set_brokers(at(1), None);
    assert!(old.is_open(), "nothing changed");
    pool.set_brokers(at(2), None);
    assert!(!old.is_open());
    let new = pool.connection(Target::Broker(7), Use::General).await.unwrap();
    ask(&new).await.unwrap();
    assert!(format!("{new:?}").contains("broker:2"), "{new:?}");
    pool.set_brokers(BTreeMap::new(), None);
    assert!(pool.connection(Target::Broker(7), Use::General).await.unwrap_err().is_io());
}

#[tokio::test(start_paused = true)]
async fn one_who_waits_for_a_broker_that_moves_gets_the_new_connection() {
    // The first never says a word.
    let brokers = Brokers::new(|n, stream| async move {
        if n == 0 {
            let mut peer = Peer::new(stream);
            peer.next().await;
            peer.next().await;
        } else {
            serve(stream, usize::MAX).await;
        }
    });
    let pool = brokers.pool(Config::default()).await;
    let at = |port: u16| BTreeMap::from([(7, format!("broker:{port}").parse::<Address>().unwrap())]);
    pool.set_brokers(at(1), None);
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.connection(Target::Broker(7), Use::General).await }
    });
    tokio::time::sleep(SEC).await;
    pool.set_brokers(at(2), None);
    ask(&waiting.await.unwrap().unwrap()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn l05_after_a_standstill_answers_that_are_there_count() {
    let pool = Brokers::good().pool(Config::default()).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    let mut asking: BoxFuture<'_, _> = Box::pin(ask(&connection));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(asking.as_mut().poll(&mut cx).is_pending());
    // The broker answers, and the next that the driver sees is an hour later.
    tokio::time::advance(3600 * SEC).await;
    asking.await.unwrap();
}

/// What is told.
fn heard() -> (Hub, Arc<Mutex<Vec<Event>>>) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&told);
    (Hub::new(Some(Box::new(move |event: &Event| ears.lock().unwrap().push(event.clone())))), told)
}

/// A bootstrap connection, and then one to each broker of those given; how many were made in all.
async fn connections_made(net: crate::net::Config, at: &[(i32, &str)]) -> usize {
    let brokers = Brokers::good();
    let dialer = Dialer::new(net.connect_with(brokers.clone())).await.unwrap();
    let given = vec!["a:1".parse().unwrap(), "b:1".parse().unwrap()];
    let pool = Pool::new(Config::default(), dialer, Hub::default(), given, 7);
    let first = pool.connection(Target::Bootstrap(1), Use::General).await.unwrap();
    let map: BTreeMap<i32, Address> = at.iter().map(|(id, at)| (*id, at.parse().unwrap())).collect();
    pool.set_brokers(map.clone(), None);
    for id in map.keys() {
        let connection = pool.connection(Target::Broker(*id), Use::General).await.unwrap();
        ask(&connection).await.unwrap();
        assert!(connection.0.broker().starts_with(&id.to_string()), "{connection:?}");
    }
    ask(&first).await.unwrap();
    brokers.count()
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_connection_becomes_that_of_the_broker_there() {
    let plain = crate::net::Config::new;
    assert_eq!(connections_made(plain(), &[(4, "c:1"), (7, "b:1")]).await, 2);
    assert_eq!(connections_made(plain(), &[(4, "b:1"), (7, "b:1")]).await, 3, "it may be either");
    let mapped = plain().map_advertised(Address::clone);
    assert_eq!(connections_made(mapped, &[(7, "b:1")]).await, 2, "it may be elsewhere");
}

#[tokio::test(start_paused = true)]
async fn a_bootstrap_connection_serves_the_first_use_of_its_broker_and_no_other() {
    let brokers = Brokers::good();
    let (hub, told) = heard();
    let pool = brokers.pool_heard(Config::default(), hub).await;
    let first = pool.connection(THERE, Use::General).await.unwrap();
    pool.set_brokers(BTreeMap::from([(7, "broker:9092".parse().unwrap())]), None);
    let there = Target::Broker(7);
    let produce = pool.connection(there, Use::Produce).await.unwrap();
    assert!(Arc::ptr_eq(&first.0, &produce.0));
    let mut all = vec![produce];
    for kind in [Use::Admin, Use::General, Use::Fetch, Use::Group, Use::Produce] {
        let connection = pool.connection(there, kind).await.unwrap();
        ask(&connection).await.unwrap();
        let shared = all.iter().any(|other| Arc::ptr_eq(&other.0, &connection.0));
        assert_eq!(shared, kind == Use::Produce, "{kind:?}");
        all.push(connection);
    }
    assert_eq!(brokers.count(), 5);
    pool.set_brokers(BTreeMap::from([(7, "elsewhere:9092".parse().unwrap())]), None);
    assert!(all.iter().all(|connection| !connection.is_open()), "all are let go when the broker moves");
    tokio::time::sleep(SEC).await;
    let lost = |event: &Event| if let Event::Lost { kind, .. } = event { Some(*kind) } else { None };
    let mut lost: Vec<Use> = told.lock().unwrap().iter().filter_map(lost).collect();
    lost.sort();
    let each = [Use::General, Use::Produce, Use::Fetch, Use::Group, Use::Admin];
    assert_eq!(lost, each, "the first is told of as what it was used for");
}
