//! PATCH and actions: what a client may change, and what it is told when it may not.

use hyper::StatusCode;
use serde_json::Value;

use super::bios::Bios;
use super::config::RedfishConfig;
use super::faults::RedfishFaults;
use super::personality::Personality;
use super::resources::{RESTARTS, TARGETS, TIMES, refusal, targets};
use super::service::Reply;
use super::tasks::Work;
use crate::bmc::chassis::press_and_log;
use crate::bmc::{
    BootDeviceSelector, BootFlags, Chassis, ChassisError, ChassisIdentify, PowerAction, PowerState,
};

/// A status, and the body of a refusal.
pub(super) type Outcome = Result<(), (StatusCode, Value)>;

/// PATCH of a system.
pub(super) async fn system(
    config: &RedfishConfig,
    faults: &RedfishFaults,
    chassis: &dyn Chassis,
    led: &mut bool,
    bios: &mut Bios,
    body: &Value,
) -> Outcome {
    let Some(properties) = body.as_object() else { return Err(bad("MalformedJSON", "expected an object")) };
    for (name, value) in properties {
        match name.as_str() {
            "Boot" => {
                let now = override_of(chassis.boot_flags().await, bios);
                let mut flags = boot(config, now, value)?;
                if faults.keeps_mode {
                    (flags.efi, flags.persistent) = (now.efi, false);
                }
                // The mode alone is the firmware's, where there is no setting of a vendor's for it.
                let of_firmware = config.personality == Personality::Plain && is_mode_alone(value);
                if of_firmware && !faults.forgets_boot {
                    bios.set_mode(flags.efi);
                }
                if !faults.forgets_boot && (now.valid || !of_firmware) {
                    chassis.set_boot_flags(flags).await.map_err(|error| failed(&error))?;
                }
            }
            "LocationIndicatorActive" | "IndicatorLED" => {
                *led = match value {
                    Value::Bool(on) => *on,
                    Value::String(word) if matches!(word.as_str(), "Lit" | "Blinking") => true,
                    Value::String(word) if word == "Off" => false,
                    _ => return Err(not_in_list(name, value)),
                };
                let identify = if *led { ChassisIdentify::Indefinitely } else { ChassisIdentify::Off };
                chassis.identify(identify).await;
            }
            _ => return Err(bad("PropertyNotWritable", &format!("{name} cannot be written"))),
        }
    }
    Ok(())
}

