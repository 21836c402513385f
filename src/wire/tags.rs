//! Tagged fields (KIP-482): the section at the end of each struct of a flexible version, and those in
//! it that nobody here knows.

use crate::wire::field::absent;
use crate::wire::{Reader, Writer, varint};
use crate::{Error, Result};

/// Tagged fields that this version of the specs does not know, kept as they came and written back.
///
/// One pointer, null when there are none, as there mostly are.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UnknownTags(Option<Box<RawTags>>);

#[derive(Debug, Clone, Default, PartialEq)]
struct RawTags {
    count: u32,
    /// Tag, size and data of each, as on the wire, tags ascending.
    wire: Vec<u8>,
}

impl UnknownTags {
    /// How many there are.
    pub fn count(&self) -> u32 {
        self.0.as_ref().map_or(0, |raw| raw.count)
    }

    /// Each tag with its data, tags ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut rest = self.0.as_ref().map_or(&[][..], |raw| &raw.wire);
        std::iter::from_fn(move || {
            let tag = varint::read_u32(&mut rest).ok()?;
            let size = varint::read_u32(&mut rest).ok()?;
            let (data, after) = rest.split_at_checked(size as usize)?;
            rest = after;
            Some((tag, data))
        })
    }

    /// Adds one. Tags come in ascending order.
    pub(crate) fn push(&mut self, tag: u32, data: &[u8]) {
        let raw = self.0.get_or_insert_default();
        raw.count += 1;
        varint::write_u32(&mut raw.wire, tag);
        varint::write_u32(&mut raw.wire, data.len() as u32);
        raw.wire.extend_from_slice(data);
    }

    /// Writes the whole section of a struct that has no tagged fields of its own.
    #[inline]
    pub(crate) fn encode_section(&self, w: &mut Writer) {
        match &self.0 {
            None => w.put_array([0]),
            Some(raw) => {
                w.uvarint(raw.count);
                w.put(&raw.wire);
            }
        }
    }

    /// Fails if there are any: for versions that cannot carry them.
    #[inline]
    pub(crate) fn refuse_any(&self) -> Result<()> {
        if self.0.is_some() { Err(absent("unknown_tags")) } else { Ok(()) }
    }

    /// Writes those from `from` up to and without `to`, and fails if `to` itself is among them:
    /// then a field of that version has the same tag.
    pub(crate) fn encode_between(&self, w: &mut Writer, from: u32, to: u32) -> Result<()> {
        if self.0.is_none() {
            return Ok(());
        }
        for (tag, data) in self.iter().filter(|(tag, _)| (from..=to).contains(tag)) {
            if tag == to && to != u32::MAX {
                return Err(Error::invalid(format!("the tag {tag} is both unknown and a field's")));
            }
            w.uvarint(tag);
            w.uvarint(data.len() as u32);
            w.put(data);
        }
        Ok(())
    }

    /// Reads the whole section of a struct that has no tagged fields of its own.
    #[inline]
    pub(crate) fn decode_section(&mut self, r: &mut Reader<'_>) -> Result<()> {
        let mut tags = Tags::start(r)?;
        while let Some((tag, part)) = tags.next(r)? {
            self.keep(tag, part)?;
        }
        Ok(())
    }

    /// Keeps one tagged field that nobody knew.
    #[cold]
    pub(crate) fn keep(&mut self, tag: u32, mut part: Reader<'_>) -> Result<()> {
        let data = part.take(part.remaining())?;
        self.push(tag, data);
        Ok(())
    }
}

/// Walks the section of tagged fields at the end of a struct.
#[derive(Debug)]
pub(crate) struct Tags {
    left: u32,
    /// The least tag that may come next: tags ascend, and none comes twice.
    next: u64,
}

impl Tags {
    #[inline]
    pub(crate) fn start(r: &mut Reader<'_>) -> Result<Self> {
        let left = r.uvarint()?;
        if left as usize > r.remaining() / 2 {
            return Err(r.fail(format!("{left} tagged fields claimed with {} bytes left", r.remaining())));
        }
        Ok(Self { left, next: 0 })
    }

    #[inline]
    pub(crate) fn next<'a>(&mut self, r: &mut Reader<'a>) -> Result<Option<(u32, Reader<'a>)>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.read(r).map(Some)
    }

    fn read<'a>(&mut self, r: &mut Reader<'a>) -> Result<(u32, Reader<'a>)> {
        self.left -= 1;
        let tag = r.uvarint()?;
        if u64::from(tag) < self.next {
            return Err(r.fail(format!("tag {tag} comes twice or out of order")));
        }
        self.next = u64::from(tag) + 1;
        let size = r.uvarint()? as usize;
        Ok((tag, r.part(size)?))
    }
}
