//! From an address to a link: names, several addresses, mapping, allowed hosts, the user's own transport.

use std::io;
use std::io::IoSlice;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::net::TcpListener;

use super::super::{Address, BoxFuture, Config, Connect, Dialer, Link, Origin, Resolve, Transport, clock};
use crate::error::{Error, Result};

async fn dial(config: Config, to: &str, origin: Origin) -> Result<Link> {
    let deadline = clock::now() + Duration::from_secs(10);
    Dialer::new(config).await?.dial(&to.parse()?, origin, deadline).await
}

/// A server that says what it hears, on a port of its own.
async fn echo_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    port
}

async fn echo(stream: impl Transport) {
    let (mut reader, mut writer) = tokio::io::split(stream);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
}

/// A port of loopback on which nothing listens.
async fn dead_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

pub(super) async fn talks(link: &mut Link) {
    let count = link.writer.write_vectored(&[IoSlice::new(b"pi"), IoSlice::new(b"ng")]).await.unwrap();
    link.writer.write_all(&b"ping"[count..]).await.unwrap();
    link.writer.flush().await.unwrap();
    let mut back = [0; 4];
    link.reader.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

/// A resolver that gives these answers, or none in time.
#[derive(Debug)]
enum Names {
    Are(Vec<IpAddr>),
    Fail,
    Hang,
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            assert_eq!(host, "broker.example.com", "numbers are not looked up");
            match self {
                Self::Are(list) => Ok(list.clone()),
                Self::Fail => Err(io::Error::other("no such name")),
                Self::Hang => std::future::pending().await,
            }
        })
    }
}

fn ips(list: &[&str]) -> Names {
    Names::Are(list.iter().map(|ip| ip.parse().unwrap()).collect())
}

#[tokio::test]
async fn a_number_and_a_name_of_the_system_are_reached() {
    let port = echo_server().await;
    for to in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
        let config = Config::new().send_buffer_bytes(64 * 1024).receive_buffer_bytes(64 * 1024);
        let mut link = dial(config, &to, Origin::Bootstrap).await.unwrap();
        assert_eq!(link.peer, format!("127.0.0.1:{port}"));
        assert!(!link.encrypted && link.writer.is_write_vectored(), "{link:?}");
        talks(&mut link).await;
    }
}

#[tokio::test]
async fn b43_a_dead_first_address_is_passed_over() {
    let port = echo_server().await;
    // Nothing listens on the first two; the second family takes its turn between them.
    let config = Config::new().resolver(ips(&["127.0.0.2", "127.0.0.3", "::1", "127.0.0.1"]));
    let mut link = dial(config, &format!("broker.example.com:{port}"), Origin::Bootstrap).await.unwrap();
    assert_eq!(link.peer, format!("127.0.0.1:{port}"));
    talks(&mut link).await;
}

#[tokio::test]
async fn an_address_that_was_of_no_use_is_tried_last() {
    let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
    let config = Config::new().resolver(ips(&["127.0.0.1", "127.0.0.2"]));
    let dialer = Dialer::new(config).await.unwrap();
    let to = Address::new("broker.example.com", port).unwrap();
    let at = async || {
        let link = dialer.dial(&to, Origin::Bootstrap, clock::now() + Duration::from_secs(10)).await.unwrap();
        link.at.unwrap()
    };
    let (one, two) = (first.local_addr().unwrap(), second.local_addr().unwrap());
    assert_eq!((at().await, at().await), (one, one));
    dialer.avoid(one);
    assert_eq!((at().await, at().await), (two, two));
    dialer.avoid(two);
    assert_eq!(at().await, one);
    for port in 1..1000 {
        dialer.avoid(([192, 0, 2, 7], port).into());
    }
    assert_eq!(dialer.avoided().len(), 64);
}

#[tokio::test]
async fn b43_a_thousand_addresses_are_tried_up_to_the_bound() {
    let many =
        (0..1000u16).map(|at| IpAddr::from([127, 1, (at / 200) as u8, (at % 200) as u8 + 1])).collect();
    let to = format!("broker.example.com:{}", dead_port().await);
    let config = Config::new().resolver(Names::Are(many)).addresses_max(5);
    let error = dial(config, &to, Origin::Bootstrap).await.unwrap_err();
    assert!(error.is_io() && error.is_retriable(), "{error:?}");
    assert_eq!(error.broker(), Some(&*to));
    let text = error.to_string();
    assert!(text.contains("none of 5 addresses") && text.matches("127.1.0.").count() == 5, "{text}");
}

