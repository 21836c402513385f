//! Any records, built into a batch and read back.
#![no_main]

libfuzzer_sys::fuzz_target!(|plan: weir_fuzz::records::Build| {
    let mut plan = plan;
    weir_fuzz::records::check_build(&mut plan);
});
