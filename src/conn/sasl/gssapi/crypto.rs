//! Kerberos' encryption with AES: keys, encryption with a checksum in it, checksums alone.
//!
//! The enctypes are those of RFC 3962 (AES with SHA-1) and RFC 8009 (AES with SHA-2). Older ones, DES and RC4, are
//! broken and absent. Chance comes as an argument: the confounder of an encryption.

use std::fmt;

use aes::cipher::{Array, BlockCipherEncrypt as _, KeyInit as _};
use aes::{Aes128, Aes256};
use cts::{CbcCs3, Decrypt as _, Encrypt as _, KeyIvInit as _};
use hmac::Hmac;
use sha1::Sha1;
use sha2::{Sha256, Sha384};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::{Error, Result};

/// How something is encrypted, by its number in the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enctype {
    Aes128Sha1 = 17,
    Aes256Sha1 = 18,
    Aes128Sha256 = 19,
    Aes256Sha384 = 20,
}

/// What a key is used for; the numbers are those of RFC 4120 (section 7.5.1) and RFC 4121 (section 2).
#[derive(Debug, Clone, Copy)]
pub(super) enum Usage {
    Timestamp = 1,
    AsReply = 3,
    TgsChecksum = 6,
    TgsAuthenticator = 7,
    TgsReply = 8,
    ApAuthenticator = 11,
    ApReply = 12,
    AcceptorSeal = 22,
    InitiatorSeal = 24,
}

/// What is derived from a key for one usage.
#[derive(Clone, Copy)]
enum Purpose {
    Checksum = 0x99,
    Encryption = 0xaa,
    Integrity = 0x55,
}

/// Rounds of a password's key that a KDC may ask for; the RFCs' defaults are 4,096 and 32,768.
const ROUNDS_MAX: u32 = 1_000_000;

impl Enctype {
    /// In the order in which we want them, which is that of MIT's library: what old services know comes first.
    pub(super) const ALL: [Self; 4] =
        [Self::Aes256Sha1, Self::Aes128Sha1, Self::Aes256Sha384, Self::Aes128Sha256];

    pub(super) fn from_number(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|known| *known as i64 == number)
    }

    fn key_len(self) -> usize {
        match self {
            Self::Aes128Sha1 | Self::Aes128Sha256 => 16,
            Self::Aes256Sha1 | Self::Aes256Sha384 => 32,
        }
    }

    /// The length of a checksum, in bytes.
    pub(super) fn mac_len(self) -> usize {
        match self {
            Self::Aes128Sha1 | Self::Aes256Sha1 => 12,
            Self::Aes128Sha256 => 16,
            Self::Aes256Sha384 => 24,
        }
    }

    /// The number of the checksum that belongs to it.
    pub(super) fn checksum_type(self) -> i64 {
        match self {
            Self::Aes128Sha1 => 15,
            Self::Aes256Sha1 => 16,
            Self::Aes128Sha256 => 19,
            Self::Aes256Sha384 => 20,
        }
    }

    fn sha2(self) -> bool {
        matches!(self, Self::Aes128Sha256 | Self::Aes256Sha384)
    }

    fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
        match self {
            Self::Aes128Sha1 | Self::Aes256Sha1 => hmac::<Hmac<Sha1>>(key, parts),
            Self::Aes128Sha256 => hmac::<Hmac<Sha256>>(key, parts),
            Self::Aes256Sha384 => hmac::<Hmac<Sha384>>(key, parts),
        }
    }
}

fn hmac<M: hmac::Mac + hmac::KeyInit>(key: &[u8], parts: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = <M as hmac::KeyInit>::new_from_slice(key) else { return Zeroizing::new(Vec::new()) };
    for part in parts {
        mac.update(part);
    }
    Zeroizing::new(mac.finalize().into_bytes().to_vec())
}

/// A key, and what it is for. Overwritten when it is dropped, and never shown.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) enctype: Enctype,
    bytes: Zeroizing<Vec<u8>>,
}

impl Key {
    /// A key must have the length that its enctype says.
    pub(super) fn new(enctype: Enctype, bytes: &[u8]) -> Result<Self> {
        if bytes.len() != enctype.key_len() {
            let (enctype, len) = (enctype as u8, bytes.len());
            return Err(Error::malformed(format!("a Kerberos key of {len} bytes for enctype {enctype}")));
        }
        Ok(Self { enctype, bytes: Zeroizing::new(bytes.to_vec()) })
    }

