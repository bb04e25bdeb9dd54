use super::{Api, split};
use farrier_proto::inventory::watch_service_server::WatchService;
use farrier_proto::inventory::{
    ListWatchedNodesRequest, ListWatchedNodesResponse, ReportObservationsRequest, ReportObservationsResponse,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl WatchService for Api {
    async fn list_watched_nodes(
        &self,
        request: Request<ListWatchedNodesRequest>,
    ) -> Result<Response<ListWatchedNodesResponse>, Status> {
        let (caller, r) = split(request);
        let (nodes, next_page_token) = self.app.watched(&caller, r.page_size, &r.page_token).await?;
        Ok(Response::new(ListWatchedNodesResponse { nodes, next_page_token }))
    }

    async fn report_observations(
        &self,
        request: Request<ReportObservationsRequest>,
    ) -> Result<Response<ReportObservationsResponse>, Status> {
        let (caller, r) = split(request);
        self.app.report_observations(&caller, r.observations).await?;
        Ok(Response::new(ReportObservationsResponse {}))
    }
}
