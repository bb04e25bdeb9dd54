//! Fake services over real mTLS, and the real binary called against them.

use crate::fake_rack::FakeRack;
use farrier_identity::ca::Authority;
use farrier_identity::server::{ClientAuth, Limits, accept};
use farrier_identity::{Credentials, Identity, Role};
use farrier_proto::images::image_service_server::{ImageService, ImageServiceServer};
use farrier_proto::images::upload_image_request::Part;
use farrier_proto::images::*;
use farrier_proto::inventory::node_service_server::{NodeService, NodeServiceServer};
use farrier_proto::inventory::*;
use farrier_proto::rack::rack_service_server::RackServiceServer;
use farrier_proto::rack::{Step, StepState};
use farrier_proto::scheduler::instance_service_server::{InstanceService, InstanceServiceServer};
use farrier_proto::scheduler::operation_service_server::{OperationService, OperationServiceServer};
use farrier_proto::scheduler::*;
use std::path::Path;
use std::pin::Pin;
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

type Answer<T> = Result<Response<T>, Status>;

/// What the fakes saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) filters: Mutex<Vec<String>>,
    pub(crate) updates: Mutex<Vec<UpdateNodeRequest>>,
    pub(crate) instances: Mutex<Vec<CreateInstanceRequest>>,
    pub(crate) upload: Mutex<Option<(upload_image_request::Header, Vec<u8>)>>,
    pub(crate) snapshot: Mutex<Option<SnapshotInstanceRequest>>,
    pub(crate) recovery: Mutex<Option<RecoverInstanceRequest>>,
    pub(crate) watches: AtomicUsize,
}

/// A directory with an authority and identities, and services at an address.
pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) url: String,
    pub(crate) seen: Arc<Seen>,
}

impl World {
    /// All services behind one socket, with the certificate of `service`.
    pub(crate) async fn start(service: &str) -> Self {
        Self::start_as(Identity::Service(service.to_owned())).await
    }

    /// All services behind one socket, with the certificate of `server`.
    pub(crate) async fn start_as(server: Identity) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = Authority::generate("test").unwrap();
        let issue = |identity: Identity, name: &str| {
            let issued =
                authority.issue(&identity, &["127.0.0.1".to_owned()], Duration::from_secs(3600)).unwrap();
            farrier_identity::ca::write_identity(&dir.path().join(name), &issued, authority.cert_pem())
                .unwrap();
        };
        issue(server, "server");
        issue(Identity::User { name: "ada".into(), role: Role::Admin, project: "p".into() }, "me");
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let seen = Arc::new(Seen::default());
        let fake = Fake { seen: seen.clone() };
        let credentials = Credentials::load(&dir.path().join("server")).unwrap();
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(NodeServiceServer::new(fake.clone()))
                .add_service(InstanceServiceServer::new(fake.clone()))
                .add_service(OperationServiceServer::new(fake.clone()))
                .add_service(ImageServiceServer::new(fake))
                .add_service(RackServiceServer::new(FakeRack))
                .serve_with_incoming(accept(listener, credentials, ClientAuth::Required, Limits::default())),
        );
        Self { dir, url, seen }
    }

    /// Calls the binary with every address set to the fake's.
    pub(crate) async fn farrier(&self, args: &[&str]) -> Output {
        let me = self.dir.path().join("me");
        self.bare(
            &[args, &["--inventory", &self.url, "--scheduler", &self.url, "--images", &self.url]].concat(),
            &me,
        )
        .await
    }

    /// Calls the binary with this identity and nothing from the environment of the tests.
    pub(crate) async fn bare(&self, args: &[&str], identity: &Path) -> Output {
        farrier(self.dir.path(), args, identity).await
    }
}

/// Calls the binary, with `home` as its home.
pub(crate) async fn farrier(home: &Path, args: &[&str], identity: &Path) -> Output {
    tokio::process::Command::new(env!("CARGO_BIN_EXE_farrier"))
        .args(args)
        .env_clear()
        .env("HOME", home)
        .env("FARRIER_IDENTITY", identity)
        .stdin(std::process::Stdio::null())
        .output()
        .await
        .unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[derive(Clone)]
struct Fake {
    seen: Arc<Seen>,
}

fn refuse(code: Code, reason: &str, message: &str) -> Status {
    let facts = std::collections::HashMap::<String, String>::new();
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, "farrier", facts))
}

fn node(index: usize) -> Node {
    Node { name: format!("nodes/n{index}"), rack: "racks/r1".into(), etag: "now".into(), ..Node::default() }
}

