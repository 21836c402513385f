//! Any bytes as message sets of formats 0 and 1.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::records::check_legacy(input));
