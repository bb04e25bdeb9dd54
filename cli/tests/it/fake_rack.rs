//! A fake rackd.

use farrier_proto::rack::rack_service_server::RackService;
use farrier_proto::rack::*;
use std::pin::Pin;
use tonic::{Request, Response, Status};

type Answer<T> = Result<Response<T>, Status>;

/// Rack `r1`, which serves one segment and runs nothing.
pub(crate) struct FakeRack;

#[tonic::async_trait]
impl RackService for FakeRack {
    async fn start_task(&self, _: Request<StartTaskRequest>) -> Answer<Task> {
        Err(Status::unimplemented("x"))
    }
    async fn get_task(&self, _: Request<GetTaskRequest>) -> Answer<Task> {
        Err(Status::unimplemented("x"))
    }
    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Answer<ListTasksResponse> {
        Err(Status::unimplemented("x"))
    }
    type WatchTasksStream = Pin<Box<dyn futures::Stream<Item = Result<Task, Status>> + Send>>;
    async fn watch_tasks(&self, _: Request<WatchTasksRequest>) -> Answer<Self::WatchTasksStream> {
        Err(Status::unimplemented("x"))
    }
    async fn abort_task(&self, _: Request<AbortTaskRequest>) -> Answer<Task> {
        Err(Status::unimplemented("x"))
    }
    async fn get_rack_status(&self, _: Request<GetRackStatusRequest>) -> Answer<RackStatus> {
        Ok(Response::new(RackStatus {
            rack: "racks/r1".into(),
            version: "9.9".into(),
            ..RackStatus::default()
        }))
    }
    /// Two pages of one lease each.
    async fn list_leases(&self, request: Request<ListLeasesRequest>) -> Answer<ListLeasesResponse> {
        let last = request.into_inner().page_token == "more";
        let mut lease = Lease {
            network: "lab".into(),
            ip_address: if last { "10.90.0.100" } else { "10.90.0.10" }.into(),
            mac_address: "52:54:00:00:00:01".into(),
            expire_time: Some(prost_types::Timestamp { seconds: 1_800_000_000, nanos: 0 }),
            ..Lease::default()
        };
        if last {
            lease.set_kind(LeaseKind::Pool);
        } else {
            lease.set_kind(LeaseKind::Reserved);
            lease.node = "nodes/n1".into();
        }
        let next_page_token = if last { String::new() } else { "more".to_owned() };
        Ok(Response::new(ListLeasesResponse { leases: vec![lease], next_page_token }))
    }
    async fn list_reservations(
        &self,
        request: Request<ListReservationsRequest>,
    ) -> Answer<ListReservationsResponse> {
        let mut reservation = Reservation {
            network: request.into_inner().network,
            ip_address: "10.90.0.10".into(),
            mac_address: "52:54:00:00:00:01".into(),
            node: "nodes/n1".into(),
            ..Reservation::default()
        };
        reservation.set_boot(ReservedBoot::LocalDisk);
        Ok(Response::new(ListReservationsResponse {
            reservations: vec![reservation],
            next_page_token: String::new(),
        }))
    }
    async fn list_volumes(&self, request: Request<ListVolumesRequest>) -> Answer<ListVolumesResponse> {
        let node = request.into_inner().node;
        let volume = Volume {
            instance: "instances/web".into(),
            node: "nodes/n1".into(),
            size_bytes: 8 << 30,
            image_bytes: 2 << 30,
            image_here_bytes: 1 << 30,
            session_count: 1,
            ..Volume::default()
        };
        let volumes = if node.is_empty() || node == volume.node { vec![volume] } else { Vec::new() };
        Ok(Response::new(ListVolumesResponse { volumes }))
    }
    async fn resize_volume(&self, request: Request<ResizeVolumeRequest>) -> Answer<Volume> {
        let ResizeVolumeRequest { instance, size_bytes } = request.into_inner();
        Ok(Response::new(Volume { instance, size_bytes, ..Volume::default() }))
    }
    async fn get_boot_trace(&self, _: Request<GetBootTraceRequest>) -> Answer<BootTrace> {
        Ok(Response::new(BootTrace::default()))
    }
    type WatchBootEventsStream = tokio_stream::wrappers::ReceiverStream<Result<BootEvent, Status>>;
    async fn watch_boot_events(
        &self,
        _: Request<WatchBootEventsRequest>,
    ) -> Answer<Self::WatchBootEventsStream> {
        let (tx, rx) = tokio::sync::mpsc::channel(2);
        let event = |kind: &str, sequence, r#type| BootEvent {
            kind: kind.into(),
            detail: "on br0".into(),
            mac_address: "52:54:00:00:00:01".into(),
            sequence,
            r#type,
            ..BootEvent::default()
        };
        let _ = tx.try_send(Ok(event("DHCPDISCOVER", 1, 1)));
        let _ = tx.try_send(Ok(event("DHCPOFFER", 2, 2)));
        Ok(Response::new(tokio_stream::wrappers::ReceiverStream::new(rx)))
    }
}
