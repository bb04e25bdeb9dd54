//! See `farrier_fuzz::targets::ipmi_console`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::ipmi_console::run(data));
