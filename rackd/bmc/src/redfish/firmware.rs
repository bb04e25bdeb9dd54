//! Firmware: what has some, and `UpdateService.SimpleUpdate` (DSP0268 UpdateService, SoftwareInventory).

use async_trait::async_trait;
use serde_json::json;

use super::collection::BATCH;
use super::document::{Document, Path};
use super::driver::{DRIVER, RedfishBmc};
use super::link::{Ask, Link};
use crate::actor::Call;
use crate::coalesce::{Joined, Turn};
use crate::{BmcError, BmcTask, Capability, Deadline, Firmware, FirmwareFile, FirmwarePart};

#[async_trait]
impl Firmware for RedfishBmc {
    async fn firmware(&self, deadline: Deadline) -> Result<Vec<FirmwarePart>, BmcError> {
        let read = |turn| self.parts_in_turns(turn, deadline);
        self.kept.reads.firmware.ask_in_parts(deadline, read).await
    }

    async fn update_firmware(
        &self,
        url: &str,
        parts: Vec<String>,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        let url = url.to_owned();
        let targets = self.targets(parts, deadline).await?;
        self.call(deadline, move |link, call| Box::pin(link.update(call, url, targets))).await
    }

    async fn push_firmware(
        &self,
        file: FirmwareFile,
        parts: Vec<String>,
        deadline: Deadline,
    ) -> Result<String, BmcError> {
        self.push(file, parts, deadline).await
    }

    async fn task(&self, task: &str, deadline: Deadline) -> Result<BmcTask, BmcError> {
        let task = task.to_owned();
        self.call(deadline, move |link, call| {
            Box::pin(async move {
                // A monitor may be anywhere on the BMC (DSP0266 §12.2).
                let path = Path::of(&task).ok_or_else(|| {
                    let ask = Ask::get(&Path::ours(super::places::ROOT));
                    link.bad_answer(&ask, "a task's path as an update or a change of settings told it", &task)
                })?;
                link.task(call, path).await
            })
        })
        .await
    }
}

impl RedfishBmc {
    async fn parts_in_turns(
        &self,
        turn: Turn<Vec<FirmwarePart>>,
        deadline: Deadline,
    ) -> Result<(Joined<Vec<FirmwarePart>>, Vec<FirmwarePart>), BmcError> {
        let first = self.call(deadline, |link, call| {
            Box::pin(async move {
                let joined = turn.begin();
                Ok((joined, link.parts_of_service(call).await?))
            })
        });
        let (joined, list) = first.await?;
        let parts = self.parts_of(list, deadline).await?;
        Ok((joined, parts.into_iter().map(|(_, part)| part).collect()))
    }

    /// Everything that has firmware, and where it is.
    async fn parts(&self, deadline: Deadline) -> Result<Vec<(Path, FirmwarePart)>, BmcError> {
        let list = self.call(deadline, |link, call| Box::pin(link.parts_of_service(call))).await?;
        self.parts_of(list, deadline).await
    }

    async fn parts_of(
        &self,
        list: Option<Path>,
        deadline: Deadline,
    ) -> Result<Vec<(Path, FirmwarePart)>, BmcError> {
        let unsupported =
            BmcError::Unsupported { driver: DRIVER, capability: "list of firmware on this BMC" };
        let (mut parts, mut warnings) = (Vec::new(), Vec::new());
        let members = self.listed(list.ok_or(unsupported)?, &mut warnings, deadline).await?;
        for batch in members.chunks(BATCH) {
            let read = self.some(batch, &mut warnings, deadline).await?;
            parts.extend(read.into_iter().map(|(path, document)| (path, part(&document))));
        }
        for warning in warnings {
            tracing::warn!(bmc.addr = %self.addr, warning, "firmware is left out");
        }
        Ok(parts)
    }

    /// Where parts with these ids are.
    pub(super) async fn targets(
        &self,
        wanted: Vec<String>,
        deadline: Deadline,
    ) -> Result<Vec<Path>, BmcError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let parts = self.parts(deadline).await?;
        let mut targets = Vec::new();
        for id in wanted {
            let found = parts.iter().find(|(_, part)| part.id == id).ok_or_else(|| {
                let offered = parts.iter().map(|(_, part)| part.id.clone()).collect();
                let (wanted, expected) = ("an update of this part", vec!["the id of a part"]);
                BmcError::NotOffered { addr: self.addr, wanted, expected, offered }
            })?;
            targets.push(found.0.clone());
        }
        Ok(targets)
    }
}

/// There is nothing that has to do with firmware.
pub(super) const NO_UPDATES: BmcError =
    BmcError::Unsupported { driver: DRIVER, capability: Capability::Firmware.as_str() };

impl Link {
    async fn parts_of_service(&mut self, call: &mut Call) -> Result<Option<Path>, BmcError> {
        let (_, service) = self.update_service(call).await?.ok_or(NO_UPDATES)?;
        Ok(service.link("FirmwareInventory"))
    }

    async fn update(&mut self, call: &mut Call, url: String, targets: Vec<Path>) -> Result<String, BmcError> {
        let unsupported = BmcError::Unsupported { driver: DRIVER, capability: "firmware by URL on this BMC" };
        let (path, service) = self.update_service(call).await?.ok_or(NO_UPDATES)?;
        let action = service.at("Actions/#UpdateService.SimpleUpdate").ok_or(unsupported)?;
        let target = action.get("target").and_then(|target| Path::of(target.as_str()?));
        let target = target.or_else(|| path.member("Actions/UpdateService.SimpleUpdate"));
        let protocols =
            service.words("Actions/#UpdateService.SimpleUpdate/TransferProtocol@Redfish.AllowableValues");
        let protocol = url.split(':').next().unwrap_or_default().to_ascii_uppercase();
        if !protocols.is_empty() && !protocols.contains(&protocol) {
            return Err(BmcError::NotOffered {
                addr: self.address.addr,
                wanted: "firmware from such a URL",
                expected: vec!["HTTP", "HTTPS"],
                offered: protocols,
            });
        }
        let mut body = json!({ "ImageURI": url });
        if let Some(body) = body.as_object_mut() {
            // HPE's takes nothing that it does not list.
            if !protocols.is_empty() {
                body.insert("TransferProtocol".to_owned(), json!(protocol));
            }
            if !targets.is_empty() {
                let targets: Vec<_> = targets.iter().map(Path::as_str).collect();
                body.insert("Targets".to_owned(), json!(targets));
            }
        }
        // Read before: an error that comes after the request must not look like one that came instead of it.
        let told_by_service = self.vendor(call).await?.update_state;
        let ask = Ask::post(&target.unwrap_or_else(|| path.clone()), body).once("a firmware update");
        let answer = self.send(call, &ask).await?;
        if !answer.status.is_success() {
            return Err(self.refused(&ask, &answer));
        }
        let told = self.task_of(&answer);
        let task = if told.is_none() && told_by_service { Some(path) } else { told };
        Ok(task.map(|task| task.as_str().to_owned()).unwrap_or_default())
    }
}

fn part(document: &Document) -> FirmwarePart {
    let text = |name| document.text(name).unwrap_or_default();
    FirmwarePart {
        id: text("Id"),
        name: text("Name"),
        version: text("Version"),
        updateable: document.at("Updateable").and_then(serde_json::Value::as_bool),
    }
}
