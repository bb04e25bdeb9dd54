//! See `farrier_fuzz::targets::dhcp6`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::dhcp6::run(data));
