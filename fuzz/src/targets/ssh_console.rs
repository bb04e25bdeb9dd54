//! A BMC's SSH server that has any key and any last words: what its client asks us, and what is told of it.

use crate::head;

/// The longest that is said of one try: eight keys of a hundred characters, two lines of a banner, and our own words.
const LONGEST: usize = 2_000;

pub fn run(data: &[u8]) {
    let ([length], data) = head::<1>(data);
    let (asked, said) = data.split_at(usize::from(length).saturating_mul(4).min(data.len()));
    let asked = String::from_utf8_lossy(asked);
    for host_key in ["", "SHA256:abc="] {
        let told = farrier_bmc::ssh::judged("hunter2", host_key, &asked, said);
        assert!(!told.contains("hunter2") || asked.contains("hunter2") || contains(said, b"hunter2"), "{told}");
        assert!(told.chars().count() <= LONGEST && !told.contains(char::is_control), "{told}");
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}
