//! Accepting connections: a thread for each, with or without TLS, one request on each.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Shared, endpoint, http};
use crate::certs::{Certificates, Identity};
use crate::failure::{Result, broken};

/// Nobody holds a thread for longer than this by saying nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// TLS with one of the certificates.
pub(super) fn tls_config(certificates: &Certificates, whose: Identity) -> Result<Arc<ServerConfig>> {
    let read = |path: std::path::PathBuf| fs::read(&path).map_err(broken(path.display()));
    let chain: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&read(certificates.certificate(whose))?).collect();
    let key = PrivateKeyDer::from_pem_slice(&read(certificates.key(whose))?).map_err(broken("a key"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain.unwrap_or_default(), key))
        .map_err(broken("TLS"))?;
    Ok(Arc::new(config))
}

/// Accepts until the issuer has ended.
pub(super) fn serve(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    shared: Arc<Shared>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        for stream in listener.incoming() {
            if shared.state().ended {
                return;
            }
            let Ok(stream) = stream else { continue };
            let (tls, shared) = (tls.clone(), Arc::clone(&shared));
            thread::spawn(move || talk(stream, tls, &shared));
        }
    })
}

fn talk(stream: TcpStream, tls: Option<Arc<ServerConfig>>, shared: &Shared) {
    if stream.set_read_timeout(Some(PATIENCE)).and(stream.set_write_timeout(Some(PATIENCE))).is_err() {
        return;
    }
    match tls {
        None => converse(stream, false, shared),
        Some(config) => {
            if let Ok(session) = ServerConnection::new(config) {
                let mut stream = StreamOwned::new(session, stream);
                converse(&mut stream, true, shared);
                stream.conn.send_close_notify();
                let _ = stream.flush();
            }
        }
    }
}

/// A peer that breaks off is the test's business, not ours.
fn converse(mut stream: impl Read + Write, tls: bool, shared: &Shared) {
    if let Ok(request) = http::read(&mut stream) {
        let _ = endpoint::answer(&mut stream, &request, tls, shared);
    }
}
