//! See `farrier_fuzz::targets::seamicro_client`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::seamicro_client::run(data));
