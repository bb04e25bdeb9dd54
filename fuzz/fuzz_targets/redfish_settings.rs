//! See `farrier_fuzz::targets::redfish_settings`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::redfish_settings::run(data));
