//! Topic ids and the like: sixteen bytes, written for people in Kafka's form.

use std::fmt;

/// A 128-bit id. Kafka prints it as URL-safe base64 without padding, and so does this.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid([u8; 16]);

impl Uuid {
    /// The id that means "none".
    pub const ZERO: Self = Self([0; 16]);

    /// An id from its bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes, most significant first.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// Whether this is [`Uuid::ZERO`].
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: [u8; 64] = *b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut rest = u128::from_be_bytes(self.0);
        let mut out = [0_u8; 22];
        // 22 digits of six bits hold 132 bits; the last four are padding.
        let (last, first) = out.split_last_mut().ok_or(fmt::Error)?;
        *last = ALPHABET.get((rest & 0x3) as usize * 16).copied().unwrap_or_default();
        rest >>= 2;
        for digit in first.iter_mut().rev() {
            *digit = ALPHABET.get((rest & 0x3f) as usize).copied().unwrap_or_default();
            rest >>= 6;
        }
        f.write_str(std::str::from_utf8(&out).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_print_as_java_prints_them() {
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        let mut one = [0; 16];
        one[15] = 1;
        // `new Uuid(0, 1).toString()` and `new Uuid(-1, -1)` in Java.
        assert_eq!(Uuid::from_bytes(one).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid::from_bytes([0xff; 16]).to_string(), "_____________________w");
    }
}
