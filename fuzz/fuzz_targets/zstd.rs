//! Any bytes as compressed by zstd.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::codecs::check(weir::records::Compression::Zstd, input));
