//! What a machine starts from and in which mode, Secure Boot, and its locator LED, in the words of the wire.

use farrier_bmc::{BootMode, BootModeState, BootOverride, Device, Led, SecureBootState};
use farrier_proto::rack::{
    BmcBootDevice, BmcBootMode, BmcSecureBoot, BootSource, IdentifyMachineRequest, SetBootDeviceRequest,
};
use farrier_proto::types;
use farrier_runtime::error::invalid;
use tonic::Status;

/// What is asked for; a mode that is left out is the machine's own, and UEFI where it says none.
pub(super) fn wanted(request: &SetBootDeviceRequest) -> Result<BootOverride, Status> {
    let device = match request.source() {
        BootSource::None => Device::None,
        BootSource::Network => Device::Network,
        BootSource::Disk => Device::Disk,
        BootSource::Cdrom => Device::Cdrom,
        BootSource::BiosSetup => Device::BiosSetup,
        BootSource::Unspecified | BootSource::Other => {
            return Err(invalid("source", "expected none, network, disk, CD or BIOS setup"));
        }
    };
    let own = request.machine.as_ref().map(|machine| machine.boot_mode()).unwrap_or_default();
    let mode = match (request.boot_mode(), own) {
        (types::BootMode::Bios, _) | (types::BootMode::Unspecified, types::BootMode::Bios) => BootMode::Bios,
        _ => BootMode::Uefi,
    };
    Ok(BootOverride { device, persistent: request.persistent, mode })
}

pub(super) fn kept(seen: BootOverride, driver: String) -> BmcBootDevice {
    let source = match seen.device {
        Device::None => BootSource::None,
        Device::Network => BootSource::Network,
        Device::Disk => BootSource::Disk,
        Device::Cdrom => BootSource::Cdrom,
        Device::BiosSetup => BootSource::BiosSetup,
        Device::Other(_) => BootSource::Other,
    };
    let boot_mode = of(seen.mode);
    // Without a device there is nothing that it would be for ever.
    let persistent = seen.persistent && seen.device != Device::None;
    BmcBootDevice { source: source.into(), persistent, boot_mode: boot_mode.into(), driver }
}

fn of(mode: BootMode) -> types::BootMode {
    match mode {
        BootMode::Bios => types::BootMode::Bios,
        BootMode::Uefi => types::BootMode::Uefi,
    }
}

pub(super) fn wanted_mode(asked: types::BootMode) -> Result<BootMode, Status> {
    match asked {
        types::BootMode::Bios => Ok(BootMode::Bios),
        types::BootMode::Uefi => Ok(BootMode::Uefi),
        types::BootMode::Unspecified => Err(invalid("boot_mode", "expected BIOS or UEFI")),
    }
}

pub(super) fn mode(state: BootModeState, driver: String) -> BmcBootMode {
    let BootModeState { current, pending, settable, setting, task } = state;
    let told = |mode: Option<BootMode>| mode.map(of).unwrap_or_default().into();
    BmcBootMode {
        current: told(current),
        pending: told(pending),
        settable: settable.into_iter().map(|mode| of(mode).into()).collect(),
        setting,
        task,
        driver,
    }
}

pub(super) fn secure_boot(state: SecureBootState, driver: String) -> BmcSecureBoot {
    let SecureBootState { enabled, current, mode } = state;
    BmcSecureBoot { enabled, current, mode, driver }
}

pub(super) fn led(request: &IdentifyMachineRequest) -> Result<Led, Status> {
    match (request.on, u8::try_from(request.seconds)) {
        (false, Ok(0)) => Ok(Led::Off),
        (true, Ok(0)) => Ok(Led::On),
        (true, Ok(seconds)) => Ok(Led::Seconds(seconds)),
        (false, _) => Err(invalid("seconds", "expected none where the LED goes off")),
        (true, Err(_)) => {
            Err(invalid("seconds", format!("expected 0 to {}, saw {}", u8::MAX, request.seconds)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::rack::Machine;

    #[test]
    fn a_mode_that_is_left_out_is_the_machines_own() {
        let mode = |own: types::BootMode, asked: types::BootMode| {
            let machine = Some(Machine { boot_mode: own.into(), ..Machine::default() });
            let source = BootSource::Disk.into();
            let request = SetBootDeviceRequest { machine, source, persistent: true, boot_mode: asked.into() };
            wanted(&request).unwrap().mode
        };
        use types::BootMode::{Bios, Uefi, Unspecified};
        assert_eq!(mode(Bios, Unspecified), BootMode::Bios);
        assert_eq!(mode(Unspecified, Unspecified), BootMode::Uefi);
        assert_eq!((mode(Bios, Uefi), mode(Uefi, Bios)), (BootMode::Uefi, BootMode::Bios));
        assert!(wanted(&SetBootDeviceRequest::default()).is_err());
    }

    #[test]
    fn an_led_blinks_no_longer_than_a_byte_says() {
        let led = |on, seconds| led(&IdentifyMachineRequest { machine: None, on, seconds }).ok();
        assert_eq!((led(true, 0), led(false, 0)), (Some(Led::On), Some(Led::Off)));
        assert_eq!((led(true, 255), led(true, 256), led(true, -1)), (Some(Led::Seconds(255)), None, None));
        assert_eq!(led(false, 5), None);
    }
}
