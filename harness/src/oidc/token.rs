//! Tokens: signed for brokers, checked from clients.
//!
//! ES256 both ways, by ring; RS256 only for checking, since ring makes no RSA keys.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use serde_json::{Value, json};

use crate::failure::{Result, broken};

/// A key that signs with ES256.
#[derive(Debug)]
pub(super) struct Signer {
    pair: EcdsaKeyPair,
    pkcs8: Vec<u8>,
    id: String,
}

impl Signer {
    pub(super) fn generate(id: &str) -> Result<Self> {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).map_err(broken("a key"))?;
        let pkcs8 = pkcs8.as_ref().to_vec();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, &pkcs8, &random).map_err(broken("a key"))?;
        Ok(Self { pair, pkcs8, id: id.to_owned() })
    }

    pub(super) fn sign(&self, claims: &Value) -> Result<String> {
        let header = json!({ "alg": "ES256", "typ": "JWT", "kid": self.id });
        let signed = format!("{}.{}", encode(&header), encode(claims));
        let signature =
            self.pair.sign(&SystemRandom::new(), signed.as_bytes()).map_err(broken("a signature"))?;
        Ok(format!("{signed}.{}", BASE64URL.encode(signature)))
    }

    /// The public key as a member of a JWK set (RFC 7517).
    pub(super) fn jwk(&self) -> Value {
        // An uncompressed point: 4, then both coordinates.
        let (x, y) = self.pair.public_key().as_ref().get(1..).unwrap_or_default().split_at(32);
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.id,
            "x": BASE64URL.encode(x), "y": BASE64URL.encode(y),
        })
    }

    pub(super) fn public(&self) -> ClientKey {
        ClientKey::Es256(self.pair.public_key().as_ref().to_vec())
    }

    pub(super) fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }
}

fn encode(value: &Value) -> String {
    BASE64URL.encode(value.to_string())
}

/// The public half of a key with which clients sign assertions.
#[derive(Debug, Clone)]
pub(super) enum ClientKey {
    /// An uncompressed point on P-256.
    Es256(Vec<u8>),
    /// `RSAPublicKey` of PKCS#1, in DER.
    Rs256(Vec<u8>),
}

impl ClientKey {
    fn holds(&self, algorithm: &str, signed: &[u8], signature: &[u8]) -> bool {
        match (self, algorithm) {
            (Self::Es256(key), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed, signature).is_ok()
            }
            (Self::Rs256(key), "RS256") => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(signed, signature).is_ok()
            }
            _ => false,
        }
    }
}

/// The claims of an assertion that one of the keys has signed, for one of the audiences, and still good. The error
/// says what is wrong with it.
pub(super) fn check(
    token: &str,
    keys: &[ClientKey],
    audiences: &[String],
) -> std::result::Result<Value, &'static str> {
    let (signed, signature) = token.rsplit_once('.').ok_or("not a JWT")?;
    let (header, claims) = signed.split_once('.').ok_or("not a JWT")?;
    let (header, claims) = (decode(header)?, decode(claims)?);
    let signature = BASE64URL.decode(signature).map_err(|_| "not base64url")?;
    let algorithm = header.get("alg").and_then(Value::as_str).unwrap_or_default();
    if !keys.iter().any(|key| key.holds(algorithm, signed.as_bytes(), &signature)) {
        return Err("the signature is of no known key");
    }
    let told: Vec<&str> = match claims.get("aud") {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        one => one.and_then(Value::as_str).into_iter().collect(),
    };
    if !audiences.iter().any(|audience| told.contains(&audience.as_str())) {
        return Err("it is for another audience");
    }
    match claims.get("exp").and_then(Value::as_u64) {
        None => Err("it has no exp"),
        Some(until) if until <= seconds_now() => Err("it has expired"),
        Some(_) => Ok(claims),
    }
}

fn decode(part: &str) -> std::result::Result<Value, &'static str> {
    let bytes = BASE64URL.decode(part).map_err(|_| "not base64url")?;
    serde_json::from_slice(&bytes).map_err(|_| "not JSON")
}

/// Seconds since 1970, as tokens count them.
pub(super) fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_signed_is_believed_and_nothing_else() {
        let (signer, other) = (Signer::generate("a").unwrap(), Signer::generate("b").unwrap());
        let audiences = ["here".to_owned()];
        let good = json!({ "sub": "x", "aud": ["there", "here"], "exp": seconds_now() + 60 });
        let token = signer.sign(&good).unwrap();
        let keys = [other.public(), signer.public()];
        assert_eq!(check(&token, &keys, &audiences), Ok(good.clone()));
        let says = |token: &str, keys: &[ClientKey]| check(token, keys, &audiences).unwrap_err();
        assert_eq!(says(&token, &[other.public()]), "the signature is of no known key");
        let forged = token.replacen('.', ".e30", 1);
        assert!(check(&forged, &keys, &audiences).is_err());
        let sign = |claims: Value| signer.sign(&claims).unwrap();
        assert_eq!(says(&sign(json!({ "aud": "there" })), &keys), "it is for another audience");
        assert_eq!(says(&sign(json!({ "aud": "here" })), &keys), "it has no exp");
        assert_eq!(says(&sign(json!({ "aud": "here", "exp": 1 })), &keys), "it has expired");
        for bad in ["", "a", "a.b", "a.b.c", "e30.e30.e30"] {
            assert!(check(bad, &keys, &audiences).is_err(), "{bad}");
        }
    }
}
