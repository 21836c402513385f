//! gzip, by flate2 over zlib-rs.
//!
//! A stream may have several members one after the other, as Java's reader allows; they count
//! together against the bound. Bytes behind the last member that start no other are an error.

use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::over;
use crate::{Error, Result};

/// The largest window there is: 32 KiB.
const WINDOW_BITS: u8 = 15;
/// Output grows by at least this.
const GROWTH_MIN: usize = 16 << 10;

pub(super) struct Encoder(Compress);

impl Encoder {
    pub(super) fn new(level: Option<i32>) -> Self {
        let level = level.map_or_else(flate2::Compression::default, |n| flate2::Compression::new(n as u32));
        Self(Compress::new_gzip(level, WINDOW_BITS))
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.0.reset();
        // Deflate's worst case: five bytes a stored block, and the gzip header and trailer.
        out.reserve(input.len() + input.len() / 1000 + 64);
        loop {
            let rest = input.get(self.0.total_in() as usize..).unwrap_or_default();
            let status = self
                .0
                .compress_vec(rest, out, FlushCompress::Finish)
                .map_err(|error| Error::invalid("gzip cannot compress the batch").because(error))?;
            if status == Status::StreamEnd {
                return Ok(());
            }
            out.reserve(GROWTH_MIN);
        }
    }
}

#[derive(Default)]
pub(super) struct Decoder(Option<Decompress>);

impl Decoder {
    pub(super) fn decompress(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<()> {
        let stream = self.0.get_or_insert_with(|| Decompress::new_gzip(WINDOW_BITS));
        // Four times is what records usually become; more is asked for once that is full.
        out.reserve(input.len().saturating_mul(4).clamp(GROWTH_MIN, max.saturating_add(1).max(GROWTH_MIN)));
        let mut member_start = 0;
        stream.reset(true);
        loop {
            let read = member_start + stream.total_in() as usize;
            let (rest, len) = (input.get(read..).unwrap_or_default(), out.len());
            let status = stream
                .decompress_vec(rest, out, FlushDecompress::Finish)
                .map_err(|error| Error::corrupt("broken gzip stream").at(read).because(error))?;
            if out.len() > max {
                return Err(over(max));
            }
            let now = member_start + stream.total_in() as usize;
            if status == Status::StreamEnd {
                if now >= input.len() {
                    return Ok(());
                }
                member_start = now;
                stream.reset(true);
            } else if out.len() == out.capacity() {
                // One byte over the bound is room enough to see that it is broken.
                let room = out.len().max(GROWTH_MIN).min(max - out.len() + 1);
                out.reserve_exact(room);
            } else if now == read && out.len() == len {
                return Err(Error::corrupt("gzip stream cut short").at(now));
            }
        }
    }
}
