//! See `farrier_fuzz::targets::agent_fetch`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::agent_fetch::run(data));
