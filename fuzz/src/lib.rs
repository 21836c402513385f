//! What must hold for any bytes: one function a fuzz target, in the module of its subject.
//!
//! A target in `fuzz_targets/` hands its input to one of these and does nothing else. They panic when
//! what must hold does not. `examples/seed.rs` writes inputs to begin from; it draws them with the
//! functions beside the properties, so that the layout of an input is said in one place only.

#![forbid(unsafe_code)]

/// Decompression by each codec.
pub mod codecs;
/// Requests, responses, headers and data schemas.
pub mod messages;
/// Record batches and old message sets.
pub mod records;
/// A byte stream cut into frames, and frames matched with requests.
pub mod stream;
/// Variable-length integers.
pub mod varints;

/// Runs `work`, and gives beside its result the most memory that it held at a time, in bytes. What a C
/// library allocates by itself is not seen.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let mut result = None;
    let counted = allocation_counter::measure(|| result = Some(work()));
    (result.expect("it ran"), counted.bytes_max as usize)
}

/// Panics unless `error` is of a kind that a peer's bytes may cause.
pub fn assert_typed(error: &weir::Error) {
    let blames_the_bytes =
        error.is_malformed() || error.is_corrupt() || error.is_limit() || error.is_unsupported();
    assert!(blames_the_bytes, "an error that does not say what is wrong with the bytes: {error:?}");
}
