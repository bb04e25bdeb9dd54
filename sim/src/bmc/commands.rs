//! The commands a session may give, and the privilege each needs (IPMI 2.0 appendix G).

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use farrier_ipmi::command::dcmi::{self, PowerReading};
use farrier_ipmi::command::{BootFlags, ChassisControl, ChassisIdentify, ChassisStatus, IdentifyState};
use farrier_ipmi::completion;
use farrier_ipmi::server::Request;
use ipmi_rs_core::connection::NetFn;

use super::boot::{BootOptions, Set};
use super::chassis::press;
use super::server::Shared;
use super::{BmcConfig, Chassis, ChassisError, PowerAction, PowerState, fru, sensors, users};

const USER: u8 = 2;
const OPERATOR: u8 = 3;
const ADMINISTRATOR: u8 = 4;
/// §20.2
pub(super) const COLD_RESET: u8 = 0x02;

/// Completion code and data.
pub(super) type Answer = (u8, Vec<u8>);

/// Carries one request out.
pub(super) async fn execute(
    config: &BmcConfig,
    boot: &mut BootOptions,
    chassis: &dyn Chassis,
    shared: &Shared,
    request: &Request,
) -> Answer {
    let message = &request.message;
    let netfn = NetFn::from(message.netfn);
    let Some(needed) = privilege(netfn, message.cmd) else {
        return (completion::INVALID_COMMAND, Vec::new());
    };
    if request.privilege < needed {
        return (completion::INSUFFICIENT_PRIVILEGE, Vec::new());
    }
    match (netfn, message.cmd) {
        (NetFn::App, 0x01) => (completion::OK, device_id(config)),
        (NetFn::App, 0x43..=0x47) => users::execute(&shared.accounts, message.cmd, &message.data)
            .unwrap_or((completion::INVALID_COMMAND, Vec::new())),
        // What it does follows its answer.
        (NetFn::App, COLD_RESET) => (completion::OK, Vec::new()),
        (NetFn::App, 0x37) => (completion::OK, shared.other_guid().unwrap_or(config.guid).to_vec()),
        (NetFn::Chassis, 0x01) => {
            let power_on = chassis.power().await == PowerState::On;
            let identify = chassis.identified().await.map(|told| match told {
                ChassisIdentify::Off => IdentifyState::Off,
                ChassisIdentify::Seconds(_) => IdentifyState::Temporary,
                ChassisIdentify::Indefinitely => IdentifyState::Indefinite,
            });
            let status = ChassisStatus { power_on, identify, ..shared.chassis_faults() };
            (completion::OK, status.to_bytes().to_vec())
        }
        (NetFn::Chassis, 0x02) => control(boot, chassis, shared, &message.data).await,
        (NetFn::Chassis, 0x04) => match ChassisIdentify::from_request(&message.data) {
            Some(identify) => {
                chassis.identify(identify).await;
                (completion::OK, Vec::new())
            }
            None => (completion::LENGTH_INVALID, Vec::new()),
        },
        (NetFn::Chassis, 0x08) => set_boot_options(boot, chassis, &message.data).await,
        (NetFn::Chassis, 0x09) => {
            forget_expired(boot, chassis).await;
            match boot.get(&message.data, chassis.boot_flags().await) {
                Ok(data) => (completion::OK, data),
                Err(code) => (code, Vec::new()),
            }
        }
        (NetFn::Reserved(dcmi::NETFN), dcmi::GET_POWER_READING) => {
            power_reading(&message.data, chassis.power().await)
        }
        (NetFn::SensorEvent, 0x27) => sensors::thresholds(&message.data),
        (NetFn::SensorEvent, 0x2D) => sensors::reading(&message.data, chassis.power().await),
        (NetFn::Storage, cmd) => sensors::storage(cmd, &message.data, config.largest_sdr_part)
            .or_else(|| fru::execute(cmd, &message.data, config.guid))
            .or_else(|| shared.sel().execute(cmd, &message.data))
            .unwrap_or((completion::INVALID_COMMAND, Vec::new())),
        _ => (completion::INVALID_COMMAND, Vec::new()),
    }
}