    /// A new key out of random bytes.
    pub(super) fn random(enctype: Enctype, random: &[u8; 32]) -> Self {
        Self { enctype, bytes: Zeroizing::new(random.iter().copied().take(enctype.key_len()).collect()) }
    }

    /// The key of a password (RFC 3962 section 4, RFC 8009 section 4). Takes as long as it takes: `rounds` decides.
    pub(super) fn of_password(
        enctype: Enctype,
        password: &[u8],
        salt: &[u8],
        rounds: Option<u32>,
    ) -> Result<Self> {
        let rounds = rounds.unwrap_or(if enctype.sha2() { 32_768 } else { 4_096 });
        if !(1..=ROUNDS_MAX).contains(&rounds) {
            return Err(Error::auth(format!("the KDC wants a password's key of {rounds} rounds")));
        }
        let mut bytes = Zeroizing::new(vec![0; enctype.key_len()]);
        let salted = |name: &str| [name.as_bytes(), &[0], salt].concat();
        match enctype {
            Enctype::Aes128Sha1 | Enctype::Aes256Sha1 => {
                pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, rounds, &mut bytes);
            }
            Enctype::Aes128Sha256 => {
                let salt = salted("aes128-cts-hmac-sha256-128");
                pbkdf2::pbkdf2_hmac::<Sha256>(password, &salt, rounds, &mut bytes);
            }
            Enctype::Aes256Sha384 => {
                let salt = salted("aes256-cts-hmac-sha384-192");
                pbkdf2::pbkdf2_hmac::<Sha384>(password, &salt, rounds, &mut bytes);
            }
        }
        let bytes = Self { enctype, bytes }.derive_bytes(b"kerberos", enctype.key_len());
        Ok(Self { enctype, bytes })
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Encrypts, with a checksum. `confounder` is fresh chance.
    pub(super) fn encrypt(&self, usage: Usage, confounder: &[u8; 16], plain: &[u8]) -> Vec<u8> {
        let mut text = Zeroizing::new([confounder, plain].concat());
        let integrity = self.derive(usage, Purpose::Integrity);
        // The two families differ in whether the checksum is of what is encrypted or of the result.
        let before = self.enctype.hmac(&integrity, &[&text]);
        self.derive_cipher(usage).encrypt(&mut text);
        let mac =
            if self.enctype.sha2() { self.enctype.hmac(&integrity, &[&[0; 16], &text]) } else { before };
        [&text, mac.get(..self.enctype.mac_len()).unwrap_or_default()].concat()
    }

    /// Decrypts; an error if the checksum is not right, so if it is not of this key and usage.
    pub(super) fn decrypt(&self, usage: Usage, cipher: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        let wrong = || Error::auth("what was encrypted in a Kerberos message is not of our key");
        let split = cipher.len().checked_sub(self.enctype.mac_len()).ok_or_else(wrong)?;
        let (text, mac) =
            cipher.split_at_checked(split).filter(|(text, _)| text.len() > 16).ok_or_else(wrong)?;
        let mut plain = Zeroizing::new(text.to_vec());
        self.derive_cipher(usage).decrypt(&mut plain);
        let integrity = self.derive(usage, Purpose::Integrity);
        let expected = if self.enctype.sha2() {
            self.enctype.hmac(&integrity, &[&[0; 16], text])
        } else {
            self.enctype.hmac(&integrity, &[&plain])
        };
        let expected = expected.get(..mac.len()).unwrap_or_default();
        if !bool::from(expected.ct_eq(mac)) {
            return Err(wrong());
        }
        Ok(Zeroizing::new(plain.get(16..).unwrap_or_default().to_vec()))
    }

    /// The checksum of some parts, one after the other.
    pub(super) fn checksum(&self, usage: Usage, parts: &[&[u8]]) -> Vec<u8> {
        let mac = self.enctype.hmac(&self.derive(usage, Purpose::Checksum), parts);
        mac.get(..self.enctype.mac_len()).unwrap_or_default().to_vec()
    }

