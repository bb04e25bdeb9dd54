use crate::app::App;
use farrier_proto::scheduler::node_action_service_server::NodeActionService;
use farrier_proto::scheduler::{
    ActOnNodeRequest, Operation, RotateNodeBmcCredentialsRequest, SetNodePowerRequest,
};
use farrier_runtime::authz::Caller;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl NodeActionService for App {
    async fn act_on_node(&self, request: Request<ActOnNodeRequest>) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.act(&caller, request.into_inner()).await?))
    }

    async fn set_node_power(
        &self,
        request: Request<SetNodePowerRequest>,
    ) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.set_power(&caller, request.into_inner()).await?))
    }

    async fn rotate_node_bmc_credentials(
        &self,
        request: Request<RotateNodeBmcCredentialsRequest>,
    ) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.rotate_bmc_credentials(&caller, request.into_inner()).await?))
    }
}
