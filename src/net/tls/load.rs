//! A `rustls::ClientConfig` out of the settings and the files that they name. This blocks.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore};
use zeroize::Zeroizing;

use super::config::{Pem, Source, Tls, Trust};
use super::verify::{AnyName, Anybody};
use super::{keys, provider};
use crate::error::{Error, Result};

/// The largest file of certificates; a system's whole list has a quarter of a MiB.
const FILE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Reads the files, and makes of the settings what rustls takes. ALPN is off, SNI and resumption are on.
pub(super) fn client_config(tls: &Tls) -> Result<Arc<ClientConfig>> {
    if let Some(whole) = &tls.whole {
        return Ok(Arc::clone(whole));
    }
    let unusable = |error: rustls::Error| Error::invalid(format!("TLS: {error}")).because(error);
    let provider = provider::of(tls)?;
    let versions: &[_] = if tls.tls13_only { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier(tls, &provider)?);
    let Some((chain, key)) = &tls.identity else {
        return Ok(Arc::new(builder.with_no_client_auth()));
    };
    let certificates = keys::certificates(&read(chain)?)
        .map_err(|error| error.within(format_args!("certificate {chain:?}")))?;
    let private = keys::private_key(&read(key)?, tls.key_password.as_ref())
        .map_err(|error| error.within(format_args!("key {key:?}")))?;
    let config = builder.with_client_auth_cert(certificates, private).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            Error::invalid(format!("the key {key:?} is not that of the certificate {chain:?}")).because(error)
        }
        error => Error::invalid(format!("the key {key:?}: {error}")).because(error),
    })?;
    Ok(Arc::new(config))
}

fn verifier(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    if tls.any_host_name && !matches!(tls.trust, Trust::Roots(_)) {
        return Err(Error::invalid("danger_accept_any_host_name goes with roots of one's own only"));
    }
    Ok(match &tls.trust {
        Trust::Usual => usual(provider)?,
        #[cfg(feature = "webpki-roots")]
        Trust::Mozilla => webpki(mozilla(), provider)?,
        Trust::Roots(pem) => {
            let verifier = webpki(roots(pem)?, provider)?;
            if tls.any_host_name { Arc::new(AnyName(verifier)) } else { verifier }
        }
        Trust::Verifier(verifier) => Arc::clone(verifier),
        Trust::Anybody => Arc::new(Anybody(Arc::clone(provider))),
    })
}

#[cfg(feature = "platform-verifier")]
fn usual(provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    let unusable = |error: rustls::Error| {
        Error::invalid(format!("the system's list of authorities: {error}")).because(error)
    };
    Ok(Arc::new(rustls_platform_verifier::Verifier::new(Arc::clone(provider)).map_err(unusable)?))
}

#[cfg(all(feature = "webpki-roots", not(feature = "platform-verifier")))]
fn usual(provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    Ok(webpki(mozilla(), provider)?)
}

#[cfg(not(any(feature = "webpki-roots", feature = "platform-verifier")))]
fn usual(_: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>> {
    Err(Error::invalid("TLS without anybody to trust: set its roots, or switch on a feature that has some"))
}

#[cfg(feature = "webpki-roots")]
fn mozilla() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

fn webpki(roots: RootCertStore, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    builder.build().map_err(|error| Error::invalid(format!("the roots: {error}")).because(error))
}

fn roots(pem: &Pem) -> Result<RootCertStore> {
    let within = |error: Error| error.within(format_args!("roots {pem:?}"));
    let mut roots = RootCertStore::empty();
    for (at, certificate) in keys::certificates(&read(pem)?).map_err(within)?.into_iter().enumerate() {
        let bad = |error| within(Error::invalid(format!("certificate {}: {error}", at + 1)).because(error));
        roots.add(certificate).map_err(bad)?;
    }
    Ok(roots)
}

fn read(pem: &Pem) -> Result<Zeroizing<Vec<u8>>> {
    match &pem.0 {
        Source::Memory(text) => Ok(Zeroizing::new(text.expose().to_vec())),
        Source::File(path) => {
            let bad = |error: std::io::Error| {
                Error::invalid(format!("the file {} cannot be read: {error}", path.display())).because(error)
            };
            read_file(path).map_err(bad)
        }
    }
}

fn read_file(path: &Path) -> std::io::Result<Zeroizing<Vec<u8>>> {
    let is = std::fs::metadata(path)?;
    // A pipe or a device may never end, or never begin.
    if !is.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    if is.len() > FILE_BYTES_MAX {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    // With the room that it needs: a vector that grows would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(is.len() as usize + 1));
    File::open(path)?.take(is.len()).read_to_end(&mut bytes)?;
    Ok(bytes)
}
