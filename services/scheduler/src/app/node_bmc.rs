//! What a node's BMC knows: who may is a rule, which rack is looked up, the rack asks the BMC.

use super::App;
use super::node_rack::Audit;
use crate::engine::spec;
use farrier_identity::IdentityError;
use farrier_proto::rack::bmc_service_client::BmcServiceClient;
use farrier_proto::rack::{
    BmcCapabilities, BmcDone, BmcEventLog, BmcInventory, BmcNetwork, BmcPowerDraw, BmcSensors,
    BmcVirtualMedia, BmcWatchdog, ClearBmcEventLogRequest, DisarmWatchdogRequest, InterruptMachineRequest,
    Machine, MediaAction, ReadBmcCapabilitiesRequest, ReadBmcEventLogRequest, ReadBmcInventoryRequest,
    ReadBmcNetworkRequest, ReadBmcPowerDrawRequest, ReadBmcSensorsRequest, ReadWatchdogRequest,
    ResetBmcRequest, UseVirtualMediaRequest,
};
use farrier_proto::scheduler::{
    ClearNodeEventLogRequest, DisarmNodeWatchdogRequest, InterruptNodeRequest, ReadNodeBmcNetworkRequest,
    ReadNodeCapabilitiesRequest, ReadNodeEventLogRequest, ReadNodeInventoryRequest, ReadNodePowerDrawRequest,
    ReadNodeSensorsRequest, ReadNodeWatchdogRequest, ResetNodeBmcRequest, UseNodeVirtualMediaRequest,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, asked, invalid, refuse};
use farrier_runtime::telemetry::chain;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Ten thousand records of a few hundred bytes.
const MAX_MESSAGE: usize = 16 << 20;

