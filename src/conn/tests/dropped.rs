//! Every future dropped at every poll: whatever is left, the pool goes on.

use std::task::{Context, Poll};

use super::*;

/// Polls a future that many times, and drops it; true if it was done before.
async fn drop_after<T>(polls: usize, future: impl Future<Output = T>) -> bool {
    let mut future = Box::pin(future);
    let mut left = polls;
    std::future::poll_fn(move |cx: &mut Context<'_>| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(cx).map(|_| true)
    })
    .await
}

/// Does `what` again and again, each time dropped one poll later, until it is done; after each the pool
/// must serve.
async fn at_every_poll<F: Future>(brokers: Brokers, what: impl Fn(Pool) -> F) -> usize {
    for polls in 0..1000 {
        let pool = brokers.pool(Config::default()).await;
        let done = drop_after(polls, what(pool.clone())).await;
        let after = tokio::time::timeout(60 * SEC, reach(&pool, Use::General)).await;
        let after = after.expect("the pool serves others");
        assert!(after.is_ok() || after.is_err_and(|error| error.is_closed()));
        let idle = pool.load(THERE);
        assert!(idle.is_none_or(|load| load == 0), "nothing is left behind: {idle:?}");
        if done {
            return polls;
        }
    }
    panic!("never done");
}

/// A broker that answers byte by byte, so that there are many polls.
fn slow() -> Brokers {
    Brokers::new(|_, stream| async move {
        let (mut ours, theirs) = tokio::io::duplex(1);
        let bytes = async move {
            let mut stream = stream;
            let _ = tokio::io::copy_bidirectional(&mut stream, &mut ours).await;
        };
        tokio::join!(bytes, serve(theirs, usize::MAX));
    })
}

#[tokio::test(start_paused = true)]
async fn connecting_can_be_dropped_anywhere() {
    let polls =
        at_every_poll(slow(), |pool| async move { pool.connection(THERE, Use::General).await.is_ok() }).await;
    assert!(polls >= 2, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn a_call_can_be_dropped_anywhere() {
    let polls = at_every_poll(slow(), |pool| async move { reach(&pool, Use::General).await.is_ok() }).await;
    assert!(polls >= 3, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_an_answer_can_be_dropped_anywhere() {
    use crate::messages::produce::ProduceRequest;
    let polls = at_every_poll(slow(), |pool| async move {
        let connection = pool.connection(THERE, Use::General).await?;
        connection.send(&ProduceRequest::default(), 9, Patience::default()).await
    })
    .await;
    assert!(polls >= 2, "{polls}");
}

#[tokio::test(start_paused = true)]
async fn waiting_to_be_ready_and_for_the_end_can_be_dropped_anywhere() {
    at_every_poll(slow(), |pool| async move {
        let connection = pool.connection(THERE, Use::General).await?;
        connection.ready().await.map(|_| ())?;
        let never = tokio::time::timeout(SEC, connection.ended()).await;
        assert!(never.is_err());
        Ok::<_, Error>(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn closing_can_be_dropped_anywhere() {
    at_every_poll(slow(), |pool| async move {
        reach(&pool, Use::General).await?;
        pool.close(clock::now() + SEC).await;
        Ok::<_, Error>(())
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_dropped_before_it_is_sent_never_is() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let brokers = Brokers::new(move |_, stream| {
        let count = Arc::clone(&count);
        async move {
            let mut peer = Peer::new(stream);
            peer.tell_versions().await;
            while let Some(asked) = peer.next().await {
                count.fetch_add(1, Relaxed);
                tokio::time::sleep(SEC).await;
                peer.answer_metadata(&asked).await;
            }
        }
    });
    let pool = brokers.pool(Config { in_flight_max: 1, ..Config::default() }).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    for n in 0..3 {
        let connection = connection.clone();
        asking.spawn(async move {
            let call = ask(&connection);
            // The second gives up while the first is under way.
            if n == 1 { tokio::time::timeout(500 * MS, call).await.is_err() } else { call.await.is_ok() }
        });
    }
    assert!(asking.join_all().await.into_iter().all(|fine| fine));
    assert_eq!(asked.load(Relaxed), 2);
}
