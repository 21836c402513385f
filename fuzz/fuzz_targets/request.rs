//! Any body as any request.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::messages::check(
    &[weir::protocol::Kind::Request],
    input
));
