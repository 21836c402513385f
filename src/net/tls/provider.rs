//! Whose cryptography TLS uses.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use super::config::Tls;
#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
use crate::error::Error;
use crate::error::Result;

#[cfg(feature = "oidc")]
impl Tls {
    /// The cryptography of every handshake, for what else is to be signed.
    pub(in crate::net) fn provider_in_use(&self) -> Result<Arc<CryptoProvider>> {
        self.whole.as_ref().map_or_else(|| of(self), |whole| Ok(Arc::clone(whole.crypto_provider())))
    }
}

/// The user's, else the one installed for the process, else that of a feature. Nothing is installed for the process
/// here. A feature that is on beside the default one was asked for, so the default one comes after it; the one that
/// is young and picky about processors comes last.
pub(super) fn of(tls: &Tls) -> Result<Arc<CryptoProvider>> {
    if let Some(own) = &tls.provider {
        return Ok(Arc::clone(own));
    }
    match CryptoProvider::get_default() {
        Some(installed) => Ok(Arc::clone(installed)),
        None => of_feature().map(Arc::new),
    }
}

#[cfg(feature = "aws-lc-rs")]
#[allow(clippy::unnecessary_wraps, reason = "other features have something to refuse")]
fn of_feature() -> Result<CryptoProvider> {
    Ok(rustls::crypto::aws_lc_rs::default_provider())
}

#[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
#[allow(clippy::unnecessary_wraps, reason = "other features have something to refuse")]
fn of_feature() -> Result<CryptoProvider> {
    Ok(rustls::crypto::ring::default_provider())
}

#[cfg(all(feature = "graviola", not(any(feature = "ring", feature = "aws-lc-rs"))))]
fn of_feature() -> Result<CryptoProvider> {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    if graviola_runs_here() {
        return Ok(rustls_graviola::default_provider());
    }
    Err(Error::invalid(
        "the cryptography of the feature 'graviola' does not run on this processor; use another",
    ))
}

/// Graviola panics on a processor that it was not made for, so it is asked here before.
#[cfg(all(feature = "graviola", target_arch = "x86_64", not(any(feature = "ring", feature = "aws-lc-rs"))))]
fn graviola_runs_here() -> bool {
    use std::is_x86_feature_detected as has;
    has!("aes")
        && has!("ssse3")
        && has!("avx")
        && has!("avx2")
        && has!("bmi1")
        && has!("bmi2")
        && has!("adx")
        && has!("pclmulqdq")
}

#[cfg(all(feature = "graviola", target_arch = "aarch64", not(any(feature = "ring", feature = "aws-lc-rs"))))]
fn graviola_runs_here() -> bool {
    use std::arch::is_aarch64_feature_detected as has;
    has!("aes") && has!("sha2") && has!("pmull") && has!("neon")
}

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs", feature = "graviola")))]
fn of_feature() -> Result<CryptoProvider> {
    Err(Error::invalid(
        "TLS without cryptography: give it a crypto provider, or switch on one of the features",
    ))
}
