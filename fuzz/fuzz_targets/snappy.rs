//! Any bytes as compressed by snappy.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::codecs::check(
    weir::records::Compression::Snappy,
    input
));
