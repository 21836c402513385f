//! HMAC as the mechanisms use it: keys and results that are overwritten when they are dropped.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

use crate::{Error, Result};

pub(super) fn hmac_sha256(key: &[u8], message: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    hmac::<Hmac<Sha256>>(key, message)
}

pub(super) fn hmac_sha512(key: &[u8], message: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    hmac::<Hmac<Sha512>>(key, message)
}

fn hmac<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
    let mac = <M as KeyInit>::new_from_slice(key);
    let mut mac = mac.map_err(|_| Error::internal("HMAC takes keys of any length"))?;
    mac.update(message);
    Ok(Zeroizing::new(mac.finalize().into_bytes().to_vec()))
}
