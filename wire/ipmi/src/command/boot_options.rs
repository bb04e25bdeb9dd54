//! Set and Get System Boot Options (§28.12, §28.13, Table 28-14).

use ipmi_rs_core::connection::{IpmiCommand, Message, NetFn};

use super::ResponseError;

/// Boot option parameter selectors we use (Table 28-14).
pub mod parameter {
    /// 0: set in progress.
    pub const SET_IN_PROGRESS: u8 = 0;
    /// 3: BMC boot flag valid bit clearing. A set bit means "do *not* clear the valid bit" on that
    /// event; bit 3 (08h) is the 60 s timeout that would forget the flags before a slow power-on.
    pub const VALID_BIT_CLEARING: u8 = 3;
    /// 4: boot info acknowledge.
    pub const INFO_ACKNOWLEDGE: u8 = 4;
    /// 5: boot flags.
    pub const BOOT_FLAGS: u8 = 5;
}

/// Boot device selector, bits 5:2 of the second byte of the boot flags. Unknown values stay data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct BootDeviceSelector(pub u8);

impl BootDeviceSelector {
    /// No override.
    pub const NONE: Self = Self(0b0000);
    /// Force PXE.
    pub const PXE: Self = Self(0b0001);
    /// Force boot from default hard drive.
    pub const DISK: Self = Self(0b0010);
    /// Force boot from default CD/DVD.
    pub const CDROM: Self = Self(0b0101);
    /// Force boot into BIOS setup.
    pub const BIOS_SETUP: Self = Self(0b0110);
    /// Force boot from remotely connected hard drive; Supermicro UEFI firmware wants it for "disk".
    pub const REMOTE_DISK: Self = Self(0b1001);
}

/// Parameter 5. Only the bits below are kept; what else a BMC stores is not our business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootFlags {
    /// Byte 1 bit 7: the firmware should obey the rest.
    pub valid: bool,
    /// Byte 1 bit 6: for all boots to come, not only the next.
    pub persistent: bool,
    /// Byte 1 bit 5: boot type EFI rather than BIOS.
    pub efi: bool,
    /// Byte 2 bits 5:2.
    pub device: BootDeviceSelector,
}

impl BootFlags {
    /// Nothing is overridden.
    pub const NONE: Self =
        Self { valid: false, persistent: false, efi: false, device: BootDeviceSelector::NONE };

    /// The five bytes of the parameter.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 5] {
        let first =
            (u8::from(self.valid) << 7) | (u8::from(self.persistent) << 6) | (u8::from(self.efi) << 5);
        [first, (self.device.0 & 0x0F) << 2, 0, 0, 0]
    }

    /// Reads the parameter; only the first two bytes are needed.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let [first, second, ..] = bytes else { return None };
        Some(Self {
            valid: first & 0x80 != 0,
            persistent: first & 0x40 != 0,
            efi: first & 0x20 != 0,
            device: BootDeviceSelector((second >> 2) & 0x0F),
        })
    }
}

/// Set System Boot Options with any parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetBootOption {
    parameter: u8,
    data: Vec<u8>,
}

impl SetBootOption {
    /// Parameter 5.
    #[must_use]
    pub fn flags(flags: BootFlags) -> Self {
        Self { parameter: parameter::BOOT_FLAGS, data: flags.to_bytes().to_vec() }
    }

    /// Parameter 3: keep the flags although no Chassis Control came within 60 s. Ironic sends the
    /// same (`raw 0x00 0x08 0x03 0x08`).
    #[must_use]
    pub fn keep_flags_past_timeout() -> Self {
        Self { parameter: parameter::VALID_BIT_CLEARING, data: vec![0x08] }
    }

    /// Parameter 4: write mask and data, "BIOS/POST has handled the boot info", so that firmware
    /// takes the flags that follow as new. ipmitool sends the same.
    #[must_use]
    pub fn acknowledge() -> Self {
        Self { parameter: parameter::INFO_ACKNOWLEDGE, data: vec![0x01, 0x01] }
    }
}

impl From<SetBootOption> for Message {
    fn from(option: SetBootOption) -> Self {
        let mut data = vec![option.parameter & 0x7F];
        data.extend_from_slice(&option.data);
        Self::new_request(NetFn::Chassis, 0x08, data)
    }
}

impl IpmiCommand for SetBootOption {
    type Output = ();
    type Error = ResponseError;

    fn parse_success_response(_data: &[u8]) -> Result<(), ResponseError> {
        Ok(())
    }
}

/// Get System Boot Options, parameter 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetBootFlags;

/// The answer: the flags, and whether the BMC marks the parameter invalid or locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootFlagsReply {
    /// Byte 2 bit 7 is clear.
    pub parameter_valid: bool,
    /// The flags.
    pub flags: BootFlags,
}

impl From<GetBootFlags> for Message {
    fn from(_: GetBootFlags) -> Self {
        // Set selector and block selector are 0 for parameters without either (§28.13).
        Self::new_request(NetFn::Chassis, 0x09, vec![parameter::BOOT_FLAGS, 0, 0])
    }
}

impl IpmiCommand for GetBootFlags {
    type Output = BootFlagsReply;
    type Error = ResponseError;

    fn parse_success_response(data: &[u8]) -> Result<BootFlagsReply, ResponseError> {
        let short = ResponseError::TooShort { expected: 4, seen: data.len() };
        let [_version, selector, bytes @ ..] = data else { return Err(short) };
        if selector & 0x7F != parameter::BOOT_FLAGS {
            return Err(ResponseError::Unexpected {
                field: "boot option parameter",
                expected: "5 (boot flags)",
                seen: selector & 0x7F,
            });
        }
        let flags = BootFlags::from_bytes(bytes).ok_or(short)?;
        Ok(BootFlagsReply { parameter_valid: selector & 0x80 == 0, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::{BootDeviceSelector, BootFlags};

    /// The raw bytes Ironic's ipmitool driver sends for UEFI (ironic.md §3).
    #[test]
    fn flags_are_the_bytes_ironic_sends() {
        let flags = BootFlags { valid: true, persistent: true, efi: true, device: BootDeviceSelector::PXE };
        assert_eq!(flags.to_bytes(), [0xE0, 0x04, 0, 0, 0]);
        let once = BootFlags { persistent: false, device: BootDeviceSelector::REMOTE_DISK, ..flags };
        assert_eq!(once.to_bytes(), [0xA0, 0x24, 0, 0, 0]);
        assert_eq!(BootFlags::from_bytes(&once.to_bytes()), Some(once));
    }
}
