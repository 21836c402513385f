//! A cursor over one frame. Primitive reads check what is left and say where they failed; byte
//! fields come out as slices that share the frame.

use bytes::Bytes;

use crate::wire::varint;
use crate::{Error, Result};

/// Reads Kafka's primitive types from the front of a frame.
#[derive(Debug)]
pub struct Reader<'a> {
    frame: &'a Bytes,
    rest: &'a [u8],
    /// Bytes that the elements to come of the arrays around this place take at the least. An array in
    /// an array may claim only what is left beside them, so that all claims together cannot be for
    /// more than was sent.
    owed: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `frame`.
    pub fn new(frame: &'a Bytes) -> Self {
        Self { frame, rest: frame, owed: 0 }
    }

    /// Bytes that are left.
    #[inline]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Bytes from the start of the frame to here.
    pub fn position(&self) -> usize {
        self.rest.as_ptr() as usize - self.frame.as_ptr() as usize
    }

    /// Fails unless everything was read.
    pub fn finish(&self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(self.fail(format!("{} bytes are left over", self.rest.len())))
    }

    /// An error at this place.
    #[cold]
    #[inline(never)]
    pub(crate) fn fail(&self, what: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::malformed(what).at(self.position())
    }

    #[cold]
    #[inline(never)]
    fn short(&self, wanted: usize) -> Error {
        self.fail(format!("{wanted} bytes wanted, {} left", self.rest.len()))
    }

    #[inline]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.rest.split_first_chunk::<N>() {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(*head)
            }
            None => Err(self.short(N)),
        }
    }

    /// The next `len` bytes, borrowed.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(len) {
            Some((head, rest)) => {
                self.rest = rest;
                Ok(head)
            }
            None => Err(self.short(len)),
        }
    }

    /// The next `len` bytes, sharing the frame.
    #[inline]
    pub(crate) fn take_shared(&mut self, len: usize) -> Result<Bytes> {
        let start = self.position();
        self.take(len)?;
        Ok(self.frame.slice(start..start + len))
    }

    /// An unsigned varint.
    #[inline]
    pub fn uvarint(&mut self) -> Result<u32> {
        varint::read_u32(&mut self.rest).map_err(|e| e.at(self.position()))
    }

    /// The length of a string, of bytes, or of an array that is written as a 32-bit number, or in
    /// the compact form one more than it is. `None` is null.
    #[inline]
    pub(crate) fn length(&mut self, flex: bool) -> Result<Option<usize>> {
        if flex {
            return Ok((self.uvarint()? as usize).checked_sub(1));
        }
        match i32::from_be_bytes(self.array()?) {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| self.negative(i64::from(len))),
        }
    }

    /// The length of a string: 16 bits where the form is not compact.
    #[inline]
    pub(crate) fn string_length(&mut self, flex: bool) -> Result<Option<usize>> {
        if flex {
            return match self.uvarint()? {
                0 => Ok(None),
                over if over > 0x8000 => Err(self.fail(format!("a string of {} bytes", over - 1))),
                over => Ok(Some(over as usize - 1)),
            };
        }
        match i16::from_be_bytes(self.array()?) {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| self.negative(i64::from(len))),
        }
    }

    /// The number of elements of an array of which each takes at least `min` bytes; refused if
    /// they cannot all be in what is left.
    #[inline]
    pub(crate) fn count(&mut self, flex: bool, min: usize) -> Result<Option<usize>> {
        let Some(count) = self.length(flex)? else { return Ok(None) };
        if count > self.free() / min.max(1) {
            return Err(self.fail(format!("{count} elements claimed with {} bytes for them", self.free())));
        }
        Ok(Some(count))
    }

    /// Bytes that are left and not owed.
    #[inline]
    fn free(&self) -> usize {
        self.rest.len().saturating_sub(self.owed)
    }

    /// Sets bytes aside for elements that come later.
    #[inline]
    pub(crate) fn owe(&mut self, bytes: usize) {
        self.owed += bytes;
    }

    /// Gives back what was set aside for an element that comes now.
    #[inline]
    pub(crate) fn pay(&mut self, bytes: usize) {
        self.owed = self.owed.saturating_sub(bytes);
    }

    /// A reader over the next `len` bytes, which are passed over here.
    pub(crate) fn part(&mut self, len: usize) -> Result<Reader<'a>> {
        if len > self.free() {
            return Err(self.short(len));
        }
        Ok(Reader { frame: self.frame, rest: self.take(len)?, owed: 0 })
    }

    #[cold]
    #[inline(never)]
    fn negative(&self, len: i64) -> Error {
        self.fail(format!("length {len}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Decode;

    #[test]
    fn b08_arrays_in_arrays_share_what_was_sent() {
        // Two arrays of numbers, as both forms have them: each level's claim is possible by itself.
        let plain = |counts: [i32; 2], rest: usize| {
            let mut bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_be_bytes()).collect();
            bytes.resize(bytes.len() + rest, 0);
            Bytes::from(bytes)
        };
        let read = |bytes: &Bytes| {
            let mut lists: Vec<Vec<i64>> = Vec::new();
            let mut reader = Reader::new(bytes);
            lists.read(&mut reader, 0, false).and_then(|()| reader.finish()).map(|()| lists)
        };
        // Five lists, the first of two numbers: 16 bytes, and 4 for each of the others.
        assert_eq!(read(&plain([5, 2], 32)).unwrap().len(), 5);
        // Three numbers would fit into what is left, but not beside four more lists.
        let error = read(&plain([5, 3], 32)).unwrap_err();
        assert!(
            error.is_malformed() && error.to_string().contains("3 elements claimed with 16 bytes"),
            "{error}"
        );
    }

    #[test]
    fn what_is_owed_is_paid_when_an_array_ends() {
        let bytes = Bytes::from([&[0, 0, 0, 2, 0, 7, 0, 8][..], &[0, 0, 0, 1, 0, 9]].concat());
        let mut reader = Reader::new(&bytes);
        let (mut first, mut second): (Vec<i16>, Vec<i16>) = Default::default();
        first.read(&mut reader, 0, false).unwrap();
        second.read(&mut reader, 0, false).unwrap();
        assert_eq!((first, second, reader.owed), (vec![7, 8], vec![9], 0));
    }
}
