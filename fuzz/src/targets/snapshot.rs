//! The file of a rack without a centre, and the copy of what inventory said.

pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match farrier_rackd::snapshot_table(text) {
        Ok(table) => {
            for entry in table.entries() {
                let segment = table.segment(&entry.network).expect("a network that is there");
                assert!(segment.contains(entry.ip), "{entry:?}");
                assert!(table.entry(entry.mac, &entry.network).is_some());
            }
        }
        Err(error) => assert!(!format!("{error:#}").is_empty()),
    }
}
