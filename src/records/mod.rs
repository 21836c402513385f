//! Record batches.
pub mod compression;
