//! See `farrier_fuzz::targets::snapshot`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::snapshot::run(data));
