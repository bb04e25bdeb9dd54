//! Texts in requests: filters, page tokens, masks, names, labels.

use farrier_model::{Collection, is_label, parse_name};
use farrier_runtime::page::Page;
use farrier_runtime::{filter, mask};

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(terms) = filter::parse(text, &["state", "labels", "rack"]) {
        for term in terms {
            assert!(
                ["state", "labels", "rack"].contains(&term.field.as_str())
                    || term.field.starts_with("labels.")
            );
        }
    }
    if let Ok(page) = Page::parse(data.first().copied().unwrap_or(0).into(), text) {
        // The token of a page after this key is read back as this key.
        if let Some(key) = page.after.clone() {
            let small = Page { size: 1, after: None };
            let (_, token) = small.finish(vec![0, 1], |_| key.clone());
            assert_eq!(Page::parse(1, &token).expect("our own token").after, Some(key));
        }
    }
    let wanted = prost_types::FieldMask { paths: text.split(',').map(str::to_owned).collect() };
    let _ = mask::fields(Some(&wanted), &["bmc", "labels"], |_| true);
    for collection in [Collection::Nodes, Collection::Racks, Collection::Ports] {
        if let Ok(id) = parse_name(collection, text) {
            assert_eq!(collection.name(id), text);
        }
    }
    if is_label(text) {
        assert!(text.len() <= 63 && text.is_ascii() && !text.contains(['/', '.', '"']));
    }
}
