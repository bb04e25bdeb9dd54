//! See `farrier_fuzz::targets::lease_file`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::lease_file::run(data));
