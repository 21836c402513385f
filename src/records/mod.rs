//! Record batches: what a topic's log is made of.
//!
//! Reading: [`Batches`] cuts the bytes of a fetch response into [`RecordBatch`]es, a [`Decompressor`]
//! makes plain [`Records`] of one, and iterating over those gives each [`Record`], borrowed, without
//! an allocation. Message formats 0, 1 and 2 are read; the older two come out as the same types.
//!
//! Writing: [`BatchBuilder`] encodes each [`NewRecord`] once, when it is appended, and seals the
//! batch, with a [`Compressor`] if wanted. Only format 2 is written.
//!
//! ```
//! use weir::records::{BatchBuilder, Batches, Decompressor, NewRecord, Stamp};
//!
//! let mut builder = BatchBuilder::new();
//! builder.append(&NewRecord::new(1_700_000_000_000).key(b"user-1").value(b"signed up"))?;
//! let bytes = builder.seal(&Stamp::default(), None)?;
//!
//! let mut decompressor = Decompressor::new();
//! for batch in Batches::new(bytes) {
//!     let records = batch?.records(&mut decompressor)?;
//!     for record in &records {
//!         let record = record?;
//!         assert_eq!(record.value(), Some(&b"signed up"[..]));
//!     }
//!     decompressor.recycle(records.into_bytes());
//! }
//! # Ok::<(), weir::Error>(())
//! ```
//!
//! The bytes are not trusted. What is wrong in them is a typed error, nothing panics, and memory
//! grows with the bytes that arrived and not with what they claim.

mod batch;
mod builder;
#[cfg(any(feature = "client", test))]
#[allow(dead_code, reason = "the producer, which comes next, closes its batches")]
mod closed;
mod compression;
mod control;
#[cfg(any(feature = "client", test))]
#[allow(dead_code, reason = "as closed batches")]
mod crc;
mod header;
mod iter;
mod legacy;
mod record;
#[cfg(test)]
mod tests;

pub use batch::{Batches, Partial, RecordBatch};
pub use builder::{AsHeader, BatchBuilder, NewRecord};
#[cfg(any(feature = "client", test))]
#[allow(unused_imports, reason = "as closed batches")]
pub(crate) use closed::Closed;
pub use compression::{Compression, Compressor, Decompressor};
pub use control::ControlType;
pub use header::Stamp;
pub use iter::{RecordIter, Records};
pub use record::{Header, Headers, OwnedRecord, Record};

/// The timestamp of records that have none.
pub const NO_TIMESTAMP: i64 = -1;

/// Who set the timestamps of a batch's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// There are none: message format 0.
    NoTimestamp,
    /// The producer, or the application before it.
    CreateTime,
    /// The broker, when it appended the batch. All records of it have the same.
    LogAppendTime,
}
