//! The four codecs of record batches, both ways.
//!
//! A batch's records arrive as one compressed run of bytes. [`Decompressor`] turns it into plain
//! bytes in a buffer that is used again; [`Compressor`] does the opposite when a batch is sealed.
//! Both keep their codec's tables between batches. Each codec lives in a file of its own behind a
//! cargo feature; a codec that was not built in is an error that names its feature.
//!
//! What is read is hostile. No size that a peer claims is believed: output grows with what was really
//! decoded, and stops at a bound that is fixed before the first byte is read (see
//! [`Decompressor::max_size`]).

#[cfg(feature = "gzip")]
mod gzip;
#[cfg(feature = "lz4")]
mod lz4;
#[cfg(feature = "lz4")]
mod lz4_hc;
#[cfg(feature = "snappy")]
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;
#[cfg(all(feature = "zstd-pure", not(feature = "zstd")))]
#[path = "zstd_pure.rs"]
mod zstd;

use std::fmt;

use bytes::Bytes;

use crate::{Error, Result};

/// How the records of a batch are compressed: Kafka's compression types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// Feature `gzip`; levels 1 to 9.
    Gzip = 1,
    /// Feature `snappy`; no levels.
    Snappy = 2,
    /// Feature `lz4`; levels 1 to 17, where 9, the default, is the fast compressor, as in Java.
    Lz4 = 3,
    /// Feature `zstd` or `zstd-pure`; levels -131072 to 22, where 3 is the default.
    Zstd = 4,
}

impl Compression {
    /// All of them, in the order of their ids.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The type that has this number in a batch's attributes; 5 to 7 are not taken yet.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.get(usize::from(id)).copied()
    }

    /// The number in a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The name that Kafka's settings use.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// The level that Kafka's Java client uses unless told otherwise. `None`: there are no levels,
    /// or, for gzip, the library's own default is meant.
    pub fn default_level(self) -> Option<i32> {
        match self {
            Self::None | Self::Gzip | Self::Snappy => None,
            Self::Lz4 => Some(9),
            Self::Zstd => Some(3),
        }
    }

    /// Whether this build of the crate has the codec.
    pub fn is_available(self) -> bool {
        match self {
            Self::None => true,
            Self::Gzip => cfg!(feature = "gzip"),
            Self::Snappy => cfg!(feature = "snappy"),
            Self::Lz4 => cfg!(feature = "lz4"),
            Self::Zstd => cfg!(any(feature = "zstd", feature = "zstd-pure")),
        }
    }

    fn check_available(self) -> Result<()> {
        if self.is_available() {
            return Ok(());
        }
        Err(Error::unsupported(format!("{self} needs the cargo feature `{self}` of weir-kafka")))
    }

    /// The levels of KIP-390.
    fn check_level(self, level: i32) -> Result<()> {
        let levels = match self {
            Self::None | Self::Snappy => {
                return Err(Error::invalid(format!("compression {self} has no levels, {level} was given")));
            }
            Self::Gzip => 1..=9,
            Self::Lz4 => 1..=17,
            Self::Zstd => -131_072..=22,
        };
        if levels.contains(&level) {
            return Ok(());
        }
        let (low, high) = levels.into_inner();
        Err(Error::invalid(format!("{self} has levels {low} to {high}, {level} was given")))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Compresses one batch after another with one codec at one level, keeping its tables between them.
pub struct Compressor {
    compression: Compression,
    level: Option<i32>,
    codec: Encoder,
}

/// The state of whichever codec is in use. Without any codec feature only `None` is left.
enum Encoder {
    None,
    #[cfg(feature = "gzip")]
    Gzip(gzip::Encoder),
    #[cfg(feature = "snappy")]
    Snappy(Box<snappy::Encoder>),
    #[cfg(feature = "lz4")]
    Lz4(lz4::Encoder),
    #[cfg(any(feature = "zstd", feature = "zstd-pure"))]
    Zstd(zstd::Encoder),
}

impl Compressor {
    /// A compressor at the codec's default level. Fails if the codec was not built in.
    pub fn new(compression: Compression) -> Result<Self> {
        Self::make(compression, None)
    }

    /// A compressor at one of the levels of KIP-390. Fails if there is no such level or the codec
    /// was not built in.
    pub fn with_level(compression: Compression, level: i32) -> Result<Self> {
        compression.check_level(level)?;
        Self::make(compression, Some(level))
    }

    fn make(compression: Compression, level: Option<i32>) -> Result<Self> {
        compression.check_available()?;
        let codec = match compression {
            #[cfg(feature = "gzip")]
            Compression::Gzip => Encoder::Gzip(gzip::Encoder::new(level)),
            #[cfg(feature = "snappy")]
            Compression::Snappy => Encoder::Snappy(Box::new(snappy::Encoder::new())),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => Encoder::Lz4(lz4::Encoder::new(level.filter(|level| *level != 9))),
            #[cfg(any(feature = "zstd", feature = "zstd-pure"))]
            Compression::Zstd => Encoder::Zstd(zstd::Encoder::new(level.unwrap_or(3))?),
            // Codecs that were not built in have been refused above.
            _ => Encoder::None,
        };
        Ok(Self { compression, level, codec })
    }

    /// The codec.
    pub fn compression(&self) -> Compression {
        self.compression
    }

    /// Appends the compressed form of `input` to `out`.
    pub fn compress(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        match &mut self.codec {
            Encoder::None => {
                out.extend_from_slice(input);
                Ok(())
            }
            #[cfg(feature = "gzip")]
            Encoder::Gzip(codec) => codec.compress(input, out),
            #[cfg(feature = "snappy")]
            Encoder::Snappy(codec) => codec.compress(input, out),
            #[cfg(feature = "lz4")]
            Encoder::Lz4(codec) => codec.compress(input, out),
            #[cfg(any(feature = "zstd", feature = "zstd-pure"))]
            Encoder::Zstd(codec) => codec.compress(input, out),
        }
    }
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { compression, level, codec: _ } = self;
        f.debug_struct("Compressor").field("compression", compression).field("level", level).finish()
    }
}

