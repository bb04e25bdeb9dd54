//! `farrier.rack.v1.RackService`: the centre starts work and follows it.

use super::boot_events;
use super::dhcp;
use crate::bmc::Keys;
use crate::boot::bootable;
use crate::config::Role;
use crate::rack::Rack;
use crate::secrets::Secrets;
use crate::tasks::{self, NotAccepted};
use crate::volumes::VolumeError;
use farrier_block::OverlayError;
use farrier_journal::{JournalError, Record};
use farrier_model::bmc_user;
use farrier_proto::rack::rack_service_server::RackService;
use farrier_proto::rack::task_spec::Work;
use farrier_proto::rack::{
    AbortTaskRequest, BootEvent, BootTrace, GetBootTraceRequest, GetRackStatusRequest, GetTaskRequest,
    KnownMachines, ListLeasesRequest, ListLeasesResponse, ListReservationsRequest, ListReservationsResponse,
    ListTasksRequest, ListTasksResponse, ListVolumesRequest, ListVolumesResponse, RackStatus,
    ResizeVolumeRequest, Segment, SegmentRole, StartTaskRequest, Step, StepState, Task, TaskState, Volume,
    WatchBootEventsRequest, WatchTasksRequest,
};
use farrier_runtime::error::{Reason, internal, invalid, not_found, refuse, refuse_with};
use farrier_runtime::page::Page;
use farrier_runtime::telemetry::chain;
use farrier_runtime::time::now;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};

/// Changes sent ahead of a slow reader.
const AHEAD: usize = 64;

pub(crate) struct RackApi {
    pub(crate) rack: Arc<Rack>,
}

