//! What a node's firmware is set to, and which it has: who may is a rule, the rack asks the BMC.

use super::node_bmc::{check_image_url, told};
use super::{App, new_operation, request_key};
use crate::engine::seal;
use farrier_model::{Collection, parse_name};
use farrier_proto::images::{Compression, GetImageRequest, ImageFormat};
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{
    BiosChange, BiosSettings, BmcTask, Firmware, FirmwareImage, ReadBiosRequest, ReadBmcTaskRequest,
    ReadFirmwareRequest, SetBiosRequest, TaskSpec, UpdateFirmware,
};
use farrier_proto::scheduler::{
    Operation, OperationType, ReadNodeBiosRequest, ReadNodeBmcTaskRequest, ReadNodeFirmwareRequest,
    SetNodeBiosRequest, UpdateNodeFirmwareRequest,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{asked, internal, invalid};
use farrier_runtime::telemetry::chain;
use farrier_scheduler_store::NewOperation;
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
        self.not_held(&name).await?;
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let audit = self.audit(caller, name);
        audit.record("set bios", &detail).await?;
        let answer = rack.set_bios(SetBiosRequest { machine: Some(machine), changes }).await;
        // Its words may have a value in them.
        if answer.is_err() {
            audit.failed("set bios", &detail).await;
        }
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
    ) -> Result<Operation, Status> {
        let key = request_key(caller, &request.request_id, &request);
        if let Some(before) = self.answered(&key).await? {
            return Ok(before);
        }
        let (told_of, push) = match (request.image_url.is_empty(), request.image.is_empty()) {
            (false, true) => (told(check_image_url(&request.image_url)?).to_owned(), None),
            (true, false) => (request.image.clone(), Some(self.firmware_image(&request).await?)),
            _ => return Err(invalid("image_url", "expected it or `image`, one of the two")),
        };
        let UpdateNodeFirmwareRequest { name, image_url, parts, .. } = request;
        let good =
            |part: &String| (1..=NAME).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_graphic());
        if parts.len() > PARTS || !parts.iter().all(good) {
            return Err(invalid("parts", format!("expected at most {PARTS} ids of at most {NAME} bytes")));
        }
        parse_name(Collection::Nodes, &name).map_err(|e| invalid("name", e))?;
        self.node(&name).await?;
        let work = Work::UpdateFirmware(UpdateFirmware { image_url, image: told_of, parts, push });
        let work = TaskSpec { machine: None, work: Some(work) };
        let mut row = new_operation(caller, OperationType::UpdateFirmware, &name, &name, work);
        seal(&self.vault, &mut row).map_err(|error| internal(chain(&error)))?;
        self.store_and_nudge(NewOperation { row, request: key, create: None }).await
    }

    /// What of the catalogue is sent.
    async fn firmware_image(&self, request: &UpdateNodeFirmwareRequest) -> Result<FirmwareImage, Status> {
        let id = parse_name(Collection::Images, &request.image).map_err(|e| invalid("image", e))?;
        let asked_for = GetImageRequest { name: request.image.clone() };
        let image = self.clients.images.clone().get_image(asked_for).await;
        let image = image.map_err(|status| asked("images", status))?.into_inner();
        // Then the catalogue has the file as it was, filled up to a whole sector.
        if image.format() != ImageFormat::Raw || image.compression() != Compression::None {
            return Err(invalid(
                "image",
                format!(
                    "expected a file as it is, saw {} and {}: import it again with `--format raw --compression none`",
                    image.format().as_str_name(),
                    image.compression().as_str_name()
                ),
            ));
        }
        let file_name = if request.file_name.is_empty() { id.to_owned() } else { request.file_name.clone() };
        if file_name.len() > NAME || !file_name.bytes().all(|b| b.is_ascii_graphic() && b != b'/') {
            return Err(invalid("file_name", format!("expected a name of at most {NAME} bytes")));
        }
        Ok(FirmwareImage {
            image: request.image.clone(),
            manifest_sha256: image.manifest_sha256,
            size_bytes: image.file_bytes,
            file_name,
        })
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
