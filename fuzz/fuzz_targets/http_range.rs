//! See `farrier_fuzz::targets::http_range`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::http_range::run(data));
