use super::{Api, list, split};
use farrier_proto::inventory::discovered_service_server::DiscoveredService;
use farrier_proto::inventory::{
    AcceptDiscoveredMachineRequest, DeleteDiscoveredMachineRequest, DiscoveredMachine, DiscoveryPlan,
    GetDiscoveredMachineRequest, GetDiscoveryPlanRequest, ListDiscoveredMachinesRequest,
    ListDiscoveredMachinesResponse, Node, ReplaceDiscoveryPlanRequest, ReportBmcRequest, ReportBmcResponse,
    ReportMachineRequest, ReportMachineResponse, SightMachineRequest, SightMachineResponse,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl DiscoveredService for Api {
    async fn get_discovered_machine(
        &self,
        request: Request<GetDiscoveredMachineRequest>,
    ) -> Result<Response<DiscoveredMachine>, Status> {
        let (caller, r) = split(request);
        let mut machine = [self.app.get(&caller, &r.name).await?];
        self.app.add_proposals(&mut machine).await?;
        let [machine] = machine;
        Ok(Response::new(machine))
    }

    async fn list_discovered_machines(
        &self,
        request: Request<ListDiscoveredMachinesRequest>,
    ) -> Result<Response<ListDiscoveredMachinesResponse>, Status> {
        let (caller, r) = split(request);
        let (mut machines, next_page_token) =
            self.app.list(&caller, &list(r.page_size, r.page_token, r.filter)).await?;
        self.app.add_proposals(&mut machines).await?;
        Ok(Response::new(ListDiscoveredMachinesResponse { machines, next_page_token }))
    }

    async fn accept_discovered_machine(
        &self,
        request: Request<AcceptDiscoveredMachineRequest>,
    ) -> Result<Response<Node>, Status> {
        let (caller, r) = split(request);
        self.app.accept_machine(&caller, &r.name, &r.etag, r.node).await.map(Response::new)
    }

    async fn delete_discovered_machine(
        &self,
        request: Request<DeleteDiscoveredMachineRequest>,
    ) -> Result<Response<()>, Status> {
        let (caller, r) = split(request);
        self.app.delete::<DiscoveredMachine>(&caller, &r.name, &r.etag, |_| Ok(())).await.map(Response::new)
    }

    async fn get_discovery_plan(
        &self,
        _: Request<GetDiscoveryPlanRequest>,
    ) -> Result<Response<DiscoveryPlan>, Status> {
        self.app.shown_plan().await.map(Response::new)
    }

    async fn replace_discovery_plan(
        &self,
        request: Request<ReplaceDiscoveryPlanRequest>,
    ) -> Result<Response<DiscoveryPlan>, Status> {
        let (caller, r) = split(request);
        self.app.replace_plan(&caller, r.plan).await.map(Response::new)
    }

    async fn sight_machine(
        &self,
        request: Request<SightMachineRequest>,
    ) -> Result<Response<SightMachineResponse>, Status> {
        let (caller, r) = split(request);
        self.app.sight_machine(&caller, &r.mac_address).await.map(Response::new)
    }

    async fn report_machine(
        &self,
        request: Request<ReportMachineRequest>,
    ) -> Result<Response<ReportMachineResponse>, Status> {
        let (caller, r) = split(request);
        self.app.report_machine(&caller, r).await.map(Response::new)
    }

    async fn report_bmc(
        &self,
        request: Request<ReportBmcRequest>,
    ) -> Result<Response<ReportBmcResponse>, Status> {
        let (caller, r) = split(request);
        self.app.report_bmc(&caller, r).await.map(Response::new)
    }
}
