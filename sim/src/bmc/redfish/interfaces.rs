//! Network interfaces, of the machine and of the BMC itself (DSP0268: EthernetInterface). What is set is told; the BMC stays where its
//! socket is.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::changes::{Outcome, bad};
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
            let more = view.manager_network.told(view.config.address);
            Some(interface(path, name, &mac, more))
        }
        _ => None,
    }
}

/// What the manager's interface was told.
#[derive(Debug, Default)]
pub(super) struct ManagerNetwork {
    /// Address, mask and gateway; nobody said one: those that it began with.
    address: Option<[Ipv4Addr; 3]>,
    dhcp: bool,
    vlan: Option<u64>,
}

impl ManagerNetwork {
    fn told(&self, begun: Option<Ipv4Addr>) -> Value {
        let begun = begun.map(|ip| {
            let mask = if ip.is_loopback() { [255, 0, 0, 0] } else { [255, 255, 255, 0] };
            [ip, mask.into(), Ipv4Addr::UNSPECIFIED]
        });
        let origin = if self.dhcp { "DHCP" } else { "Static" };
        let address = |[address, mask, gateway]: [Ipv4Addr; 3]| {
            json!({ "Address": address.to_string(), "SubnetMask": mask.to_string(), "AddressOrigin": origin,
                "Gateway": gateway.to_string() })
        };
        let now: Vec<_> = self.address.or(begun).map(address).into_iter().collect();
        let fixed = if self.dhcp { Vec::new() } else { now.clone() };
        json!({
            "Name": "Manager Ethernet Interface", "SpeedMbps": 1000, "IPv4Addresses": now,
            "IPv4StaticAddresses": fixed, "DHCPv4": { "DHCPEnabled": self.dhcp },
            "VLAN": { "VLANEnable": self.vlan.is_some(), "VLANId": self.vlan.unwrap_or_default() },
        })
    }

    /// PATCH of the interface: all of it or none.
    pub(super) fn change(&mut self, body: &Value) -> Outcome {
        let Some(properties) = body.as_object() else {
            return Err(bad("MalformedJSON", "expected an object"));
        };
        let (mut address, mut dhcp, mut vlan) = (self.address, self.dhcp, self.vlan);
        for (name, value) in properties {
            match name.as_str() {
                "DHCPv4" => {
                    let enabled = value.get("DHCPEnabled").and_then(Value::as_bool);
                    dhcp = enabled.ok_or_else(|| bad("PropertyValueTypeError", "expected DHCPEnabled"))?;
                }
                "IPv4StaticAddresses" => {
                    let part = |name: &str| {
                        value.pointer(&format!("/0/{name}")).and_then(Value::as_str)?.parse().ok()
                    };
                    let (Some(ip), Some(mask)) = (part("Address"), part("SubnetMask")) else {
                        return Err(bad("PropertyMissing", "expected Address and SubnetMask"));
                    };
                    address = Some([ip, mask, part("Gateway").unwrap_or(Ipv4Addr::UNSPECIFIED)]);
                }
                "VLAN" => {
                    let enabled = value.get("VLANEnable").and_then(Value::as_bool) == Some(true);
                    vlan = value.get("VLANId").and_then(Value::as_u64).filter(|_| enabled);
                }
                _ => return Err(bad("PropertyNotWritable", &format!("{name} cannot be written"))),
            }
        }
        if dhcp && properties.contains_key("IPv4StaticAddresses") {
            return Err(bad("PropertyValueConflict", "DHCPEnabled and a static address"));
        }
        (self.address, self.dhcp, self.vlan) = (address, dhcp, vlan);
        Ok(())
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
