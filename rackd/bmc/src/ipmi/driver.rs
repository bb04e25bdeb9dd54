//! The capabilities in terms of IPMI commands.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use farrier_ipmi::command::{
    BootDeviceSelector, BootFlags, ChassisControl, ChassisIdentify, GetBootFlags, GetChassisStatus,
    GetSystemGuid, SetBootOption,
};
use farrier_ipmi::completion::{CompletionCode, NOT_IN_PRESENT_STATE};
use futures::future::BoxFuture;
use ipmi_rs_core::app::GetDeviceId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::link::{Change, Link};
use super::quirks::Quirks;
use crate::actor::{self, Call, Job};
use crate::actors::Kept;
use crate::coalesce::{Coalesced, Turn};
use crate::{
    BmcError, BmcIdentity, BootDevice, BootMode, BootOverride, Deadline, Device, Health, Identify, Identity,
    Led, Look, Power, PowerState, Present,
};

/// One BMC over IPMI: a mailbox to its actor.
pub(crate) struct IpmiBmc {
    pub(super) addr: SocketAddr,
    /// Absent if the host cannot send to that address family.
    mailbox: Option<mpsc::Sender<Job<Link>>>,
    pub(super) kept: Kept,
}

impl IpmiBmc {
    pub(crate) fn new(addr: SocketAddr, mailbox: Option<mpsc::Sender<Job<Link>>>, kept: Kept) -> Self {
        Self { addr, mailbox, kept }
    }

    pub(super) async fn call<T, F>(&self, deadline: Deadline, operation: F) -> Result<T, BmcError>
    where
        T: Send + 'static,
        F: for<'a> FnOnce(&'a mut Link, &'a mut Call) -> BoxFuture<'a, Result<T, BmcError>> + Send + 'static,
    {
        let mailbox = self.mailbox.as_ref().ok_or(BmcError::NoSocket { addr: self.addr })?;
        actor::call(self.addr, mailbox, deadline, operation).await
    }

    /// A read of one turn, which those join who ask for the same before it has begun.
    pub(super) async fn read<T, F>(
        &self,
        reads: &Arc<Coalesced<T>>,
        deadline: Deadline,
        operation: F,
    ) -> Result<T, BmcError>
    where
        T: Clone + Send + 'static,
        F: for<'a> FnOnce(&'a mut Link, &'a mut Call) -> BoxFuture<'a, Result<T, BmcError>> + Send + 'static,
    {
        let read = |turn: Turn<T>| {
            self.call(deadline, move |link, call| Box::pin(turn.spend(operation(link, call))))
        };
        reads.ask(deadline, read).await
    }

    /// A log-in beside the actor's was refused: those of the actor would be, too.
    pub(super) async fn was_refused(&self, error: BmcError) {
        let told =
            self.call(Deadline::after(TELL), move |_, _| Box::pin(std::future::ready(Err::<(), _>(error))));
        if let Err(error) = told.await {
            tracing::debug!(bmc.addr = %self.addr, %error, "a log-in beside the commands was refused");
        }
    }
}

/// Until the actor knows of a refusal.
const TELL: Duration = Duration::from_secs(5);

#[async_trait]
impl Present for IpmiBmc {
    async fn present(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.probe(call))).await
    }
}

#[async_trait]
impl Power for IpmiBmc {
    async fn power_status(&self, deadline: Deadline) -> Result<PowerState, BmcError> {
        Ok(self.look(deadline).await?.power)
    }

    async fn look(&self, deadline: Deadline) -> Result<Look, BmcError> {
        self.read(&self.kept.reads.look, deadline, |link, call| Box::pin(link.look(call))).await
    }

    async fn power_on(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.set_power(call, PowerState::On))).await
    }

    async fn power_off(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.set_power(call, PowerState::Off))).await
    }

    async fn power_soft(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.power_event(call, ChassisControl::SoftShutdown))).await
    }

    async fn soft_off_takes(&self, deadline: Deadline) -> Result<Duration, BmcError> {
        self.call(deadline, |link, call| Box::pin(async move { Ok(link.quirks(call).await?.soft_off) })).await
    }

    async fn power_cycle(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.power_event(call, ChassisControl::PowerCycle))).await
    }

    async fn power_reset(&self, deadline: Deadline) -> Result<(), BmcError> {
        self.call(deadline, |link, call| Box::pin(link.power_event(call, ChassisControl::HardReset))).await
    }
}

#[async_trait]
impl BootDevice for IpmiBmc {
    async fn set_boot_device(
        &self,
        wanted: BootOverride,
        deadline: Deadline,
    ) -> Result<BootOverride, BmcError> {
        self.call(deadline, move |link, call| Box::pin(link.set_boot_device(call, wanted))).await
    }

    async fn boot_device(&self, deadline: Deadline) -> Result<BootOverride, BmcError> {
        self.read(&self.kept.reads.boot_device, deadline, |link, call| Box::pin(link.boot_device(call))).await
    }
}

