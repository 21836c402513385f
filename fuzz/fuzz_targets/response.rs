//! Any body as any response.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::messages::check(
    &[weir::protocol::Kind::Response],
    input
));
