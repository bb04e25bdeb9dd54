//! What a QEMU has that a BMC has a say in, by QMP alone: whatever its command line was, its objects are asked.

use serde_json::{Value, json};

use crate::bmc::redfish::Facts;
use crate::qmp::{Qmp, QmpError};

/// Where QEMU keeps devices (QOM paths): with an id, without one, and those that it made by itself.
const PLACES: [&str; 3] = ["/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached"];

/// Of the order that is set here. Lower ones may belong to what is no device: QEMU gives `-kernel` the first, and says so only by
/// refusing another.
const FIRST_INDEX: i64 = 1000;

/// What firmware may start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Device {
    /// QOM path.
    pub(super) path: String,
    pub(super) kind: Kind,
    /// Its `bootindex` on the command line; below 0: it has none.
    pub(super) index: i64,
}

/// What kind of device it is, to a boot flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Network,
    Disk,
    Cd,
}

/// All devices that have a place in the boot order, or could have one.
pub(super) async fn all(qmp: &Qmp) -> Result<Vec<Device>, QmpError> {
    let mut devices = Vec::new();
    for place in PLACES {
        for (name, of_type) in properties(qmp, place).await? {
            let Some(of_type) = of_type.strip_prefix("child<").and_then(|rest| rest.strip_suffix('>')) else {
                continue;
            };
            let path = format!("{place}/{name}");
            let has = properties(qmp, &path).await?;
            let has = |wanted: &str| has.iter().any(|(name, _)| name == wanted);
            let kind = match of_type {
                _ if !has("bootindex") => continue,
                _ if of_type.ends_with("-cd") => Kind::Cd,
                _ if has("mac") => Kind::Network,
                _ => Kind::Disk,
            };
            let index = get(qmp, &path, "bootindex").await?.as_i64().unwrap_or(-1);
            devices.push(Device { path, kind, index });
        }
    }
    Ok(devices)
}

/// The devices in the order in which firmware is to try them: those of the `wanted` kind, then what its command line names;
/// `None`: as its command line has it.
pub(super) fn order(devices: &[Device], wanted: Option<Kind>) -> Vec<&Device> {
    let mut order: Vec<&Device> =
        devices.iter().filter(|device| device.index >= 0 || Some(device.kind) == wanted).collect();
    // The named ones before the others of their kind.
    order.sort_by_key(|device| (Some(device.kind) != wanted, device.index < 0, device.index));
    order
}

/// Firmware hears of it when the machine is reset.
pub(super) async fn set_order(qmp: &Qmp, devices: &[Device], wanted: Option<Kind>) -> Result<(), QmpError> {
    // Two devices may not hold one index, not even for a moment: none has one first.
    let cleared = devices.iter().map(|device| (device, -1));
    let ordered = order(devices, wanted).into_iter().zip(FIRST_INDEX..);
    for (device, index) in cleared.chain(ordered) {
        let set = json!({ "path": device.path, "property": "bootindex", "value": index });
        qmp.execute("qom-set", set).await?;
    }
    Ok(())
}

/// What Redfish tells of the machine; `base` says what QEMU does not know.
pub(super) async fn facts(qmp: &Qmp, devices: &[Device], base: Facts) -> Result<Facts, QmpError> {
    let ask = async |command: &str| qmp.execute(command, json!({})).await;
    let uuid = ask("query-uuid").await?;
    let uuid = uuid.get("UUID").and_then(Value::as_str).and_then(|text| uuid::Uuid::parse_str(text).ok());
    let cpus = ask("query-cpus-fast").await?.as_array().map(Vec::len);
    let memory = ask("query-memory-size-summary").await?;
    let name = ask("query-name").await?;
    let mut macs = Vec::new();
    for device in devices.iter().filter(|device| device.kind == Kind::Network) {
        macs.extend(get(qmp, &device.path, "mac").await?.as_str().map(str::to_owned));
    }
    Ok(Facts {
        serial_number: name.get("name").and_then(Value::as_str).map_or(base.serial_number, str::to_owned),
        uuid: uuid.filter(|uuid| !uuid.is_nil()).map_or(base.uuid, uuid::Uuid::into_bytes),
        cpus: cpus.and_then(|count| u32::try_from(count).ok()).unwrap_or(base.cpus),
        memory_bytes: memory.get("base-memory").and_then(Value::as_u64).unwrap_or(base.memory_bytes),
        macs,
        ..base
    })
}

/// QEMU's name for the character device behind a Unix socket.
pub(super) async fn chardev_at(qmp: &Qmp, socket: &str) -> Result<Option<String>, QmpError> {
    let all = qmp.execute("query-chardev", json!({})).await?;
    let text = |one: &Value, key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    // Such as "disconnected:unix:/run/vm/serial,server=on".
    let at = format!("unix:{socket}");
    let found = all.as_array().into_iter().flatten().find(|one| {
        text(one, "filename")
            .split_once(&at)
            .is_some_and(|(_, rest)| rest.is_empty() || rest.starts_with(','))
    });
    Ok(found.map(|one| text(one, "label")))
}

/// Names and types.
async fn properties(qmp: &Qmp, path: &str) -> Result<Vec<(String, String)>, QmpError> {
    let answer = qmp.execute("qom-list", json!({ "path": path })).await?;
    let text = |one: &Value, key: &str| one.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(answer.as_array().into_iter().flatten().map(|one| (text(one, "name"), text(one, "type"))).collect())
}

async fn get(qmp: &Qmp, path: &str, property: &str) -> Result<Value, QmpError> {
    qmp.execute("qom-get", json!({ "path": path, "property": property })).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wanted_kind_comes_first_and_the_command_lines_order_behind_it() {
        let device = |path: &str, kind, index| Device { path: path.to_owned(), kind, index };
        let devices = [
            device("spare", Kind::Disk, -1),
            device("disk", Kind::Disk, 2),
            device("nic", Kind::Network, 1),
            device("cd", Kind::Cd, -1),
        ];
        let names = |wanted| -> Vec<&str> {
            order(&devices, wanted).iter().map(|device| device.path.as_str()).collect()
        };
        assert_eq!(names(None), ["nic", "disk"]);
        assert_eq!(names(Some(Kind::Disk)), ["disk", "spare", "nic"]);
        assert_eq!(names(Some(Kind::Network)), ["nic", "disk"]);
        assert_eq!(names(Some(Kind::Cd)), ["cd", "nic", "disk"]);
    }
}