/// The bytes that one batch may decompress to, unless set otherwise.
const MAX_SIZE_DEFAULT: usize = 128 << 20;
/// How many times its compressed size a batch may become, unless set otherwise.
const MAX_RATIO_DEFAULT: usize = 2000;
/// Up to here the ratio is not looked at. Records that are all alike compress well: gzip reaches 1032
/// times, lz4 255 and snappy 22, none of which the default ratio forbids, but zstd some 30,000, in
/// batches as large as topics allow, so honest ones must fit in here.
const RATIO_FREE_SIZE: usize = 32 << 20;

/// Buffers of no more than twice this are given away whatever is in them.
const SMALL: usize = 8 << 10;

/// Decompresses one batch after another, keeping the codecs' tables and, if it gets them back, the
/// buffers.
///
/// What one batch may become is bounded: by a size ([`max_size`](Self::max_size), 128 MiB) and, above
/// 32 MiB, by a ratio to its compressed size ([`max_ratio`](Self::max_ratio), 2000). Of the codecs only
/// zstd can exceed that ratio: it can make 32 MiB of a kilobyte. Whoever has less memory than that to
/// spare sets a smaller size. All frames and members of a batch count together. A batch over the bound
/// is an error for which [`Error::is_limit`](crate::Error::is_limit) is true.
pub struct Decompressor {
    max_size: usize,
    max_ratio: usize,
    spare: Option<Vec<u8>>,
    #[cfg(feature = "gzip")]
    gzip: gzip::Decoder,
    #[cfg(feature = "snappy")]
    snappy: snappy::Decoder,
    #[cfg(any(feature = "zstd", feature = "zstd-pure"))]
    zstd: zstd::Decoder,
}

/// Which header checksum an LZ4 frame must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lz4Checksum {
    /// The one of the LZ4 specification.
    Right,
    /// That one, or the one over too many bytes that Kafka wrote before message format 2 (KIP-57).
    RightOrOld,
}

impl Decompressor {
    /// A decompressor with the default bounds: 128 MiB, and above 32 MiB 2000 times the compressed
    /// size. The codecs' tables are made when first needed.
    pub fn new() -> Self {
        Self {
            max_size: MAX_SIZE_DEFAULT,
            max_ratio: MAX_RATIO_DEFAULT,
            spare: None,
            #[cfg(feature = "gzip")]
            gzip: gzip::Decoder::default(),
            #[cfg(feature = "snappy")]
            snappy: snappy::Decoder::default(),
            #[cfg(any(feature = "zstd", feature = "zstd-pure"))]
            zstd: zstd::Decoder::default(),
        }
    }

