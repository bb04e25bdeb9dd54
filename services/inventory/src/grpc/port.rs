use super::{Api, list, split};
use farrier_proto::inventory::port_service_server::PortService;
use farrier_proto::inventory::{
    CreatePortRequest, DeletePortRequest, GetPortRequest, ListPortsRequest, ListPortsResponse, Port,
    UpdatePortRequest,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl PortService for Api {
    async fn create_port(&self, request: Request<CreatePortRequest>) -> Result<Response<Port>, Status> {
        let (caller, r) = split(request);
        self.app.create(&caller, r.port, &r.request_id, r.validate_only).await.map(Response::new)
    }

    async fn get_port(&self, request: Request<GetPortRequest>) -> Result<Response<Port>, Status> {
        let (caller, r) = split(request);
        self.app.get_port(&caller, &r.name).await.map(Response::new)
    }

    async fn list_ports(
        &self,
        request: Request<ListPortsRequest>,
    ) -> Result<Response<ListPortsResponse>, Status> {
        let (caller, r) = split(request);
        let (ports, next_page_token) =
            self.app.list(&caller, &list(r.page_size, r.page_token, r.filter)).await?;
        Ok(Response::new(ListPortsResponse { ports, next_page_token }))
    }

    async fn update_port(&self, request: Request<UpdatePortRequest>) -> Result<Response<Port>, Status> {
        let (caller, r) = split(request);
        self.app.update(&caller, r.port, r.update_mask.as_ref()).await.map(Response::new)
    }

    async fn delete_port(&self, request: Request<DeletePortRequest>) -> Result<Response<()>, Status> {
        let (caller, r) = split(request);
        self.app.delete::<Port>(&caller, &r.name, &r.etag, |_| Ok(())).await.map(Response::new)
    }
}
