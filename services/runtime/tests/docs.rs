//! `docs/errors.md` has a section for every reason, and no other.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use farrier_runtime::error::Reason;
use std::collections::BTreeSet;

#[test]
fn every_reason_has_a_section_and_every_section_a_reason() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors.md");
    let text = std::fs::read_to_string(path).expect("docs/errors.md");
    let sections: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .filter(|title| title.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .collect();
    let described: BTreeSet<&str> = sections.iter().copied().collect();
    let exist: BTreeSet<&str> = Reason::ALL.iter().map(|r| r.as_str()).collect();
    assert_eq!(described, exist);
    assert_eq!(sections.len(), described.len(), "a section twice");
    for section in text.split("\n## ").skip(1) {
        let (title, body) = section.split_once('\n').unwrap();
        assert!(body.contains("**What to do.**"), "{title} says not what to do");
    }
}
