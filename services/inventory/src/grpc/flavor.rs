use super::{Api, list, split};
use farrier_proto::inventory::flavor_service_server::FlavorService;
use farrier_proto::inventory::{
    CreateFlavorRequest, DeleteFlavorRequest, Flavor, GetFlavorRequest, ListFlavorsRequest,
    ListFlavorsResponse,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl FlavorService for Api {
    async fn create_flavor(&self, request: Request<CreateFlavorRequest>) -> Result<Response<Flavor>, Status> {
        let (caller, r) = split(request);
        self.app.create(&caller, r.flavor, &r.request_id, r.validate_only).await.map(Response::new)
    }

    async fn get_flavor(&self, request: Request<GetFlavorRequest>) -> Result<Response<Flavor>, Status> {
        let (caller, r) = split(request);
        self.app.get(&caller, &r.name).await.map(Response::new)
    }

    async fn list_flavors(
        &self,
        request: Request<ListFlavorsRequest>,
    ) -> Result<Response<ListFlavorsResponse>, Status> {
        let (caller, r) = split(request);
        let (flavors, next_page_token) =
            self.app.list(&caller, &list(r.page_size, r.page_token, r.filter)).await?;
        Ok(Response::new(ListFlavorsResponse { flavors, next_page_token }))
    }

    async fn delete_flavor(&self, request: Request<DeleteFlavorRequest>) -> Result<Response<()>, Status> {
        let (caller, r) = split(request);
        self.app.delete::<Flavor>(&caller, &r.name, &r.etag, |_| Ok(())).await.map(Response::new)
    }
}
