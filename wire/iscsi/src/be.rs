//! Big-endian fields of a byte string. What lies outside reads as zero and is not written: lengths are
//! checked where a message is taken in, and a slip here must not panic a daemon.

pub(crate) fn u8(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

pub(crate) fn u16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

pub(crate) fn u24(bytes: &[u8], at: usize) -> u32 {
    let [a, b, c] = array(bytes, at);
    u32::from_be_bytes([0, a, b, c])
}

pub(crate) fn u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

pub(crate) fn u64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}

pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    at.checked_add(N)
        .and_then(|end| bytes.get(at..end))
        .and_then(|field| field.try_into().ok())
        .unwrap_or([0; N])
}

pub(crate) fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(field) = at.checked_add(value.len()).and_then(|end| bytes.get_mut(at..end)) {
        field.copy_from_slice(value);
    }
}

/// Text in a field of fixed width, padded with spaces as SPC-4 4.3.1 wants it.
pub(crate) fn put_text(bytes: &mut [u8], at: usize, width: usize, text: &str) {
    if let Some(field) = bytes.get_mut(at..at.saturating_add(width)) {
        field.fill(b' ');
        for (to, from) in field.iter_mut().zip(text.bytes()) {
            *to = if (0x20..0x7f).contains(&from) { from } else { b'.' };
        }
    }
}
