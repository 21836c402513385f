//! As much of ASN.1's DER as Kerberos has: tags below 31, explicit context tags, lengths that are known.

use crate::{Error, Result};

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BITS: u8 = 0x03;
pub(super) const OCTETS: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const TIME: u8 = 0x18;
pub(super) const STRING: u8 = 0x1b;

/// The tag `[APPLICATION n]`.
pub(super) const fn application(n: u8) -> u8 {
    0x60 | n
}

const CONTEXT: u8 = 0xa0;

/// Bytes that are read from the front.
#[derive(Debug, Clone, Copy)]
pub(super) struct Der<'a>(pub(super) &'a [u8]);

impl<'a> Der<'a> {
    /// The next element: its tag and what is in it.
    pub(super) fn next(&mut self) -> Result<(u8, &'a [u8])> {
        let cut = || Error::malformed("a Kerberos message that ends too early");
        let (tag, rest) = self.0.split_first().ok_or_else(cut)?;
        let (first, mut rest) = rest.split_first().ok_or_else(cut)?;
        let mut len = usize::from(*first);
        if len >= 0x80 {
            let bytes = len & 0x7f;
            // Zero would be a length that is told by an end mark, which DER has not.
            if !(1..=4).contains(&bytes) {
                return Err(Error::malformed("a Kerberos message with a length that cannot be"));
            }
            let (given, after) = rest.split_at_checked(bytes).ok_or_else(cut)?;
            len = given.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
            rest = after;
        }
        let (inside, after) = rest.split_at_checked(len).ok_or_else(cut)?;
        self.0 = after;
        Ok((*tag, inside))
    }

    /// The next element, which must have this tag.
    pub(super) fn expect(&mut self, tag: u8) -> Result<Der<'a>> {
        match self.next()? {
            (found, inside) if found == tag => Ok(Der(inside)),
            (found, _) => Err(Error::malformed(format!(
                "a Kerberos message with tag {found:#04x} where {tag:#04x} belongs"
            ))),
        }
    }

    /// The fields of `[APPLICATION n] SEQUENCE`, which must be all that there is.
    pub(super) fn message(bytes: &'a [u8], n: u8) -> Result<Der<'a>> {
        Der(bytes).expect(application(n))?.expect(SEQUENCE)
    }

    /// The field `[n]` of a sequence, those before it passed over; `None` if it is not there.
    pub(super) fn optional(&mut self, n: u8) -> Result<Option<Der<'a>>> {
        while let Some(tag) = self.0.first() {
            if *tag > CONTEXT | n {
                break;
            }
            let (tag, inside) = self.next()?;
            if tag == CONTEXT | n {
                return Ok(Some(Der(inside)));
            }
        }
        Ok(None)
    }

    /// The field `[n]` of a sequence, those before it passed over.
    pub(super) fn field(&mut self, n: u8) -> Result<Der<'a>> {
        self.optional(n)?.ok_or_else(|| Error::malformed(format!("a Kerberos message without its field {n}")))
    }

    pub(super) fn integer(mut self) -> Result<i64> {
        let bytes = self.expect(INTEGER)?.0;
        if !(1..=8).contains(&bytes.len()) {
            return Err(Error::malformed("a number in a Kerberos message that is too long"));
        }
        let sign = if bytes.first().is_some_and(|first| first & 0x80 != 0) { -1 } else { 0 };
        Ok(bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte)))
    }

    pub(super) fn octets(mut self) -> Result<&'a [u8]> {
        Ok(self.expect(OCTETS)?.0)
    }

    pub(super) fn string(mut self) -> Result<&'a [u8]> {
        Ok(self.expect(STRING)?.0)
    }

    pub(super) fn time(mut self) -> Result<&'a [u8]> {
        Ok(self.expect(TIME)?.0)
    }
}

/// An element with these parts in it.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(len + 6);
    out.push(tag);
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let bytes = len.to_be_bytes();
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        out.push(0x80 | (bytes.len() - zeros) as u8);
        out.extend(bytes.iter().skip(zeros));
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

/// `[n]` around an element.
pub(super) fn field(n: u8, inside: &[u8]) -> Vec<u8> {
    element(CONTEXT | n, &[inside])
}

/// `[n] INTEGER`.
pub(super) fn integer(n: u8, value: i64) -> Vec<u8> {
    field(n, &number(value))
}

/// An integer by itself.
pub(super) fn number(value: i64) -> Vec<u8> {
    let bytes = value.to_be_bytes();
    // A leading byte that only repeats the sign is left out.
    let needless = bytes
        .windows(2)
        .take_while(|pair| {
            matches!(pair, [0, next] if next & 0x80 == 0) || matches!(pair, [0xff, next] if next & 0x80 != 0)
        })
        .count();
    element(INTEGER, &[bytes.get(needless..).unwrap_or_default()])
}

/// `[n] OCTET STRING`.
pub(super) fn octets(n: u8, value: &[u8]) -> Vec<u8> {
    field(n, &element(OCTETS, &[value]))
}

/// `[n]` with a string of Kerberos.
pub(super) fn string(n: u8, value: &str) -> Vec<u8> {
    field(n, &element(STRING, &[value.as_bytes()]))
}

/// `[n]` with 32 flags, the first of which is the highest bit.
pub(super) fn flags(n: u8, value: u32) -> Vec<u8> {
    field(n, &element(BITS, &[&[0], &value.to_be_bytes()]))
}

/// `[n]` with a time that is written as [`time::format`](super::time::format) writes it.
pub(super) fn time(n: u8, value: &str) -> Vec<u8> {
    field(n, &element(TIME, &[value.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        for (value, bytes) in [
            (0, &[2, 1, 0][..]),
            (127, &[2, 1, 127]),
            (128, &[2, 2, 0, 128]),
            (-1, &[2, 1, 0xff]),
            (-128, &[2, 1, 0x80]),
            (-129, &[2, 2, 0xff, 0x7f]),
            (0x7fff_ffff, &[2, 4, 0x7f, 0xff, 0xff, 0xff]),
            (i64::MIN, &[2, 8, 0x80, 0, 0, 0, 0, 0, 0, 0]),
        ] {
            assert_eq!(number(value), bytes, "{value}");
            assert_eq!(Der(bytes).integer().unwrap(), value);
        }
    }

    #[test]
    fn lengths_have_three_forms_and_the_others_are_refused() {
        for len in [0, 127, 128, 255, 256, 70_000] {
            let content = vec![7; len];
            let bytes = element(OCTETS, &[&content]);
            assert_eq!(Der(&bytes).octets().unwrap(), content);
            for cut in [0, 1, 2, bytes.len() - 1] {
                assert!(
                    Der(bytes.get(..cut).unwrap()).octets().is_err() || cut == bytes.len(),
                    "{len} {cut}"
                );
            }
        }
        for wrong in
            [&[4, 0x80, 0, 0][..], &[4, 0x85, 0, 0, 0, 0, 0], &[4, 0xff], &[4, 0x84, 255, 255, 255, 255]]
        {
            assert!(Der(wrong).octets().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn fields_are_found_in_order() {
        let fields = [integer(0, 5), integer(3, 7), string(9, "x")].concat();
        let mut der = Der(&fields);
        assert_eq!(der.field(0).unwrap().integer().unwrap(), 5);
        assert!(der.optional(1).unwrap().is_none());
        assert_eq!(der.field(3).unwrap().integer().unwrap(), 7);
        assert!(der.field(4).is_err());
        assert_eq!(der.field(9).unwrap().string().unwrap(), b"x");
        assert!(der.optional(10).unwrap().is_none());
    }
}
