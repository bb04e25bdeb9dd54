//! What a node starts from and in which mode, Secure Boot, and its locator LED: who may is a rule, the rack asks the BMC.

use super::App;
use farrier_proto::rack::{
    BmcBootDevice, BmcBootMode, BmcBootOrder, BmcDone, BmcSecureBoot, BmcSecureBootKeys, BootSource,
    IdentifyMachineRequest, ReadBootDeviceRequest, ReadBootModeRequest, ReadBootOrderRequest,
    ReadSecureBootKeysRequest, ReadSecureBootRequest, ResetSecureBootKeysRequest, SecureBootKeyReset,
    SetBootDeviceRequest, SetBootModeRequest, SetBootOrderRequest, SetSecureBootRequest,
};
use farrier_proto::scheduler::{
    IdentifyNodeRequest, ReadNodeBootDeviceRequest, ReadNodeBootModeRequest, ReadNodeBootOrderRequest,
    ReadNodeSecureBootKeysRequest, ReadNodeSecureBootRequest, ResetNodeSecureBootKeysRequest,
    SetNodeBootDeviceRequest, SetNodeBootModeRequest, SetNodeBootOrderRequest, SetNodeSecureBootRequest,
};
use farrier_proto::types::BootMode;
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, asked, invalid, refuse};
use tonic::{Code, Status};

