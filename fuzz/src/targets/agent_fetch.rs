//! What a download answers and where an iSCSI disk is said to be.

#[path = "../../../agent/src/commands/fetch/content_range.rs"]
mod content_range;
#[path = "../../../agent/src/commands/fetch/iscsi_url.rs"]
mod iscsi_url;

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for text in [text.to_owned(), format!("bytes {text}")] {
        if let Some((first, last, total)) = content_range::parse(&text) {
            let total = total.map_or("*".to_owned(), |total| total.to_string());
            let again = format!("bytes {first}-{last}/{total}");
            assert_eq!(content_range::parse(&again), content_range::parse(&text));
        }
    }
    for text in [text.to_owned(), format!("iscsi://{text}"), format!("iscsi://a%b@c/{text}/0?initiator=i")] {
        if let Some(address) = iscsi_url::parse(&text, [7; 3]) {
            assert!(text.contains(&address.host) && text.contains(&address.login.target));
            assert!(!address.host.contains('/'));
        }
    }
}
