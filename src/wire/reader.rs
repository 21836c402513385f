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
}

impl<'a> Reader<'a> {
    /// A reader at the start of `frame`.
    pub fn new(frame: &'a Bytes) -> Self {
        Self { frame, rest: frame }
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
        if count > self.rest.len() / min.max(1) {
            return Err(self.fail(format!("{count} elements claimed with {} bytes left", self.rest.len())));
        }
        Ok(Some(count))
    }

    /// A reader over the next `len` bytes, which are passed over here.
    pub(crate) fn part(&mut self, len: usize) -> Result<Reader<'a>> {
        Ok(Reader { frame: self.frame, rest: self.take(len)? })
    }

    #[cold]
    #[inline(never)]
    fn negative(&self, len: i64) -> Error {
        self.fail(format!("length {len}"))
    }
}