#[tonic::async_trait]
impl NodeService for Fake {
    async fn create_node(&self, _: Request<CreateNodeRequest>) -> Answer<Node> {
        Err(refuse(Code::AlreadyExists, "NAME_TAKEN", "nodes/n1 is taken"))
    }
    async fn get_node(&self, request: Request<GetNodeRequest>) -> Answer<Node> {
        match request.into_inner().name.as_str() {
            "nodes/n1" => {
                Ok(Response::new(Node { labels: [("old".to_owned(), "1".to_owned())].into(), ..node(1) }))
            }
            name => {
                Err(refuse(Code::NotFound, "NOT_FOUND", &format!("{name} is not here, or not yours to see")))
            }
        }
    }
    /// 2 pages of 2, then 1.
    async fn list_nodes(&self, request: Request<ListNodesRequest>) -> Answer<ListNodesResponse> {
        let request = request.into_inner();
        self.seen.filters.lock().unwrap().push(request.filter);
        let from: usize = request.page_token.parse().unwrap_or(1);
        let to = (from + 2).min(6);
        let next_page_token = if to == 6 { String::new() } else { to.to_string() };
        Ok(Response::new(ListNodesResponse { nodes: (from..to).map(node).collect(), next_page_token }))
    }
    async fn update_node(&self, request: Request<UpdateNodeRequest>) -> Answer<Node> {
        let request = request.into_inner();
        self.seen.updates.lock().unwrap().push(request.clone());
        let node = request.node.unwrap();
        if !node.etag.is_empty() && node.etag != "now" {
            return Err(refuse(Code::Aborted, "STALE_ETAG", "nodes/n1 changed since it was read"));
        }
        Ok(Response::new(node))
    }
    async fn delete_node(&self, _: Request<DeleteNodeRequest>) -> Answer<()> {
        Ok(Response::new(()))
    }
    async fn explain_node(&self, _: Request<ExplainNodeRequest>) -> Answer<Explanation> {
        Ok(Response::new(Explanation { summary: "n1 waits".into(), ..Explanation::default() }))
    }
}

#[tonic::async_trait]
impl InstanceService for Fake {
    async fn create_instance(&self, request: Request<CreateInstanceRequest>) -> Answer<Operation> {
        let request = request.into_inner();
        self.seen.instances.lock().unwrap().push(request.clone());
        if request.validate_only {
            let mut details = ErrorDetails::with_error_info(
                "NO_NODE_FITS",
                "farrier",
                std::collections::HashMap::<String, String>::new(),
            );
            details.add_precondition_failure_violation("NODE", "nodes/n1", "has 4 CPUs, needs 64");
            return Err(Status::with_error_details(Code::FailedPrecondition, "no node fits", details));
        }
        Ok(Response::new(operation(&request.instance.unwrap().name, 0)))
    }
    async fn get_instance(&self, _: Request<GetInstanceRequest>) -> Answer<Instance> {
        Err(Status::not_found("x"))
    }
    async fn list_instances(&self, _: Request<ListInstancesRequest>) -> Answer<ListInstancesResponse> {
        Ok(Response::new(ListInstancesResponse::default()))
    }
    async fn delete_instance(&self, _: Request<DeleteInstanceRequest>) -> Answer<Operation> {
        Ok(Response::new(operation("instances/bad", 0)))
    }
    async fn snapshot_instance(&self, request: Request<SnapshotInstanceRequest>) -> Answer<Operation> {
        let request = request.into_inner();
        let target = request.name.clone();
        *self.seen.snapshot.lock().unwrap() = Some(request);
        Ok(Response::new(operation(&target, 0)))
    }
    async fn recover_instance(&self, request: Request<RecoverInstanceRequest>) -> Answer<Operation> {
        let request = request.into_inner();
        let target = request.name.clone();
        *self.seen.recovery.lock().unwrap() = Some(request);
        Ok(Response::new(operation(&target, 0)))
    }
}

/// An operation after so many changes: placing, fetching, writing, done. `instances/bad` fails.
fn operation(target: &str, change: usize) -> Operation {
    let at = |seconds: i64| Some(prost_types::Timestamp { seconds: 1_767_268_800 + seconds, nanos: 0 });
    let step = |name: &str, since: usize| Step {
        name: name.into(),
        state: match change {
            c if c < since => StepState::Pending,
            c if c == since => StepState::Running,
            _ => StepState::Done,
        }
        .into(),
        start_time: (change >= since).then(|| at(since as i64 * 10).unwrap()),
        end_time: (change > since).then(|| at(since as i64 * 10 + 5).unwrap()),
        attempt: 1,
        ..Step::default()
    };
    let (done, bad) = (change >= 3, target == "instances/bad");
    Operation {
        name: format!("operations/{}", target.replace('/', "-")),
        target: target.to_owned(),
        node: if change == 0 { String::new() } else { "nodes/n1".into() },
        phase: match change {
            0 => OperationPhase::Placing,
            1 | 2 => OperationPhase::Running,
            _ => OperationPhase::Done,
        }
        .into(),
        steps: vec![step("fetch_image", 1), step("write_image", 2)],
        done,
        error: (done && bad).then(|| OperationError {
            reason: "TASK_FAILED".into(),
            message: "write_image: expected a disk, saw none".into(),
            rejections: Vec::new(),
        }),
        create_time: at(0),
        end_time: done.then(|| at(30).unwrap()),
        ..Operation::default()
    }
}

