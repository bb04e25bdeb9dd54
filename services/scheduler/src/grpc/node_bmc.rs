use crate::app::App;
use farrier_proto::rack::{
    BiosSettings, BmcBootDevice, BmcBootMode, BmcBootOrder, BmcCapabilities, BmcDone, BmcEventLog,
    BmcInventory, BmcNetwork, BmcNicVlans, BmcPowerDraw, BmcProfile, BmcProfileImport, BmcSecureBoot,
    BmcSecureBootKeys, BmcSensors, BmcTask, BmcVirtualMedia, BmcVolumes, BmcWatchdog, Firmware,
};
use farrier_proto::scheduler::node_bmc_service_server::NodeBmcService;
use farrier_proto::scheduler::{
    ClearNodeEventLogRequest, DisarmNodeWatchdogRequest, ExportNodeProfileRequest, IdentifyNodeRequest,
    ImportNodeProfileRequest, InterruptNodeRequest, NodeBmcNetworkChange, Operation, ReadNodeBiosRequest,
    ReadNodeBmcNetworkRequest, ReadNodeBmcTaskRequest, ReadNodeBootDeviceRequest, ReadNodeBootModeRequest,
    ReadNodeBootOrderRequest, ReadNodeCapabilitiesRequest, ReadNodeEventLogRequest, ReadNodeFirmwareRequest,
    ReadNodeInventoryRequest, ReadNodeNicVlansRequest, ReadNodePowerDrawRequest,
    ReadNodeSecureBootKeysRequest, ReadNodeSecureBootRequest, ReadNodeSensorsRequest, ReadNodeVolumesRequest,
    ReadNodeWatchdogRequest, ResetNodeBmcRequest, ResetNodeSecureBootKeysRequest, SetNodeBiosRequest,
    SetNodeBmcNetworkRequest, SetNodeBootDeviceRequest, SetNodeBootModeRequest, SetNodeBootOrderRequest,
    SetNodeNicVlansRequest, SetNodeSecureBootRequest, SetNodeVolumeRequest, UpdateNodeFirmwareRequest,
    UseNodeVirtualMediaRequest,
};
use farrier_runtime::authz::Caller;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl NodeBmcService for App {
    async fn read_node_event_log(
        &self,
        request: Request<ReadNodeEventLogRequest>,
    ) -> Result<Response<BmcEventLog>, Status> {
        Ok(Response::new(self.read_event_log(request.into_inner()).await?))
    }

    async fn read_node_sensors(
        &self,
        request: Request<ReadNodeSensorsRequest>,
    ) -> Result<Response<BmcSensors>, Status> {
        Ok(Response::new(self.read_sensors(request.into_inner()).await?))
    }

    async fn read_node_inventory(
        &self,
        request: Request<ReadNodeInventoryRequest>,
    ) -> Result<Response<BmcInventory>, Status> {
        Ok(Response::new(self.read_inventory(request.into_inner()).await?))
    }

    async fn clear_node_event_log(
        &self,
        request: Request<ClearNodeEventLogRequest>,
    ) -> Result<Response<BmcDone>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.clear_event_log(&caller, request.into_inner()).await?))
    }

    async fn read_node_capabilities(
        &self,
        request: Request<ReadNodeCapabilitiesRequest>,
    ) -> Result<Response<BmcCapabilities>, Status> {
        Ok(Response::new(self.read_capabilities(request.into_inner()).await?))
    }

    async fn read_node_power_draw(
        &self,
        request: Request<ReadNodePowerDrawRequest>,
    ) -> Result<Response<BmcPowerDraw>, Status> {
        Ok(Response::new(self.read_power_draw(request.into_inner()).await?))
    }

    async fn read_node_bmc_network(
        &self,
        request: Request<ReadNodeBmcNetworkRequest>,
    ) -> Result<Response<BmcNetwork>, Status> {
        Ok(Response::new(self.read_bmc_network(request.into_inner()).await?))
    }

    async fn set_node_bmc_network(
        &self,
        request: Request<SetNodeBmcNetworkRequest>,
    ) -> Result<Response<NodeBmcNetworkChange>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.set_bmc_network(&caller, request.into_inner()).await?))
    }

    async fn read_node_watchdog(
        &self,
        request: Request<ReadNodeWatchdogRequest>,
    ) -> Result<Response<BmcWatchdog>, Status> {
        Ok(Response::new(self.read_watchdog(request.into_inner()).await?))
    }

    async fn disarm_node_watchdog(
        &self,
        request: Request<DisarmNodeWatchdogRequest>,
    ) -> Result<Response<BmcWatchdog>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.disarm_watchdog(&caller, request.into_inner()).await?))
    }

    async fn use_node_virtual_media(
        &self,
        request: Request<UseNodeVirtualMediaRequest>,
    ) -> Result<Response<BmcVirtualMedia>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.use_virtual_media(&caller, request.into_inner()).await?))
    }

    async fn read_node_bios(
        &self,
        request: Request<ReadNodeBiosRequest>,
    ) -> Result<Response<BiosSettings>, Status> {
        Ok(Response::new(self.read_bios(request.into_inner()).await?))
    }

    async fn set_node_bios(
        &self,
        request: Request<SetNodeBiosRequest>,
    ) -> Result<Response<BiosSettings>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.set_bios(&caller, request.into_inner()).await?))
    }

    async fn read_node_firmware(
        &self,
        request: Request<ReadNodeFirmwareRequest>,
    ) -> Result<Response<Firmware>, Status> {
        Ok(Response::new(self.read_firmware(request.into_inner()).await?))
    }

    async fn update_node_firmware(
        &self,
        request: Request<UpdateNodeFirmwareRequest>,
    ) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.update_firmware(&caller, request.into_inner()).await?))
    }

    async fn read_node_bmc_task(
        &self,
        request: Request<ReadNodeBmcTaskRequest>,
    ) -> Result<Response<BmcTask>, Status> {
        Ok(Response::new(self.read_bmc_task(request.into_inner()).await?))
    }

    async fn interrupt_node(
        &self,
        request: Request<InterruptNodeRequest>,
    ) -> Result<Response<BmcDone>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.interrupt(&caller, request.into_inner()).await?))
    }

    async fn reset_node_bmc(
        &self,
        request: Request<ResetNodeBmcRequest>,
    ) -> Result<Response<BmcDone>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.reset_bmc(&caller, request.into_inner()).await?))
    }

    async fn read_node_boot_device(
        &self,
        request: Request<ReadNodeBootDeviceRequest>,
    ) -> Result<Response<BmcBootDevice>, Status> {
        Ok(Response::new(self.read_boot_device(request.into_inner()).await?))
    }

    async fn set_node_boot_device(
        &self,
        request: Request<SetNodeBootDeviceRequest>,
    ) -> Result<Response<BmcBootDevice>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.set_boot_device(&caller, request.into_inner()).await?))
    }

    async fn identify_node(
        &self,
        request: Request<IdentifyNodeRequest>,
    ) -> Result<Response<BmcDone>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.identify(&caller, request.into_inner()).await?))
    }

    async fn read_node_boot_mode(
        &self,
        request: Request<ReadNodeBootModeRequest>,
    ) -> Result<Response<BmcBootMode>, Status> {
        Ok(Response::new(self.read_boot_mode(request.into_inner()).await?))
    }

    async fn set_node_boot_mode(
        &self,
        request: Request<SetNodeBootModeRequest>,
    ) -> Result<Response<BmcBootMode>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.set_boot_mode(&caller, request.into_inner()).await?))
    }

    async fn read_node_secure_boot(
        &self,
        request: Request<ReadNodeSecureBootRequest>,
    ) -> Result<Response<BmcSecureBoot>, Status> {
        Ok(Response::new(self.read_secure_boot(request.into_inner()).await?))
    }

    async fn set_node_secure_boot(
        &self,
        request: Request<SetNodeSecureBootRequest>,
    ) -> Result<Response<BmcSecureBoot>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.set_secure_boot(&caller, request.into_inner()).await?))
    }

    async fn read_node_secure_boot_keys(
        &self,
        request: Request<ReadNodeSecureBootKeysRequest>,
    ) -> Result<Response<BmcSecureBootKeys>, Status> {
        Ok(Response::new(self.read_secure_boot_keys(request.into_inner()).await?))
    }

    async fn reset_node_secure_boot_keys(
        &self,
        request: Request<ResetNodeSecureBootKeysRequest>,
    ) -> Result<Response<BmcSecureBootKeys>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.reset_secure_boot_keys(&caller, request.into_inner()).await?))
    }

    async fn read_node_boot_order(
        &self,
        request: Request<ReadNodeBootOrderRequest>,
    ) -> Result<Response<BmcBootOrder>, Status> {
        Ok(Response::new(self.read_boot_order(request.into_inner()).await?))
    }

    async fn set_node_boot_order(
        &self,
        request: Request<SetNodeBootOrderRequest>,
    ) -> Result<Response<BmcBootOrder>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.set_boot_order(&caller, request.into_inner()).await?))
    }

    async fn export_node_profile(
        &self,
        request: Request<ExportNodeProfileRequest>,
    ) -> Result<Response<BmcProfile>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.export_profile(&caller, request.into_inner()).await?))
    }

    async fn import_node_profile(
        &self,
        request: Request<ImportNodeProfileRequest>,
    ) -> Result<Response<BmcProfileImport>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.import_profile(&caller, request.into_inner()).await?))
    }

    async fn read_node_nic_vlans(
        &self,
        request: Request<ReadNodeNicVlansRequest>,
    ) -> Result<Response<BmcNicVlans>, Status> {
        Ok(Response::new(self.read_nic_vlans(request.into_inner()).await?))
    }

    async fn set_node_nic_vlans(
        &self,
        request: Request<SetNodeNicVlansRequest>,
    ) -> Result<Response<BmcNicVlans>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.set_nic_vlans(&caller, request.into_inner()).await?))
    }

    async fn read_node_volumes(
        &self,
        request: Request<ReadNodeVolumesRequest>,
    ) -> Result<Response<BmcVolumes>, Status> {
        Ok(Response::new(self.read_volumes(request.into_inner()).await?))
    }

    async fn set_node_volume(
        &self,
        request: Request<SetNodeVolumeRequest>,
    ) -> Result<Response<BmcVolumes>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.set_volume(&caller, request.into_inner()).await?))
    }
}
