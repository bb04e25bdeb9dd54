//! A rack that a test plays: it takes tasks when it is open, and tells of them what the test says.

use farrier_proto::rack::rack_service_server::{RackService, RackServiceServer};
use farrier_proto::rack::*;
use farrier_runtime::authz::{Rule, RuleTable};
use farrier_runtime::error::not_found;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

pub(crate) const SERVICES: &[&str] = &["farrier.rack.v1.RackService"];
pub(crate) const RULES: RuleTable = &[
    ("farrier.rack.v1.RackService/StartTask", Rule::Authenticated),
    ("farrier.rack.v1.RackService/AbortTask", Rule::Authenticated),
    ("farrier.rack.v1.RackService/GetTask", Rule::Authenticated),
    ("farrier.rack.v1.RackService/ListTasks", Rule::Authenticated),
    ("farrier.rack.v1.RackService/WatchTasks", Rule::Authenticated),
    ("farrier.rack.v1.RackService/GetRackStatus", Rule::Authenticated),
    ("farrier.rack.v1.RackService/GetBootTrace", Rule::Authenticated),
    ("farrier.rack.v1.RackService/WatchBootEvents", Rule::Authenticated),
    ("farrier.rack.v1.RackService/ListLeases", Rule::Authenticated),
    ("farrier.rack.v1.RackService/ListReservations", Rule::Authenticated),
    ("farrier.rack.v1.RackService/ListVolumes", Rule::Authenticated),
    ("farrier.rack.v1.RackService/ResizeVolume", Rule::Authenticated),
];

#[derive(Clone)]
pub(crate) struct PlayedRack {
    inner: Arc<Inner>,
}

struct Inner {
    open: Mutex<bool>,
    /// Tasks that are stopped were done before.
    done_when_stopped: Mutex<bool>,
    /// In the order of acceptance, with the last report's sequence.
    tasks: Mutex<Vec<Task>>,
    changed: watch::Sender<i64>,
}

impl PlayedRack {
    /// Takes no task until it is opened.
    pub(crate) fn closed() -> Self {
        let (open, tasks, changed) = (Mutex::new(false), Mutex::default(), watch::channel(0).0);
        let done_when_stopped = Mutex::new(false);
        Self { inner: Arc::new(Inner { open, done_when_stopped, tasks, changed }) }
    }

    pub(crate) fn open(&self) {
        *self.inner.open.lock().unwrap() = true;
    }

    /// The next task that is stopped was done before.
    pub(crate) fn too_late_to_stop(&self) {
        *self.inner.done_when_stopped.lock().unwrap() = true;
    }

    pub(crate) fn routes(&self) -> Routes {
        Routes::new(RackServiceServer::new(self.clone()))
    }

    /// Tasks so far, in the order in which they were taken.
    pub(crate) fn tasks(&self) -> Vec<Task> {
        self.inner.tasks.lock().unwrap().clone()
    }

    /// Waits until the rack has the operation's task.
    pub(crate) async fn taken(&self, operation: &str) -> Task {
        let id = operation.trim_start_matches("operations/");
        let mut changes = self.inner.changed.subscribe();
        loop {
            changes.borrow_and_update();
            if let Some(task) = self.tasks().into_iter().find(|t| t.id == id) {
                return task;
            }
            changes.changed().await.unwrap();
        }
    }

    /// Reports how a task ended.
    pub(crate) fn end(&self, id: &str, state: TaskState, error: &str, result: TaskResult) {
        self.inner.changed.send_modify(|sequence| {
            *sequence += 1;
            let mut tasks = self.inner.tasks.lock().unwrap();
            let task = tasks.iter_mut().find(|t| t.id == id).unwrap();
            task.set_state(state);
            task.error = error.to_owned();
            task.result = Some(result);
            task.sequence = *sequence;
        });
    }
}

