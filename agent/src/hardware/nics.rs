//! Network interfaces that are hardware.
use super::{attribute, names, number};
use crate::args::parse_mac;
use farrier_proto::types::Nic;
use std::path::Path;

/// ARPHRD_ETHER (Linux include/uapi/linux/if_arp.h).
const ETHERNET: i64 = 1;

/// Every physical Ethernet interface, by name.
pub fn nics(root: &Path) -> Vec<Nic> {
    nic_names(root).into_iter().map(|name| nic(root, name)).collect()
}

/// Names below `/sys/class/net` that have a device behind them.
pub fn nic_names(root: &Path) -> Vec<String> {
    let dir = root.join("sys/class/net");
    names(&dir)
        .into_iter()
        .filter(|name| {
            let nic = dir.join(name);
            nic.join("device").exists() && number(&nic.join("type")) == Some(ETHERNET)
        })
        .collect()
}

/// The interface that has this address.
pub fn nic_by_mac(root: &Path, mac: [u8; 6]) -> Option<String> {
    nics(root).into_iter().find(|nic| parse_mac(&nic.mac_address) == Some(mac)).map(|nic| nic.name)
}

fn nic(root: &Path, name: String) -> Nic {
    let dir = root.join("sys/class/net").join(&name);
    Nic {
        mac_address: attribute(&dir.join("address")).to_ascii_lowercase(),
        // Reading `carrier` of an interface that is down fails: no carrier.
        link_up: number(&dir.join("carrier")) == Some(1),
        // -1 and a read error both mean unknown.
        speed_mbps: number(&dir.join("speed")).and_then(|n| i32::try_from(n).ok()).unwrap_or(0).max(0),
        driver: std::fs::read_link(dir.join("device/driver"))
            .ok()
            .and_then(|link| link.file_name()?.to_str().map(str::to_owned))
            .unwrap_or_default(),
        // Whoever listens knows.
        neighbour: None,
        name,
    }
}
