//! Any bytes as any header or data schema.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| weir_fuzz::messages::check(
    &[weir::protocol::Kind::Header, weir::protocol::Kind::Data],
    input
));