#[tonic::async_trait]
impl RackService for RackApi {
    async fn start_task(&self, request: Request<StartTaskRequest>) -> Result<Response<Task>, Status> {
        let StartTaskRequest { id, fence, spec } = request.into_inner();
        let mut spec = spec.ok_or_else(|| invalid("spec", "expected what to do"))?;
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(invalid("id", "expected the operation's uid"));
        }
        let machine =
            spec.machine.as_mut().ok_or_else(|| invalid("spec.machine", "expected the server to work on"))?;
        farrier_model::parse_name(farrier_model::Collection::Nodes, &machine.name)
            .map_err(|e| invalid("spec.machine.name", e))?;
        let mut secrets = Secrets::default();
        secrets.set_bmc_keys(&Keys::take(machine));
        let node = machine.name.clone();
        // Known now: a machine is not switched off, nor an hour of writing an image begun, for work that cannot end
        // well. A task that is here already goes on, whatever is configured since.
        let is_new = self.rack.journal.get(&id).await.map_err(refused)?.is_none();
        let boots = matches!(&spec.work, Some(Work::Inspect(_) | Work::Clean(_) | Work::Deploy(_)));
        if is_new
            && boots
            && let Err(error) = bootable(machine)
        {
            return Err(invalid("spec.machine.ports", chain(&error)));
        }
        if let Some(Work::Deploy(deploy)) = &mut spec.work {
            if is_new && let Some(why) = self.rack.refuse_network(&deploy.network) {
                return Err(invalid("spec.deploy.network", why));
            }
            secrets.user_data = std::mem::take(&mut deploy.user_data);
        }
        if let Some(Work::UpdateFirmware(update)) = &mut spec.work {
            secrets.firmware_url = std::mem::take(&mut update.image_url);
        }
        let names = tasks::step_names(&spec);
        if names.is_empty() {
            return Err(invalid(
                "spec.work",
                "expected one of verify, inspect, clean, deploy, power, snapshot, fence, rotate BMC credentials, \
                 update firmware",
            ));
        }
        let steps = names
            .into_iter()
            .map(|name| {
                let mut step = Step { name: name.to_owned(), ..Step::default() };
                step.set_state(StepState::Pending);
                step
            })
            .collect();
        let sealed = secrets.seal(&self.rack.vault, &id).map_err(internal)?;
        let mut task =
            Task { id, node, fence, spec: Some(spec), steps, create_time: Some(now()), ..Task::default() };
        task.set_state(TaskState::Running);
        let task = tasks::accept(&self.rack, Record { task, sealed }).await;
        let task = task.map_err(|error| match error {
            NotAccepted::Waits(why) => refuse(Code::Unavailable, Reason::Unavailable, why),
            NotAccepted::Journal(error) => refused(error),
        })?;
        Ok(Response::new(task))
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
        let id = request.into_inner().id;
        let record = self.rack.journal.get(&id).await.map_err(refused)?;
        record.map(|r| Response::new(r.task)).ok_or_else(|| not_found(&format!("task {id}")))
    }

    async fn list_tasks(
        &self,
        request: Request<ListTasksRequest>,
    ) -> Result<Response<ListTasksResponse>, Status> {
        let request = request.into_inner();
        let page = Page::parse(request.page_size, &request.page_token)?;
        let limit = u64::try_from(page.size + 1).unwrap_or(1001);
        let rows = self
            .rack
            .journal
            .list(page.after.as_deref(), request.unfinished, limit)
            .await
            .map_err(refused)?;
        let (tasks, next_page_token) = page.finish(rows, |t| t.id.clone());
        Ok(Response::new(ListTasksResponse { tasks, next_page_token }))
    }

    type WatchTasksStream = ReceiverStream<Result<Task, Status>>;

    async fn watch_tasks(
        &self,
        request: Request<WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let mut after = request.into_inner().after_sequence;
        let mut latest = self.rack.journal.latest();
        // A journal that was lost and began anew: the centre's number is from the old one.
        if after > *latest.borrow() {
            after = 0;
        }
        let (tx, rx) = mpsc::channel(AHEAD);
        let rack = self.rack.clone();
        self.rack.tracker.spawn(async move {
            loop {
                latest.borrow_and_update();
                match rack.journal.since(after, AHEAD as u64).await {
                    Ok(tasks) if tasks.is_empty() => {
                        tokio::select! {
                            changed = latest.changed() => if changed.is_err() { return },
                            () = tx.closed() => return,
                            () = rack.shutdown.cancelled() => {
                                let _ = tx.try_send(Err(refuse(
                                    Code::Unavailable,
                                    Reason::Unavailable,
                                    "rackd is shutting down: watch again",
                                )));
                                return;
                            }
                        }
                    }
                    Ok(tasks) => {
                        for task in tasks {
                            after = task.sequence;
                            if tx.send(Ok(task)).await.is_err() {
                                return;
                            }
                        }
                    }
                    Err(error) => {
                        let _ = tx.send(Err(refused(error))).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn abort_task(&self, request: Request<AbortTaskRequest>) -> Result<Response<Task>, Status> {
        let AbortTaskRequest { id, reason } = request.into_inner();
        if let Some(handle) = self.rack.tasks.get(&id) {
            handle.stop(if reason.is_empty() { "stopped" } else { &reason });
            let mut ended = handle.ended.subscribe();
            let _ = ended.wait_for(|ended| *ended).await;
        }
        self.get_task(Request::new(GetTaskRequest { id })).await
    }

    async fn get_rack_status(
        &self,
        _: Request<GetRackStatusRequest>,
    ) -> Result<Response<RackStatus>, Status> {
        let segments = self.rack.config.segments.iter().map(|s| Segment {
            name: s.name.clone(),
            interface: s.interface.clone(),
            address: format!("{}/{}", s.address, s.prefix),
            role: match s.role {
                Role::Provisioning => SegmentRole::Provisioning.into(),
                Role::Tenant => SegmentRole::Tenant.into(),
                Role::Management => SegmentRole::Management.into(),
            },
        });
        let known = self.rack.known.about();
        Ok(Response::new(RackStatus {
            known_machines: Some(KnownMachines {
                generation: i64::try_from(known.generation).unwrap_or(i64::MAX),
                port_count: i32::try_from(known.machines).unwrap_or(i32::MAX),
                read_time: known.read,
            }),
            rack: format!("racks/{}", self.rack.config.rack),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            segments: segments.collect(),
            running_task_count: i32::try_from(self.rack.tasks.all().len()).unwrap_or(i32::MAX),
            start_time: Some(self.rack.started),
            abilities: vec![bmc_user::ROTATE_TO_ACCOUNT.to_owned()],
        }))
    }

    async fn list_leases(
        &self,
        request: Request<ListLeasesRequest>,
    ) -> Result<Response<ListLeasesResponse>, Status> {
        let request = request.into_inner();
        let page = Page::parse(request.page_size, &request.page_token)?;
        let netboot = &self.rack.netboot;
        let rows = dhcp::leases(netboot.leases(), &netboot.table(), &request.network, &page);
        let (leases, next_page_token) = page.finish(rows, |row| dhcp::key(&row.network, &row.ip_address));
        Ok(Response::new(ListLeasesResponse { leases, next_page_token }))
    }

    async fn list_reservations(
        &self,
        request: Request<ListReservationsRequest>,
    ) -> Result<Response<ListReservationsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::parse(request.page_size, &request.page_token)?;
        let rows = dhcp::reservations(&self.rack.netboot.table(), &request.network, &page);
        let (reservations, next_page_token) =
            page.finish(rows, |row| dhcp::key(&row.network, &row.ip_address));
        Ok(Response::new(ListReservationsResponse { reservations, next_page_token }))
    }

    async fn list_volumes(
        &self,
        request: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        let node = request.into_inner().node;
        if !node.is_empty() {
            farrier_model::parse_name(farrier_model::Collection::Nodes, &node)
                .map_err(|e| invalid("node", e))?;
        }
        Ok(Response::new(ListVolumesResponse { volumes: self.volumes(&node).await? }))
    }

    async fn resize_volume(&self, request: Request<ResizeVolumeRequest>) -> Result<Response<Volume>, Status> {
        let ResizeVolumeRequest { instance, size_bytes } = request.into_inner();
        farrier_model::parse_name(farrier_model::Collection::Instances, &instance)
            .map_err(|e| invalid("instance", e))?;
        let bytes = u64::try_from(size_bytes).map_err(|_| invalid("size_bytes", "expected more than 0"))?;
        let node = self.rack.volumes.grow(&instance, bytes).await.map_err(volume_refused)?;
        tracing::info!(node.id = %node, %instance, bytes, "disk resized");
        let mut volumes = self.volumes(&node).await?;
        volumes.retain(|volume| volume.instance == instance);
        volumes.pop().map(Response::new).ok_or_else(|| not_found(&instance))
    }

    async fn get_boot_trace(
        &self,
        request: Request<GetBootTraceRequest>,
    ) -> Result<Response<BootTrace>, Status> {
        let text = request.into_inner().mac_address;
        let mac = text.parse().map_err(|_| invalid("mac_address", "expected EUI-48 with colons"))?;
        let trace = self.rack.netboot.trace(mac);
        Ok(Response::new(BootTrace { events: trace.iter().map(|event| boot_events::event(event)).collect() }))
    }

    type WatchBootEventsStream = ReceiverStream<Result<BootEvent, Status>>;

    async fn watch_boot_events(
        &self,
        request: Request<WatchBootEventsRequest>,
    ) -> Result<Response<Self::WatchBootEventsStream>, Status> {
        boot_events::watch(&self.rack, request.get_ref()).map(Response::new)
    }
}

impl RackApi {
    /// Volumes, with how much of their images is here.
    async fn volumes(&self, node: &str) -> Result<Vec<Volume>, Status> {
        let mut volumes = self.rack.volumes.shown(node).await.map_err(volume_refused)?;
        for volume in &mut volumes {
            let number = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            if let Some((here, all, trouble)) = self.rack.cache.arrived(&volume.manifest_sha256).await {
                (volume.image_here_bytes, volume.image_bytes) = (number(here), number(all));
                volume.image_trouble = trouble.map(|why| chain(&why)).unwrap_or_default();
            }
        }
        Ok(volumes)
    }
}

fn volume_refused(error: VolumeError) -> Status {
    match &error {
        VolumeError::NoVolume { instance } => not_found(instance),
        VolumeError::Shrinks { .. } | VolumeError::Overlay { source: OverlayError::BadSize { .. }, .. } => {
            invalid("size_bytes", chain(&error))
        }
        VolumeError::NotOffered { .. } => {
            refuse(Code::FailedPrecondition, Reason::LifecycleRefused, error.to_string())
        }
        _ => internal(chain(&error)),
    }
}

fn refused(error: JournalError) -> Status {
    match &error {
        JournalError::StaleFence { seen, .. } => refuse_with(
            Code::FailedPrecondition,
            Reason::StaleFence,
            error.to_string(),
            [("seen", seen.to_string())],
        ),
        JournalError::Busy { .. } => refuse(Code::Unavailable, Reason::NodeBusy, error.to_string()),
        JournalError::Differs { .. } => {
            refuse(Code::InvalidArgument, Reason::RequestIdReused, error.to_string())
        }
        JournalError::Unknown { id } => not_found(&format!("task {id}")),
        _ => internal(farrier_runtime::telemetry::chain(&error)),
    }
}
