//! See `farrier_fuzz::targets::iscsi_initiator`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::iscsi_initiator::run(data));
