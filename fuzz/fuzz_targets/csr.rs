//! See `farrier_fuzz::targets::csr`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::csr::run(data));
