//! Proxies that do as they should, and proxies that do not.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

use super::super::{Address, Config, Dialer, Origin, Proxy, clock};
use super::dialing::talks;
use crate::error::Result;

/// One turn of a proxy's script: what it must hear, and what it says then.
type Turn<'a> = (&'a [u8], &'a [u8]);

/// Asks a proxy that follows the script for a way to `to`. It says each byte by itself, and closes at the end.
async fn ask(proxy: &Proxy, to: &str, script: &[Turn<'_>]) -> Result<()> {
    let (mut ours, theirs) = duplex(1);
    let to: Address = to.parse().unwrap();
    let (outcome, ()) = tokio::join!(
        async {
            let outcome = proxy.handshake(&mut ours, &to).await;
            drop(ours);
            outcome
        },
        follow(theirs, script)
    );
    outcome
}

async fn follow(mut stream: DuplexStream, script: &[Turn<'_>]) {
    for (hears, says) in script {
        let mut heard = vec![0; hears.len()];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard.escape_ascii().to_string(), hears.escape_ascii().to_string());
        if stream.write_all(says).await.is_err() {
            // The client has heard enough.
            return;
        }
    }
}

fn socks5() -> Proxy {
    Proxy::socks5("proxy.example.com:1080".parse().unwrap())
}

fn http() -> Proxy {
    Proxy::http("proxy.example.com:3128".parse().unwrap())
}

const GREETING: &[u8] = &[5, 1, 0];
const BOTH_WAYS: &[u8] = &[5, 2, 0, 2];
const LOGIN: &[u8] = b"\x01\x02me\x09swordfish";
const TO_NAME: &[u8] = b"\x05\x01\x00\x03\x01a\x23\x84";
const GRANTED: &[u8] = &[5, 0, 0, 1, 127, 0, 0, 1, 0, 80];

#[tokio::test]
async fn socks5_opens_a_way_to_names_and_numbers() {
    let to_v4 = &[5, 1, 0, 1, 192, 0, 2, 7, 0x23, 0x84][..];
    let mut to_v6 = vec![5, 1, 0, 4];
    to_v6.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0x23, 0x84]);
    let mut granted_v6 = vec![5, 0, 0, 4];
    granted_v6.extend([0; 18]);
    let granted_name = b"\x05\x00\x00\x03\x05proxy\x00\x50";
    let granted_no_name = b"\x05\x00\x00\x03\x00\x00\x50";
    for (to, request, reply) in [
        ("a:9092", TO_NAME, GRANTED),
        ("192.0.2.7:9092", to_v4, &granted_v6),
        ("[2001:db8::7]:9092", &to_v6, granted_name),
        ("a:9092", TO_NAME, granted_no_name),
    ] {
        ask(&socks5(), to, &[(GREETING, &[5, 0]), (request, reply)]).await.unwrap();
    }
    let error = ask(&socks5(), "[fe80::1%eth0]:9092", &[]).await.unwrap_err();
    assert!(error.is_invalid(), "{error:?}");
}

#[tokio::test]
async fn socks5_logs_in_if_the_proxy_wants_it() {
    let proxy = socks5().credentials("me", "swordfish");
    for status in [&[1, 0], &[5, 0]] {
        let script = [(BOTH_WAYS, &[5, 2][..]), (LOGIN, status), (TO_NAME, GRANTED)];
        ask(&proxy, "a:9092", &script).await.unwrap();
    }
    ask(&proxy, "a:9092", &[(BOTH_WAYS, &[5, 0]), (TO_NAME, GRANTED)]).await.unwrap();
    let error = ask(&proxy, "a:9092", &[(BOTH_WAYS, &[5, 2]), (LOGIN, &[1, 1])]).await.unwrap_err();
    assert!(error.is_auth() && !format!("{error:?}").contains("swordfish"), "{error:?}");
    for (user, password) in [("", "x"), ("x", ""), (&*"x".repeat(256), "x"), ("x", &*"x".repeat(256))] {
        assert!(ask(&socks5().credentials(user, password), "a:9092", &[]).await.unwrap_err().is_invalid());
    }
}

