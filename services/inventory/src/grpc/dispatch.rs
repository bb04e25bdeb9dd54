use super::{Api, split};
use farrier_proto::inventory::dispatch_service_server::DispatchService;
use farrier_proto::inventory::{
    Dispatch, GetDispatchRequest, HoldNodeRequest, HoldNodeResponse, ListCandidatesRequest,
    ListCandidatesResponse, ListPowerToKeepRequest, ListPowerToKeepResponse, MoveBmcRequest, MoveBmcResponse,
    RecordActionRequest, RecordActionResponse, ReleaseNodeRequest, ReleaseNodeResponse,
    TransitionNodeRequest, TransitionNodeResponse,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl DispatchService for Api {
    async fn list_candidates(
        &self,
        _: Request<ListCandidatesRequest>,
    ) -> Result<Response<ListCandidatesResponse>, Status> {
        self.app.candidates().await.map(Response::new)
    }

    async fn transition_node(
        &self,
        request: Request<TransitionNodeRequest>,
    ) -> Result<Response<TransitionNodeResponse>, Status> {
        let (caller, r) = split(request);
        self.app.transition(&caller, r).await.map(Response::new)
    }

    async fn hold_node(
        &self,
        request: Request<HoldNodeRequest>,
    ) -> Result<Response<HoldNodeResponse>, Status> {
        let (caller, r) = split(request);
        self.app.hold(&caller, r).await.map(Response::new)
    }

    async fn release_node(
        &self,
        request: Request<ReleaseNodeRequest>,
    ) -> Result<Response<ReleaseNodeResponse>, Status> {
        let (caller, r) = split(request);
        self.app.release(&caller, r).await.map(Response::new)
    }

    async fn record_action(
        &self,
        request: Request<RecordActionRequest>,
    ) -> Result<Response<RecordActionResponse>, Status> {
        let (caller, r) = split(request);
        self.app.record_action(&caller, r).await?;
        Ok(Response::new(RecordActionResponse {}))
    }

    async fn move_bmc(&self, request: Request<MoveBmcRequest>) -> Result<Response<MoveBmcResponse>, Status> {
        let (caller, r) = split(request);
        let node = self.app.move_bmc(&caller, r).await?;
        Ok(Response::new(MoveBmcResponse { node: Some(node) }))
    }

    async fn get_dispatch(&self, request: Request<GetDispatchRequest>) -> Result<Response<Dispatch>, Status> {
        let (_, r) = split(request);
        self.app.dispatch(&r.node, &r.flavor).await.map(Response::new)
    }

    async fn list_power_to_keep(
        &self,
        _: Request<ListPowerToKeepRequest>,
    ) -> Result<Response<ListPowerToKeepResponse>, Status> {
        let nodes = self.app.power_to_keep().await?;
        Ok(Response::new(ListPowerToKeepResponse { nodes }))
    }
}