    fn derive_cipher(&self, usage: Usage) -> Cipher {
        Cipher(self.derive(usage, Purpose::Encryption))
    }

    fn derive(&self, usage: Usage, purpose: Purpose) -> Zeroizing<Vec<u8>> {
        let [a, b, c, d] = (usage as u32).to_be_bytes();
        let len = match purpose {
            Purpose::Checksum | Purpose::Integrity if self.enctype.sha2() => self.enctype.mac_len(),
            _ => self.enctype.key_len(),
        };
        self.derive_bytes(&[a, b, c, d, purpose as u8], len)
    }

    fn derive_bytes(&self, label: &[u8], len: usize) -> Zeroizing<Vec<u8>> {
        let mut derived = Zeroizing::new(Vec::with_capacity(len.next_multiple_of(16)));
        if self.enctype.sha2() {
            let bits = (len as u32 * 8).to_be_bytes();
            let mac = self.enctype.hmac(&self.bytes, &[&[0, 0, 0, 1], label, &[0], &bits]);
            derived.extend_from_slice(mac.get(..len).unwrap_or_default());
        } else {
            let mut block = fold(label);
            while derived.len() < len {
                block = self.encrypt_block(block);
                derived.extend_from_slice(&block);
            }
            derived.truncate(len);
        }
        derived
    }

    fn encrypt_block(&self, block: [u8; 16]) -> [u8; 16] {
        let mut block = Array::from(block);
        // The length was checked when the key was made.
        match self.bytes.len() {
            16 => Aes128::new_from_slice(&self.bytes)
                .map(|aes| aes.encrypt_block(&mut block))
                .unwrap_or_default(),
            _ => Aes256::new_from_slice(&self.bytes)
                .map(|aes| aes.encrypt_block(&mut block))
                .unwrap_or_default(),
        }
        block.into()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({:?})", self.enctype)
    }
}

/// AES in CBC with ciphertext stealing, the third kind, from an IV of zeros (RFC 3962 section 5).
struct Cipher(Zeroizing<Vec<u8>>);

impl Cipher {
    /// `text` has more than one block.
    fn encrypt(&self, text: &mut [u8]) {
        // Keys have one of two lengths, and what is encrypted begins with a whole block: neither can fail.
        match self.0.len() {
            16 => {
                CbcCs3::<Aes128>::new_from_slices(&self.0, &[0; 16]).map(|mode| mode.encrypt(text).ok()).ok()
            }
            _ => {
                CbcCs3::<Aes256>::new_from_slices(&self.0, &[0; 16]).map(|mode| mode.encrypt(text).ok()).ok()
            }
        };
    }

    /// `text` has more than one block.
    fn decrypt(&self, text: &mut [u8]) {
        match self.0.len() {
            16 => {
                CbcCs3::<Aes128>::new_from_slices(&self.0, &[0; 16]).map(|mode| mode.decrypt(text).ok()).ok()
            }
            _ => {
                CbcCs3::<Aes256>::new_from_slices(&self.0, &[0; 16]).map(|mode| mode.decrypt(text).ok()).ok()
            }
        };
    }
}