#[tokio::test]
async fn socks5_refusals_say_why() {
    for (method, why) in [(0xff, "none of our ways"), (2, "wants a user and a password")] {
        let error = ask(&socks5(), "a:9092", &[(GREETING, &[5, method])]).await.unwrap_err();
        assert!(error.is_auth() && error.to_string().contains(why), "{error:?}");
    }
    for (code, retriable, why) in [
        (1, true, "failed"),
        (2, false, "rules"),
        (3, true, "network"),
        (4, true, "host"),
        (5, true, "refused"),
        (6, true, "time to live"),
        (7, false, "CONNECT"),
        (8, false, "type of address"),
        (99, true, "99"),
    ] {
        // Some proxies end a refusal after the code.
        for reply in [&[5, code][..], &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]] {
            let error = ask(&socks5(), "a:9092", &[(GREETING, &[5, 0]), (TO_NAME, reply)]).await.unwrap_err();
            assert!(error.to_string().contains(why) && error.is_retriable() == retriable, "{error:?}");
        }
    }
}

#[tokio::test]
async fn socks5_answers_that_are_none_are_refused() {
    for reply in [&b"HTTP/1.1 400"[..], &[4, 0x5a], &[5, 7], &[1, 0], &[5, 0, 0]] {
        let error = ask(&socks5(), "a:9092", &[(GREETING, reply)]).await.unwrap_err();
        assert!(error.is_malformed() || error.is_io(), "{reply:?}: {error:?}");
    }
    for reply in [&[4, 0, 0, 1][..], &[5, 0, 0, 2, 0], &[5, 0, 0, 0, 0]] {
        let error = ask(&socks5(), "a:9092", &[(GREETING, &[5, 0]), (TO_NAME, reply)]).await.unwrap_err();
        assert!(error.is_malformed(), "{reply:?}: {error:?}");
    }
    for cut in 0..GRANTED.len() {
        let error =
            ask(&socks5(), "a:9092", &[(GREETING, &[5, 0]), (TO_NAME, &GRANTED[..cut])]).await.unwrap_err();
        assert!(error.is_io() && error.to_string().contains("closed"), "{cut}: {error:?}");
    }
}

const CONNECT: &[u8] = b"CONNECT a:9092 HTTP/1.1\r\nHost: a:9092\r\n\r\n";

#[tokio::test]
async fn http_opens_a_way() {
    for reply in [
        &b"HTTP/1.1 200 Connection established\r\n\r\n"[..],
        b"HTTP/1.0 200\r\n\r\n",
        b"HTTP/1.1 204 x\r\nVia: someone\r\nX: y\r\n\r\n",
    ] {
        ask(&http(), "a:9092", &[(CONNECT, reply)]).await.unwrap();
    }
    let request = b"CONNECT [::1]:9092 HTTP/1.1\r\nHost: [::1]:9092\r\n\
                    Proxy-Authorization: Basic bWU6c3dvcmRmaXNo\r\n\r\n";
    let proxy = http().credentials("me", "swordfish");
    ask(&proxy, "[::1]:9092", &[(request, b"HTTP/1.1 200 OK\r\n\r\n")]).await.unwrap();
    assert!(ask(&http().credentials("m:e", "x"), "a:9092", &[]).await.unwrap_err().is_invalid());
}

#[tokio::test]
async fn http_refusals_say_why() {
    for (reply, retriable, why) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", false, "wants a user and a password"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", false, "rules"),
        ("HTTP/1.1 405 Method Not Allowed\r\n\r\n", false, "CONNECT"),
        ("HTTP/1.1 502 Bad\u{1b}[31m Gateway\r\n\r\n", true, "502 Bad\\u{1b}[31m Gateway"),
        ("HTTP/1.1 100 Continue\r\n\r\n", true, "100"),
    ] {
        let error = ask(&http(), "a:9092", &[(CONNECT, reply.as_bytes())]).await.unwrap_err();
        assert!(error.to_string().contains(why) && error.is_retriable() == retriable, "{error:?}");
    }
}

