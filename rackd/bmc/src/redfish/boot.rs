//! The boot override in the words of Redfish (DSP0268, ComputerSystem: Boot).

use serde_json::{Map, Value, json};

use super::document::Document;
use crate::{BootMode, BootOverride, Device};

/// Devices and their targets. Where there are several, the first is preferred; all mean the device when read.
const TARGETS: &[(Device, &str)] = &[
    (Device::None, "None"),
    (Device::Network, "Pxe"),
    (Device::Network, "UefiHttp"),
    (Device::Disk, "Hdd"),
    (Device::Cdrom, "Cd"),
    (Device::BiosSetup, "BiosSetup"),
];

/// A device that IPMI has no selector for.
const NO_SELECTOR: u8 = 0xFF;

/// Why a change cannot be asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Impossible {
    /// The system has no boot override.
    NoOverride,
    /// It can be read only.
    CannotBeSet,
    /// None of our targets is offered.
    NotOffered { expected: Vec<&'static str>, offered: Vec<String> },
}

/// `None`: this system has no boot override. A system that has no modes is read as `mode`.
pub(super) fn read(system: &Document, mode: BootMode) -> Option<BootOverride> {
    let enabled = system.text("Boot/BootSourceOverrideEnabled")?;
    let target = system.text("Boot/BootSourceOverrideTarget");
    let device = match target.as_deref() {
        _ if enabled == "Disabled" => Device::None,
        None => Device::None,
        Some(target) => TARGETS
            .iter()
            .find(|(_, ours)| *ours == target)
            .map_or(Device::Other(NO_SELECTOR), |(device, _)| *device),
    };
    let mode = match system.text("Boot/BootSourceOverrideMode").as_deref() {
        Some("Legacy") => BootMode::Bios,
        Some("UEFI") => BootMode::Uefi,
        _ => mode,
    };
    Some(BootOverride { device, persistent: enabled == "Continuous", mode })
}

/// Whether what is read back is what was written. `with_mode`: a mode was written, where the system has modes. An override
/// for once where one for ever was asked for is the nearest that some have; the other way round the machine would never
/// leave the device.
pub(super) fn is_kept(wanted: BootOverride, seen: BootOverride, with_mode: bool) -> bool {
    if wanted.device == Device::None {
        return seen.device == Device::None;
    }
    seen.device == wanted.device
        && (!with_mode || seen.mode == wanted.mode)
        && (wanted.persistent || !seen.persistent)
}

/// What to PATCH into the system. `with_mode`: where the system has modes at all.
pub(super) fn change(wanted: BootOverride, system: &Document, with_mode: bool) -> Result<Value, Impossible> {
    if system.at("Boot").is_none_or(|boot| !boot.is_object()) {
        return Err(Impossible::NoOverride);
    }
    let ours: Vec<_> =
        TARGETS.iter().filter(|(d, _)| *d == wanted.device).map(|(_, target)| *target).collect();
    let offered = system.words("Boot/BootSourceOverrideTarget@Redfish.AllowableValues");
    let target = ours.iter().find(|target| offered.is_empty() || offered.iter().any(|o| o == **target));
    let Some(target) = target else {
        return Err(match wanted.device {
            Device::Other(_) => Impossible::CannotBeSet,
            _ => Impossible::NotOffered { expected: ours, offered },
        });
    };
    let times = system.words("Boot/BootSourceOverrideEnabled@Redfish.AllowableValues");
    let can_persist = times.is_empty() || times.iter().any(|t| t == "Continuous");
    let enabled = match wanted {
        BootOverride { device: Device::None, .. } => "Disabled",
        BootOverride { persistent: true, .. } if can_persist => "Continuous",
        // The nearest there is; what is read back says so.
        _ => "Once",
    };
    let mut boot = Map::new();
    boot.insert("BootSourceOverrideEnabled".to_owned(), json!(enabled));
    boot.insert("BootSourceOverrideTarget".to_owned(), json!(target));
    if with_mode && wanted.device != Device::None && system.at("Boot/BootSourceOverrideMode").is_some() {
        let mode = match wanted.mode {
            BootMode::Bios => "Legacy",
            BootMode::Uefi => "UEFI",
        };
        boot.insert("BootSourceOverrideMode".to_owned(), json!(mode));
    }
    Ok(json!({ "Boot": boot }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system(boot: &Value) -> Document {
        Document::parse(json!({ "Boot": boot }).to_string().as_bytes(), None).unwrap()
    }

    #[test]
    fn what_is_set_reads_back_as_it_was_meant() {
        let empty = system(&json!({ "BootSourceOverrideMode": "Legacy" }));
        for device in [Device::Network, Device::Disk, Device::Cdrom, Device::BiosSetup] {
            for (persistent, mode) in [(true, BootMode::Uefi), (false, BootMode::Bios)] {
                let wanted = BootOverride { device, persistent, mode };
                let body = change(wanted, &empty, true).unwrap();
                assert_eq!(read(&system(&body["Boot"]), BootMode::Bios), Some(wanted));
            }
        }
        let none = BootOverride { device: Device::None, persistent: false, mode: BootMode::Bios };
        let body = change(none, &empty, true).unwrap();
        assert_eq!(read(&system(&body["Boot"]), BootMode::Bios), Some(none));
    }

    #[test]
    fn what_is_read_back_must_be_the_device_in_its_mode_and_not_for_ever_unasked() {
        let wanted = BootOverride { device: Device::Network, persistent: false, mode: BootMode::Uefi };
        assert!(is_kept(wanted, wanted, true));
        let bios = BootOverride { mode: BootMode::Bios, ..wanted };
        assert!(!is_kept(wanted, bios, true) && is_kept(wanted, bios, false));
        let always = BootOverride { persistent: true, ..wanted };
        assert!(!is_kept(wanted, always, true) && is_kept(always, wanted, true));
        let none = BootOverride { device: Device::None, ..always };
        assert!(is_kept(BootOverride { persistent: false, ..none }, none, true));
        assert!(!is_kept(none, wanted, true));
    }

    #[test]
    fn only_what_is_offered_is_asked_for() {
        let wanted = BootOverride { device: Device::Network, persistent: true, mode: BootMode::Uefi };
        let boot = json!({
            "BootSourceOverrideTarget@Redfish.AllowableValues": ["None", "UefiHttp"],
            "BootSourceOverrideEnabled@Redfish.AllowableValues": ["Disabled", "Once"],
        });
        let body = change(wanted, &system(&boot), true).unwrap();
        let expected = json!({ "BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": "UefiHttp" });
        assert_eq!(body["Boot"], expected, "no mode where the system has none");
        let disk = BootOverride { device: Device::Disk, ..wanted };
        assert!(matches!(change(disk, &system(&boot), true), Err(Impossible::NotOffered { .. })));
        let other = BootOverride { device: Device::Other(9), ..wanted };
        assert_eq!(change(other, &system(&json!({})), true), Err(Impossible::CannotBeSet));
        assert_eq!(change(wanted, &Document::default(), true), Err(Impossible::NoOverride));
    }

    #[test]
    fn an_override_that_is_disabled_or_unknown_is_none_or_other() {
        let device = |boot: Value| read(&system(&boot), BootMode::Uefi).map(|o| o.device);
        let boot = |enabled, target| json!({ "BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": target });
        assert_eq!(device(boot("Disabled", "Pxe")), Some(Device::None));
        assert_eq!(device(boot("Once", "SDCard")), Some(Device::Other(NO_SELECTOR)));
        assert_eq!(device(json!({})), None);
    }
}