/// Table G-1. Get System GUID is allowed before a session (§22.14).
fn privilege(netfn: NetFn, cmd: u8) -> Option<u8> {
    Some(match (netfn, cmd) {
        (NetFn::App, 0x37) => 0,
        (NetFn::App, COLD_RESET | 0x43 | 0x45 | 0x47) => ADMINISTRATOR,
        (NetFn::App, 0x44 | 0x46) => OPERATOR,
        (NetFn::Reserved(dcmi::NETFN), dcmi::GET_POWER_READING) => USER,
        (NetFn::App, 0x01) | (NetFn::Chassis, 0x01) | (NetFn::SensorEvent, 0x27 | 0x2D) => USER,
        (NetFn::Storage, 0x10 | 0x11 | 0x20 | 0x22 | 0x23 | 0x40 | 0x42 | 0x43) => USER,
        (NetFn::Chassis, 0x02 | 0x04 | 0x08 | 0x09) | (NetFn::Storage, 0x47) => OPERATOR,
        _ => return None,
    })
}

async fn control(boot: &mut BootOptions, chassis: &dyn Chassis, shared: &Shared, data: &[u8]) -> Answer {
    let [code] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
    let action = match ChassisControl::try_from(*code) {
        Ok(ChassisControl::PowerDown) => PowerAction::Off,
        Ok(ChassisControl::PowerUp) => PowerAction::On,
        Ok(ChassisControl::PowerCycle) => PowerAction::Cycle,
        Ok(ChassisControl::HardReset) => PowerAction::Reset,
        Ok(ChassisControl::SoftShutdown) => PowerAction::Soft,
        Ok(ChassisControl::DiagnosticInterrupt) => PowerAction::Interrupt,
        Err(_) => return (completion::INVALID_FIELD, Vec::new()),
    };
    forget_expired(boot, chassis).await;
    answer(press(chassis, action).await.map(|booted| {
        shared.sel().pressed(action);
        if booted {
            boot.used();
        }
    }))
}

async fn set_boot_options(boot: &mut BootOptions, chassis: &dyn Chassis, data: &[u8]) -> Answer {
    match boot.set(Instant::now(), data) {
        Set::Done => (completion::OK, Vec::new()),
        Set::Flags(flags) => answer(chassis.set_boot_flags(flags).await),
        Set::Refused(code) => (code, Vec::new()),
    }
}

async fn forget_expired(boot: &mut BootOptions, chassis: &dyn Chassis) {
    if boot.take_expired(Instant::now())
        && let Err(error) = chassis.set_boot_flags(BootFlags::NONE).await
    {
        tracing::warn!(%error, "boot flags could not be forgotten");
    }
}

fn answer(outcome: Result<(), ChassisError>) -> Answer {
    match outcome {
        Ok(()) => (completion::OK, Vec::new()),
        Err(ChassisError::PresentState) => (completion::NOT_IN_PRESENT_STATE, Vec::new()),
        Err(ChassisError::Failed(error)) => {
            tracing::warn!(error = format!("{error:#}"), "chassis failed");
            (completion::UNSPECIFIED, Vec::new())
        }
    }
}

/// What the power supply's sensor says, over an hour in which the machine was on and off.
fn power_reading(data: &[u8], power: PowerState) -> Answer {
    let [dcmi::GROUP, mode, _, _] = data else { return (completion::LENGTH_INVALID, Vec::new()) };
    if *mode != dcmi::SYSTEM_POWER {
        return (completion::INVALID_FIELD, Vec::new());
    }
    let draw = sensors::draw(power);
    let watts = |watts: f64| watts as u16;
    let reading = PowerReading {
        current: watts(draw.now),
        minimum: watts(draw.least),
        maximum: watts(draw.most),
        average: watts(draw.average),
        period: u32::try_from(draw.period.as_millis()).unwrap_or(u32::MAX),
        active: true,
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    (completion::OK, reading.to_bytes(u32::try_from(since.as_secs()).unwrap_or(u32::MAX)))
}

/// Get Device ID (§20.1): device 20h, firmware 1.00, IPMI 2.0, a chassis device.
fn device_id(config: &BmcConfig) -> Vec<u8> {
    let [a, b, c, _] = config.manufacturer_id.to_le_bytes();
    vec![0x20, 0x01, 0x01, 0x00, 0x02, 0x80, a, b, c, 0x01, 0x00]
}