#[tokio::test(start_paused = true)]
async fn b43_names_that_are_not_found_end_in_time() {
    let to = "broker.example.com:9092";
    for (names, why) in [(Names::Fail, "no such name"), (ips(&[]), "has no address")] {
        let error = dial(Config::new().resolver(names), to, Origin::Bootstrap).await.unwrap_err();
        assert!(error.is_io() && error.to_string().contains(why), "{error:?}");
    }
    let begun = clock::now();
    let error = dial(Config::new().resolver(Names::Hang), to, Origin::Bootstrap).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("looking up"), "{error:?}");
    assert_eq!((clock::now() - begun).as_secs(), 5);
}

/// A label may have 63 bytes, so that the system's resolver need not ask anybody.
#[tokio::test]
async fn b43_the_system_says_that_a_name_is_not_found() {
    let to = format!("{}.invalid:9092", "a".repeat(64));
    let error = dial(Config::new(), &to, Origin::Bootstrap).await.unwrap_err();
    assert!(error.is_io() && error.to_string().contains("was not found"), "{error:?}");
}

/// The user's own transport: pipes whose other ends echo or are kept, and a list of where they were to lead.
#[derive(Debug, Clone, Default)]
pub(super) struct Pipes {
    asked: Arc<Mutex<Vec<String>>>,
    fails: bool,
    hangs: bool,
    kept: Option<Arc<Mutex<Vec<DuplexStream>>>>,
}

impl Connect for Pipes {
    fn connect<'a>(&'a self, to: &'a Address) -> BoxFuture<'a, Result<Box<dyn Transport>>> {
        Box::pin(async move {
            self.asked.lock().unwrap().push(to.to_string());
            if self.fails {
                Err(io::Error::from(io::ErrorKind::NotFound))?;
            }
            if self.hangs {
                std::future::pending::<()>().await;
            }
            let (ours, theirs) = duplex(64 * 1024);
            match &self.kept {
                Some(kept) => kept.lock().unwrap().push(theirs),
                None => drop(tokio::spawn(echo(theirs))),
            }
            Ok(Box::new(ours) as Box<dyn Transport>)
        })
    }
}

#[tokio::test]
async fn a_transport_of_the_users_own_takes_the_place_of_sockets() {
    let pipes = Pipes::default();
    let config = Config::new().connect_with(pipes.clone()).resolver(Names::Fail);
    let mut link = dial(config, "broker.example.com:9092", Origin::Bootstrap).await.unwrap();
    talks(&mut link).await;
    assert_eq!((&*link.peer, link.encrypted), ("broker.example.com:9092", false));
    assert_eq!(*pipes.asked.lock().unwrap(), ["broker.example.com:9092"]);
}

#[tokio::test(start_paused = true)]
async fn a_transport_that_fails_or_hangs_gives_an_error_in_time() {
    let fails = Config::new().connect_with(Pipes { fails: true, ..Pipes::default() });
    let error = dial(fails, "broker.example.com:9092", Origin::Bootstrap).await.unwrap_err();
    assert!(error.is_io() && error.broker() == Some("broker.example.com:9092"), "{error:?}");
    let hangs = Config::new().connect_with(Pipes { hangs: true, ..Pipes::default() });
    let error = dial(hangs, "broker.example.com:9092", Origin::Bootstrap).await.unwrap_err();
    assert!(error.is_timeout(), "{error:?}");
}

