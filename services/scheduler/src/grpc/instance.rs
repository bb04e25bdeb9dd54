use crate::app::App;
use farrier_proto::scheduler::instance_service_server::InstanceService;
use farrier_proto::scheduler::{
    CreateInstanceRequest, DeleteInstanceRequest, GetInstanceRequest, Instance, ListInstancesRequest,
    ListInstancesResponse, Operation, RecoverInstanceRequest, SnapshotInstanceRequest,
};
use farrier_runtime::authz::Caller;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl InstanceService for App {
    async fn create_instance(
        &self,
        request: Request<CreateInstanceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.create(&caller, request.into_inner()).await?))
    }

    async fn get_instance(&self, request: Request<GetInstanceRequest>) -> Result<Response<Instance>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.instance(&caller, &request.into_inner().name).await?))
    }

    async fn list_instances(
        &self,
        request: Request<ListInstancesRequest>,
    ) -> Result<Response<ListInstancesResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.instances(&caller, request.into_inner()).await?))
    }

    async fn delete_instance(
        &self,
        request: Request<DeleteInstanceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.delete(&caller, request.into_inner()).await?))
    }

    async fn snapshot_instance(
        &self,
        request: Request<SnapshotInstanceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.snapshot(&caller, request.into_inner()).await?))
    }

    async fn recover_instance(
        &self,
        request: Request<RecoverInstanceRequest>,
    ) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.recover(&caller, request.into_inner()).await?))
    }
}
