use crate::app::App;
use farrier_proto::rack::{BmcEventLog, BmcInventory, BmcSensors};
use farrier_proto::scheduler::node_bmc_service_server::NodeBmcService;
use farrier_proto::scheduler::{
    ClearNodeEventLogRequest, ReadNodeEventLogRequest, ReadNodeInventoryRequest, ReadNodeSensorsRequest,
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
    ) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request);
        self.clear_event_log(&caller, request.into_inner()).await?;
        Ok(Response::new(()))
    }
}