#[tonic::async_trait]
impl RackService for PlayedRack {
    async fn start_task(&self, request: Request<StartTaskRequest>) -> Result<Response<Task>, Status> {
        let StartTaskRequest { id, fence, spec } = request.into_inner();
        if !*self.inner.open.lock().unwrap() {
            return Err(Status::unavailable("the rack is closed"));
        }
        if let Some(known) = self.tasks().into_iter().find(|t| t.id == id) {
            return Ok(Response::new(known));
        }
        let node = spec.as_ref().and_then(|s| s.machine.as_ref()).map(|m| m.name.clone()).unwrap();
        let mut task = Task { id, node, fence, spec, ..Task::default() };
        task.set_state(TaskState::Running);
        task.steps = vec![Step { name: "played".into(), ..Step::default() }];
        self.inner.changed.send_modify(|sequence| {
            *sequence += 1;
            task.sequence = *sequence;
            self.inner.tasks.lock().unwrap().push(task.clone());
        });
        Ok(Response::new(task))
    }

    async fn abort_task(&self, request: Request<AbortTaskRequest>) -> Result<Response<Task>, Status> {
        let AbortTaskRequest { id, reason } = request.into_inner();
        if !self.tasks().iter().any(|t| t.id == id) {
            return Err(not_found(&id));
        }
        let late = std::mem::take(&mut *self.inner.done_when_stopped.lock().unwrap());
        let (state, error) = if late { (TaskState::Done, "") } else { (TaskState::Aborted, reason.as_str()) };
        self.end(&id, state, error, TaskResult::default());
        self.get_task(Request::new(GetTaskRequest { id })).await
    }

    async fn get_task(&self, request: Request<GetTaskRequest>) -> Result<Response<Task>, Status> {
        let id = request.into_inner().id;
        self.tasks().into_iter().find(|t| t.id == id).map(Response::new).ok_or_else(|| not_found(&id))
    }

    async fn list_tasks(&self, _: Request<ListTasksRequest>) -> Result<Response<ListTasksResponse>, Status> {
        Ok(Response::new(ListTasksResponse { tasks: self.tasks(), ..Default::default() }))
    }

    type WatchTasksStream = ReceiverStream<Result<Task, Status>>;

    async fn watch_tasks(
        &self,
        request: Request<WatchTasksRequest>,
    ) -> Result<Response<Self::WatchTasksStream>, Status> {
        let mut after = request.into_inner().after_sequence;
        let (tx, rx) = tokio::sync::mpsc::channel(16);
        let (rack, mut changes) = (self.clone(), self.inner.changed.subscribe());
        tokio::spawn(async move {
            loop {
                changes.borrow_and_update();
                let mut news: Vec<_> = rack.tasks().into_iter().filter(|t| t.sequence > after).collect();
                news.sort_by_key(|t| t.sequence);
                for task in news {
                    after = task.sequence;
                    if tx.send(Ok(task)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    () = tx.closed() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }

    async fn get_rack_status(
        &self,
        _: Request<GetRackStatusRequest>,
    ) -> Result<Response<RackStatus>, Status> {
        if !*self.inner.open.lock().unwrap() {
            return Err(Status::unavailable("the rack is closed"));
        }
        let segment = |name: &str, role: SegmentRole| Segment {
            name: name.into(),
            role: role.into(),
            ..Segment::default()
        };
        let provisioning = segment("provisioning", SegmentRole::Provisioning);
        let segments = vec![provisioning, segment("blue", SegmentRole::Tenant)];
        Ok(Response::new(RackStatus { segments, ..RackStatus::default() }))
    }

    async fn list_leases(
        &self,
        _: Request<ListLeasesRequest>,
    ) -> Result<Response<ListLeasesResponse>, Status> {
        Err(Status::unimplemented("played"))
    }

    async fn list_reservations(
        &self,
        _: Request<ListReservationsRequest>,
    ) -> Result<Response<ListReservationsResponse>, Status> {
        Err(Status::unimplemented("played"))
    }

    async fn list_volumes(
        &self,
        _: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        Ok(Response::new(ListVolumesResponse::default()))
    }

    async fn resize_volume(&self, _: Request<ResizeVolumeRequest>) -> Result<Response<Volume>, Status> {
        Err(Status::unimplemented("played"))
    }

    async fn get_boot_trace(&self, _: Request<GetBootTraceRequest>) -> Result<Response<BootTrace>, Status> {
        Ok(Response::new(BootTrace::default()))
    }

    type WatchBootEventsStream = ReceiverStream<Result<BootEvent, Status>>;

    async fn watch_boot_events(
        &self,
        _: Request<WatchBootEventsRequest>,
    ) -> Result<Response<Self::WatchBootEventsStream>, Status> {
        Err(Status::unimplemented("played"))
    }
}
