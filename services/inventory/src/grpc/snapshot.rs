use super::{Api, split};
use farrier_proto::inventory::snapshot_service_server::SnapshotService;
use farrier_proto::inventory::{ListBootPortsRequest, ListBootPortsResponse};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl SnapshotService for Api {
    async fn list_boot_ports(
        &self,
        request: Request<ListBootPortsRequest>,
    ) -> Result<Response<ListBootPortsResponse>, Status> {
        let (caller, r) = split(request);
        let (ports, next_page_token) = self.app.boot_ports(&caller, r.page_size, &r.page_token).await?;
        Ok(Response::new(ListBootPortsResponse { ports, next_page_token }))
    }
}
