//! See `farrier_fuzz::targets::api_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::api_text::run(data));
