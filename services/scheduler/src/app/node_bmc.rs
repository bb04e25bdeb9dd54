//! What a node's BMC knows: who may is a rule, which rack is looked up, the rack asks the BMC.

use super::App;
use super::node_rack::Audit;
use crate::engine::spec;
use farrier_identity::IdentityError;
use farrier_proto::rack::bmc_service_client::BmcServiceClient;
use farrier_proto::rack::{
    BmcCapabilities, BmcDone, BmcEventLog, BmcInventory, BmcPowerDraw, BmcSensors, ClearBmcEventLogRequest,
    InterruptMachineRequest, Machine, ReadBmcCapabilitiesRequest, ReadBmcEventLogRequest,
    ReadBmcInventoryRequest, ReadBmcPowerDrawRequest, ReadBmcSensorsRequest, ResetBmcRequest,
};
use farrier_proto::scheduler::{
    ClearNodeEventLogRequest, InterruptNodeRequest, ReadNodeCapabilitiesRequest, ReadNodeEventLogRequest,
    ReadNodeInventoryRequest, ReadNodePowerDrawRequest, ReadNodeSensorsRequest, ResetNodeBmcRequest,
};
use farrier_runtime::authz::Caller;
use farrier_runtime::error::{Reason, asked, refuse};
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
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        let request = ReadBmcEventLogRequest { machine: Some(machine), last: request.last };
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
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        self.audit(caller, request.name).record("clear bmc event log", "").await?;
        let answer = rack.clear_bmc_event_log(ClearBmcEventLogRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
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

    pub(crate) async fn interrupt(
        &self,
        caller: &Caller,
        request: InterruptNodeRequest,
    ) -> Result<BmcDone, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        self.audit(caller, request.name).record("diagnostic interrupt", "").await?;
        let answer = rack.interrupt_machine(InterruptMachineRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    pub(crate) async fn reset_bmc(
        &self,
        caller: &Caller,
        request: ResetNodeBmcRequest,
    ) -> Result<BmcDone, Status> {
        let (machine, mut rack) = self.bmc_of(&request.name).await?;
        self.audit(caller, request.name).record("reset bmc", "").await?;
        let answer = rack.reset_bmc(ResetBmcRequest { machine: Some(machine) }).await;
        Ok(answer.map_err(|status| asked("the rack", status))?.into_inner())
    }

    fn audit(&self, caller: &Caller, node: String) -> Audit {
        Audit { clients: self.clients.clone(), node, actor: caller.actor() }
    }

    async fn bmc_of(&self, node: &str) -> Result<(Machine, BmcServiceClient<Channel>), Status> {
        let found = self.rack_of(node).await?;
        let client = self.clients.bmcs(&found.rack, found.address()).map_err(unreachable)?;
        Ok((spec::machine(found.dispatch), client.max_decoding_message_size(MAX_MESSAGE)))
    }
}

pub(super) fn unreachable(error: IdentityError) -> Status {
    refuse(Code::Unavailable, Reason::Unavailable, chain(&error))
}
