//! See `farrier_fuzz::targets::lldp`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::lldp::run(data));
