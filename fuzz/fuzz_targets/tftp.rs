//! See `farrier_fuzz::targets::tftp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::tftp::run(data));