impl App {
    pub(crate) async fn read_boot_device(
        &self,
        request: ReadNodeBootDeviceRequest,
    ) -> Result<BmcBootDevice, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_boot_device(ReadBootDeviceRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn set_boot_device(
        &self,
        caller: &Caller,
        request: SetNodeBootDeviceRequest,
    ) -> Result<BmcBootDevice, Status> {
        let detail = detail(&request)?;
        let SetNodeBootDeviceRequest { name, source, persistent, boot_mode } = request;
        // Also one that has the node and no task at its rack yet: that task would set it again.
        self.not_held(&name).await?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        audit.record("set boot device", &detail).await?;
        let request = SetBootDeviceRequest { machine: Some(machine), source, persistent, boot_mode };
        let answer = rack.set_boot_device(request).await;
        audit.outcome("set boot device", answer).await
    }

    pub(crate) async fn read_boot_mode(
        &self,
        request: ReadNodeBootModeRequest,
    ) -> Result<BmcBootMode, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_boot_mode(ReadBootModeRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn set_boot_mode(
        &self,
        caller: &Caller,
        request: SetNodeBootModeRequest,
    ) -> Result<BmcBootMode, Status> {
        let detail = match request.boot_mode() {
            BootMode::Bios => "bios",
            BootMode::Uefi => "uefi",
            BootMode::Unspecified => return Err(invalid("boot_mode", "expected BIOS or UEFI")),
        };
        let SetNodeBootModeRequest { name, boot_mode } = request;
        self.not_held(&name).await?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        audit.record("set boot mode", detail).await?;
        let answer = rack.set_boot_mode(SetBootModeRequest { machine: Some(machine), boot_mode }).await;
        audit.outcome("set boot mode", answer).await
    }

    pub(crate) async fn read_secure_boot(
        &self,
        request: ReadNodeSecureBootRequest,
    ) -> Result<BmcSecureBoot, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_secure_boot(ReadSecureBootRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn set_secure_boot(
        &self,
        caller: &Caller,
        request: SetNodeSecureBootRequest,
    ) -> Result<BmcSecureBoot, Status> {
        let SetNodeSecureBootRequest { name, enabled } = request;
        self.not_held(&name).await?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let detail = if enabled { "on" } else { "off" };
        let audit = self.audit(caller, name);
        audit.record("set secure boot", detail).await?;
        let answer = rack.set_secure_boot(SetSecureBootRequest { machine: Some(machine), enabled }).await;
        audit.outcome("set secure boot", answer).await
    }

    pub(crate) async fn read_secure_boot_keys(
        &self,
        request: ReadNodeSecureBootKeysRequest,
    ) -> Result<BmcSecureBootKeys, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_secure_boot_keys(ReadSecureBootKeysRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn reset_secure_boot_keys(
        &self,
        caller: &Caller,
        request: ResetNodeSecureBootKeysRequest,
    ) -> Result<BmcSecureBootKeys, Status> {
        let detail = match request.reset() {
            SecureBootKeyReset::Default => "to those it was delivered with",
            SecureBootKeyReset::DeleteAll => "delete all",
            SecureBootKeyReset::Unspecified => {
                return Err(invalid("reset", "expected default or delete all"));
            }
        };
        let ResetNodeSecureBootKeysRequest { name, reset } = request;
        self.not_held(&name).await?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        audit.record("reset secure boot keys", detail).await?;
        let request = ResetSecureBootKeysRequest { machine: Some(machine), reset };
        let answer = rack.reset_secure_boot_keys(request).await;
        audit.outcome("reset secure boot keys", answer).await
    }

    pub(crate) async fn read_boot_order(
        &self,
        request: ReadNodeBootOrderRequest,
    ) -> Result<BmcBootOrder, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_boot_order(ReadBootOrderRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn set_boot_order(
        &self,
        caller: &Caller,
        request: SetNodeBootOrderRequest,
    ) -> Result<BmcBootOrder, Status> {
        let SetNodeBootOrderRequest { name, first } = request;
        let detail = check_order(&first)?;
        self.not_held(&name).await?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        audit.record("set boot order", &detail).await?;
        let answer = rack.set_boot_order(SetBootOrderRequest { machine: Some(machine), first }).await;
        audit.outcome("set boot order", answer).await
    }

    pub(super) async fn not_held(&self, name: &str) -> Result<(), Status> {
        let node = self.rack_of(name).await?.dispatch.node.unwrap_or_default();
        if node.operation.is_empty() {
            return Ok(());
        }
        Err(refuse(
            Code::FailedPrecondition,
            Reason::NodeBusy,
            format!("{} works on {name} and needs its BMC as it is: wait for it, or stop it", node.operation),
        ))
    }

    pub(crate) async fn identify(
        &self,
        caller: &Caller,
        request: IdentifyNodeRequest,
    ) -> Result<BmcDone, Status> {
        let IdentifyNodeRequest { name, on, seconds } = request;
        let detail = match (on, seconds) {
            (false, 0) => "off".to_owned(),
            (false, _) => return Err(invalid("seconds", "expected none where the LED goes off")),
            (true, 0) => "on".to_owned(),
            (true, 1..=LONGEST) => format!("on for {seconds} s"),
            (true, _) => return Err(invalid("seconds", format!("expected 0 to {LONGEST}, saw {seconds}"))),
        };
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        audit.record("locator led", &detail).await?;
        let answer =
            rack.identify_machine(IdentifyMachineRequest { machine: Some(machine), on, seconds }).await;
        audit.outcome("locator led", answer).await
    }
}

/// For the history, which has room for so much.
fn check_order(first: &[String]) -> Result<String, Status> {
    let good = |id: &String| (1..=ID).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let twice = first.iter().enumerate().any(|(at, id)| first.iter().skip(at + 1).any(|other| other == id));
    if !(1..=OPTIONS).contains(&first.len()) || !first.iter().all(good) || twice {
        let expected = format!("expected 1 to {OPTIONS} ids of at most {ID} bytes, each once");
        return Err(invalid("first", expected));
    }
    Ok(first.join(", ").chars().take(DETAIL).collect())
}

const OPTIONS: usize = 64;
const ID: usize = 128;
const DETAIL: usize = 500;

/// For the history.
fn detail(request: &SetNodeBootDeviceRequest) -> Result<String, Status> {
    let device = match request.source() {
        BootSource::Unspecified | BootSource::Other => {
            return Err(invalid("source", "expected none, network, disk, CD or BIOS setup"));
        }
        source => {
            source.as_str_name().trim_start_matches("BOOT_SOURCE_").to_ascii_lowercase().replace('_', " ")
        }
    };
    let times = match (request.source(), request.persistent) {
        (BootSource::None, true) => {
            return Err(invalid("persistent", "expected not set where nothing is asked for"));
        }
        (BootSource::None, false) => "",
        (_, true) => ", always",
        (_, false) => ", once",
    };
    let mode = match request.boot_mode() {
        BootMode::Unspecified => "",
        BootMode::Bios => ", bios",
        BootMode::Uefi => ", uefi",
    };
    Ok(format!("{device}{times}{mode}"))
}

/// What IPMI has a byte for.
const LONGEST: i32 = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_history_says_what_for_how_often_and_how() {
        let told = |source: BootSource, persistent, mode: BootMode| {
            let (source, boot_mode) = (source.into(), mode.into());
            detail(&SetNodeBootDeviceRequest { name: String::new(), source, persistent, boot_mode }).ok()
        };
        assert_eq!(told(BootSource::BiosSetup, false, BootMode::Uefi).unwrap(), "bios setup, once, uefi");
        assert_eq!(told(BootSource::Disk, true, BootMode::Unspecified).unwrap(), "disk, always");
        assert_eq!(told(BootSource::None, false, BootMode::Unspecified).unwrap(), "none");
        assert_eq!(told(BootSource::None, true, BootMode::Unspecified), None);
        assert_eq!(told(BootSource::Other, false, BootMode::Bios), None);
    }
}
