//! `Range` headers of booting machines and agents.
#![no_main]
#![allow(dead_code, unreachable_pub, clippy::all)]

#[path = "../../rackd/netboot/src/http/range.rs"]
mod range;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (size, text) = farrier_fuzz::head::<8>(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let size = u64::from_le_bytes(size);
    for size in [size, size % 4096, 0] {
        check(text, size);
        check(&format!("bytes={text}"), size);
    }
});

fn check(header: &str, size: u64) {
    if let range::Part::Some { start, end } = range::part(Some(header), size) {
        assert!(start <= end && end < size);
    }
}