/// POST to ComputerSystem.Reset.
pub(super) async fn reset(
    config: &RedfishConfig,
    faults: &RedfishFaults,
    chassis: &dyn Chassis,
    body: &Value,
) -> Outcome {
    let kind = body.get("ResetType").unwrap_or(&Value::Null);
    let offered = kind.as_str().filter(|kind| config.resets().contains(kind));
    let action = match offered {
        Some("On") => PowerAction::On,
        Some("ForceOff") => PowerAction::Off,
        Some("GracefulShutdown") => PowerAction::Soft,
        Some("ForceRestart" | "GracefulRestart") => PowerAction::Reset,
        Some("PushPowerButton") if chassis.power().await == PowerState::Off => PowerAction::On,
        Some("PushPowerButton") => PowerAction::Soft,
        Some("PowerCycle") => PowerAction::Cycle,
        Some("Nmi") => PowerAction::Interrupt,
        _ => return Err(not_in_list("ResetType", kind)),
    };
    if faults.forgets_power {
        return Ok(());
    }
    match press_and_log(chassis, &config.log, action).await {
        Ok(_) => Ok(()),
        Err(ChassisError::PresentState) => {
            let words = "not possible in the present state";
            Err((StatusCode::CONFLICT, refusal("ResourceInUse", words)))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// POST to Manager.Reset.
pub(super) fn restart(body: &Value) -> Outcome {
    // The parameter is optional (DSP0268).
    match body.get("ResetType") {
        None => Ok(()),
        Some(kind) if kind.as_str().is_some_and(|kind| RESTARTS.contains(&kind)) => Ok(()),
        Some(kind) => Err(not_in_list("ResetType", kind)),
    }
}

/// Any insertion, where the licence for it is missing (HPE's iLO registry).
pub(super) fn unlicensed() -> Reply {
    let words = "This feature requires a license key: iLO Advanced";
    Reply::with_id(StatusCode::FORBIDDEN, "iLO.2.14.LicenseKeyRequired", words)
}

/// PATCH of a virtual drive: whether the machine boots from it once. Only HPE's takes it.
pub(super) async fn drive(
    personality: Personality,
    chassis: &dyn Chassis,
    body: &Value,
) -> Result<bool, (StatusCode, Value)> {
    let wanted = body.pointer("/Oem/Hpe/BootOnNextServerReset").and_then(Value::as_bool);
    let Some(wanted) = wanted.filter(|_| personality == Personality::Ilo) else {
        return Err(bad("PropertyNotWritable", "nothing of this drive can be written"));
    };
    if wanted {
        boot_cd_once(chassis).await.map_err(|error| failed(&error))?;
    } else {
        chassis.set_boot_flags(BootFlags::NONE).await.map_err(|error| failed(&error))?;
    }
    Ok(wanted)
}

/// What the machine does at its next start.
pub(super) async fn boot_cd_once(chassis: &dyn Chassis) -> Result<(), ChassisError> {
    let now = chassis.boot_flags().await;
    let flags = BootFlags { valid: true, persistent: false, device: BootDeviceSelector::CDROM, ..now };
    chassis.set_boot_flags(flags).await
}

/// POST to OemManager.ImportSystemConfiguration: what a profile asks for.
pub(super) fn import(body: &Value) -> Result<Work, (StatusCode, Value)> {
    let target = body.pointer("/ShareParameters/Target").and_then(Value::as_str);
    let profile = body.get("ImportBuffer").and_then(Value::as_str).unwrap_or_default();
    let shutdown = body.get("ShutdownType").and_then(Value::as_str).unwrap_or("Graceful");
    if target.is_none() || !["Graceful", "Forced", "NoReboot"].contains(&shutdown) {
        return Err(bad("ActionParameterMissing", "ShareParameters and a ShutdownType of those listed"));
    }
    let profile = profile.trim_end();
    if serde_json::from_str::<Value>(profile).is_ok_and(|json| json.get("SystemConfiguration").is_some()) {
        return Ok(Work::Import { profile: profile.to_owned() });
    }
    let whole = profile.starts_with("<SystemConfiguration") && profile.ends_with("</SystemConfiguration>");
    // Its reader takes no blank between elements, but for a line's end.
    if !whole || profile.contains("> <") {
        return Ok(Work::Nothing);
    }
    let has = |name: &str, value: &str| {
        let rest = profile.split_once(&format!("Name=\"ServerBoot.1#{name}\">")).map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.trim_start().starts_with(value))
    };
    let boots = has("BootOnce", "Enabled") && has("FirstBootDevice", "VCD-DVD");
    Ok(if boots { Work::MediaBoot } else { Work::Import { profile: profile.to_owned() } })
}

/// The boot override as it is; without one, the mode is the firmware's.
pub(super) fn override_of(flags: BootFlags, bios: &Bios) -> BootFlags {
    if flags.valid { flags } else { BootFlags { efi: bios.is_uefi(), ..BootFlags::NONE } }
}

fn is_mode_alone(boot: &Value) -> bool {
    boot.as_object().is_some_and(|boot| boot.len() == 1 && boot.contains_key("BootSourceOverrideMode"))
}

/// The flags that a Boot object makes of the present ones.
fn boot(config: &RedfishConfig, now: BootFlags, value: &Value) -> Result<BootFlags, (StatusCode, Value)> {
    let Some(properties) = value.as_object() else { return Err(bad("PropertyValueTypeError", "Boot")) };
    let mut flags = BootFlags { valid: true, ..now };
    let mut enabled = if now.persistent { "Continuous" } else { "Once" };
    for (name, value) in properties {
        let word = value.as_str().unwrap_or_default();
        match name.as_str() {
            "BootSourceOverrideEnabled" => {
                enabled = TIMES.iter().find(|t| **t == word).ok_or_else(|| not_in_list(name, value))?;
            }
            "BootSourceOverrideTarget" => {
                let has = targets(config.personality).contains(&word);
                let target = TARGETS.iter().find(|(_, t)| has && *t == word);
                flags.device = target.ok_or_else(|| not_in_list(name, value))?.0;
            }
            "BootSourceOverrideMode" if config.refuses_mode => {
                return Err(bad("PropertyNotWritable", "BootSourceOverrideMode cannot be written"));
            }
            "BootSourceOverrideMode" => {
                flags.efi = match word {
                    "UEFI" => true,
                    "Legacy" => false,
                    _ => return Err(not_in_list(name, value)),
                };
            }
            _ => return Err(bad("PropertyNotWritable", &format!("{name} cannot be written"))),
        }
    }
    flags.persistent = enabled == "Continuous";
    Ok(if enabled == "Disabled" { BootFlags::NONE } else { flags })
}

pub(super) fn bad(id: &str, message: &str) -> (StatusCode, Value) {
    (StatusCode::BAD_REQUEST, refusal(id, message))
}

fn not_in_list(name: &str, value: &Value) -> (StatusCode, Value) {
    bad("PropertyValueNotInList", &format!("{value} is no value of {name}"))
}

pub(super) fn failed(error: &ChassisError) -> (StatusCode, Value) {
    tracing::warn!(error = format!("{error:#}"), "chassis failed");
    (StatusCode::INTERNAL_SERVER_ERROR, refusal("InternalError", "the chassis failed"))
}
