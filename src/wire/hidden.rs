//! The type of fields that carry secrets: tokens of SASL, salted passwords, keys of delegation tokens.

use std::fmt;
use std::ops::Deref;

use bytes::Bytes;

use crate::Result;
use crate::wire::{Decode, Encode, Field, Reader, Writer, field};

/// Bytes in a message that must not be seen: like [`Bytes`], but `Debug` writes their length alone.
///
/// They are encoded without being copied, so that what was made of a `Secret` is overwritten
/// with zeros when it was sent.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HiddenBytes(Bytes);

impl HiddenBytes {
    /// No bytes.
    pub const fn new() -> Self {
        Self(Bytes::new())
    }

    /// The bytes as a type that shows them.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for HiddenBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for HiddenBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Bytes> for HiddenBytes {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<Vec<u8>> for HiddenBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

/// Shares the secret's bytes, which are overwritten when both are dropped.
#[cfg(feature = "client")]
impl From<crate::Secret> for HiddenBytes {
    fn from(secret: crate::Secret) -> Self {
        struct Owner(crate::Secret);

        impl AsRef<[u8]> for Owner {
            fn as_ref(&self) -> &[u8] {
                self.0.expose()
            }
        }

        Self(Bytes::from_owner(Owner(secret)))
    }
}

impl fmt::Debug for HiddenBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.len())
    }
}

impl field::sealed::Sealed for HiddenBytes {}

impl Field for HiddenBytes {
    fn min_len(version: i16, flex: bool) -> usize {
        Bytes::min_len(version, flex)
    }
}

impl Encode for HiddenBytes {
    fn write(&self, w: &mut Writer, _: i16, flex: bool) -> Result<()> {
        field::encode_length(w, self.len(), flex)?;
        w.put_uncopied(&self.0);
        Ok(())
    }
}

impl Decode for HiddenBytes {
    fn read(&mut self, r: &mut Reader<'_>, version: i16, flex: bool) -> Result<()> {
        self.0.read(r, version, flex)
    }
}

#[cfg(feature = "draw")]
impl crate::wire::draw::Draw for HiddenBytes {
    fn draw(e: &mut crate::wire::draw::Entropy, version: i16, flex: bool, may_be_null: bool) -> Self {
        Self(crate::wire::draw::Draw::draw(e, version, flex, may_be_null))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_the_length_alone() {
        assert_eq!(format!("{:?}", HiddenBytes::from(b"swordfish".to_vec())), "<9 bytes>");
        assert_eq!(format!("{:?}", HiddenBytes::new()), "<0 bytes>");
    }

    #[test]
    fn they_lie_on_the_wire_as_bytes_do() {
        for (flex, len) in [(false, 0), (true, 0), (false, 9), (true, 9), (true, 5000)] {
            let bytes = Bytes::from(vec![7; len]);
            let (mut hidden, mut plain) = (Writer::default(), Writer::default());
            HiddenBytes::from(bytes.clone()).write(&mut hidden, 0, flex).unwrap();
            bytes.write(&mut plain, 0, flex).unwrap();
            let written = hidden.finish().into_bytes();
            assert_eq!(written, plain.finish().into_bytes());
            let mut read = HiddenBytes::new();
            read.read(&mut Reader::new(&written), 0, flex).unwrap();
            assert_eq!(read.into_bytes(), bytes);
        }
    }

    #[cfg(feature = "client")]
    #[test]
    fn a_secret_is_written_without_a_copy() {
        let secret = crate::Secret::from("swordfish");
        let mut writer = Writer::default();
        HiddenBytes::from(secret.clone()).write(&mut writer, 0, true).unwrap();
        let pieces: Vec<_> = writer.finish().iter().collect();
        assert_eq!(pieces, [&b"\x0a"[..], b"swordfish"]);
        assert_eq!(pieces[1].as_ptr(), secret.expose().as_ptr());
    }
}
