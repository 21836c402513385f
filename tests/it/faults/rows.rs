//! Rows of the catalogue of faults that want a real broker: one node whose metadata names an address that is not
//! its own, and a link with TLS through a proxy.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::Duration;

use weir::conn::sasl::Plain;
use weir::net::Config;
use weir::net::tls::{Pem, Tls};
use weir::protocol::describe_cluster::DescribeClusterRequest;
use weir::{Builder, Client};
use weir_kafka_harness::proxy::{End, Proxies, Proxy};
use weir_kafka_harness::{Cluster, Failure, Listener, Mechanism, PASSWORD, USER, unless_skipped};

use crate::broker::{VERSIONS, shared};

const TLS: Listener = Listener::tls();
const SECRET: Listener = Listener::sasl(Mechanism::Plain).over_tls();
const SECOND: Duration = Duration::from_secs(1);
/// What a test says to the stranger.
const MARK: &[u8] = b"a mark";

/// Listens where no broker is, and keeps the first bytes of each connection.
struct Stranger {
    at: SocketAddr,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Stranger {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (at, heard) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<Vec<u8>>>>::default());
        let ears = Arc::clone(&heard);
        // It ends with the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let mut bytes = Vec::new();
                stream.set_read_timeout(Some(SECOND)).unwrap();
                // A client that says no more for a second has said all.
                drop((&stream).take(64 << 10).read_to_end(&mut bytes));
                ears.lock().unwrap().push(bytes);
            }
        });
        Self { at, heard }
    }

    /// What was said on every connection up to now: they are taken one after the other, so that all have been once
    /// one of ours was.
    async fn heard(&self) -> Vec<Vec<u8>> {
        TcpStream::connect(self.at).unwrap().write_all(MARK).unwrap();
        let all = async {
            loop {
                if let Some(heard) = self.up_to_mark() {
                    return heard;
                }
                tokio::time::sleep(SECOND / 100).await;
            }
        };
        tokio::time::timeout(30 * SECOND, all).await.expect("it listens")
    }

    fn up_to_mark(&self) -> Option<Vec<Vec<u8>>> {
        let mut heard = self.heard.lock().unwrap();
        let at = heard.iter().position(|bytes| bytes == MARK)?;
        Some(heard.drain(..=at).take(at).collect())
    }
}

/// One node: its metadata names a proxy for clients with TLS alone, and a stranger for those with a password.
struct Told {
    cluster: Cluster,
    proxies: Proxies,
    stranger: Stranger,
}

fn told() -> Option<&'static Told> {
    static TOLD: LazyLock<Result<Told, Failure>> = LazyLock::new(|| {
        let (proxies, stranger) = (Proxies::for_nodes(1).unwrap(), Stranger::start());
        let (proxy, at) = (proxies.addresses()[0], stranger.at);
        let cluster = Cluster::builder(VERSIONS[0])
            .listener(TLS)
            .listener(SECRET)
            .advertise(|_, listener| Some(if listener == TLS { proxy } else { at }))
            .start()?;
        proxies.set_upstreams(cluster.node(1).address(TLS));
        Ok(Told { cluster, proxies, stranger })
    });
    unless_skipped("a broker with TLS", TOLD.as_ref().map_err(Failure::clone))
}

impl Told {
    fn client(&self, at: SocketAddr, net: Config) -> Builder {
        let authority = self.cluster.certificates().unwrap().authority();
        let net = net.tls(Tls::new().roots(Pem::file(authority)));
        Client::builder(&format!("localhost:{}", at.port())).net(net).setup_timeout(5 * SECOND, 10 * SECOND)
    }

    fn proxy(&self) -> &Proxy {
        self.proxies.get(0).unwrap()
    }
}

/// What metadata names is believed no further than what the user named: the same TLS, the same check of who it
/// is, before a word of Kafka or a password; and with a list of allowed hosts not even a connection.
#[tokio::test]
async fn b15_a_strange_address_in_metadata_gets_no_password_and_no_plain_text() {
    let Some(told) = told() else { return };
    let at = told.cluster.node(1).address(SECRET).unwrap();
    let plain = || Plain::new(USER, PASSWORD).unwrap();
    let client = told.client(at, Config::new()).sasl(plain()).connect().await.unwrap();
    let call = client.request(DescribeClusterRequest::default()).to(1).timeout(3 * SECOND);
    let error = call.await.unwrap_err();
    assert!(!error.may_have_happened(), "{error}");
    client.close().await;
    let heard = told.stranger.heard().await;
    assert!(!heard.is_empty(), "it was asked: {error}");
    for bytes in heard.iter().filter(|bytes| !bytes.is_empty()) {
        assert_eq!(bytes[..2], [22, 3], "a TLS handshake");
        assert!(!bytes.windows(PASSWORD.len()).any(|window| window == PASSWORD.as_bytes()));
    }

    let net = Config::new().allow_advertised(["broker.example.com"]).unwrap();
    let client = told.client(at, net).sasl(plain()).connect().await.unwrap();
    let call = client.request(DescribeClusterRequest::default()).to(1).timeout(2 * SECOND);
    let error = call.await.unwrap_err();
    assert!(!error.may_have_happened(), "{error}");
    client.close().await;
    assert_eq!(told.stranger.heard().await, Vec::<Vec<u8>>::new(), "{error}");
}

/// An idle connection that ends without TLS's own goodbye costs no error, and is made again.
#[tokio::test]
async fn m07_an_end_of_tls_without_goodbye_costs_no_error() {
    let Some(told) = told() else { return };
    let client = told.client(told.proxy().address(), Config::new()).connect().await.unwrap();
    for end in [End::Close, End::Reset, End::Close] {
        client.request(DescribeClusterRequest::default()).await.unwrap();
        let before = client.stats();
        told.proxy().cut_links(end);
        let all_lost = async {
            while client.stats().connections_open > 0 {
                tokio::time::sleep(SECOND / 100).await;
            }
        };
        tokio::time::timeout(10 * SECOND, all_lost).await.expect("the client sees the end");
        client.request(DescribeClusterRequest::default()).await.unwrap();
        assert!(client.stats().connections_opened > before.connections_opened, "{:?}", client.stats());
    }
    client.close().await;
}

/// Whoever listens to events may call the client: no lock is held meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l03_a_listener_may_call_the_client() {
    let Some(broker) = shared(VERSIONS[0]) else { return };
    let me = Arc::new(OnceLock::<Client>::new());
    let again = Arc::clone(&me);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    let listener = move |event: &weir::observe::Event| {
        let Some(client) = again.get() else { return };
        let seen = format!("{event:?} {:?} {:?} {client:?}", client.stats(), client.brokers());
        let (client, mut heard) = (client.clone(), ears.lock().unwrap());
        heard.push(seen);
        if heard.len() < 50 {
            tokio::spawn(async move { client.request(DescribeClusterRequest::default()).await });
        }
    };
    let client = Client::builder(&broker.bootstrap.to_string()).on_event(listener).build().await.unwrap();
    me.set(client.clone()).unwrap();
    let many = async {
        while heard.lock().unwrap().len() < 50 {
            client.request(DescribeClusterRequest::default()).await.unwrap();
        }
        client.close().await;
    };
    tokio::time::timeout(30 * SECOND, many).await.expect("nothing waits for itself");
    assert!(heard.lock().unwrap().iter().any(|seen| seen.contains("Connected")));
}
