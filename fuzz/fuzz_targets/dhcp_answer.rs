//! See `farrier_fuzz::targets::dhcp_answer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::dhcp_answer::run(data));
