//! What several targets need.

/// The input as messages: a byte of length, then so many bytes, again and again. Short ones are what
/// fuzzers are good at; the last may be cut.
pub fn messages(mut data: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = data.split_first()?;
        let (message, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        data = rest;
        Some(message)
    })
}

/// The input's first `N` bytes, zero where it is shorter, and the rest.
pub fn head<const N: usize>(data: &[u8]) -> ([u8; N], &[u8]) {
    let mut out = [0; N];
    let (first, rest) = data.split_at(N.min(data.len()));
    out[..first.len()].copy_from_slice(first);
    (out, rest)
}
