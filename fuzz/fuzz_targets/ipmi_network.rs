//! See `farrier_fuzz::targets::ipmi_network`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::ipmi_network::run(data));
