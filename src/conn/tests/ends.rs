//! Ends: closing in each state, panics, runtimes that go.

use super::*;
use crate::conn::sasl::{Mechanism, Peer as Broker, Session};

/// A mechanism whose beginning is what a test wants.
#[derive(Debug)]
struct Odd(fn());

impl Mechanism for Odd {
    fn name(&self) -> &'static str {
        "ODD"
    }
    fn wants_encryption(&self) -> bool {
        false
    }
    fn begin<'a>(&'a self, _: &'a Broker) -> BoxFuture<'a, Result<Box<dyn Session>>> {
        (self.0)();
        Box::pin(std::future::pending())
    }
}

fn odd(begin: fn()) -> Config {
    Config { sasl: Some(Arc::new(Odd(begin))), ..Config::default() }
}

/// Agrees to the mechanism.
fn agreeing() -> Brokers {
    use crate::messages::sasl_handshake::SaslHandshakeRequest;
    Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        if peer.tell_versions().await.is_none() {
            return;
        }
        let Some(asked) = peer.next().await else { return };
        peer.answer::<SaslHandshakeRequest>(&asked, &mechanisms(&["ODD"])).await;
        peer.next().await;
    })
}

/// Never answers an attempt to connect.
#[derive(Debug)]
struct Nowhere;

impl Connect for Nowhere {
    fn connect<'a>(&'a self, _: &'a Address) -> BoxFuture<'a, Result<Box<dyn Transport>>> {
        Box::pin(std::future::pending())
    }
}

/// Closes while someone waits for a connection; gives what he was told and how long closing took.
async fn close_while_connecting(pool: Pool) -> (Error, Duration) {
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.connection(THERE, Use::General).await.unwrap_err() }
    });
    tokio::time::sleep(SEC).await;
    let start = clock::now();
    pool.close(start + 5 * SEC).await;
    let took = elapsed(start);
    (tokio::time::timeout(SEC, waiting).await.expect("told at once").unwrap(), took)
}

#[tokio::test(start_paused = true)]
async fn l01_closing_while_it_dials_is_at_once() {
    let dialer = Dialer::new(crate::net::Config::new().connect_with(Nowhere)).await.unwrap();
    let pool = Pool::new(Config::default(), dialer, Hub::default(), vec!["b:1".parse().unwrap()], 1);
    let (why, took) = close_while_connecting(pool).await;
    assert!(why.is_closed() && took < 10 * MS, "{why} {took:?}");
}

#[tokio::test(start_paused = true)]
async fn l01_closing_in_the_pause_after_a_failure_is_at_once() {
    let brokers = Brokers::maybe(|_, _| None);
    let config = Config { backoff: 60 * SEC, backoff_max: 60 * SEC, ..Config::default() };
    let pool = brokers.pool(config).await;
    assert!(reach(&pool, Use::General).await.is_err());
    let (why, took) = close_while_connecting(pool).await;
    assert!(why.is_closed() && took < 10 * MS, "{why} {took:?}");
    assert_eq!(brokers.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn l01_closing_in_the_handshake_is_at_once() {
    let silent = Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        while peer.next().await.is_some() {}
    });
    let (why, took) = close_while_connecting(silent.pool(Config::default()).await).await;
    assert!(why.is_closed() && took < 10 * MS, "{why} {took:?}");
}

#[tokio::test(start_paused = true)]
async fn l01_closing_while_a_mechanism_hangs_is_at_once() {
    let pool = agreeing().pool(odd(|| {})).await;
    let (why, took) = close_while_connecting(pool).await;
    assert!(why.is_closed() && took < 10 * MS, "{why} {took:?}");
}

#[tokio::test(start_paused = true)]
async fn l01_closing_idle_connections_is_at_once_and_may_be_done_again() {
    let pool = Brokers::good().pool(Config::default()).await;
    for kind in [Use::General, Use::Fetch] {
        reach(&pool, kind).await.unwrap();
    }
    let start = clock::now();
    pool.close(start + 5 * SEC).await;
    pool.close(start + 5 * SEC).await;
    assert!(elapsed(start) < 10 * MS);
    assert!(reach(&pool, Use::General).await.unwrap_err().is_closed());
}

#[tokio::test(start_paused = true)]
async fn l01_closing_waits_for_answers_but_not_past_its_deadline() {
    let slow = Brokers::new(|n, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        while let Some(asked) = peer.next().await {
            tokio::time::sleep(if n == 0 { 2 * SEC } else { 20 * SEC }).await;
            peer.answer_metadata(&asked).await;
        }
    });
    let pool = slow.pool(Config::default()).await;
    let mut asking = Vec::new();
    for kind in [Use::General, Use::Fetch] {
        let connection = pool.connection(THERE, kind).await.unwrap();
        asking.push(tokio::spawn(async move { ask(&connection).await }));
    }
    tokio::time::sleep(MS).await;
    let start = clock::now();
    pool.close(start + 5 * SEC).await;
    assert_eq!(elapsed(start).as_secs(), 5);
    let late = asking.pop().unwrap().await.unwrap().unwrap_err();
    assert!(late.is_closed() && late.may_have_happened(), "{late}");
    asking.pop().unwrap().await.unwrap().unwrap();
    assert!(elapsed(start) < 6 * SEC);
}

