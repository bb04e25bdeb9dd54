//! See `farrier_fuzz::targets::ipmi_sdr`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::ipmi_sdr::run(data));
