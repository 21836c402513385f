//! Certificates and keys in files, and files that change. The runtime's time is paused: it moves only when a test
//! moves it, so a look at the files happens exactly where a test wants one.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::client::TlsStream;

use super::super::super::clock;
use super::super::config::{Pem, Tls};
use super::super::connector::Connector;
use super::super::head::Head;
use super::pki::{Authority, Key, certificate_pem, echo, request, server};
use crate::error::Result;

/// A folder that is gone when the test is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-tls-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) -> Pem {
        // Renamed, as careful people do it. The first line is of another length each time, so that the file is seen
        // to have changed where the file system's clock is coarse.
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let line = "x".repeat(COUNT.fetch_add(1, Ordering::Relaxed) as usize);
        std::fs::write(self.path("new"), format!("{line}\n{text}")).unwrap();
        std::fs::rename(self.path("new"), self.path(name)).unwrap();
        Pem::file(self.path(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

async fn meet(connector: &Connector, config: ServerConfig) -> Result<TlsStream<Head<DuplexStream>>> {
    let (ours, theirs) = duplex(64 * 1024);
    tokio::spawn(echo(Arc::new(config), theirs));
    let deadline = clock::now() + Duration::from_secs(10);
    connector.handshake(ours, &"broker.example.com:9093".parse().unwrap(), deadline).await
}

async fn talk(stream: &mut TlsStream<Head<DuplexStream>>) {
    stream.write_all(b"ping").await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
}

const ONE_LOOK: Duration = Duration::from_millis(1001);

#[tokio::test(start_paused = true)]
async fn a_changed_authority_is_taken_and_standing_connections_go_on() {
    let (folder, old, new) = (Folder::new(), Authority::new(1), Authority::new(2));
    let roots = folder.write("ca.pem", &certificate_pem(&old.certificate));
    let connector = Connector::new(Tls::new().roots(roots)).await.unwrap();
    let (old_server, new_server) =
        (|| old.server(&["broker.example.com"]), || new.server(&["broker.example.com"]));
    let mut standing = meet(&connector, old_server()).await.unwrap();
    assert!(meet(&connector, new_server()).await.unwrap_err().is_auth());

    folder.write("ca.pem", &certificate_pem(&new.certificate));
    assert!(meet(&connector, new_server()).await.unwrap_err().is_auth(), "looked at once a second at most");
    tokio::time::advance(ONE_LOOK).await;
    meet(&connector, new_server()).await.unwrap();
    assert!(meet(&connector, old_server()).await.unwrap_err().is_auth());
    talk(&mut standing).await;
}

#[tokio::test(start_paused = true)]
async fn a_broken_new_file_leaves_the_old_one_in_use() {
    let (folder, authority) = (Folder::new(), Authority::new(1));
    let good = certificate_pem(&authority.certificate);
    let connector = Connector::new(Tls::new().roots(folder.write("ca.pem", &good))).await.unwrap();
    let broken = good.replace("MI", "%%");
    for text in ["", "no certificate", &broken] {
        folder.write("ca.pem", text);
        tokio::time::advance(ONE_LOOK).await;
        meet(&connector, authority.server(&["broker.example.com"])).await.unwrap();
    }
    std::fs::remove_file(folder.path("ca.pem")).unwrap();
    tokio::time::advance(ONE_LOOK).await;
    meet(&connector, authority.server(&["broker.example.com"])).await.unwrap();

    let other = Authority::new(2);
    folder.write("ca.pem", &certificate_pem(&other.certificate));
    tokio::time::advance(ONE_LOOK).await;
    meet(&connector, other.server(&["broker.example.com"])).await.unwrap();
}

/// Two files cannot be changed at once. Between the two, the key is not that of the certificate.
#[tokio::test(start_paused = true)]
async fn a_renewed_identity_is_taken_when_both_its_files_are_there() {
    let (folder, authority, clients) = (Folder::new(), Authority::new(1), Authority::new(3));
    let (old, new) = (Key::new(101), Key::new(102));
    let leaf = |key: &Key| clients.issue(&request(&["client"]), key);
    let chain = folder.write("client.pem", &certificate_pem(&leaf(&old)));
    let key = folder.write("client.key", &old.pem());
    let connector = Connector::new(authority.trusted().identity(chain, key)).await.unwrap();
    let shown = async || {
        let (ours, theirs) = duplex(64 * 1024);
        let key = Key::new(100);
        let chain = vec![authority.issue(&request(&["broker.example.com"]), &key)];
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server(chain, &key, Some(&clients))));
        let serving = tokio::spawn(async move { acceptor.accept(theirs).await.unwrap() });
        let deadline = clock::now() + Duration::from_secs(10);
        let to = "broker.example.com:9093".parse().unwrap();
        let ours = connector.handshake(ours, &to, deadline).await.unwrap();
        let theirs = serving.await.unwrap();
        drop(ours);
        theirs.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    assert_eq!(shown().await, leaf(&old));
    folder.write("client.pem", &certificate_pem(&leaf(&new)));
    tokio::time::advance(ONE_LOOK).await;
    assert_eq!(shown().await, leaf(&old));
    folder.write("client.key", &new.pem());
    tokio::time::advance(ONE_LOOK).await;
    assert_eq!(shown().await, leaf(&new));
}

#[tokio::test]
async fn files_that_cannot_be_used_are_told_at_the_start() {
    let (folder, authority, key) = (Folder::new(), Authority::new(1), Key::new(101));
    let certificate =
        folder.write("client.pem", &certificate_pem(&authority.issue(&request(&["client"]), &key)));
    let fault = async |tls: Tls| Connector::new(tls).await.unwrap_err();
    for (tls, why) in [
        (Tls::new().roots(Pem::file(folder.path("missing.pem"))), "missing.pem"),
        (Tls::new().roots(Pem::file(&folder.0)), "not a file"),
        (Tls::new().roots(folder.write("none.pem", "words")), "no certificate"),
        (
            authority.trusted().identity(certificate.clone(), Pem::file(folder.path("missing.key"))),
            "missing.key",
        ),
        (
            authority.trusted().identity(certificate, Pem::memory(Key::new(7).pem())),
            "is not that of the certificate",
        ),
    ] {
        let error = fault(tls).await;
        assert!(error.is_invalid() && error.to_string().contains(why), "{error:?}");
    }
}

#[tokio::test]
async fn nothing_printed_shows_a_secret() {
    let (authority, key) = (Authority::new(1), Key::new(101));
    let chain = Pem::memory(certificate_pem(&authority.issue(&request(&["client"]), &key)));
    let tls = authority.trusted().identity(chain, Pem::memory(key.pem())).key_password("swordfish");
    let config = super::super::super::Config::new().tls(tls.clone());
    let connector = Connector::new(tls.clone()).await.unwrap();
    for printed in [format!("{tls:?}"), format!("{connector:#?}"), format!("{config:?}")] {
        assert!(!printed.contains("swordfish") && !printed.contains("BEGIN"), "{printed}");
    }
}
