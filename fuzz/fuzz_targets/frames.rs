//! Any bytes as a peer's stream.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::stream::check(input));
