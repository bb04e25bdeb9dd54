use super::*;
use crate::fixture;
use farrier_netboot::Boot;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

/// What the port boots in a network.
fn script(rack: &Rack, network: &str) -> Option<Boot> {
    rack.netboot.table().entry(MAC, network).map(|entry| entry.boot.clone())
}

#[tokio::test]
async fn a_stranger_that_moved_and_came_back_finds_a_new_token_in_both_networks() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9, 9]).await;
    begin(&rack, MAC, "row-1").await;
    moved(&rack, MAC, rack.provisioning_named("row-2").unwrap()).await;
    let before = ["row-1", "row-2"].map(|network| script(&rack, network).unwrap());
    script_given(&rack, MAC).await;
    let after = ["row-1", "row-2"].map(|network| script(&rack, network).unwrap());
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "{after:?}");
    unpublish(&rack, MAC);
    assert!(rack.netboot.table().entries_of(MAC).is_empty());
}

#[tokio::test]
async fn a_stranger_without_an_address_where_it_asked_first_has_one_where_it_asks_next() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[1, 9]).await;
    let (node, hostname, network) = ("nodes/n1".to_owned(), "n1".to_owned(), "row-1".to_owned());
    let of_a_node = MacAddr([2, 0, 0, 0, 0, 9]);
    let ip = rack.reserve(&node, of_a_node, rack.provisioning_named("row-1").unwrap()).await.unwrap();
    let taken = BootEntry { mac: of_a_node, node, hostname, ip, network, boot: Boot::LocalDisk };
    rack.netboot.update(|table| table.publish(taken));
    begin(&rack, MAC, "row-1").await;
    assert_eq!((script(&rack, "row-1"), rack.discovery.found.networks(MAC)), (None, Vec::new()));
    begin(&rack, MAC, "row-2").await;
    assert!(script(&rack, "row-2").is_some());
}