/// Folds a short label to 16 bytes (n-fold, RFC 3961 section 5.1): copies of it, each turned right by 13 bits more,
/// are laid end to end until they come out even, and added in pieces of 16 bytes with the carry brought round.
fn fold(label: &[u8]) -> [u8; 16] {
    let bits = label.len() * 8;
    if bits == 0 {
        return [0; 16];
    }
    // The length at which copies and pieces come out even.
    let total =
        (1..=16).map(|copies| copies * label.len()).find(|len| len % 16 == 0).unwrap_or(label.len() * 16);
    let byte = |at: usize| {
        let (copy, inside) = (at / label.len(), at % label.len());
        (0..8).fold(0u8, |byte, bit| {
            let from = (inside * 8 + bit + bits * 13 - (13 * copy) % bits) % bits;
            let set = label.get(from / 8).is_some_and(|label| label >> (7 - from % 8) & 1 == 1);
            byte << 1 | u8::from(set)
        })
    };
    (0..total).step_by(16).fold([0; 16], |sum, start| {
        let mut piece = [0; 16];
        piece.iter_mut().enumerate().for_each(|(at, into)| *into = byte(start + at));
        let (sum, carried) = u128::from_be_bytes(sum).overflowing_add(u128::from_be_bytes(piece));
        (sum + u128::from(carried)).to_be_bytes()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn labels_fold_as_in_rfc_3961() {
        // The 128-fold of RFC 3961, appendix A.1.
        assert_eq!(fold(b"kerberos").to_vec(), hex("6b65726265726f737b9b5b2b93132b93"));
    }

    #[test]
    fn passwords_give_the_keys_of_the_rfcs() {
        // RFC 3962, appendix B; RFC 8009, appendix A.
        let salt = b"ATHENA.MIT.EDUraeburn";
        let key = |enctype, salt: &[u8], rounds| {
            Key::of_password(enctype, b"password", salt, Some(rounds)).unwrap().bytes().to_vec()
        };
        assert_eq!(key(Enctype::Aes128Sha1, salt, 1), hex("42263c6e89f4fc28b8df68ee09799f15"));
        assert_eq!(
            key(Enctype::Aes256Sha1, salt, 1),
            hex("fe697b52bc0d3ce14432ba036a92e65bbb52280990a2fa27883998d72af30161")
        );
        assert_eq!(key(Enctype::Aes128Sha1, salt, 1200), hex("4c01cd46d632d01e6dbe230a01ed642a"));
        let random = hex("10df9dd783e5bc8acea1730e74355f61");
        let salt = [&random[..], b"ATHENA.MIT.EDUraeburn"].concat();
        assert_eq!(key(Enctype::Aes128Sha256, &salt, 32_768), hex("089bca48b105ea6ea77ca5d2f39dc5e7"));
        assert_eq!(
            key(Enctype::Aes256Sha384, &salt, 32_768),
            hex("45bd806dbf6a833a9cffc1c94589a222367a79bc21c413718906e9f578a78467")
        );
        for rounds in [0, 1_000_001, u32::MAX] {
            assert!(Key::of_password(Enctype::Aes128Sha1, b"p", b"s", Some(rounds)).unwrap_err().is_auth());
        }
    }

    #[test]
    fn keys_are_derived_as_in_rfc_8009() {
        let key = Key::new(Enctype::Aes128Sha256, &hex("3705d96080c17728a0e800eab6e0d23c")).unwrap();
        // The RFC's examples are for usage 2, which we have no name for.
        let derived = |purpose: u8, len| key.derive_bytes(&[0, 0, 0, 2, purpose], len).to_vec();
        assert_eq!(derived(0x99, 16), hex("b31a018a48f54776f403e9a396325dc3"));
        assert_eq!(derived(0xaa, 16), hex("9b197dd1e8c5609d6e67c3e37c62c72e"));
        assert_eq!(derived(0x55, 16), hex("9fda0e56ab2d85e1569a688696c26a6c"));
    }

    #[test]
    fn what_is_encrypted_is_decrypted_by_the_same_key_and_usage_alone() {
        for enctype in Enctype::ALL {
            let key = Key::random(enctype, &[7; 32]);
            for len in [1, 15, 16, 17, 31, 32, 33, 100] {
                let plain: Vec<u8> = (0..len).collect();
                let cipher = key.encrypt(Usage::Timestamp, &[9; 16], &plain);
                assert_eq!(cipher.len(), 16 + plain.len() + enctype.mac_len());
                assert_eq!(*key.decrypt(Usage::Timestamp, &cipher).unwrap(), plain);
                assert!(key.decrypt(Usage::AsReply, &cipher).unwrap_err().is_auth());
                assert!(Key::random(enctype, &[8; 32]).decrypt(Usage::Timestamp, &cipher).is_err());
                for at in 0..cipher.len() {
                    let mut broken = cipher.clone();
                    broken[at] ^= 1;
                    assert!(key.decrypt(Usage::Timestamp, &broken).is_err(), "{enctype:?} {len} {at}");
                    assert!(key.decrypt(Usage::Timestamp, &cipher[..at]).is_err(), "{enctype:?} {len} {at}");
                }
            }
        }
        assert!(Key::new(Enctype::Aes256Sha1, &[0; 16]).unwrap_err().is_malformed());
        assert_eq!(format!("{:?}", Key::random(Enctype::Aes128Sha1, &[7; 32])), "Key(Aes128Sha1)");
    }
}
