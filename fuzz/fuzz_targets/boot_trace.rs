//! See `farrier_fuzz::targets::boot_trace`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| farrier_fuzz::targets::boot_trace::run(data));
