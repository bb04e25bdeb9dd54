use super::{Api, split};
use farrier_proto::inventory::join_service_server::JoinService;
use farrier_proto::inventory::{
    CreateJoinTokenRequest, JoinRequest, JoinResponse, JoinToken, RenewCertificateRequest,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl JoinService for Api {
    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<JoinToken>, Status> {
        let (caller, r) = split(request);
        self.app.create_join_token(&caller, &r).await.map(Response::new)
    }

    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        self.app.join(request.get_ref()).await.map(Response::new)
    }

    async fn renew_certificate(
        &self,
        request: Request<RenewCertificateRequest>,
    ) -> Result<Response<JoinResponse>, Status> {
        let (caller, r) = split(request);
        self.app.renew(&caller, &r).await.map(Response::new)
    }
}
