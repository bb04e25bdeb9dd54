//! See `farrier_fuzz::targets::rackd_config`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::rackd_config::run(data));
