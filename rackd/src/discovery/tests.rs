use super::*;
use crate::fixture;
use farrier_netboot::Boot;
use farrier_proto::agent::SessionRequest;
use farrier_proto::agent::session_request::{Done, Hello, Report, Result as CommandResult, result::Outcome};
use tokio::sync::mpsc;

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

/// An active node may ask by an interface that nobody described first, and runs somebody's system.
#[tokio::test]
async fn a_nodes_machine_starts_again_and_has_its_disk_to_boot_wherever_it_asks() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9, 9]).await;
    begin(&rack, MAC, "row-1").await;
    script_given(&rack, MAC).await;
    assert!(matches!(script(&rack, "row-1"), Some(Boot::Script { .. })));
    let agent = rack.discovery.found.agent(MAC).unwrap();
    let (outgoing, mut orders) = mpsc::channel(1);
    agent.attach(Hello::default(), [10, 90, 1, 10].into(), outgoing);
    let obeys = async {
        let order = orders.recv().await.unwrap().unwrap();
        assert!(matches!(order.command, Some(Command::Restart(_))), "{order:?}");
        assert_eq!(script(&rack, "row-1"), Some(Boot::LocalDisk), "before it asks again");
        let outcome = Some(Outcome::Done(Done::default()));
        let result = CommandResult { command_id: order.command_id, outcome };
        agent.report(SessionRequest { report: Some(Report::Result(result)) });
    };
    tokio::join!(go_on(&rack, MAC, "nodes/n1"), obeys);
    assert!(rack.discovery.found.agent_of(&identity(MAC)).is_none());
    // It chains iPXE, and is cabled elsewhere.
    script_given(&rack, MAC).await;
    moved(&rack, MAC, rack.provisioning_named("row-2").unwrap()).await;
    for network in ["row-1", "row-2"] {
        assert_eq!(script(&rack, network), Some(Boot::LocalDisk), "{network}");
    }
}
