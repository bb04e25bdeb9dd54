use super::{Api, list, split};
use farrier_proto::inventory::event_service_server::EventService;
use farrier_proto::inventory::{
    ListEventsRequest, ListEventsResponse, ReportEventsRequest, ReportEventsResponse,
};
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl EventService for Api {
    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let (_, r) = split(request);
        let (events, next_page_token) =
            self.app.events(&list(r.page_size, r.page_token, r.filter), r.descending).await?;
        Ok(Response::new(ListEventsResponse { events, next_page_token }))
    }

    async fn report_events(
        &self,
        request: Request<ReportEventsRequest>,
    ) -> Result<Response<ReportEventsResponse>, Status> {
        let (caller, r) = split(request);
        self.app.report(&caller, r.events).await?;
        Ok(Response::new(ReportEventsResponse {}))
    }
}
