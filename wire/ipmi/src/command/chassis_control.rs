//! Chassis Control (§28.3).

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// What to do to the chassis. Only [`Self::PowerDown`] and [`Self::PowerUp`] may safely be sent
/// twice: they name a state. The others name an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChassisControl {
    /// Into soft off (S4/S5) at once, without asking the operating system.
    PowerDown = 0,
    /// On.
    PowerUp = 1,
    /// Off for at least a second, then on. Some BMCs refuse when the power is off.
    PowerCycle = 2,
    /// Hard reset.
    HardReset = 3,
    /// Diagnostic interrupt (NMI).
    DiagnosticInterrupt = 4,
    /// Ask the operating system to shut down (ACPI fatal over-temperature).
    SoftShutdown = 5,
}

/// A control code the specification does not define.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("chassis control expected 0 to 5, seen {0:#04x}")]
pub struct UnknownControl(pub u8);

impl TryFrom<u8> for ChassisControl {
    type Error = UnknownControl;

    fn try_from(code: u8) -> Result<Self, Self::Error> {
        Ok(match code & 0x0F {
            0 => Self::PowerDown,
            1 => Self::PowerUp,
            2 => Self::PowerCycle,
            3 => Self::HardReset,
            4 => Self::DiagnosticInterrupt,
            5 => Self::SoftShutdown,
            _ => return Err(UnknownControl(code)),
        })
    }
}

impl From<ChassisControl> for Message {
    fn from(control: ChassisControl) -> Self {
        Self::new_request(NetFn::Chassis, 0x02, vec![control as u8])
    }
}

impl IpmiCommand for ChassisControl {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}