#[tokio::test]
async fn http_answers_that_are_none_are_refused() {
    for reply in [
        &b"SSH-2.0-x\r\n\r\n"[..],
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 +20 OK\r\n\r\n",
        b"HTTP/1.1 \xff\xff\xff\r\n\r\n",
        &[0; 64],
    ] {
        let error = ask(&http(), "a:9092", &[(CONNECT, reply)]).await.unwrap_err();
        assert!(error.is_malformed(), "{}: {error:?}", reply.escape_ascii());
    }
    let error = ask(&http(), "a:9092", &[(CONNECT, b"HTTP/1.1 200 OK\r\n")]).await.unwrap_err();
    assert!(error.is_io() && error.to_string().contains("closed"), "{error:?}");
    let endless = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 100_000]].concat();
    let error = ask(&http(), "a:9092", &[(CONNECT, &endless)]).await.unwrap_err();
    assert!(error.is_limit(), "{error:?}");
}

/// Bytes that come with the answer cannot be a broker's, which has not been asked anything.
#[tokio::test]
async fn bytes_after_the_answer_are_refused() {
    let whole = [GRANTED, b"x"].concat();
    for (proxy, asked, reply) in [
        (http(), CONNECT, &b"HTTP/1.1 200 OK\r\n\r\nx"[..]),
        (socks5(), GREETING, b"\x05\x00x"),
        (socks5(), GREETING, &[5, 0]),
    ] {
        let (mut ours, mut theirs) = duplex(4096);
        theirs.write_all(reply).await.unwrap();
        if reply == [5, 0] {
            theirs.write_all(&whole).await.unwrap();
        }
        let to = "a:9092".parse().unwrap();
        let ends = tokio::time::timeout(Duration::from_secs(5), proxy.handshake(&mut ours, &to));
        let error = ends.await.expect("an end of the handshake").unwrap_err();
        assert!(error.is_malformed() && error.to_string().contains("more than its answer"), "{error:?}");
        let mut heard = vec![0; asked.len()];
        theirs.read_exact(&mut heard).await.unwrap();
        assert_eq!(heard, asked);
    }
}

#[test]
fn nothing_printed_shows_the_password() {
    let config = Config::new().proxy(http().credentials("me", "swordfish"));
    let printed = format!("{config:?}");
    assert!(printed.contains("me") && !printed.contains("swordfish"), "{printed}");
}

/// A SOCKS 5 proxy over real sockets, that connects to the loopback address it is asked for.
async fn real_proxy() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut greeting = [0; 3];
        client.read_exact(&mut greeting).await.unwrap();
        client.write_all(&[5, 0]).await.unwrap();
        let mut request = [0; 10];
        client.read_exact(&mut request).await.unwrap();
        let to = u16::from_be_bytes([request[8], request[9]]);
        let mut broker = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
        client.write_all(GRANTED).await.unwrap();
        tokio::io::copy_bidirectional(&mut client, &mut broker).await.unwrap();
    });
    port
}

#[tokio::test]
async fn a_link_leads_through_the_proxy() {
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = broker.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = broker.accept().await.unwrap();
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    });
    let proxy = real_proxy().await;
    let config = Config::new().proxy(Proxy::socks5(Address::new("127.0.0.1", proxy).unwrap()));
    let dialer = Dialer::new(config).await.unwrap();
    let deadline = clock::now() + Duration::from_secs(10);
    let mut link = dialer.dial(&to.to_string().parse().unwrap(), Origin::Bootstrap, deadline).await.unwrap();
    assert_eq!(link.peer, format!("{to} through the proxy 127.0.0.1:{proxy}"));
    assert!(link.writer.is_write_vectored());
    talks(&mut link).await;
}

#[tokio::test]
async fn a_proxy_that_says_nothing_times_out_and_one_that_is_away_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    for (proxy, within_ms, timeout) in
        [(proxy.to_string(), 300, true), ("127.0.0.2:1".to_owned(), 10_000, false)]
    {
        let config = Config::new().proxy(Proxy::http(proxy.parse().unwrap()));
        let dialer = Dialer::new(config).await.unwrap();
        let deadline = clock::now() + Duration::from_millis(within_ms);
        let error = dialer.dial(&"a:9092".parse().unwrap(), Origin::Bootstrap, deadline).await.unwrap_err();
        assert!(error.is_timeout() == timeout && error.is_io() != timeout, "{error:?}");
        assert!(error.to_string().contains("at a:9092: the proxy 127.0.0."), "{error}");
    }
}