#[tokio::test]
async fn a_host_that_is_not_allowed_is_not_connected_to() {
    let pipes = Pipes::default();
    let config =
        Config::new().connect_with(pipes.clone()).allow_advertised(["*.kafka.example.com:9092"]).unwrap();
    for to in ["169.254.169.254:80", "db.internal:9092", "b.kafka.example.com:22"] {
        let error = dial(config.clone(), to, Origin::Advertised).await.unwrap_err();
        assert!(error.is_invalid() && !error.is_retriable(), "{error:?}");
        assert!(error.to_string().contains("not an allowed host") && error.broker() == Some(to), "{error:?}");
    }
    assert!(pipes.asked.lock().unwrap().is_empty());
    dial(config.clone(), "b.kafka.example.com:9092", Origin::Advertised).await.unwrap();
    // What the user gave is not asked.
    dial(config, "bootstrap.internal:9092", Origin::Bootstrap).await.unwrap();
    assert_eq!(pipes.asked.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn advertised_hosts_are_mapped_and_then_checked() {
    let pipes = Pipes::default();
    let config = Config::new()
        .connect_with(pipes.clone())
        .map_advertised(|to| {
            let port = 19000 + to.port() % 1000;
            if to.host() == "internal" { Address::new("localhost", port).unwrap() } else { to.clone() }
        })
        .allow_advertised(["localhost"])
        .unwrap();
    dial(config.clone(), "internal:9092", Origin::Advertised).await.unwrap();
    dial(config.clone(), "internal:9092", Origin::Bootstrap).await.unwrap();
    let error = dial(config, "elsewhere:9092", Origin::Advertised).await.unwrap_err();
    assert!(error.is_invalid(), "{error:?}");
    assert_eq!(*pipes.asked.lock().unwrap(), ["localhost:19092", "internal:9092"]);
}

#[tokio::test]
async fn an_error_of_a_socket_keeps_its_source() {
    let error = dial(Config::new(), &format!("127.0.0.1:{}", dead_port().await), Origin::Bootstrap).await;
    let error: Error = error.unwrap_err();
    assert!(std::error::Error::source(&error).unwrap().is::<io::Error>(), "{error:?}");
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}

#[cfg(any(feature = "ring", feature = "aws-lc-rs", feature = "graviola"))]
mod with_tls {
    use super::super::super::tls::tests::pki;
    use super::*;

    #[tokio::test]
    async fn tls_runs_over_sockets_and_over_the_users_transport() {
        let authority = pki::Authority::new(1);
        let server = Arc::new(authority.server(&["localhost", "broker.example.com"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("localhost:{}", listener.local_addr().unwrap().port());
        let config = Config::new().tls(authority.trusted());
        let over_socket = Arc::clone(&server);
        tokio::spawn(async move { pki::echo(over_socket, listener.accept().await.unwrap().0).await });
        let mut link = dial(config.clone(), &to, Origin::Bootstrap).await.unwrap();
        assert!(link.encrypted && link.writer.is_write_vectored(), "{link:?}");
        talks(&mut link).await;

        let kept = Arc::new(Mutex::new(Vec::new()));
        let pipes = Pipes { kept: Some(Arc::clone(&kept)), ..Pipes::default() };
        let config = config.connect_with(pipes).map_advertised(|_| "tunnel:1".parse().unwrap());
        let serving = tokio::spawn(async move {
            loop {
                let theirs = kept.lock().unwrap().pop();
                if let Some(theirs) = theirs {
                    return pki::echo(server, theirs).await;
                }
                tokio::task::yield_now().await;
            }
        });
        // Mapped elsewhere, and still to be whom it said.
        let mut link = dial(config, "broker.example.com:9093", Origin::Advertised).await.unwrap();
        assert_eq!((&*link.peer, link.encrypted), ("tunnel:1", true));
        talks(&mut link).await;
        drop(link);
        serving.await.unwrap().unwrap_or_default();
    }

    /// The first takes connections and says nothing, as a stopped process does.
    #[tokio::test]
    async fn an_address_that_fails_tls_is_tried_last() {
        let authority = pki::Authority::new(1);
        let stopped = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = stopped.local_addr().unwrap().port();
        let works = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let server = Arc::new(authority.server(&["broker.example.com"]));
        tokio::spawn(async move { pki::echo(server, works.accept().await.unwrap().0).await });
        let config = Config::new().tls(authority.trusted()).resolver(ips(&["127.0.0.1", "127.0.0.2"]));
        let dialer = Dialer::new(config).await.unwrap();
        let to = Address::new("broker.example.com", port).unwrap();
        let soon = clock::now() + Duration::from_millis(300);
        assert!(dialer.dial(&to, Origin::Bootstrap, soon).await.unwrap_err().is_timeout());
        let later = clock::now() + Duration::from_secs(10);
        let mut link = dialer.dial(&to, Origin::Bootstrap, later).await.unwrap();
        talks(&mut link).await;
        drop(stopped);
    }

    #[tokio::test]
    async fn a_broker_without_tls_is_not_talked_to_in_the_clear() {
        let port = echo_server().await;
        let config = Config::new().tls(pki::Authority::new(1).trusted());
        let error = dial(config, &format!("127.0.0.1:{port}"), Origin::Bootstrap).await.unwrap_err();
        // It says our own hello again, which no server may say.
        assert!(error.is_auth(), "{error:?}");
    }
}
