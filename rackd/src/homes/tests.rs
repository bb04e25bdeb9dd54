use super::*;
use crate::fixture;
use farrier_proto::rack::MachinePort;

const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

fn entry(network: &str, ip: [u8; 4]) -> BootEntry {
    BootEntry {
        mac: MAC,
        node: "nodes/n1".into(),
        hostname: "n1".into(),
        ip: ip.into(),
        network: network.into(),
        boot: Boot::LocalDisk,
    }
}

fn networks(rack: &Rack) -> Vec<String> {
    let mut all: Vec<_> =
        rack.netboot.table().entries_of(MAC).iter().map(|entry| entry.network.clone()).collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_system_is_served_where_it_asks_too_and_what_was_taken_back_meanwhile_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9, 9]).await;
    let [row_1, row_2] = ["row-1", "row-2"].map(|name| rack.provisioning_named(name).unwrap());
    rack.netboot.update(|table| table.publish(entry("row-1", [10, 90, 1, 10])));
    let here = Arc::clone(rack.netboot.table().entry(MAC, "row-1").unwrap());
    moved(&rack, MAC, row_2).await.unwrap();
    assert_eq!(networks(&rack), ["row-1", "row-2"]);
    assert_eq!(rack.home(MAC).map(|home| home.name.as_str()), Some("row-2"));
    assert_eq!(rack.journal.homes().await.unwrap().len(), 1);
    // A fence comes between: the entry is the old one, or another one has taken its place.
    for again in [false, true] {
        rack.netboot.update(|table| {
            table.unpublish_mac(MAC);
            if again {
                table.publish(entry("row-1", [10, 90, 1, 10]));
            }
        });
        publish_beside(&rack, &here, row_2, [10, 90, 2, 10].into());
        assert!(rack.netboot.table().entry(MAC, "row-2").is_none(), "{again}");
    }
    let now = Arc::clone(rack.netboot.table().entry(MAC, "row-1").unwrap());
    publish_beside(&rack, &now, row_2, [10, 90, 2, 10].into());
    assert_eq!(networks(&rack), ["row-1", "row-2"]);
    assert_eq!(rack.provisioning_at(row_1.address.into()).map(|s| s.name.as_str()), Some("row-1"));
}

#[tokio::test]
async fn a_port_that_never_asked_is_where_it_is_served_or_in_the_first_network() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9, 9]).await;
    let home = || rack.home(MAC).map(|home| home.name.clone());
    assert_eq!(home().as_deref(), Some("row-1"));
    rack.netboot.update(|table| table.publish(entry("row-2", [10, 90, 2, 10])));
    assert_eq!(home().as_deref(), Some("row-2"));
}

#[tokio::test]
async fn a_machine_reaches_the_rack_by_the_port_that_is_cabled() {
    let dir = tempfile::tempdir().unwrap();
    let rack = fixture::rack(dir.path(), &[9, 9, 9]).await;
    let second = MacAddr([2, 0, 0, 0, 0, 2]);
    let ports = [MAC, second].map(|mac| MachinePort {
        mac_address: mac.to_string(),
        pxe_enabled: true,
        ..MachinePort::default()
    });
    let machine = Machine { ports: ports.to_vec(), ..Machine::default() };
    let reached = |agent: Option<&str>| {
        let agent = agent.map(|ip| ip.parse().unwrap());
        rack.reached_from(&machine, agent).map(|segment| segment.name.clone()).unwrap()
    };
    assert_eq!(reached(None), "row-1");
    rack.netboot.update(|table| table.publish(BootEntry { mac: second, ..entry("row-1", [10, 90, 1, 11]) }));
    moved(&rack, second, rack.provisioning_named("row-2").unwrap()).await.unwrap();
    assert_eq!(reached(None), "row-2");
    assert_eq!(reached(Some("10.90.3.10")), "row-3");
    assert_eq!(reached(Some("192.0.2.1")), "row-2");
}
