//! Any bytes as record batches.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::records::check(bytes::Bytes::copy_from_slice(input)));
