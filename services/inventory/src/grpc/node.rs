use super::{Api, list, split};
use farrier_proto::inventory::node_service_server::NodeService;
use farrier_proto::inventory::{
    CreateNodeRequest, DeleteNodeRequest, ExplainNodeRequest, Explanation, GetNodeRequest, ListNodesRequest,
    ListNodesResponse, Node, UpdateNodeRequest,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl NodeService for Api {
    async fn create_node(&self, request: Request<CreateNodeRequest>) -> Result<Response<Node>, Status> {
        let (caller, r) = split(request);
        self.app.create(&caller, r.node, &r.request_id, r.validate_only).await.map(Response::new)
    }

    async fn get_node(&self, request: Request<GetNodeRequest>) -> Result<Response<Node>, Status> {
        let (caller, r) = split(request);
        let node = self.app.get(&caller, &r.name).await?;
        self.app.with_observation(node).await.map(Response::new)
    }

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        let (caller, r) = split(request);
        let (nodes, next_page_token) =
            self.app.list(&caller, &list(r.page_size, r.page_token, r.filter)).await?;
        let nodes = self.app.with_observations(nodes).await?;
        Ok(Response::new(ListNodesResponse { nodes, next_page_token }))
    }

    async fn update_node(&self, request: Request<UpdateNodeRequest>) -> Result<Response<Node>, Status> {
        let (caller, r) = split(request);
        let node = self.app.update(&caller, r.node, r.update_mask.as_ref()).await?;
        self.app.with_observation(node).await.map(Response::new)
    }

    async fn delete_node(&self, request: Request<DeleteNodeRequest>) -> Result<Response<()>, Status> {
        let (caller, r) = split(request);
        self.app.delete_node(&caller, &r.name, &r.etag).await.map(Response::new)
    }

    async fn explain_node(
        &self,
        request: Request<ExplainNodeRequest>,
    ) -> Result<Response<Explanation>, Status> {
        let (caller, r) = split(request);
        self.app.explain(&caller, &r.name).await.map(Response::new)
    }
}
