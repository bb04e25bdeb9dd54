//! Network interfaces, of the machine and of the BMC itself (DSP0268: EthernetInterface).

use serde_json::{Value, json};

use super::resources::{View, collection};

const KIND: &str = "EthernetInterfaceCollection";
/// The BMC's only one.
const ETH0: &str = "eth0";

/// What stands at, or below, a system's collection at `path`.
pub(super) fn of_system(view: &View<'_>, path: &str, rest: &[&str]) -> Option<Value> {
    let macs = &view.config.facts.macs;
    match rest {
        [] => {
            let members: Vec<_> = (1..=macs.len()).map(|n| format!("{path}/NIC{n}")).collect();
            Some(collection(path, KIND, &members))
        }
        [nic] => {
            let number: usize = nic.strip_prefix("NIC")?.parse().ok()?;
            let mac = macs.get(number.checked_sub(1)?)?;
            Some(interface(path, nic, mac, json!({ "Name": format!("NIC {number}"), "SpeedMbps": 10_000 })))
        }
        _ => None,
    }
}

/// The same of the manager. Its address and its MAC are those that its IPMI tells.
pub(super) fn of_manager(view: &View<'_>, path: &str, rest: &[&str]) -> Option<Value> {
    match rest {
        [] => Some(collection(path, KIND, &[format!("{path}/{ETH0}")])),
        [name] if *name == ETH0 => {
            let [.., a, b, c, d] = view.config.facts.uuid;
            let mac = format!("02:bc:{a:02x}:{b:02x}:{c:02x}:{d:02x}");
            let addresses: Vec<_> = view.config.address.iter().map(|ip| {
                let mask = if ip.is_loopback() { "255.0.0.0" } else { "255.255.255.0" };
                json!({ "Address": ip.to_string(), "SubnetMask": mask, "AddressOrigin": "Static", "Gateway": "0.0.0.0" })
            }).collect();
            let more = json!({
                "Name": "Manager Ethernet Interface", "SpeedMbps": 1000, "IPv4Addresses": addresses,
                "VLAN": { "VLANEnable": false, "VLANId": 0 },
            });
            Some(interface(path, name, &mac, more))
        }
        _ => None,
    }
}

fn interface(collection: &str, id: &str, mac: &str, more: Value) -> Value {
    let mut interface = json!({
        "@odata.id": format!("{collection}/{id}"), "@odata.type": "#EthernetInterface.v1_6_2.EthernetInterface",
        "Id": id, "MACAddress": mac, "PermanentMACAddress": mac, "InterfaceEnabled": true, "LinkStatus": "LinkUp",
        "Status": { "State": "Enabled", "Health": "OK" },
    });
    super::personality::dress(&mut interface, more);
    interface
}
