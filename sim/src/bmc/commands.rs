//! The commands a session may give, and the privilege each needs (IPMI 2.0 appendix G).

use std::time::Instant;

use farrier_ipmi::command::dcmi::{GET_POWER_READING, NETFN};
use farrier_ipmi::command::{BootFlags, ChassisControl, ChassisIdentify, ChassisStatus, IdentifyState};
use farrier_ipmi::completion;
use farrier_ipmi::server::Request;
use ipmi_rs_core::connection::NetFn;

use super::boot::{BootOptions, Set};
use super::chassis::press_and_log;
use super::lan::{self, Lan};
use super::server::Shared;
use super::watchdog::Watchdog;
use super::{BmcConfig, Chassis, ChassisError, PowerAction, PowerState, dcmi, fru, sensors, users};

const USER: u8 = 2;
const OPERATOR: u8 = 3;
const ADMINISTRATOR: u8 = 4;
/// §20.2
pub(super) const COLD_RESET: u8 = 0x02;

/// §20.4
const SELF_TEST_PASSED: [u8; 2] = [0x55, 0];

/// Completion code and data.
pub(super) type Answer = (u8, Vec<u8>);

/// What only IPMI's commands change.
pub(super) struct Kept {
    pub(super) boot: BootOptions,
    pub(super) lan: Lan,
    pub(super) watchdog: Watchdog,
}

/// Carries one request out.
pub(super) async fn execute(
    config: &BmcConfig,
    kept: &mut Kept,
    chassis: &dyn Chassis,
    shared: &Shared,
    request: &Request,
) -> Answer {
    let boot = &mut kept.boot;
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
            let power_on = chassis.told_power().await == PowerState::On;
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
        (NetFn::Reserved(NETFN), cmd) => dcmi::execute(config, cmd, &message.data, chassis.power().await)
            .unwrap_or((completion::INVALID_COMMAND, Vec::new())),
        (NetFn::App, 0x04) => (completion::OK, SELF_TEST_PASSED.to_vec()),
        (NetFn::App, 0x22 | 0x24 | 0x25) => kept
            .watchdog
            .execute(message.cmd, &message.data, Instant::now())
            .unwrap_or((completion::INVALID_COMMAND, Vec::new())),
        // The message buffer and the event log are on.
        (NetFn::App, 0x2F) => (completion::OK, vec![0x09]),
        (NetFn::App, 0x41) => lan::channel_access(&message.data),
        (NetFn::App, 0x42) => {
            lan::channel_info(&message.data, shared.protocol().session_count(Instant::now()))
        }
        (NetFn::Transport, 0x01) => kept.lan.set(&message.data),
        (NetFn::Transport, 0x02) => kept.lan.get(&message.data),
        // All it has is in the BMC.
        (NetFn::Chassis, 0x00) => (completion::OK, vec![0, 0x20, 0x20, 0x20, 0x20]),
        (NetFn::SensorEvent, 0x27) => sensors::thresholds(&message.data),
        (NetFn::SensorEvent, 0x2D) => sensors::reading(&message.data, chassis.power().await),
        (NetFn::Storage, cmd) => sensors::storage(cmd, &message.data, config.largest_sdr_part)
            .or_else(|| fru::execute(cmd, &message.data, &config.serial_number(), config.board))
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
        (NetFn::Reserved(NETFN), GET_POWER_READING | 0x01 | 0x06 | 0x07 | 0x09) => USER,
        (NetFn::App, 0x04 | 0x25 | 0x2F | 0x41 | 0x42) | (NetFn::Chassis, 0x00) => USER,
        (NetFn::App, 0x22 | 0x24) | (NetFn::Transport, 0x02) => OPERATOR,
        (NetFn::Transport, 0x01) => ADMINISTRATOR,
        (NetFn::App, 0x01) | (NetFn::Chassis, 0x01) | (NetFn::SensorEvent, 0x27 | 0x2D) => USER,
        (NetFn::Storage, 0x10 | 0x11 | 0x20 | 0x22 | 0x23 | 0x28 | 0x40 | 0x42 | 0x43 | 0x48) => USER,
        (NetFn::Chassis, 0x02 | 0x04 | 0x08 | 0x09) | (NetFn::Storage, 0x44 | 0x46 | 0x47) => OPERATOR,
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
    answer(press_and_log(chassis, shared.log(), action).await.map(|booted| {
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

/// Get Device ID (§20.1): device 20h, firmware 1.00, IPMI 2.0; a chassis device with FRU, event log, sensors and their records.
fn device_id(config: &BmcConfig) -> Vec<u8> {
    let [a, b, c, _] = config.manufacturer_id.to_le_bytes();
    vec![0x20, 0x01, 0x01, 0x00, 0x02, 0x8F, a, b, c, 0x01, 0x00]
}
