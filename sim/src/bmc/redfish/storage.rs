//! Disks (DSP0268 Storage, Drive, SimpleStorage): two, and an empty bay.

use serde_json::{Value, json};

use super::resources::{View, collection, link};

/// Name, model, serial number, bytes, medium, protocol.
const DISKS: &[(&str, &str, &str, u64, &str, &str)] = &[
    ("Bay 1", "Pretend NVMe", "N1", 480_103_981_056, "SSD", "NVMe"),
    ("Bay 2", "Pretend Disk", "H1", 4_000_787_030_016, "HDD", "SATA"),
];

/// What a system says of where its disks are.
pub(super) fn of_system(view: &View<'_>, path: &str) -> Value {
    if view.config.simple_storage {
        return json!({ "SimpleStorage": link(&format!("{path}/SimpleStorage")) });
    }
    json!({ "Storage": link(&format!("{path}/Storage")) })
}

/// Something at or below a system's `Storage`.
pub(super) fn get(path: &str, rest: &[&str]) -> Option<Value> {
    let bays = DISKS.len() + 1;
    Some(match rest {
        [] => collection(path, "StorageCollection", &[format!("{path}/1")]),
        ["1"] => json!({
            "@odata.id": path, "@odata.type": "#Storage.v1_10_0.Storage", "Id": "1", "Name": "Controller",
            "Drives": (1..=bays).map(|n| link(&format!("{path}/Drives/{n}"))).collect::<Vec<_>>(),
            "Drives@odata.count": bays,
        }),
        ["1", "Drives", id] => {
            let number: usize = id.parse().ok().filter(|number| (1..=bays).contains(number))?;
            match DISKS.get(number - 1) {
                Some((name, model, serial, bytes, medium, protocol)) => json!({
                    "@odata.id": path, "@odata.type": "#Drive.v1_12_0.Drive", "Id": id, "Name": name,
                    "Manufacturer": "Farrier", "Model": model, "SerialNumber": serial, "CapacityBytes": bytes,
                    "MediaType": medium, "Protocol": protocol, "Status": { "State": "Enabled", "Health": "OK" },
                }),
                None => json!({
                    "@odata.id": path, "@odata.type": "#Drive.v1_12_0.Drive", "Id": id, "Name": "Bay 3",
                    "Status": { "State": "Absent" },
                }),
            }
        }
        _ => return None,
    })
}

/// Something at or below a system's `SimpleStorage`.
pub(super) fn simple(path: &str, rest: &[&str]) -> Option<Value> {
    let devices = || {
        let device = |(name, model, _, bytes, ..): &(&str, &str, &str, u64, &str, &str)| json!({ "Name": name, "Manufacturer": "Farrier", "Model": model, "CapacityBytes": bytes });
        DISKS.iter().map(device).collect::<Vec<_>>()
    };
    match rest {
        [] => Some(collection(path, "SimpleStorageCollection", &[format!("{path}/1")])),
        ["1"] => Some(json!({
            "@odata.id": path, "@odata.type": "#SimpleStorage.v1_3_0.SimpleStorage", "Id": "1",
            "Name": "Controller", "Devices": devices(),
        })),
        _ => None,
    }
}