#[async_trait]
impl Identity for IpmiBmc {
    async fn identity(&self, deadline: Deadline) -> Result<BmcIdentity, BmcError> {
        self.read(&self.kept.reads.identity, deadline, |link, call| Box::pin(link.identity(call))).await
    }
}

#[async_trait]
impl Identify for IpmiBmc {
    async fn identify(&self, led: Led, deadline: Deadline) -> Result<(), BmcError> {
        let command = match led {
            Led::Off => ChassisIdentify::Off,
            Led::Seconds(seconds) => ChassisIdentify::Seconds(seconds),
            Led::On => ChassisIdentify::Indefinitely,
        };
        self.call(deadline, move |link, call| Box::pin(link.command(call, command))).await
    }
}

impl Link {
    async fn power(&mut self, call: &mut Call) -> Result<PowerState, BmcError> {
        Ok(self.look(call).await?.power)
    }

    async fn look(&mut self, call: &mut Call) -> Result<Look, BmcError> {
        let status = self.command(call, GetChassisStatus).await?;
        let power = if status.power_on { PowerState::On } else { PowerState::Off };
        // Not the power control fault: it is about the last command, and whoever gave that reads the power back.
        let faults = [
            (status.power_overload, "power overload"),
            (status.power_fault, "power fault"),
            (status.drive_fault, "drive fault"),
            (status.cooling_fault, "cooling fault"),
        ];
        let told: Vec<_> = faults.into_iter().filter(|(is, _)| *is).map(|(_, fault)| fault).collect();
        let health = if told.is_empty() { Health::Ok } else { Health::Critical };
        Ok(Look {
            power,
            health,
            problem: told.join(", "),
            settling: self.is_settling(power),
            who: self.session_number,
        })
    }

    /// Whether what is told may be of before the last change.
    fn is_settling(&mut self, told: PowerState) -> bool {
        self.change = self.change.filter(|change| change.to != told && Instant::now() < change.until);
        self.change.is_some()
    }

    async fn set_power(&mut self, call: &mut Call, wanted: PowerState) -> Result<(), BmcError> {
        // Before, since what comes after it may be asked by somebody else: a product that tells the old state for a while must be
        // known for one by then. One that does not say which it is is switched all the same.
        let Quirks { power_lag, .. } = match self.quirks(call).await {
            Err(error) if call.deadline.is_past() || error.is_our_own() => return Err(error),
            quirks => quirks.unwrap_or(Quirks::NONE),
        };
        self.change = None;
        self.press(call, wanted).await?;
        if !power_lag.is_zero() {
            self.change = Some(Change { to: wanted, until: Instant::now() + power_lag });
        }
        Ok(())
    }

    async fn press(&mut self, call: &mut Call, wanted: PowerState) -> Result<(), BmcError> {
        let control = match wanted {
            PowerState::On => ChassisControl::PowerUp,
            PowerState::Off => ChassisControl::PowerDown,
        };
        match self.command(call, control).await {
            // Some BMCs refuse "off" when it is off already, instead of doing nothing.
            Err(error @ BmcError::Refused { code: CompletionCode(NOT_IN_PRESENT_STATE), .. }) => {
                if self.power(call).await? == wanted { Ok(()) } else { Err(error) }
            }
            other => other,
        }
    }

    /// Sends an event once. The state is read first: that proves the session alive, so that a lost
    /// answer is not merely a lost session.
    pub(super) async fn power_event(
        &mut self,
        call: &mut Call,
        control: ChassisControl,
    ) -> Result<(), BmcError> {
        self.power(call).await?;
        if self.command_once(call, control).await?.is_some() {
            return Ok(());
        }
        let power_now = self.power(call).await.ok();
        let command = match control {
            ChassisControl::PowerCycle => "Chassis Control (power cycle)",
            ChassisControl::DiagnosticInterrupt => "Chassis Control (diagnostic interrupt)",
            ChassisControl::SoftShutdown => "Chassis Control (soft shutdown)",
            _ => "Chassis Control (hard reset)",
        };
        Err(BmcError::AnswerLost { addr: self.address.addr, command, power_now })
    }

    /// Get Device ID once per BMC, for the quirks. A BMC that refuses it has none we know.
    async fn quirks(&mut self, call: &mut Call) -> Result<Quirks, BmcError> {
        if let Some(quirks) = self.quirks {
            return Ok(quirks);
        }
        let quirks = match self.command(call, GetDeviceId).await {
            Ok(device) => Quirks::of(device.manufacturer_id, device.product_id),
            Err(BmcError::Refused { .. } | BmcError::Malformed { .. }) => Quirks::NONE,
            Err(error) => return Err(error),
        };
        self.quirks = Some(quirks);
        Ok(quirks)
    }

