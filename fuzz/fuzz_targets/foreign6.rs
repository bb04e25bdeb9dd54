//! See `farrier_fuzz::targets::foreign6`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::foreign6::run(data));
