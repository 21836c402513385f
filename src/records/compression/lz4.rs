//! LZ4 frames around blocks of `lz4_flex`, or of our own high compressor.
//!
//! The frame is written as Kafka's Java client writes it: independent blocks of 64 KiB, no checksums
//! but the header's, no content size. Any frame of the specification is read, linked blocks and
//! checksums included, but for those that need a dictionary. The framing is our own because message
//! formats 0 and 1 carry a header checksum over too many bytes, which no library accepts.

use lz4_flex::block::{self, CompressTable};
use twox_hash::XxHash32;

use super::lz4_hc::HighCompressor;
use super::{Lz4Checksum, over};
use crate::{Error, Result};

const MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// Skippable frames have this magic but for its lowest four bits.
const SKIPPABLE: u32 = 0x184D_2A50;
/// The block size that Kafka writes.
const BLOCK: usize = 64 << 10;
/// Set in a block's length if the block is stored as it is.
const STORED: u32 = 1 << 31;
/// A block refers back at most this far.
const WINDOW: usize = 64 << 10;
/// No byte of a block stands for more than this many.
const EXPANSION_MAX: usize = 255;

pub(super) struct Encoder {
    blocks: Blocks,
}

enum Blocks {
    /// Its table, and room for a block: made once, since memory that is new each time would be cleared each time.
    Fast(Box<CompressTable>, Vec<u8>),
    High(Box<HighCompressor>),
}

impl Encoder {
    /// Fast without a level, else the high compressor.
    pub(super) fn new(level: Option<i32>) -> Self {
        let blocks = match level {
            None => Blocks::Fast(Box::new(CompressTable::large()), Vec::new()),
            Some(level) => Blocks::High(Box::new(HighCompressor::new(level))),
        };
        Self { blocks }
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        // Version 1, independent blocks; block size 64 KiB.
        let flags = [0x60, 0x40];
        out.reserve(input.len() / 2 + 64);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&flags);
        out.push(header_checksum(&flags));
        for chunk in input.chunks(BLOCK) {
            let at = out.len();
            let start = at + 4;
            out.extend_from_slice(&[0; 4]);
            match &mut self.blocks {
                Blocks::Fast(table, room) => {
                    let most = block::get_maximum_output_size(chunk.len());
                    if room.len() < most {
                        room.resize(most, 0);
                    }
                    let written = block::compress_into_with_table(chunk, room, table)
                        .map_err(|error| Error::invalid("lz4 cannot compress the batch").because(error))?;
                    out.extend_from_slice(room.get(..written).unwrap_or_default());
                }
                Blocks::High(compressor) => compressor.compress_block(chunk, out),
            }
            let written = out.len() - start;
            let length = if written < chunk.len() {
                written as u32
            } else {
                out.truncate(start);
                out.extend_from_slice(chunk);
                chunk.len() as u32 | STORED
            };
            if let Some(place) = out.get_mut(at..start) {
                place.copy_from_slice(&length.to_le_bytes());
            }
        }
        out.extend_from_slice(&[0; 4]);
        Ok(())
    }
}

/// Appends what all the frames in `input` hold.
pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, max: usize, checksum: Lz4Checksum) -> Result<()> {
    let mut rest = input;
    loop {
        rest = decompress_frame(Source { all: input.len(), rest }, out, max, checksum)?;
        if rest.is_empty() {
            return Ok(());
        }
    }
}

/// What is left of the input, with a memory of its whole length so that errors can say where.
#[derive(Clone, Copy)]
struct Source<'a> {
    all: usize,
    rest: &'a [u8],
}

impl<'a> Source<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8]> {
        let at = self.at();
        let (taken, rest) =
            self.rest.split_at_checked(n).ok_or_else(|| Error::corrupt("lz4 frame cut short").at(at))?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(self.take(4)?.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes)))
    }

    fn at(&self) -> usize {
        self.all - self.rest.len()
    }
}

/// What a frame's header says of the rest.
struct Header {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    block_size: usize,
}

