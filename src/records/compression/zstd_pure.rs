//! zstd without C: read by ruzstd, written by structured-zstd.
//!
//! Two crates on purpose. What is read may be hostile, and ruzstd has little unsafe code; what is
//! written is our own, and structured-zstd has all levels at the speed of the C library.
//!
//! A frame claims a window, and the decoder reserves it. So the claim is cut to what the frame can
//! become at all, by the batch's bound and by its own length: within that, no reference back can tell
//! the difference.

use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use structured_zstd::encoding::{CompressionLevel, FrameCompressor};

use super::over;
use crate::{Error, Result};

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// The most that a frame's header can take before its first block.
const HEADER_MAX: usize = 18;
/// Decoders of frames with larger windows are not kept: they would hold on to the memory.
const KEPT_WINDOW_MAX: u64 = 8 << 20;
/// A block becomes no more than this,
const BLOCK_SIZE_MAX: usize = 128 << 10;
/// and takes no less: its header and the byte that it repeats.
const BLOCK_LEN_MIN: usize = 4;
/// Decoded bytes are taken out after about this many.
const STEP: usize = 128 << 10;

pub(super) struct Encoder {
    compressor: Box<FrameCompressor>,
    frame: Vec<u8>,
}

impl Encoder {
    #[allow(clippy::unnecessary_wraps, reason = "the twin in C can fail here")]
    pub(super) fn new(level: i32) -> Result<Self> {
        let mut compressor = Box::new(FrameCompressor::new(CompressionLevel::from_level(level)));
        // A batch has a checksum of its own.
        compressor.set_content_checksum(false);
        Ok(Self { compressor, frame: Vec::new() })
    }

    #[allow(clippy::unnecessary_wraps, reason = "the twin in C can fail here")]
    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.compressor.compress_independent_frame_into(input, &mut self.frame);
        out.extend_from_slice(&self.frame);
        Ok(())
    }
}

#[derive(Default)]
pub(super) struct Decoder(Option<FrameDecoder>);

impl Decoder {
    pub(super) fn decompress(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<()> {
        let mut rest = input;
        out.reserve(input.len().saturating_mul(4).min(max));
        while !rest.is_empty() {
            let at = input.len() - rest.len();
            rest = self.frame(rest, out, max).map_err(|error| error.at(at))?;
        }
        Ok(())
    }

    /// Appends one frame; gives what is behind it.
    fn frame<'a>(&mut self, input: &'a [u8], out: &mut Vec<u8>, max: usize) -> Result<&'a [u8]> {
        let (header, window) = modest_header(input, max)?;
        let mut decoder = if window <= KEPT_WINDOW_MAX { self.0.take() } else { None }.unwrap_or_default();
        match decoder.init(&header[..]) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length, ..
            })) => {
                self.0 = Some(decoder);
                let end = (length as usize).saturating_add(8);
                return input.get(end..).ok_or_else(|| Error::corrupt("skippable zstd frame cut short"));
            }
            Err(error) => return Err(broken(error)),
        }
        let start = decoder.bytes_read_from_source() as usize;
        let mut rest = input.get(start..).ok_or_else(|| Error::corrupt("zstd frame cut short"))?;
        while !decoder.is_finished() {
            decoder.decode_blocks(&mut rest, BlockDecodingStrategy::UptoBytes(STEP)).map_err(broken)?;
            if decoder.can_collect() > max - out.len() {
                return Err(over(max));
            }
            decoder.collect_to_writer(&mut *out).map_err(broken)?;
        }
        if let Some(found) = decoder.get_checksum_from_data()
            && decoder.get_calculated_checksum() != Some(found)
        {
            return Err(Error::corrupt("wrong checksum of a zstd frame"));
        }
        if window <= KEPT_WINDOW_MAX {
            self.0 = Some(decoder);
        }
        Ok(rest)
    }
}

/// The front of `input` with a window no larger than its output, `max` at most, needs; and that window.
fn modest_header(input: &[u8], max: usize) -> Result<([u8; HEADER_MAX], u64)> {
    let mut header = [0; HEADER_MAX];
    for (to, from) in header.iter_mut().zip(input) {
        *to = *from;
    }
    let [m0, m1, m2, m3, descriptor, window, ..] = &mut header;
    if [*m0, *m1, *m2, *m3] != MAGIC {
        return Ok((header, 0));
    }
    let most = (input.len() / BLOCK_LEN_MIN + 1).saturating_mul(BLOCK_SIZE_MAX).min(max);
    // A single segment's window is its size, which comes where the window would be.
    if *descriptor & 0x20 != 0 {
        return match content_size(*descriptor, input) {
            size if size > max as u64 => Err(over(max)),
            size if size > most as u64 => {
                let len = input.len();
                Err(Error::corrupt(format!("zstd frame of {len} bytes claims to hold {size}")))
            }
            size => Ok((header, size)),
        };
    }
    let exponent = u32::from(*window >> 3);
    let base = 1_u64 << (10 + exponent);
    let claimed = base + (base / 8) * u64::from(*window & 7);
    let enough = (most as u64).next_power_of_two().max(1 << 10);
    if claimed <= enough {
        return Ok((header, claimed));
    }
    *window = ((enough.trailing_zeros() - 10) << 3) as u8;
    Ok((header, enough))
}

/// The size that a single segment's header claims.
fn content_size(descriptor: u8, input: &[u8]) -> u64 {
    let dictionary = (1 << (descriptor & 3)) >> 1;
    let field = input.get(5 + dictionary..).unwrap_or_default();
    match descriptor >> 6 {
        0 => field.first().map_or(0, |n| u64::from(*n)),
        1 => field.first_chunk().map_or(0, |n| u64::from(u16::from_le_bytes(*n)) + 256),
        2 => field.first_chunk().map_or(0, |n| u64::from(u32::from_le_bytes(*n))),
        _ => field.first_chunk().map_or(0, |n| u64::from_le_bytes(*n)),
    }
}

#[cold]
fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::corrupt("broken zstd frame").because(error)
}
