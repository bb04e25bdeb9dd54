//! The boot order (DSP0268 ComputerSystem `Boot`, BootOption), as HPE's HpeServerBootSettings too: that of now, and that of
//! after the next start.

use serde_json::{Value, json};

use super::changes::{Outcome, bad};
use super::config::RedfishConfig;
use super::personality::Personality;
use super::resources::{View, collection, link};

/// Id, a vendor's id, name as HPE writes it, and path in UEFI's words.
type Device = (&'static str, &'static str, &'static str, &'static str);

const OPTIONS: &[Device] = &[
    ("Boot0000", "HD.Slot.1.1", "Embedded RAID : Logical Drive 1", "PciRoot(0x0)/Pci(0x2,0x0)/Scsi(0x0,0x0)"),
    (
        "Boot0001",
        "NIC.LOM.1.1.IPv4",
        "Embedded LOM 1 Port 1 : NIC (PXE IPv4)",
        "PciRoot(0x0)/Pci(0x3,0x0)/MAC(020000000001,0x1)/IPv4(0.0.0.0)",
    ),
    (
        "Boot0002",
        "CD.Virtual.2.1",
        "iLO Virtual USB : HPE Virtual CD-ROM",
        "UsbClass(0xFFFF,0xFFFF,0x8,0x6,0x50)",
    ),
];

/// A machine's order, as places in the list of what it can start from.
#[derive(Debug)]
pub(super) struct BootOrder {
    now: Vec<usize>,
    later: Vec<usize>,
}

impl Default for BootOrder {
    fn default() -> Self {
        let now: Vec<_> = (0..OPTIONS.len()).collect();
        Self { later: now.clone(), now }
    }
}

impl BootOrder {
    /// The machine starts: what was to be is.
    pub(super) fn start(&mut self) {
        self.now.clone_from(&self.later);
    }

    /// What a PATCH of Dell's sources asks for: all of them, whole, each with its index.
    pub(super) fn change_sources(&mut self, body: &Value) -> Outcome {
        let list = body.pointer("/Attributes/UefiBootSeq").and_then(Value::as_array);
        let mut list: Vec<_> = list.into_iter().flatten().collect();
        list.sort_by_key(|source| source.get("Index").and_then(Value::as_u64));
        let whole =
            |source: &&Value| ["Enabled", "Id", "Index"].iter().all(|name| source.get(name).is_some());
        let names = list.iter().copied().filter(whole).filter_map(|source| source.get("Name").cloned());
        self.change(Personality::Ilo, &names.collect())
    }

    /// What a PATCH asks for: all of what there is, each once.
    pub(super) fn change(&mut self, personality: Personality, wanted: &Value) -> Outcome {
        let words = wanted.as_array().into_iter().flatten();
        let place = |word: &Value| {
            let known = OPTIONS.iter().map(|option| id(personality, option));
            known.zip(0..).find(|(known, _)| word.as_str() == Some(known)).map(|(_, place)| place)
        };
        let wanted: Option<Vec<usize>> = words.map(place).collect();
        let mut sorted = wanted.clone().unwrap_or_default();
        sorted.sort_unstable();
        sorted.dedup();
        match wanted.filter(|wanted| wanted.len() == OPTIONS.len() && sorted.len() == OPTIONS.len()) {
            Some(wanted) => self.later = wanted,
            None => return Err(bad("PropertyValueNotInList", "expected all boot options, each once")),
        }
        // Nobody's in particular takes it at once.
        if personality == Personality::Plain {
            self.start();
        }
        Ok(())
    }

    /// What a system has of it, in its `Boot` or among its links.
    pub(super) fn of_system(&self, config: &RedfishConfig, path: &str) -> Value {
        let personality = config.personality;
        match personality {
            Personality::Ilo => json!({}),
            Personality::Idrac if config.old_firmware => {
                json!({ "Links": { "Oem": { "DELL": { "BootOrder": link(&format!("{path}/BootSources")) } } } })
            }
            Personality::Plain | Personality::Idrac => json!({ "Boot": {
                "BootOrder": ids(personality, &self.now), "BootOptions": link(&format!("{path}/BootOptions")),
            }}),
        }
    }
}

