//! Certificates are replaced on disk while requests flow: none fails, and new connections show the new ones.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use weir::net::tls::{Pem, Tls};
use weir::net::{Address, Config};
use weir::{Client, Result};
use weir_kafka_harness::proxy::{End, Proxy};
use weir_kafka_harness::{Certificates, Identity, Listener};

use super::{Site, metadata, sites, who};

const TASKS: usize = 4;

/// Where a user keeps certificates, as something else renews them there.
struct Files<'a> {
    dir: &'a Path,
    from: &'a Certificates,
}

impl Files<'_> {
    fn put(&self, whose: Identity) {
        fs::copy(self.from.certificate(whose), self.dir.join("client.pem")).unwrap();
        fs::copy(self.from.key(whose), self.dir.join("client-key.pem")).unwrap();
    }

    fn tls(&self) -> Tls {
        let file = |name: &str| Pem::file(self.dir.join(name));
        Tls::new().roots(file("ca.pem")).identity(file("client.pem"), file("client-key.pem"))
    }
}

/// Everything through the proxy, which can end connections.
fn through(proxy: SocketAddr) -> Config {
    let way: Address = proxy.to_string().parse().unwrap();
    Config::new().map_advertised(move |_| way.clone())
}

async fn flow(client: Client, over: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Result<()> {
    while !over.load(Relaxed) {
        metadata(&client).await?;
        done.fetch_add(1, Relaxed);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

/// Waits until so many more requests were answered.
async fn more(done: &AtomicUsize, count: usize) {
    let goal = done.load(Relaxed) + count;
    let until = Instant::now() + Duration::from_secs(20);
    while done.load(Relaxed) < goal {
        assert!(Instant::now() < until, "the flow stands still");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn rotate(site: &Site) {
    let dir = site.cluster.dir().join("rotated");
    fs::create_dir(&dir).unwrap();
    let from = site.cluster.certificates().unwrap();
    let files = Files { dir: &dir, from };
    files.put(Identity::Client);
    fs::copy(from.authority(), dir.join("ca.pem")).unwrap();
    let proxy = Proxy::start(site.cluster.bootstrap(Listener::mtls())[0]).unwrap();
    let network = through(proxy.address()).tls(files.tls());
    let client = Client::builder(&proxy.address().to_string()).net(network).connect().await.unwrap();
    assert_eq!(who(&client).await.unwrap(), "CN=weir-client");

    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| tokio::spawn(flow(client.clone(), Arc::clone(&over), Arc::clone(&done))))
        .collect();
    more(&done, 50).await;
    let lost = client.stats().connections_lost;

    // The authority is joined by its successor, and our certificate by ours.
    let both = [from.authority(), from.other_authority()].map(|path| fs::read_to_string(path).unwrap());
    fs::write(dir.join("ca.pem"), both.concat()).unwrap();
    files.put(Identity::RenewedClient);
    more(&done, 50).await;
    assert_eq!(client.stats().connections_lost, lost, "standing connections go on");

    // Files are looked at once a second, so the first new connection may still show the old one.
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < until, "new connections go on with the old certificate");
        proxy.cut_links(End::Reset);
        more(&done, 20).await;
        if who(&client).await.unwrap() == "CN=weir-client-renewed" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(client.stats().connections_lost > lost);

    // What cannot be used is not: a key that is cut off, which a careless copy looks like for a while.
    let key = fs::read(dir.join("client-key.pem")).unwrap();
    fs::write(dir.join("client-key.pem"), &key[..key.len() / 2]).unwrap();
    tokio::time::sleep(Duration::from_millis(1200)).await;
    proxy.cut_links(End::Reset);
    more(&done, 50).await;
    assert_eq!(who(&client).await.unwrap(), "CN=weir-client-renewed");

    over.store(true, Relaxed);
    for task in tasks {
        task.await.unwrap().unwrap_or_else(|error| panic!("{}: a request failed: {error}", site.version));
    }
    client.close().await;
}

#[tokio::test]
async fn certificates_are_replaced_while_requests_flow() {
    for site in sites() {
        rotate(site).await;
    }
}
