//! `Range` headers of booting machines and agents.

#[path = "../../../rackd/netboot/src/http/range.rs"]
mod range;

pub fn run(data: &[u8]) {
    let (size, text) = crate::head::<8>(data);
    let Ok(text) = std::str::from_utf8(text) else { return };
    let size = u64::from_le_bytes(size);
    for size in [size, size % 4096, 0] {
        check(text, size);
        check(&format!("bytes={text}"), size);
    }
}

fn check(header: &str, size: u64) {
    if let range::Part::Some { start, end } = range::part(Some(header), size) {
        assert!(start <= end && end < size);
    }
}
