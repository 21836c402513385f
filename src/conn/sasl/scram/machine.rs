//! The SCRAM exchange (RFC 5802, RFC 7677) as Kafka speaks it: no channel binding, names and passwords as they
//! are (Kafka's classes do no `SASLprep`, so doing it would lock out whose password it changes), and
//! `tokenauth=true` for delegation tokens (KIP-48).
//!
//! Each step takes the one before it, so that none can be left out or come twice:
//! [`ClientFirst`] -> [`Challenge`] -> [`Verify`] -> done. The nonce is given; the expensive derivation of
//! [`Keys`] happens outside, between [`Challenge`] and [`Verify`].

use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::keys::Keys;
use crate::conn::sasl::quoted;
use crate::{Error, Result, Secret};

/// The longest message of a broker's, in bytes. Honest ones take some 200.
const MESSAGE_MAX: usize = 4096;

/// What we say first, and then wait with.
pub(super) struct ClientFirst {
    /// `client-first-message-bare`.
    bare: String,
    nonce: String,
}

impl ClientFirst {
    /// The nonce must be printable, without a comma, and new each time.
    pub(super) fn new(user: &str, nonce: String, delegation_token: bool) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let extension = if delegation_token { ",tokenauth=true" } else { "" };
        Self { bare: format!("n={user},r={nonce}{extension}"), nonce }
    }

    pub(super) fn message(&self) -> Secret {
        format!("n,,{}", self.bare).into()
    }

    /// Takes the server's first message: its part of the nonce, the salt, and how often to iterate.
    pub(super) fn server_first(self, message: &[u8], allowed: &RangeInclusive<u32>) -> Result<Challenge> {
        let text = text(message)?;
        let mut fields = text.split(',');
        let nonce = field(&mut fields, "r=")?;
        match nonce.strip_prefix(self.nonce.as_str()) {
            Some("") => return Err(Error::auth("the broker added nothing to the SCRAM nonce")),
            Some(added) if added.bytes().all(|byte| byte.is_ascii_graphic()) => {}
            Some(_) => {
                return Err(Error::auth("the broker's SCRAM nonce has characters that it cannot have"));
            }
            None => return Err(Error::auth("the broker's SCRAM nonce does not begin with ours")),
        }
        let salt = field(&mut fields, "s=")?;
        let salt = BASE64.decode(salt).map_err(|_| Error::auth("the broker's SCRAM salt is not base64"))?;
        if salt.is_empty() {
            return Err(Error::auth("the broker's SCRAM salt is empty"));
        }
        let iterations = iterations(field(&mut fields, "i=")?, allowed)?;
        let without_proof = format!("c=biws,r={nonce}");
        let auth_message = format!("{},{text},{without_proof}", self.bare);
        Ok(Challenge { salt, iterations, without_proof, auth_message })
    }
}

/// What the broker wants the password to be mixed with.
pub(super) struct Challenge {
    pub(super) salt: Vec<u8>,
    pub(super) iterations: u32,
    without_proof: String,
    auth_message: String,
}

impl Challenge {
    /// Our last message, and what is left to check. The keys must be those of this salt and these iterations.
    pub(super) fn prove(self, keys: &Keys) -> Result<(Secret, Verify)> {
        let proof = keys.proof(self.auth_message.as_bytes())?;
        let message = format!("{},p={}", self.without_proof, BASE64.encode(&proof));
        let signature = keys.server_signature(self.auth_message.as_bytes())?;
        Ok((message.into(), Verify { signature }))
    }
}

/// What the broker has yet to prove: that it, too, knows the user.
pub(super) struct Verify {
    signature: Zeroizing<Vec<u8>>,
}

impl Verify {
    /// Takes the server's final message, and fails unless it proves what it must.
    pub(super) fn server_final(self, message: &[u8]) -> Result<()> {
        let text = text(message)?;
        let theirs = field(&mut text.split(','), "v=")?;
        let theirs =
            BASE64.decode(theirs).map_err(|_| Error::auth("the broker's SCRAM signature is not base64"))?;
        if bool::from(theirs.ct_eq(&self.signature)) {
            return Ok(());
        }
        Err(Error::auth(
            "the broker's SCRAM signature is wrong: it does not know the password, and is perhaps no broker of this cluster",
        ))
    }
}

/// A server's message as text, unless it is the news of a failure.
fn text(message: &[u8]) -> Result<&str> {
    if message.len() > MESSAGE_MAX {
        let len = message.len();
        return Err(Error::limit(format!(
            "the broker's SCRAM message has {len} bytes, at most {MESSAGE_MAX}"
        )));
    }
    let text =
        std::str::from_utf8(message).map_err(|_| Error::auth("the broker's SCRAM message is not UTF-8"))?;
    if let Some(error) = text.strip_prefix("e=") {
        return Err(Error::auth(format!("the broker ended SCRAM: {}", quoted(error.as_bytes()))));
    }
    if text.starts_with("m=") {
        return Err(Error::auth("the broker asks for a SCRAM extension (m=) that is not known here"));
    }
    Ok(text)
}

/// The next field, which must be the one with that name.
fn field<'a>(fields: &mut impl Iterator<Item = &'a str>, name: &str) -> Result<&'a str> {
    let found = fields.next().and_then(|field| field.strip_prefix(name));
    found.ok_or_else(|| Error::auth(format!("the broker's SCRAM message lacks {name} at its place")))
}

fn iterations(text: &str, allowed: &RangeInclusive<u32>) -> Result<u32> {
    // `parse` would take a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let count = text.parse::<u32>().ok().filter(|_| digits);
    count.filter(|count| allowed.contains(count)).ok_or_else(|| {
        let (least, most) = (allowed.start(), allowed.end());
        let asked = quoted(text.as_bytes());
        Error::auth(format!(
            "the broker asks for {asked} SCRAM iterations, where {least} to {most} are allowed"
        ))
    })
}