fn id(personality: Personality, option: &(&'static str, &'static str, &str, &str)) -> &'static str {
    if personality == Personality::Ilo { option.1 } else { option.0 }
}

fn ids(personality: Personality, order: &[usize]) -> Vec<&'static str> {
    order.iter().filter_map(|place| OPTIONS.get(*place)).map(|option| id(personality, option)).collect()
}

/// Something at or below a system's `BootOptions`.
pub(super) fn options(path: &str, rest: &[&str]) -> Option<Value> {
    match rest {
        [] => {
            let members: Vec<_> = OPTIONS.iter().map(|(id, ..)| format!("{path}/{id}")).collect();
            Some(collection(path, "BootOptionCollection", &members))
        }
        [wanted] => {
            let (id, _, name, device) = OPTIONS.iter().find(|(id, ..)| id == wanted)?;
            Some(json!({
                "@odata.id": path, "@odata.type": "#BootOption.v1_0_4.BootOption", "Id": id, "Name": "Boot Option",
                "BootOptionReference": id, "DisplayName": name, "UefiDevicePath": device, "BootOptionEnabled": true,
            }))
        }
        _ => None,
    }
}

/// Dell's boot sources, which firmware has that knows no boot order of the standard's, or what they are set to.
pub(super) fn sources(view: &View<'_>, path: &str, rest: &[&str]) -> Option<Value> {
    let (now, later) = (&view.boot_order.now, &view.boot_order.later);
    let list = |order: &[usize]| {
        let ordered = order.iter().filter_map(|place| OPTIONS.get(*place)).zip(0_u16..);
        let source = |((_, name, ..), index): (&Device, u16)| json!({ "Enabled": true, "Id": format!("BIOS.Setup.1-1#UefiBootSeq#{name}"), "Index": index, "Name": name });
        json!({ "UefiBootSeq": ordered.map(source).collect::<Vec<_>>() })
    };
    let (id, attributes) = match rest {
        [] => ("BootSources", list(now)),
        // What waits, and nothing else.
        ["Settings"] if now == later => ("Settings", json!({})),
        ["Settings"] => ("Settings", list(later)),
        _ => return None,
    };
    let mut resource = json!({
        "@odata.id": path, "@odata.type": "#DellBootSources.v1_1_0.DellBootSources", "Id": id,
        "Name": "Boot Sources", "Attributes": attributes,
    });
    if let Some(resource) = resource.as_object_mut().filter(|_| rest.is_empty()) {
        resource.insert("@Redfish.Settings".to_owned(), settings_of(path));
    }
    Some(resource)
}

/// Where changes wait.
fn settings_of(path: &str) -> Value {
    json!({ "@odata.type": "#Settings.v1_0_0.Settings", "SettingsObject": link(&format!("{path}/Settings")) })
}

/// HPE's resource of it, or what it is set to.
pub(super) fn of_hpe(view: &View<'_>, path: &str, settings: bool) -> Value {
    let order = if settings { &view.boot_order.later } else { &view.boot_order.now };
    let mut resource = json!({
        "@odata.id": path, "@odata.type": "#HpeServerBootSettings.v2_0_0.HpeServerBootSettings",
        "Id": if settings { "settings" } else { "boot" }, "Name": "Boot Order",
        "PersistentBootConfigOrder": ids(Personality::Ilo, order),
    });
    let sources = OPTIONS.iter().zip(1_u16..).map(|((_, id, name, device), number)| {
        json!({
            "StructuredBootString": id, "BootString": name, "UEFIDevicePath": device,
            "BootOptionNumber": format!("{number:04X}"), "CorrelatableID": device,
        })
    });
    if let Some(resource) = resource.as_object_mut().filter(|_| !settings) {
        resource.insert("BootSources".to_owned(), sources.collect());
        resource.insert("@Redfish.Settings".to_owned(), settings_of(path));
    }
    resource
}
