//! JSON Web Tokens: signing our own (RFC 7515, compact form), and reading when another's ends.
//!
//! Signing goes through the crypto provider that TLS uses, so there is no second implementation of RSA in the tree.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::SignatureScheme;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Map, Value};

use super::response;
use crate::{Error, Result, Secret};

/// How an assertion is signed (`sasl.oauthbearer.assertion.algorithm`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Algorithm {
    /// RSA (PKCS#1 v1.5) with SHA-256.
    Rs256,
    /// ECDSA on the curve P-256 with SHA-256.
    Es256,
}

impl Algorithm {
    /// Its name in a JWT and in Kafka's settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Self::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
            Self::Es256 => SignatureScheme::ECDSA_NISTP256_SHA256,
        }
    }
}

/// Signs header and claims.
pub(super) fn sign(
    algorithm: Algorithm,
    header: &Map<String, Value>,
    claims: &Map<String, Value>,
    key: PrivateKeyDer<'static>,
    provider: &CryptoProvider,
) -> Result<Secret> {
    let unfit = || Error::invalid(format!("the assertion's key is none for {}", algorithm.name()));
    // The library's errors here say no more than that it does not fit.
    let key = provider.key_provider.load_private_key(key).map_err(|_| unfit())?;
    let signer = key.choose_scheme(&[algorithm.scheme()]).ok_or_else(unfit)?;

    let part = |fields: &Map<String, Value>| {
        serde_json::to_vec(fields)
            .map(|json| URL_SAFE_NO_PAD.encode(json))
            .map_err(|error| Error::invalid("an assertion's claims that are no JSON").because(error))
    };
    let mut token = format!("{}.{}", part(header)?, part(claims)?);
    let signature = signer.sign(token.as_bytes()).map_err(|_| unfit())?;
    let signature = match algorithm {
        Algorithm::Rs256 => signature,
        Algorithm::Es256 => fixed_p256(&signature)
            .ok_or_else(|| Error::internal("the crypto provider made no signature on P-256"))?,
    };
    // Room for all of it, so that growing leaves no copy behind.
    token.reserve_exact(1 + signature.len() * 2);
    token.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut token);
    Ok(token.into())
}

/// An ECDSA signature as TLS has it (DER, two integers) in the form of JWS: both with 32 bytes, one after the other.
fn fixed_p256(der: &[u8]) -> Option<Vec<u8>> {
    let [0x30, len, numbers @ ..] = der else { return None };
    if usize::from(*len) != numbers.len() {
        return None;
    }
    let mut fixed = Vec::with_capacity(64);
    let mut rest = numbers;
    for _ in 0..2 {
        let [0x02, len, tail @ ..] = rest else { return None };
        let (number, tail) = tail.split_at_checked(usize::from(*len))?;
        // DER puts a zero before a number whose first bit is set, and drops the zeros of a small one.
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        fixed.resize(fixed.len() + 32_usize.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
        rest = tail;
    }
    rest.is_empty().then_some(fixed)
}

/// When a token says that it ends, as time since 1970. Nothing of it is verified: that is the broker's to do.
pub(super) fn expiry(token: &[u8]) -> Option<Duration> {
    let claims = URL_SAFE_NO_PAD.decode(token.split(|byte| *byte == b'.').nth(1)?).ok()?;
    let claims: Value = serde_json::from_slice(&claims).ok()?;
    response::seconds(claims.get("exp")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_read_where_there_is_one() {
        let token = |claims: &str| format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(expiry(token(r#"{"exp":17}"#).as_bytes()), Some(Duration::from_secs(17)));
        assert_eq!(expiry(token(r#"{"exp":17.9}"#).as_bytes()), Some(Duration::from_secs(17)));
        for none in
            [token("{}"), token("[]"), token("x"), "opaque".to_owned(), "a.%.c".to_owned(), String::new()]
        {
            assert_eq!(expiry(none.as_bytes()), None, "{none}");
        }
    }

    #[test]
    fn signatures_on_p256_get_fixed_lengths() {
        let der = [&[0x30, 38, 0x02, 33, 0][..], &[0xff; 32], &[0x02, 1, 7]].concat();
        let fixed = fixed_p256(&der).unwrap();
        assert_eq!(fixed, [&[0xff; 32][..], &[0; 31], &[7]].concat());
        for broken in [&der[..37], &[][..], &[0x30, 0], &[0x30, 2, 2, 9], &[0x30, 4, 2, 1, 1, 9]] {
            assert_eq!(fixed_p256(broken), None, "{broken:?}");
        }
        let long = [&[0x30, 40, 0x02, 35][..], &[1; 35], &[0x02, 1, 7]].concat();
        assert_eq!(fixed_p256(&long), None);
    }
}
