//! Where encoders write. Small things are copied into one buffer; record data and other large
//! bytes are shared and only noted with their place, so that a produce request goes out by one
//! vectored write without a copy of a batch.

use std::fmt;

use bytes::Bytes;

use crate::wire::varint;

/// From this size on bytes are shared and not copied: below it a copy is cheaper than one more
/// slice for the kernel to gather.
const SHARE_FROM: usize = 1024;

/// Collects an encoded message.
#[derive(Default)]
pub struct Writer {
    buf: Vec<u8>,
    /// Shared bytes, each with its place: how much of `buf` goes before it.
    shared: Vec<(usize, Bytes)>,
}

impl Writer {
    /// An empty writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { buf: Vec::with_capacity(capacity), shared: Vec::new() }
    }

    /// Bytes written so far, shared ones counted.
    pub fn len(&self) -> usize {
        self.buf.len() + self.shared.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.buf.is_empty() && self.shared.is_empty()
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    #[inline]
    pub(crate) fn put_array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.buf.extend_from_slice(&bytes);
    }

    /// An unsigned varint, mostly a length below 128: that one is small enough to be inlined.
    #[inline]
    pub(crate) fn uvarint(&mut self, n: u32) {
        if n < 0x80 {
            self.put_array([n as u8]);
        } else {
            self.uvarint_long(n);
        }
    }

    #[inline(never)]
    fn uvarint_long(&mut self, n: u32) {
        varint::write_u32(&mut self.buf, n);
    }

    /// Bytes that may be shared instead of copied.
    pub(crate) fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_FROM {
            self.put(bytes);
        } else {
            self.put_uncopied(bytes);
        }
    }

    /// Bytes that are shared whatever their size: a secret must not be left behind in a buffer.
    pub(crate) fn put_uncopied(&mut self, bytes: &Bytes) {
        self.shared.push((self.buf.len(), bytes.clone()));
    }

    /// Room for many elements at once.
    pub(crate) fn reserve(&mut self, bytes: usize) {
        self.buf.reserve(bytes);
    }

    /// The place from which [`end_sized`](Self::end_sized) measures.
    pub(crate) fn start_sized(&self) -> Start {
        Start { buf: self.buf.len(), shared: self.shared.len() }
    }

    /// Puts the size of what was written since `start` before it, as an unsigned varint. Tagged
    /// fields are few and small, so moving them costs less than computing their size first.
    pub(crate) fn end_sized(&mut self, start: Start) {
        let shared = self.shared.get_mut(start.shared..).unwrap_or_default();
        let mut size = self.buf.len() - start.buf;
        size += shared.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
        let mut prefix = Vec::with_capacity(5);
        varint::write_u32(&mut prefix, size as u32);
        for (place, _) in shared {
            *place += prefix.len();
        }
        self.buf.splice(start.buf..start.buf, prefix);
    }

    /// Overwrites four bytes that were written before, for a length that is known last.
    pub(crate) fn patch(&mut self, at: usize, bytes: [u8; 4]) {
        if let Some(place) = self.buf.get_mut(at..at + 4) {
            place.copy_from_slice(&bytes);
        }
    }

    /// Ends the message.
    pub fn finish(self) -> Segments {
        Segments { buf: self.buf.into(), shared: self.shared }
    }
}

/// A place in a [`Writer`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    buf: usize,
    shared: usize,
}

/// An encoded message: owned bytes with shared ones between them.
#[derive(Clone, Default)]
pub struct Segments {
    buf: Bytes,
    shared: Vec<(usize, Bytes)>,
}

impl Segments {
    /// Bytes as a frame, with their length before them. There must be less than 2 GiB.
    #[cfg(feature = "client")]
    pub(crate) fn framed(bytes: Bytes) -> Self {
        Self { buf: (bytes.len() as u32).to_be_bytes().to_vec().into(), shared: vec![(4, bytes)] }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.buf.len() + self.shared.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }

    /// Whether the message is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there is one piece, which is not empty.
    #[cfg(feature = "client")]
    pub(crate) fn is_one(&self) -> bool {
        self.shared.is_empty() && !self.buf.is_empty()
    }

    /// The pieces in their order, as a vectored write takes them. None is empty.
    pub fn iter(&self) -> impl Iterator<Item = Bytes> {
        let ends = self.shared.iter().map(|(place, bytes)| (*place, Some(bytes)));
        let mut from = 0;
        ends.chain([(self.buf.len(), None)])
            .flat_map(move |(place, bytes)| {
                let owned = self.buf.slice(from..place);
                from = place;
                [Some(owned), bytes.cloned()]
            })
            .flatten()
            .filter(|piece| !piece.is_empty())
    }

    /// The message in one piece. Copies, unless nothing in it is shared.
    pub fn into_bytes(self) -> Bytes {
        if self.shared.is_empty() {
            return self.buf;
        }
        let mut whole = Vec::with_capacity(self.len());
        for piece in self.iter() {
            whole.extend_from_slice(&piece);
        }
        whole.into()
    }
}

/// The length alone: there may be secrets in it.
impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Writer(<{} bytes>)", self.len())
    }
}

/// The length alone: there may be secrets in it.
impl fmt::Debug for Segments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Segments(<{} bytes>)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_bytes_keep_their_place_when_a_size_is_put_before_them() {
        let big = Bytes::from(vec![7; SHARE_FROM]);
        let mut writer = Writer::default();
        writer.put(b"ab");
        let start = writer.start_sized();
        writer.put(b"c");
        writer.put_shared(&big);
        writer.put(b"d");
        writer.end_sized(start);
        let segments = writer.finish();
        let mut expected = b"ab".to_vec();
        varint::write_u32(&mut expected, 2 + SHARE_FROM as u32);
        expected.extend_from_slice(b"c");
        expected.extend_from_slice(&big);
        expected.extend_from_slice(b"d");
        assert_eq!(segments.len(), expected.len());
        assert_eq!(segments.iter().nth(1).unwrap().as_ptr(), big.as_ptr(), "not copied");
        assert_eq!(segments.into_bytes(), expected);
    }
}
