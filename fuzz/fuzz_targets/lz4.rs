//! Any bytes as compressed by lz4.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::codecs::check(weir::records::Compression::Lz4, input));
