//! What a node's firmware is set to, and which it has: who may is a rule, the rack asks the BMC.

use super::App;
use super::node_bmc::{check_image_url, told};
use farrier_proto::rack::{
    BiosChange, BiosSettings, BmcTask, Firmware, FirmwareUpdate, ReadBiosRequest, ReadBmcTaskRequest,
    ReadFirmwareRequest, SetBiosRequest, UpdateFirmwareRequest,
};
use farrier_proto::scheduler::{
    ReadNodeBiosRequest, ReadNodeBmcTaskRequest, ReadNodeFirmwareRequest, SetNodeBiosRequest,
    UpdateNodeFirmwareRequest,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{asked, invalid};
use tonic::Status;

impl App {
    pub(crate) async fn read_bios(&self, request: ReadNodeBiosRequest) -> Result<BiosSettings, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_bios(ReadBiosRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn set_bios(
        &self,
        caller: &Caller,
        request: SetNodeBiosRequest,
    ) -> Result<BiosSettings, Status> {
        let SetNodeBiosRequest { name, changes } = request;
        let detail = check_changes(&changes)?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        self.audit(caller, name).record("set bios", &detail).await?;
        let answer = rack.set_bios(SetBiosRequest { machine: Some(machine), changes }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn read_firmware(&self, request: ReadNodeFirmwareRequest) -> Result<Firmware, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_firmware(ReadFirmwareRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn update_firmware(
        &self,
        caller: &Caller,
        request: UpdateNodeFirmwareRequest,
    ) -> Result<FirmwareUpdate, Status> {
        let UpdateNodeFirmwareRequest { name, image_url, parts } = request;
        let detail = told(check_image_url(&image_url)?).to_owned();
        let good =
            |part: &String| (1..=NAME).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_graphic());
        if parts.len() > PARTS || !parts.iter().all(good) {
            return Err(invalid("parts", format!("expected at most {PARTS} ids of at most {NAME} bytes")));
        }
        let (machine, mut rack) = self.bmc_of(&name).await?;
        self.audit(caller, name).record("update firmware", &detail).await?;
        let request = UpdateFirmwareRequest { machine: Some(machine), image_url, parts };
        let answer = rack.update_firmware(request).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn read_bmc_task(&self, request: ReadNodeBmcTaskRequest) -> Result<BmcTask, Status> {
        let ReadNodeBmcTaskRequest { name, task } = request;
        if task.is_empty() || task.len() > TASK || !task.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(invalid("task", "expected a task as it was told when it began"));
        }
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let answer = rack.read_bmc_task(ReadBmcTaskRequest { machine: Some(machine), task }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }
}

/// What of the changes is written down: their names. A value may be a password.
fn check_changes(changes: &[BiosChange]) -> Result<String, Status> {
    if !(1..=CHANGES).contains(&changes.len()) {
        return Err(invalid("changes", format!("expected 1 to {CHANGES}, saw {}", changes.len())));
    }
    for BiosChange { name, value } in changes {
        if !(1..=NAME).contains(&name.len()) || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(invalid("changes.name", format!("expected a name of at most {NAME} bytes")));
        }
        if value.len() > VALUE || value.contains(char::is_control) {
            return Err(invalid("changes.value", format!("expected a line of at most {VALUE} bytes")));
        }
    }
    let names: Vec<_> = changes.iter().map(|change| change.name.as_str()).collect();
    // The history has room for so much.
    Ok(names.join(", ").chars().take(DETAIL).collect())
}

const CHANGES: usize = 64;
const PARTS: usize = 16;
const NAME: usize = 128;
const VALUE: usize = 256;
const TASK: usize = 512;
const DETAIL: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_down_and_values_are_not() {
        let change = |name: &str, value: &str| BiosChange { name: name.into(), value: value.into() };
        let two = [change("AdminPassword", "s3cret"), change("NumLock", "On")];
        assert_eq!(check_changes(&two).unwrap(), "AdminPassword, NumLock");
        for bad in [
            vec![],
            vec![change("", "x")],
            vec![change("a b", "x")],
            vec![change("a", "x\ny")],
            vec![change("a", "b"); 65],
        ] {
            assert!(check_changes(&bad).is_err(), "{bad:?}");
        }
    }
}
