//! Snappy: raw blocks by the crate snap, and the framing of snappy-java around them.
//!
//! Kafka's Java client writes a 16-byte header ("xerial" framing) and then chunks of up to 32 KiB,
//! each a length of four bytes and a raw block. That is what is written here. Some other clients
//! write one raw block without framing; both are read.

use super::over;
use crate::{Error, Result};

/// What snappy-java starts a stream with, before two version numbers of four bytes each.
const MAGIC: [u8; 8] = *b"\x82SNAPPY\0";
const HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// The chunk size of snappy-java.
const CHUNK: usize = 32 << 10;
/// No element of a raw block gives more than 64 bytes for three.
const EXPANSION_MAX: usize = 22;

pub(super) struct Encoder(snap::raw::Encoder);

impl Encoder {
    pub(super) fn new() -> Self {
        Self(snap::raw::Encoder::new())
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        out.reserve(HEADER.len() + input.len() / 2);
        out.extend_from_slice(&HEADER);
        for chunk in input.chunks(CHUNK) {
            let at = out.len();
            let start = at + 4;
            out.resize(start + snap::raw::max_compress_len(chunk.len()), 0);
            let written = self
                .0
                .compress(chunk, out.get_mut(start..).unwrap_or_default())
                .map_err(|error| Error::invalid("snappy cannot compress the batch").because(error))?;
            out.truncate(start + written);
            if let Some(length) = out.get_mut(at..start) {
                length.copy_from_slice(&(written as u32).to_be_bytes());
            }
        }
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Decoder(snap::raw::Decoder);

impl Decoder {
    pub(super) fn decompress(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<()> {
        if !input.starts_with(&MAGIC) {
            return self.block(input, 0, out, max);
        }
        let mut rest = input;
        while !rest.is_empty() {
            let at = input.len() - rest.len();
            // A stream may follow another, header and all.
            if rest.starts_with(&MAGIC) {
                rest = rest.get(HEADER.len()..).ok_or_else(|| cut(at))?;
                continue;
            }
            let (length, after) = rest.split_first_chunk().ok_or_else(|| cut(at))?;
            let length = i32::from_be_bytes(*length);
            if length <= 0 {
                return Err(Error::corrupt(format!("snappy chunk of {length} bytes")).at(at));
            }
            let (block, after) = after.split_at_checked(length as usize).ok_or_else(|| cut(at))?;
            self.block(block, at + 4, out, max)?;
            rest = after;
        }
        Ok(())
    }

    /// Appends one raw block.
    fn block(&mut self, block: &[u8], at: usize, out: &mut Vec<u8>, max: usize) -> Result<()> {
        let broken = |error| Error::corrupt("broken snappy block").at(at).because(error);
        let claimed = snap::raw::decompress_len(block).map_err(broken)?;
        if claimed > block.len().saturating_mul(EXPANSION_MAX) {
            let what = format!("snappy block of {} bytes claims to hold {claimed}", block.len());
            return Err(Error::corrupt(what).at(at));
        }
        let start = out.len();
        if claimed > max - start {
            return Err(over(max));
        }
        out.resize(start + claimed, 0);
        let written = self.0.decompress(block, out.get_mut(start..).unwrap_or_default()).map_err(broken)?;
        out.truncate(start + written);
        Ok(())
    }
}

#[cold]
fn cut(at: usize) -> Error {
    Error::corrupt("snappy stream cut short").at(at)
}