    /// Sets the bytes that one batch may decompress to (128 MiB).
    #[must_use]
    pub fn max_size(mut self, bytes: usize) -> Self {
        self.max_size = bytes;
        self
    }

    /// Sets how many times its compressed size a batch may become once it is over 32 MiB (2000).
    #[must_use]
    pub fn max_ratio(mut self, times: usize) -> Self {
        self.max_ratio = times;
        self
    }

    /// Decompresses all of `input` into `out`, whose former contents are dropped.
    pub fn decompress(&mut self, compression: Compression, input: &[u8], out: &mut Vec<u8>) -> Result<()> {
        self.run(compression, input, out, Lz4Checksum::Right)
    }

    /// Takes back the buffer of a batch that is done with, for the next one. Does nothing if parts of
    /// it are still held elsewhere.
    pub fn recycle(&mut self, buffer: Bytes) {
        if let Some(buffer) = reclaim(buffer)
            && self.spare.as_ref().is_none_or(|spare| spare.capacity() < buffer.capacity())
        {
            self.spare = Some(buffer);
        }
    }

    /// Decompresses into a spare buffer if there is one, and gives it away.
    pub(super) fn decompress_to_bytes(
        &mut self,
        compression: Compression,
        input: &[u8],
        checksum: Lz4Checksum,
    ) -> Result<Bytes> {
        let mut out = self.spare.take().unwrap_or_default();
        match self.run(compression, input, &mut out, checksum) {
            // A small batch would keep a large buffer: codecs take as much as a block of theirs may have.
            Ok(()) if out.capacity() / 2 > out.len() + SMALL => {
                let bytes = Bytes::copy_from_slice(&out);
                self.spare = Some(out);
                Ok(bytes)
            }
            Ok(()) => Ok(Bytes::from(out)),
            Err(error) => {
                self.spare = Some(out);
                Err(error)
            }
        }
    }

    #[cfg_attr(not(feature = "lz4"), allow(unused_variables))]
    fn run(
        &mut self,
        compression: Compression,
        input: &[u8],
        out: &mut Vec<u8>,
        checksum: Lz4Checksum,
    ) -> Result<()> {
        out.clear();
        let max = self.bound(input.len());
        compression.check_available()?;
        match compression {
            #[cfg(feature = "gzip")]
            Compression::Gzip => self.gzip.decompress(input, out, max),
            #[cfg(feature = "snappy")]
            Compression::Snappy => self.snappy.decompress(input, out, max),
            #[cfg(feature = "lz4")]
            Compression::Lz4 => lz4::decompress(input, out, max, checksum),
            #[cfg(any(feature = "zstd", feature = "zstd-pure"))]
            Compression::Zstd => self.zstd.decompress(input, out, max),
            // No compression; codecs that were not built in have been refused above.
            _ => {
                if input.len() > max {
                    return Err(over(max));
                }
                out.extend_from_slice(input);
                Ok(())
            }
        }
    }

    /// The bytes that `compressed` bytes may become.
    fn bound(&self, compressed: usize) -> usize {
        compressed.saturating_mul(self.max_ratio).max(RATIO_FREE_SIZE).min(self.max_size)
    }
}

impl Default for Decompressor {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decompressor")
            .field("max_size", &self.max_size)
            .field("max_ratio", &self.max_ratio)
            .finish_non_exhaustive()
    }
}

/// The memory of `bytes`, empty, if nobody else holds a part of it.
pub(super) fn reclaim(bytes: Bytes) -> Option<Vec<u8>> {
    let mut buffer = bytes.try_into_mut().ok()?;
    // Cleared first, so that nothing is moved to the front of the buffer.
    buffer.clear();
    Some(Vec::from(buffer))
}

/// The error for output that would go over the bound.
#[cold]
fn over(max: usize) -> Error {
    Error::limit(format!("a batch decompresses to more than the {max} bytes that its size allows"))
}