    async fn set_boot_device(
        &mut self,
        call: &mut Call,
        wanted: BootOverride,
    ) -> Result<BootOverride, BmcError> {
        let quirks = self.quirks(call).await?;
        let device = match (wanted.device, wanted.mode) {
            (Device::None, _) => BootDeviceSelector::NONE,
            (Device::Network, _) => BootDeviceSelector::PXE,
            (Device::Disk, BootMode::Bios) => BootDeviceSelector::DISK,
            (Device::Disk, BootMode::Uefi) => quirks.uefi_disk,
            (Device::Cdrom, _) => BootDeviceSelector::CDROM,
            (Device::BiosSetup, _) => BootDeviceSelector::BIOS_SETUP,
            (Device::Other(_), _) => {
                return Err(BmcError::Unsupported { driver: "ipmi", capability: "setting this boot device" });
            }
        };
        // Without parameter 3 the flags are forgotten 60 s after being set (§28.12), which a slow
        // step between here and the power-on would hit. Some lack the parameter: go on then.
        if quirks.keeps_flags {
            self.optional_boot_option(call, SetBootOption::keep_flags_past_timeout()).await?;
        }
        self.optional_boot_option(call, SetBootOption::acknowledge()).await?;
        let efi = wanted.mode == BootMode::Uefi;
        let flags = BootFlags { valid: true, persistent: wanted.persistent, efi, device };
        self.command(call, SetBootOption::flags(flags)).await?;
        let reply = self.command(call, GetBootFlags).await?;
        let seen = boot_override(reply.flags);
        // Some BMCs drop the EFI bit (pyghmi's does) and their machines start in their own mode all the same: the caller is
        // told. With "for ever" where once was asked for, the machine would never leave the device.
        let as_asked = !reply.flags.valid || wanted.persistent || !seen.persistent;
        if seen.device == wanted.device && as_asked {
            if !reply.flags.valid {
                // ipmi_sim obeys the device and stores no flags at all.
                tracing::info!(bmc.addr = %self.address.addr, "boot flags valid bit is not read back");
            }
            return Ok(seen);
        }
        Err(BmcError::NotApplied {
            addr: self.address.addr,
            what: "the boot device",
            expected: wanted.to_string(),
            seen: seen.to_string(),
        })
    }

    async fn optional_boot_option(&mut self, call: &mut Call, option: SetBootOption) -> Result<(), BmcError> {
        match self.command(call, option).await {
            Err(error @ BmcError::Refused { .. }) => {
                tracing::debug!(%error, "optional boot option refused");
                Ok(())
            }
            other => other,
        }
    }

    async fn boot_device(&mut self, call: &mut Call) -> Result<BootOverride, BmcError> {
        let reply = self.command(call, GetBootFlags).await?;
        // Flags that were used up keep their device; only the valid bit goes.
        let obeyed = reply.parameter_valid && reply.flags.valid;
        Ok(boot_override(if obeyed { reply.flags } else { BootFlags::NONE }))
    }

    async fn identity(&mut self, call: &mut Call) -> Result<BmcIdentity, BmcError> {
        let device = self.command(call, GetDeviceId).await?;
        self.quirks = Some(Quirks::of(device.manufacturer_id, device.product_id));
        let guid = match self.command(call, GetSystemGuid).await {
            Ok(guid) => Some(guid),
            // The command is optional, and BMCs say in many ways that they have not got it.
            Err(BmcError::Refused { .. } | BmcError::Malformed { .. }) => None,
            Err(error) => return Err(error),
        };
        Ok(BmcIdentity {
            manufacturer: match device.manufacturer_id & 0xF_FFFF {
                // IPMI 2.0 table 20-2: unspecified, and reserved, which BMCs send for the same.
                0 | 0xF_FFFF => "unspecified".to_owned(),
                id => id.to_string(),
            },
            product: device.product_id.to_string(),
            firmware: format!("{}.{:02}", device.major_fw_revision, device.minor_fw_revision),
            protocol: format!("IPMI {}.{}", device.major_version, device.minor_version),
            guid: guid.filter(|guid| is_some(*guid)),
            serial: String::new(),
        })
    }
}

/// BMCs whose board was never given one send one of these.
fn is_some(guid: [u8; 16]) -> bool {
    guid != [0; 16] && guid != [0xFF; 16]
}

fn boot_override(flags: BootFlags) -> BootOverride {
    let device = match flags.device {
        BootDeviceSelector::NONE => Device::None,
        BootDeviceSelector::PXE => Device::Network,
        BootDeviceSelector::DISK | BootDeviceSelector::REMOTE_DISK => Device::Disk,
        BootDeviceSelector::CDROM => Device::Cdrom,
        BootDeviceSelector::BIOS_SETUP => Device::BiosSetup,
        BootDeviceSelector(other) => Device::Other(other),
    };
    let mode = if flags.efi { BootMode::Uefi } else { BootMode::Bios };
    BootOverride { device, persistent: flags.persistent, mode }
}
