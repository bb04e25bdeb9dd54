//! PATCH and actions: what a client may change, and what it is told when it may not.

use hyper::StatusCode;
use serde_json::Value;

use super::config::RedfishConfig;
use super::faults::RedfishFaults;
use super::log::Log;
use super::resources::{RESTARTS, TARGETS, TIMES, refusal};
use crate::bmc::chassis::press;
use crate::bmc::{BootFlags, Chassis, ChassisError, ChassisIdentify, PowerAction};

/// A status, and the body of a refusal.
pub(super) type Outcome = Result<(), (StatusCode, Value)>;

/// PATCH of a system.
pub(super) async fn system(
    config: &RedfishConfig,
    faults: &RedfishFaults,
    chassis: &dyn Chassis,
    led: &mut bool,
    body: &Value,
) -> Outcome {
    let Some(properties) = body.as_object() else { return Err(bad("MalformedJSON", "expected an object")) };
    for (name, value) in properties {
        match name.as_str() {
            "Boot" => {
                let flags = boot(config, chassis.boot_flags().await, value)?;
                if !faults.forgets_boot {
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
    faults: &RedfishFaults,
    chassis: &dyn Chassis,
    log: &mut Log,
    body: &Value,
) -> Outcome {
    let kind = body.get("ResetType").unwrap_or(&Value::Null);
    let action = match kind.as_str() {
        Some("On") => PowerAction::On,
        Some("ForceOff") => PowerAction::Off,
        Some("GracefulShutdown") => PowerAction::Soft,
        Some("ForceRestart") => PowerAction::Reset,
        Some("PowerCycle") => PowerAction::Cycle,
        Some("Nmi") => PowerAction::Interrupt,
        _ => return Err(not_in_list("ResetType", kind)),
    };
    if faults.forgets_power {
        return Ok(());
    }
    match press(chassis, action).await {
        Ok(_) => {
            log.pressed(action);
            Ok(())
        }
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
                let target = TARGETS.iter().find(|(_, t)| *t == word);
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

fn bad(id: &str, message: &str) -> (StatusCode, Value) {
    (StatusCode::BAD_REQUEST, refusal(id, message))
}

fn not_in_list(name: &str, value: &Value) -> (StatusCode, Value) {
    bad("PropertyValueNotInList", &format!("{value} is no value of {name}"))
}

fn failed(error: &ChassisError) -> (StatusCode, Value) {
    tracing::warn!(error = format!("{error:#}"), "chassis failed");
    (StatusCode::INTERNAL_SERVER_ERROR, refusal("InternalError", "the chassis failed"))
}
