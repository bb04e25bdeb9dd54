use super::{Api, list, split};
use farrier_proto::inventory::rack_registry_service_server::RackRegistryService;
use farrier_proto::inventory::{
    CreateRackRequest, DeleteRackRequest, GetRackRequest, ListRacksRequest, ListRacksResponse, Rack,
    UpdateRackRequest,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl RackRegistryService for Api {
    async fn create_rack(&self, request: Request<CreateRackRequest>) -> Result<Response<Rack>, Status> {
        let (caller, r) = split(request);
        self.app.create(&caller, r.rack, &r.request_id, r.validate_only).await.map(Response::new)
    }

    async fn get_rack(&self, request: Request<GetRackRequest>) -> Result<Response<Rack>, Status> {
        let (caller, r) = split(request);
        self.app.get(&caller, &r.name).await.map(Response::new)
    }

    async fn list_racks(
        &self,
        request: Request<ListRacksRequest>,
    ) -> Result<Response<ListRacksResponse>, Status> {
        let (caller, r) = split(request);
        let (racks, next_page_token) =
            self.app.list(&caller, &list(r.page_size, r.page_token, r.filter)).await?;
        Ok(Response::new(ListRacksResponse { racks, next_page_token }))
    }

    async fn update_rack(&self, request: Request<UpdateRackRequest>) -> Result<Response<Rack>, Status> {
        let (caller, r) = split(request);
        self.app.update(&caller, r.rack, r.update_mask.as_ref()).await.map(Response::new)
    }

    async fn delete_rack(&self, request: Request<DeleteRackRequest>) -> Result<Response<()>, Status> {
        let (caller, r) = split(request);
        self.app.delete::<Rack>(&caller, &r.name, &r.etag, |_| Ok(())).await.map(Response::new)
    }
}