#[tokio::test(start_paused = true)]
async fn l01_dropping_the_pool_ends_its_connections() {
    let pool = Brokers::new(|_, stream| fall_silent(stream)).pool(Config::default()).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    let asking = tokio::spawn(async move { ask(&connection).await });
    tokio::time::sleep(MS).await;
    let start = clock::now();
    drop(pool);
    let why = asking.await.unwrap().unwrap_err();
    assert!(why.is_closed() && why.may_have_happened(), "{why}");
    assert!(elapsed(start) < MS);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn l02_a_request_that_races_closing_ends() {
    let (mut answered, mut refused) = (0, 0);
    for round in 0..50 {
        let pool = Brokers::good().pool(Config::default()).await;
        let connection = pool.connection(THERE, Use::General).await.unwrap();
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..40 {
            let (pool, connection) = (pool.clone(), connection.clone());
            asking.spawn(async move {
                if n % 2 == 0 { ask(&connection).await } else { reach(&pool, Use::General).await }
            });
        }
        // From before the first request to after the last.
        for _ in 0..round * 500 {
            std::hint::spin_loop();
        }
        pool.close(clock::now() + 5 * SEC).await;
        while let Some(done) =
            tokio::time::timeout(10 * SEC, asking.join_next()).await.expect("each of them ends")
        {
            match done.unwrap() {
                Ok(_) => answered += 1,
                Err(error) => {
                    assert!(error.is_closed() || error.is_io(), "{error}");
                    assert!(!error.may_have_happened(), "closing waits for what was sent: {error}");
                    refused += 1;
                }
            }
        }
    }
    println!("{answered} answered, {refused} refused");
    assert_eq!(answered + refused, 50 * 40);
}

#[tokio::test(start_paused = true)]
async fn l04_a_mechanism_that_panics_fails_who_waits_and_hangs_nobody() {
    let brokers = agreeing();
    let pool = brokers.pool(odd(|| panic!("a defect of the user's mechanism"))).await;
    let start = clock::now();
    for _ in 0..3 {
        let why = pool.connection(THERE, Use::General).await.unwrap_err();
        assert!(why.is_internal(), "{why}");
    }
    assert!(elapsed(start) < SEC && brokers.count() == 3);
    pool.close(clock::now() + SEC).await;
}

#[tokio::test(start_paused = true)]
async fn l04_a_listener_that_always_panics_harms_nobody() {
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let hub = Hub::new(Some(Box::new(move |_| {
        count.fetch_add(1, Relaxed);
        panic!("a defect of the user's listener");
    })));
    let pool = Brokers::good().pool_heard(Config::default(), hub).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    ask(&connection).await.unwrap();
    // While a task ends he is told too, and a second panic there would end the process.
    drop(pool);
    connection.ended().await;
    assert_eq!(told.load(Relaxed), 3, "connected, answered, lost");
}

#[test]
fn l04_when_the_runtime_goes_all_who_wait_are_told() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let brokers = Brokers::new(|n, stream| async move {
        if n == 0 {
            fall_silent(stream).await;
        } else {
            serve(stream, usize::MAX).await;
        }
    });
    let (pool, connection, mut asking) = first.block_on(async {
        let pool = brokers.pool(Config::default()).await;
        let connection = pool.connection(THERE, Use::General).await.unwrap();
        let asking = Box::pin({
            let connection = connection.clone();
            async move { ask(&connection).await }
        });
        let mut asking: BoxFuture<'static, Result<MetadataResponse>> = asking;
        assert!(futures_poll(&mut asking).is_none(), "the broker is silent");
        (pool, connection, asking)
    });
    drop(first);
    runtime().block_on(async {
        let why = asking.as_mut().await.unwrap_err();
        assert!(why.is_closed() && why.may_have_happened(), "{why}");
        assert!(ask(&connection).await.unwrap_err().is_io());
        // And in another runtime it goes on.
        reach(&pool, Use::General).await.unwrap();
    });
}

/// Polls once.
fn futures_poll<T>(future: &mut BoxFuture<'_, T>) -> Option<T> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut cx) {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn l04_a_task_that_never_ran_fails_who_waits() {
    let pool = Brokers::good().pool(Config::default()).await;
    let mut waiting: BoxFuture<'_, _> = Box::pin(pool.connection(THERE, Use::General));
    assert!(futures_poll(&mut waiting).is_none());
    // The connection's task was spawned and has not been polled; now it never will be.
    let mut closing: BoxFuture<'_, ()> = Box::pin(pool.close(clock::now()));
    assert!(futures_poll(&mut closing).is_some(), "its time is over");
    drop(closing);
    let told = tokio::time::timeout(SEC, waiting).await.expect("nobody waits for ever");
    assert!(told.unwrap_err().is_closed());
}
