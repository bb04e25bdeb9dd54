//! The servers of the chassis: power, boot order, VLANs, disks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hyper::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::service::{Reply, done, missing, refusal};
use super::storage::Storage;
use crate::bmc::chassis::press;
use crate::bmc::{BootDeviceSelector, BootFlags, Chassis, PowerAction, PowerState};

const FIRST: &str = "hd0";

/// All of them, by id.
pub(super) struct Servers(BTreeMap<String, Server>);

struct Server {
    chassis: Arc<dyn Chassis>,
    nics: Vec<Nic>,
    /// Volumes by the number of the disk.
    vdisks: BTreeMap<String, String>,
    /// The last one holds.
    orders: Vec<String>,
}

struct Nic {
    mac: String,
    untagged: BTreeSet<String>,
    tagged: BTreeSet<String>,
}

impl Servers {
    pub(super) fn new(servers: Vec<(String, Arc<dyn Chassis>, Vec<String>)>) -> Self {
        let nic = |mac| Nic { mac, untagged: BTreeSet::new(), tagged: BTreeSet::new() };
        let server = |(id, chassis, macs): (_, _, Vec<String>)| {
            let (nics, orders) = (macs.into_iter().map(nic).collect(), vec![FIRST.to_owned()]);
            (id, Server { chassis, nics, vdisks: BTreeMap::new(), orders })
        };
        Self(servers.into_iter().map(server).collect())
    }

    pub(super) fn orders(&self, server: &str) -> Vec<String> {
        self.0.get(server).map(|server| server.orders.clone()).unwrap_or_default()
    }

    pub(super) async fn all(&self, storage: &Storage) -> Value {
        let mut all = Map::new();
        for (id, server) in &self.0 {
            all.insert(id.clone(), server.show(storage).await);
        }
        Value::Object(all)
    }

    pub(super) async fn answer(
        &mut self,
        method: &Method,
        id: &str,
        rest: &[&str],
        query: &BTreeMap<String, String>,
        body: &Value,
        storage: &mut Storage,
    ) -> Reply {
        let Some(server) = self.0.get_mut(id) else { return missing(&format!("server {id}")) };
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        match (method, rest) {
            (&Method::GET, []) => (StatusCode::OK, server.show(storage).await),
            (&Method::GET, ["nic"]) => (StatusCode::OK, server.show_nics()),
            // More than one word: the first is the order.
            (&Method::GET, ["bios", "bootOrder"]) => {
                (StatusCode::OK, json!(format!("{} {FIRST}", server.order())))
            }
            (&Method::PUT, []) => {
                let action = query.get("action").cloned().or_else(|| text("action")).unwrap_or_default();
                let pxe = body.get("using-pxe").and_then(Value::as_bool).unwrap_or_default();
                let force = query.get("force").is_some_and(|force| force == "true");
                match action.as_str() {
                    "power-on" => server.start(PowerAction::On, pxe).await,
                    "reset" => server.start(PowerAction::Reset, pxe).await,
                    "power-off" if force => server.press(PowerAction::Off).await,
                    "power-off" => server.press(PowerAction::Soft).await,
                    "set-bios-boot-order" => server.set_order(text("boot-order").unwrap_or_default()),
                    _ => refusal(StatusCode::BAD_REQUEST, "there is no such action"),
                }
            }
            (&Method::PUT, ["nic", nic, kind]) => {
                let Some(nic) = nic.parse().ok().and_then(|n: usize| server.nics.get_mut(n)) else {
                    return missing("NIC");
                };
                nic.change(kind, text("add"), text("remove"))
            }
            (&Method::PUT, ["vdisk", disk]) => {
                let volume = text("value").unwrap_or_default();
                if server.vdisks.contains_key(*disk) {
                    return refusal(StatusCode::CONFLICT, "the disk has a volume already");
                }
                if !storage.has(&volume) {
                    return missing(&format!("volume {volume}"));
                }
                server.vdisks.insert((*disk).to_owned(), volume);
                done()
            }
            (&Method::DELETE, ["vdisk", disk]) => {
                server.vdisks.remove(*disk);
                done()
            }
            _ => missing("such thing of a server"),
        }
    }
}

impl Server {
    async fn show(&self, storage: &Storage) -> Value {
        let vdisks: BTreeMap<_, _> = self.vdisks.iter().filter(|(_, volume)| storage.has(volume)).collect();
        json!({
            "active": self.chassis.power().await == PowerState::On,
            "nic": self.show_nics(),
            "vdisk": vdisks,
        })
    }

    fn show_nics(&self) -> Value {
        let list = |vlans: &BTreeSet<String>| vlans.iter().cloned().collect::<Vec<_>>().join(",");
        let nics = self.nics.iter().enumerate().map(|(n, nic)| {
            let (untagged, tagged) = (list(&nic.untagged), list(&nic.tagged));
            let shown = json!({ "macAddr": nic.mac, "untaggedVlan": untagged, "taggedVlan": tagged });
            (n.to_string(), shown)
        });
        Value::Object(nics.collect())
    }

    fn order(&self) -> &str {
        self.orders.last().map_or(FIRST, String::as_str)
    }

    fn set_order(&mut self, order: String) -> Reply {
        let known = |device: &str| device == "pxe" || device.strip_prefix("hd").is_some_and(|n| n.len() == 1);
        if !order.split(',').all(known) {
            return refusal(StatusCode::BAD_REQUEST, "there is no such boot device");
        }
        self.orders.push(order);
        done()
    }

    async fn start(&self, action: PowerAction, pxe: bool) -> Reply {
        let first = self.order().split(',').next().unwrap_or_default();
        let device = if pxe || first == "pxe" { BootDeviceSelector::PXE } else { BootDeviceSelector::DISK };
        let flags = BootFlags { valid: true, persistent: false, efi: false, device };
        if action.boots(self.chassis.power().await)
            && let Err(error) = self.chassis.set_boot_flags(flags).await
        {
            return refusal(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string());
        }
        self.press(action).await
    }

    async fn press(&self, action: PowerAction) -> Reply {
        match press(&*self.chassis, action).await {
            Ok(_) => done(),
            Err(error) => refusal(StatusCode::CONFLICT, &error.to_string()),
        }
    }
}

impl Nic {
    fn change(&mut self, kind: &str, add: Option<String>, remove: Option<String>) -> Reply {
        let is_vlan = |vlan: &String| vlan.parse().is_ok_and(|n: u16| (1..=4094).contains(&n));
        if !add.iter().chain(&remove).all(is_vlan) {
            return refusal(StatusCode::BAD_REQUEST, "there is no such VLAN");
        }
        let set = match kind {
            "taggedVlans" => &mut self.tagged,
            "untaggedVlan" if add.is_some() && !self.untagged.is_empty() => {
                return refusal(StatusCode::CONFLICT, "the NIC has an untagged VLAN already");
            }
            "untaggedVlan" => &mut self.untagged,
            _ => return missing(kind),
        };
        set.extend(add);
        if let Some(vlan) = remove {
            set.remove(&vlan);
        }
        done()
    }
}