/// Appends what the first frame holds; gives what is behind it.
fn decompress_frame<'a>(
    mut source: Source<'a>,
    out: &mut Vec<u8>,
    max: usize,
    checksum: Lz4Checksum,
) -> Result<&'a [u8]> {
    let Some(header) = read_header(&mut source, checksum)? else {
        return Ok(source.rest);
    };
    let start = out.len();
    loop {
        let at = source.at();
        let word = source.u32()?;
        if word == 0 {
            break;
        }
        let length = (word & !STORED) as usize;
        if length > header.block_size {
            let what = format!("lz4 block of {length} bytes in a frame of {}", header.block_size);
            return Err(Error::corrupt(what).at(at));
        }
        let block = source.take(length)?;
        if header.block_checksums && source.u32()? != XxHash32::oneshot(0, block) {
            return Err(Error::corrupt("wrong checksum of an lz4 block").at(at));
        }
        if word & STORED == 0 {
            append_block(block, &header, start, out, max).map_err(|error| error.at(at))?;
        } else if length > max - out.len() {
            return Err(over(max));
        } else {
            out.extend_from_slice(block);
        }
    }
    let content = out.get(start..).unwrap_or_default();
    if header.content_size.is_some_and(|size| size != content.len() as u64) {
        return Err(Error::corrupt("an lz4 frame holds another size than it says").at(source.at()));
    }
    if header.content_checksum && source.u32()? != XxHash32::oneshot(0, content) {
        return Err(Error::corrupt("wrong checksum of an lz4 frame").at(source.at()));
    }
    Ok(source.rest)
}

/// Reads a frame's header. `None`: it was a skippable frame, and is skipped.
fn read_header(source: &mut Source<'_>, checksum: Lz4Checksum) -> Result<Option<Header>> {
    let at = source.at();
    let whole = source.rest;
    let magic = source.u32()?;
    if magic & !0xf == SKIPPABLE {
        let length = source.u32()? as usize;
        source.take(length)?;
        return Ok(None);
    }
    if magic.to_le_bytes() != MAGIC {
        return Err(Error::corrupt(format!("no lz4 frame: it starts with {magic:08x}")).at(at));
    }
    let flags = source.take(2)?;
    let &[flg, bd] = flags else {
        return Err(Error::corrupt("lz4 frame cut short").at(at));
    };
    if flg >> 6 != 1 || flg & 0x02 != 0 || bd & 0x8f != 0 || !(4..=7).contains(&(bd >> 4)) {
        return Err(Error::corrupt(format!("lz4 frame flags {flg:02x} {bd:02x} are none")).at(at));
    }
    if flg & 0x01 != 0 {
        return Err(Error::unsupported("an lz4 frame that needs a dictionary").at(at));
    }
    let mut descriptor_len = 2;
    let mut content_size = None;
    if flg & 0x08 != 0 {
        content_size = source.take(8)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        descriptor_len += 8;
    }
    let found = source.take(1)?.first().copied().unwrap_or_default();
    let descriptor = whole.get(4..4 + descriptor_len).unwrap_or_default();
    let old = whole.get(..4 + descriptor_len).unwrap_or_default();
    if found != header_checksum(descriptor)
        && (checksum == Lz4Checksum::Right || found != header_checksum(old))
    {
        return Err(Error::corrupt("wrong checksum of an lz4 frame's header").at(at));
    }
    Ok(Some(Header {
        linked: flg & 0x20 == 0,
        block_checksums: flg & 0x10 != 0,
        content_checksum: flg & 0x04 != 0,
        content_size,
        block_size: 1 << (8 + 2 * (bd >> 4)),
    }))
}

/// Appends one compressed block of the frame whose contents begin at `frame` in `out`.
fn append_block(block: &[u8], header: &Header, frame: usize, out: &mut Vec<u8>, max: usize) -> Result<()> {
    let start = out.len();
    let most = header.block_size.min(block.len().saturating_mul(EXPANSION_MAX));
    let room = most.min(max - start);
    out.resize(start + room, 0);
    let (before, dest) = out.split_at_mut_checked(start).unwrap_or_default();
    let written = if header.linked {
        let window = before.get(frame.max(start.saturating_sub(WINDOW))..).unwrap_or_default();
        block::decompress_into_with_dict(block, dest, window)
    } else {
        block::decompress_into(block, dest)
    };
    match written {
        Ok(written) => {
            out.truncate(start + written);
            Ok(())
        }
        Err(block::DecompressError::OutputTooSmall { .. }) if room < most => Err(over(max)),
        Err(error) => Err(Error::corrupt("broken lz4 block").because(error)),
    }
}

/// The second byte of the descriptor's hash.
fn header_checksum(descriptor: &[u8]) -> u8 {
    (XxHash32::oneshot(0, descriptor) >> 8) as u8
}