impl App {
    pub(crate) async fn read_event_log(
        &self,
        request: ReadNodeEventLogRequest,
    ) -> Result<BmcEventLog, Status> {
        let log = check_log(request.log)?;
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let request = ReadBmcEventLogRequest { machine: Some(machine), last: request.last, log };
        let answer = rack.read_bmc_event_log(request).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn read_sensors(&self, request: ReadNodeSensorsRequest) -> Result<BmcSensors, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_bmc_sensors(ReadBmcSensorsRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn read_inventory(
        &self,
        request: ReadNodeInventoryRequest,
    ) -> Result<BmcInventory, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_bmc_inventory(ReadBmcInventoryRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn clear_event_log(
        &self,
        caller: &Caller,
        request: ClearNodeEventLogRequest,
    ) -> Result<BmcDone, Status> {
        let log = check_log(request.log)?;
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let audit = self.audit(caller, request.name);
        audit.record("clear bmc event log", &log).await?;
        let answer = rack.clear_bmc_event_log(ClearBmcEventLogRequest { machine: Some(machine), log }).await;
        audit.outcome("clear bmc event log", answer).await
    }

    pub(crate) async fn read_capabilities(
        &self,
        request: ReadNodeCapabilitiesRequest,
    ) -> Result<BmcCapabilities, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_bmc_capabilities(ReadBmcCapabilitiesRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn read_power_draw(
        &self,
        request: ReadNodePowerDrawRequest,
    ) -> Result<BmcPowerDraw, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_bmc_power_draw(ReadBmcPowerDrawRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn read_bmc_network(
        &self,
        request: ReadNodeBmcNetworkRequest,
    ) -> Result<BmcNetwork, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_bmc_network(ReadBmcNetworkRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn read_watchdog(
        &self,
        request: ReadNodeWatchdogRequest,
    ) -> Result<BmcWatchdog, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let answer = rack.read_watchdog(ReadWatchdogRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn disarm_watchdog(
        &self,
        caller: &Caller,
        request: DisarmNodeWatchdogRequest,
    ) -> Result<BmcWatchdog, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let audit = self.audit(caller, request.name);
        audit.record("disarm watchdog", "").await?;
        let answer = rack.disarm_watchdog(DisarmWatchdogRequest { machine: Some(machine) }).await;
        audit.outcome("disarm watchdog", answer).await
    }

    pub(crate) async fn use_virtual_media(
        &self,
        caller: &Caller,
        request: UseNodeVirtualMediaRequest,
    ) -> Result<BmcVirtualMedia, Status> {
        let action = request.action();
        let UseNodeVirtualMediaRequest { name, image_url, boot_once, force, .. } = request;
        let detail = match action {
            MediaAction::Unspecified => return Err(invalid("action", "expected show, insert or eject")),
            MediaAction::Insert => told(check_image_url(&image_url)?),
            MediaAction::Show | MediaAction::Eject if image_url.is_empty() && !boot_once => "",
            MediaAction::Show | MediaAction::Eject => {
                return Err(invalid("image_url", "expected nothing where nothing is inserted"));
            }
        };
        if action != MediaAction::Show && !force {
            self.not_held(&name).await?;
        }
        let (machine, mut rack) = self.bmc_of(&name).await?;
        let done = match action {
            MediaAction::Insert => "insert virtual media",
            MediaAction::Eject => "eject virtual media",
            MediaAction::Show | MediaAction::Unspecified => "",
        };
        let audit = self.audit(caller, name);
        if !done.is_empty() {
            audit.record(done, detail).await?;
        }
        let action = action.into();
        let request = UseVirtualMediaRequest { machine: Some(machine), action, image_url, boot_once, force };
        let answer = rack.use_virtual_media(request).await;
        if done.is_empty() {
            return Ok(answer.map_err(|status| asked("the rack", status))?.into_inner());
        }
        audit.outcome(done, answer).await
    }

    pub(crate) async fn interrupt(
        &self,
        caller: &Caller,
        request: InterruptNodeRequest,
    ) -> Result<BmcDone, Status> {
        if !request.force {
            self.not_held(&request.name).await?;
        }
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let audit = self.audit(caller, request.name);
        audit.record("diagnostic interrupt", "").await?;
        let answer = rack
            .interrupt_machine(InterruptMachineRequest { machine: Some(machine), force: request.force })
            .await;
        audit.outcome("diagnostic interrupt", answer).await
    }

    pub(crate) async fn reset_bmc(
        &self,
        caller: &Caller,
        request: ResetNodeBmcRequest,
    ) -> Result<BmcDone, Status> {
        // Also one that has the node and no task at its rack yet.
        self.not_held(&request.name).await?;
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let audit = self.audit(caller, request.name);
        audit.record("reset bmc", "").await?;
        let answer = rack.reset_bmc(ResetBmcRequest { machine: Some(machine) }).await;
        audit.outcome("reset bmc", answer).await
    }

    pub(super) fn audit(&self, caller: &Caller, node: String) -> Audit {
        Audit { clients: self.clients.clone(), node, actor: caller.actor() }
    }

    pub(super) async fn bmc_of(&self, node: &str) -> Result<(Machine, BmcServiceClient<Channel>), Status> {
        let found = self.rack_of(node).await?;
        let client = self.clients.bmcs(&found.rack, found.address()).map_err(unreachable)?;
        Ok((spec::machine(found.dispatch), client.max_decoding_message_size(MAX_MESSAGE)))
    }
}

/// It goes to the BMC, and into the history.
fn check_log(log: String) -> Result<String, Status> {
    if log.len() > LOG_BYTES || !log.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid("log", format!("expected a log's name of at most {LOG_BYTES} bytes")));
    }
    Ok(log)
}

const LOG_BYTES: usize = 64;

/// It goes to the BMC, and what is in front of its `?` into the history: no user may be in it.
pub(super) fn check_image_url(url: &str) -> Result<&str, Status> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| url.strip_prefix(scheme));
    let authority = rest.map(|rest| rest.split('/').next().unwrap_or_default()).unwrap_or_default();
    let good = url.len() <= URL_BYTES && url.bytes().all(|byte| byte.is_ascii_graphic());
    if !good || authority.is_empty() || authority.contains('@') {
        return Err(invalid(
            "image_url",
            format!("expected http:// or https:// with a host and no user, at most {URL_BYTES} bytes"),
        ));
    }
    Ok(url)
}

/// What of a URL is written down: what stands behind the `?` may let somebody in.
pub(super) fn told(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or_default()
}

/// What BMCs take, and the history.
const URL_BYTES: usize = 512;

pub(super) fn unreachable(error: IdentityError) -> Status {
    refuse(Code::Unavailable, Reason::Unavailable, chain(&error))
}

#[cfg(test)]
mod tests {
    use super::{check_image_url, told};

    #[test]
    fn an_image_is_somewhere_and_has_no_password() {
        assert!(check_image_url("https://192.0.2.1:8443/a/i.iso").is_ok());
        let long = format!("http://h/{}", "x".repeat(600));
        for bad in ["", "ftp://h/i", "http://", "http:///i", "http://u:p@h/i", "http://h/a b", &long] {
            assert!(check_image_url(bad).is_err(), "{bad}");
        }
        assert!(check_image_url("http://h/i.iso?token=s").is_ok());
        assert_eq!(told("http://h/i.iso?token=s"), "http://h/i.iso");
        assert_eq!(told("http://h/i.iso#s"), "http://h/i.iso");
    }
}
