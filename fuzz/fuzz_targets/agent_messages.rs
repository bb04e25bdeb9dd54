//! See `farrier_fuzz::targets::agent_messages`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::agent_messages::run(data));
