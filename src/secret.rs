//! Passwords, tokens and keys while they are in memory.
//!
//! A [`Secret`] is made where a user gives one and handed down to where it is used, without a copy that would stay
//! behind: its bytes are overwritten when the last clone is dropped, and nothing that prints shows them.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Bytes that must not be seen: a password, a token, a key.
///
/// Clones share the bytes, which are overwritten with zeros when the last of them is dropped. There is no
/// `Display`, and `Debug` writes `Secret(..)`. Comparing takes a time that depends on the length alone.
///
/// ```
/// let secret = weir::Secret::from("swordfish");
/// assert_eq!(format!("{secret:?}"), "Secret(..)");
/// assert_eq!(secret.expose(), b"swordfish");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<Vec<u8>>>);

impl Secret {
    /// The bytes, to be used and not to be kept: a copy of them is not overwritten.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Takes the bytes as they are; the memory that they lie in is the one that will be overwritten.
impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }
}

/// Takes the text as it is; the memory that it lies in is the one that will be overwritten.
impl From<String> for Secret {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

/// Copies; the original is the caller's to overwrite.
impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        text.as_bytes().to_vec().into()
    }
}

/// Copies; the original is the caller's to overwrite.
impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<Zeroizing<Vec<u8>>> for Secret {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(Arc::new(bytes))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().ct_eq(other.expose()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_prints_shows_it() {
        let secret = Secret::from("swordfish");
        assert_eq!(format!("{secret:?} {secret:#?}"), "Secret(..) Secret(..)");
        assert_eq!(format!("{:?}", Some(secret)), "Some(Secret(..))");
    }

    #[test]
    fn it_is_the_same_from_whatever_it_was_made() {
        let secret = Secret::from("swordfish");
        assert_eq!(secret, Secret::from("swordfish".to_owned()));
        assert_eq!(secret, Secret::from(b"swordfish".to_vec()));
        assert_eq!(secret, Secret::from(b"swordfish".as_slice()));
        assert_ne!(secret, Secret::from("swordfisH"));
        assert_ne!(secret, Secret::from("swordfis"));
        assert!(Secret::from("").is_empty() && !secret.is_empty());
    }
}
