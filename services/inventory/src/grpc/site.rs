use super::{Api, list, split};
use farrier_proto::inventory::site_service_server::SiteService;
use farrier_proto::inventory::{
    CreateSiteRequest, DeleteSiteRequest, GetSiteRequest, ListSitesRequest, ListSitesResponse, Site,
    UpdateSiteRequest,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl SiteService for Api {
    async fn create_site(&self, request: Request<CreateSiteRequest>) -> Result<Response<Site>, Status> {
        let (caller, r) = split(request);
        self.app.create(&caller, r.site, &r.request_id, r.validate_only).await.map(Response::new)
    }

    async fn get_site(&self, request: Request<GetSiteRequest>) -> Result<Response<Site>, Status> {
        let (caller, r) = split(request);
        self.app.get(&caller, &r.name).await.map(Response::new)
    }

    async fn list_sites(
        &self,
        request: Request<ListSitesRequest>,
    ) -> Result<Response<ListSitesResponse>, Status> {
        let (caller, r) = split(request);
        let (sites, next_page_token) =
            self.app.list(&caller, &list(r.page_size, r.page_token, r.filter)).await?;
        Ok(Response::new(ListSitesResponse { sites, next_page_token }))
    }

    async fn update_site(&self, request: Request<UpdateSiteRequest>) -> Result<Response<Site>, Status> {
        let (caller, r) = split(request);
        self.app.update(&caller, r.site, r.update_mask.as_ref()).await.map(Response::new)
    }

    async fn delete_site(&self, request: Request<DeleteSiteRequest>) -> Result<Response<()>, Status> {
        let (caller, r) = split(request);
        self.app.delete::<Site>(&caller, &r.name, &r.etag, |_| Ok(())).await.map(Response::new)
    }
}
