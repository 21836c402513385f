//! zstd, by the reference library in C.
//!
//! A batch is decompressed in one go into the output itself. That needs no window buffer, so the
//! window that a frame claims, which may be gigabytes, costs nothing. If the output was too small the
//! batch is decompressed again into a larger one; the buffers are kept, so this soon stops
//! happening.

use zstd_safe::zstd_sys::{ZSTD_EndDirective, ZSTD_ErrorCode};
use zstd_safe::{CCtx, CParameter, DCtx, InBuffer, OutBuffer};

use super::over;
use crate::{Error, Result};

/// The room tried first, beyond a multiple of the input.
const ROOM_MIN: usize = 64 << 10;

pub(super) struct Encoder(CCtx<'static>);

impl Encoder {
    pub(super) fn new(level: i32) -> Result<Self> {
        let mut context = CCtx::try_create().ok_or_else(no_memory)?;
        context.set_parameter(CParameter::CompressionLevel(level)).map_err(|code| {
            Error::invalid(format!("zstd refuses level {level}: {}", zstd_safe::get_error_name(code)))
        })?;
        Ok(Self(context))
    }

    pub(super) fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let start = out.len();
        out.reserve(zstd_safe::compress_bound(input.len()));
        let mut output = OutBuffer::around_pos(out, start);
        let mut input = InBuffer::around(input);
        // With room for the worst case this is one step.
        match self.0.compress_stream2(&mut output, &mut input, ZSTD_EndDirective::ZSTD_e_end) {
            Ok(0) => Ok(()),
            Ok(_) => Err(Error::invalid("zstd did not finish the batch")),
            Err(code) => {
                let name = zstd_safe::get_error_name(code);
                Err(Error::invalid(format!("zstd cannot compress the batch: {name}")))
            }
        }
    }
}

#[derive(Default)]
pub(super) struct Decoder(Option<DCtx<'static>>);

impl Decoder {
    pub(super) fn decompress(&mut self, input: &[u8], out: &mut Vec<u8>, max: usize) -> Result<()> {
        let context = match &mut self.0 {
            Some(context) => context,
            none => none.insert(DCtx::try_create().ok_or_else(no_memory)?),
        };
        // What the first frame claims is used if it is plausible, so that memory fits at once.
        let plausible = input.len().saturating_mul(16).saturating_add(ROOM_MIN);
        let claimed = zstd_safe::get_frame_content_size(input).ok().flatten();
        let mut room =
            claimed.and_then(|size| usize::try_from(size).ok()).unwrap_or(plausible).min(plausible);
        loop {
            out.clear();
            out.reserve_exact(room.min(max));
            let code = match context.decompress(out, input) {
                Ok(_) if out.len() > max => return Err(over(max)),
                Ok(_) => return Ok(()),
                Err(code) => code,
            };
            if !zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) {
                let name = zstd_safe::get_error_name(code);
                return Err(Error::corrupt(format!("broken zstd frame: {name}")));
            }
            if out.capacity() >= max {
                return Err(over(max));
            }
            room = out.capacity().saturating_mul(4).max(ROOM_MIN);
        }
    }
}

#[cold]
fn no_memory() -> Error {
    Error::limit("no memory for zstd's tables")
}
