//! Peers that are no brokers, or hardly.

use super::*;
use crate::messages::metadata::MetadataResponseBroker;

async fn why_not(config: Config, brokers: &Brokers) -> Error {
    let pool = brokers.pool(config).await;
    pool.connection(THERE, Use::General).await.unwrap_err()
}

/// Says this to whoever connects, once he has said something, and closes.
fn says(words: &'static [u8]) -> Brokers {
    Brokers::new(move |_, mut stream| async move {
        let _ = stream.read(&mut [0; 1024]).await;
        let _ = stream.write_all(words).await;
    })
}

#[tokio::test(start_paused = true)]
async fn b03_http_is_named() {
    let why = why_not(Config::default(), &says(b"HTTP/1.1 400 Bad Request\r\n\r\n")).await;
    assert!(why.is_malformed() && why.to_string().contains("HTTP"), "{why}");
    assert!(why.to_string().contains("broker:9092"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn b03_a_tls_alert_is_named() {
    let why = why_not(Config::default(), &says(b"\x15\x03\x03\x00\x02\x02\x50")).await;
    assert!(why.to_string().contains("TLS"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn b03_ssh_is_named() {
    let why = why_not(Config::default(), &says(b"SSH-2.0-OpenSSH_9.2\r\n")).await;
    assert!(why.to_string().contains("SSH"), "{why}");
}

#[tokio::test]
async fn b03_http_is_named_on_a_real_socket() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: Address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read(&mut [0; 1024]).await;
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    let dialer = Dialer::new(crate::net::Config::new()).await.unwrap();
    let pool = Pool::new(Config::default(), dialer, Hub::default(), vec![address], 1);
    let why = pool.connection(THERE, Use::General).await.unwrap_err();
    assert!(why.to_string().contains("HTTP"), "{why}");
    server.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn b04_a_slow_drip_is_bounded_by_time_and_memory() {
    // Before it is ready: by the setup timeout.
    let brokers = Brokers::new(|_, mut stream| async move {
        let _ = stream.write_all(&60_000_u32.to_be_bytes()).await;
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SEC).await;
        }
    });
    let start = clock::now();
    let why = why_not(Config::default(), &brokers).await;
    assert!(why.is_timeout(), "{why}");
    assert!(elapsed(start) >= 10 * SEC && elapsed(start) < 11 * SEC, "{:?}", elapsed(start));

    // After: by the request's.
    let brokers = Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        peer.next().await;
        let _ = peer.stream.write_all(&(90_u32 << 20).to_be_bytes()).await;
        while peer.stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(SEC).await;
        }
    });
    let pool = brokers.pool(Config::default()).await;
    let start = clock::now();
    let why = reach(&pool, Use::General).await.unwrap_err();
    assert!(why.is_timeout() && why.may_have_happened(), "{why}");
    assert!(elapsed(start) < 31 * SEC);
}

#[tokio::test(start_paused = true)]
async fn b04_before_a_broker_has_accepted_us_answers_are_small() {
    let brokers = Brokers::new(|_, mut stream| async move {
        let _ = stream.write_all(&((64_u32 << 10) + 1).to_be_bytes()).await;
        let _ = stream.read(&mut [0; 1]).await;
    });
    let why = why_not(Config::default(), &brokers).await;
    assert!(why.is_limit(), "{why}");
    // Afterwards, up to the other limit.
    let brokers = Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        let asked = peer.next().await.unwrap();
        let host = "x".repeat(30_000).as_str().into();
        let broker = MetadataResponseBroker { host, ..Default::default() };
        let response = MetadataResponse { brokers: vec![broker; 5], ..Default::default() };
        peer.answer::<MetadataRequest>(&asked, &response).await;
        peer.next().await;
    });
    let pool = brokers.pool(Config::default()).await;
    let answer = reach(&pool, Use::General).await.unwrap();
    assert_eq!(answer.brokers.len(), 5);
}

#[tokio::test(start_paused = true)]
async fn b05_an_answer_that_was_not_asked_for_ends_the_connection_and_no_other() {
    let brokers = Brokers::new(|n, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        while let Some(asked) = peer.next().await {
            let correlation = if n == 0 { asked.correlation + 1 } else { asked.correlation };
            peer.answer_metadata(&Asked { correlation, ..asked }).await;
        }
    });
    let pool = brokers.pool(Config::default()).await;
    let why = reach(&pool, Use::General).await.unwrap_err();
    assert!(why.is_io() && why.may_have_happened(), "{why}");
    reach(&pool, Use::General).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn b06_an_answer_that_cannot_be_decoded_ends_the_connection() {
    let brokers = Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        let asked = peer.next().await.unwrap();
        let whole = asked.answer::<MetadataRequest>(&MetadataResponse::default());
        peer.send(&whole.slice(..whole.len() - 1)).await;
        peer.next().await;
    });
    let pool = brokers.pool(Config::default()).await;
    let connection = pool.connection(THERE, Use::General).await.unwrap();
    let why = ask(&connection).await.unwrap_err();
    assert!(why.is_malformed() && why.may_have_happened(), "{why}");
    connection.ended().await;
    assert!(!connection.is_open());
}

#[tokio::test(start_paused = true)]
async fn b06_bytes_that_are_left_over_are_told_and_cost_nothing() {
    let brokers = Brokers::new(|_, stream| async move {
        let mut peer = Peer::new(stream);
        peer.tell_versions().await;
        let asked = peer.next().await.unwrap();
        let whole = asked.answer::<MetadataRequest>(&MetadataResponse::default());
        peer.send(&[&whole[..], b"more"].concat().into()).await;
        peer.next().await;
    });
    let left = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&left);
    let hub = Hub::new(Some(Box::new(move |event| {
        if let Event::LeftOver { bytes, .. } = event {
            seen.store(*bytes, Relaxed);
        }
    })));
    let pool = brokers.pool_heard(Config::default(), hub).await;
    reach(&pool, Use::General).await.unwrap();
    assert_eq!(left.load(Relaxed), 4);
}
