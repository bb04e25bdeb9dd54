//! See `farrier_fuzz::targets::iscsi_negotiation`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::iscsi_negotiation::run(data));
