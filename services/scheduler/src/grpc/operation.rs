use crate::app::App;
use farrier_proto::scheduler::operation_service_server::OperationService;
use farrier_proto::scheduler::{
    CancelOperationRequest, GetOperationRequest, ListOperationsRequest, ListOperationsResponse, Operation,
    WatchOperationRequest,
};
use farrier_runtime::authz::Caller;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl OperationService for App {
    async fn get_operation(
        &self,
        request: Request<GetOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.operation(&caller, &request.into_inner().name).await?))
    }

    async fn list_operations(
        &self,
        request: Request<ListOperationsRequest>,
    ) -> Result<Response<ListOperationsResponse>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.operations(&caller, request.into_inner()).await?))
    }

    type WatchOperationStream = ReceiverStream<Result<Operation, Status>>;

    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let caller = Caller::of(&request);
        let first = self.operation(&caller, &request.into_inner().name).await?;
        Ok(Response::new(self.watch(first)))
    }

    async fn cancel_operation(
        &self,
        request: Request<CancelOperationRequest>,
    ) -> Result<Response<Operation>, Status> {
        let caller = Caller::of(&request);
        Ok(Response::new(self.cancel(&caller, request.into_inner()).await?))
    }
}