fn target(name: &str) -> String {
    name.trim_start_matches("operations/").replacen('-', "/", 1)
}

#[tonic::async_trait]
impl OperationService for Fake {
    async fn get_operation(&self, request: Request<GetOperationRequest>) -> Answer<Operation> {
        match request.into_inner().name {
            name if name.contains("instances-") => Ok(Response::new(operation(&target(&name), 0))),
            _ => Err(refuse(Code::NotFound, "NOT_FOUND", "no such operation")),
        }
    }
    async fn list_operations(&self, _: Request<ListOperationsRequest>) -> Answer<ListOperationsResponse> {
        Ok(Response::new(ListOperationsResponse::default()))
    }
    type WatchOperationStream = Pin<Box<dyn futures::Stream<Item = Result<Operation, Status>> + Send>>;
    /// The first watch breaks after a step; the second goes on from there to the end.
    async fn watch_operation(
        &self,
        request: Request<WatchOperationRequest>,
    ) -> Answer<Self::WatchOperationStream> {
        let target = target(&request.into_inner().name);
        let messages = match self.seen.watches.fetch_add(1, Ordering::SeqCst) {
            0 => vec![
                Ok(operation(&target, 0)),
                Ok(operation(&target, 1)),
                Err(Status::unavailable("going down")),
            ],
            _ => vec![Ok(operation(&target, 2)), Ok(operation(&target, 3))],
        };
        Ok(Response::new(Box::pin(futures::stream::iter(messages))))
    }
    async fn cancel_operation(&self, _: Request<CancelOperationRequest>) -> Answer<Operation> {
        Err(Status::unimplemented("x"))
    }
}

#[tonic::async_trait]
impl ImageService for Fake {
    async fn upload_image(&self, request: Request<Streaming<UploadImageRequest>>) -> Answer<Image> {
        let mut stream = request.into_inner();
        let Some(Part::Header(header)) = stream.message().await?.and_then(|m| m.part) else {
            return Err(Status::invalid_argument("no header"));
        };
        let mut bytes = Vec::new();
        while let Some(message) = stream.message().await? {
            if let Some(Part::Data(data)) = message.part {
                bytes.extend(data);
            }
        }
        let image = header.image.clone().unwrap();
        *self.seen.upload.lock().unwrap() = Some((header, bytes));
        Ok(Response::new(image))
    }
    async fn get_image(&self, _: Request<GetImageRequest>) -> Answer<Image> {
        Err(Status::not_found("x"))
    }
    async fn list_images(&self, _: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        Ok(Response::new(ListImagesResponse::default()))
    }
    async fn delete_image(&self, _: Request<DeleteImageRequest>) -> Answer<()> {
        Ok(Response::new(()))
    }
    async fn get_manifest(
        &self,
        _: Request<GetManifestRequest>,
    ) -> Answer<farrier_proto::types::ChunkManifest> {
        Err(Status::unimplemented("x"))
    }
    async fn reserve_image(&self, _: Request<ReserveImageRequest>) -> Answer<ReserveImageResponse> {
        Err(Status::unimplemented("x"))
    }
    async fn hold_image(&self, _: Request<HoldImageRequest>) -> Answer<HoldImageResponse> {
        Err(Status::unimplemented("x"))
    }
    async fn drop_hold(&self, _: Request<DropHoldRequest>) -> Answer<DropHoldResponse> {
        Err(Status::unimplemented("x"))
    }
    async fn release_image(&self, _: Request<ReleaseImageRequest>) -> Answer<ReleaseImageResponse> {
        Err(Status::unimplemented("x"))
    }
    type ReadChunksStream = Pin<Box<dyn futures::Stream<Item = Result<ReadChunksResponse, Status>> + Send>>;
    async fn read_chunks(&self, _: Request<ReadChunksRequest>) -> Answer<Self::ReadChunksStream> {
        Err(Status::unimplemented("x"))
    }
}
