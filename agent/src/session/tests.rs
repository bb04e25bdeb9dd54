//! Conversations with a stand-in for rackd over real TLS, on loopback.
use crate::args::Token;
use crate::limits::Limits;
use crate::machine::{BlockDevice, EfiVars, PretendDisk, PretendMachine};
use crate::testing::{ImageServer, image};
use crate::{Config, Ended, Machine, run};
use farrier_identity::agent::PinnedCa;
use farrier_identity::ca::{Authority, request_key_digest};
use farrier_identity::server::{ClientAuth, accept};
use farrier_identity::{Credentials, Identity, Peer};
use farrier_proto::agent::agent_service_server::{AgentService, AgentServiceServer};
use farrier_proto::agent::session_request::{Progress, Report, Result as CommandResult, result::Outcome};
use farrier_proto::agent::session_response::{
    Command, Inspect, PowerOff, Restart, WriteConfigDrive, WriteImage,
};
use farrier_proto::agent::{
    FailureReason, RegisterRequest, RegisterResponse, SessionRequest, SessionResponse,
};
use farrier_proto::types::Hardware;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

const TOKEN: &str = "one-time";
const HOUR: Duration = Duration::from_secs(3600);

/// What outlives rackd's process: its authority, and its journal's memory of the token.
struct Rack {
    authority: Authority,
    token_used_by: Mutex<Option<[u8; 32]>>,
    registrations: AtomicUsize,
    /// Its journal is lost, or the task has ended.
    forgets: AtomicBool,
    sessions: mpsc::UnboundedSender<Session>,
}

/// rackd's end of one stream.
struct Session {
    reports: Streaming<SessionRequest>,
    commands: mpsc::Sender<Result<SessionResponse, Status>>,
}

impl Session {
    async fn send(&self, id: &str, command: Command) {
        let message = SessionResponse { command_id: id.into(), command: Some(command) };
        self.commands.send(Ok(message)).await.unwrap();
    }

    async fn report(&mut self) -> Report {
        let message = timeout(Duration::from_secs(20), self.reports.message()).await;
        message.expect("a report in time").unwrap().unwrap().report.unwrap()
    }

    /// The next result; progress on the way is let pass.
    async fn result(&mut self) -> CommandResult {
        loop {
            if let Report::Result(result) = self.report().await {
                return result;
            }
        }
    }

    async fn progress(&mut self) -> Progress {
        match self.report().await {
            Report::Progress(progress) => progress,
            other => panic!("expected progress, seen {other:?}"),
        }
    }
}

struct Service(Arc<Rack>);

#[tonic::async_trait]
impl AgentService for Service {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        self.0.registrations.fetch_add(1, Ordering::SeqCst);
        if self.0.forgets.load(Ordering::SeqCst) {
            let why = ErrorDetails::with_error_info("TOKEN_UNKNOWN", "farrier", HashMap::new());
            return Err(Status::with_error_details(Code::PermissionDenied, "no such boot", why));
        }
        let request = request.into_inner();
        let key = request_key_digest(&request.csr_der).unwrap();
        let used_by = *self.0.token_used_by.lock().unwrap().get_or_insert(key);
        if request.token != TOKEN || used_by != key {
            return Err(Status::permission_denied("TOKEN_USED"));
        }
        let node = Identity::Node("n1".into());
        let certificate_der = self.0.authority.sign_request(&request.csr_der, &node, &[], HOUR).unwrap();
        Ok(Response::new(RegisterResponse { certificate_der, node: "nodes/n1".into() }))
    }

    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let peer = request.extensions().get::<Peer>().and_then(|p| p.identity.clone());
        if peer != Some(Identity::Node("n1".into())) || self.0.forgets.load(Ordering::SeqCst) {
            return Err(Status::unauthenticated("a node's certificate is needed"));
        }
        let (commands, outbox) = mpsc::channel(8);
        self.0.sessions.send(Session { reports: request.into_inner(), commands }).unwrap();
        Ok(Response::new(ReceiverStream::new(outbox)))
    }
}

/// rackd: a process that can be killed and started again at its port.
struct Rackd {
    rack: Arc<Rack>,
    address: SocketAddr,
    sessions: mpsc::UnboundedReceiver<Session>,
    process: Option<Runtime>,
}

impl Rackd {
    fn start() -> Self {
        let (tx, sessions) = mpsc::unbounded_channel();
        let rack = Rack {
            authority: Authority::generate("test").unwrap().0,
            token_used_by: Mutex::default(),
            registrations: AtomicUsize::new(0),
            forgets: AtomicBool::new(false),
            sessions: tx,
        };
        let address = ([127, 0, 0, 1], 0).into();
        let mut rackd = Self { rack: Arc::new(rack), address, sessions, process: None };
        rackd.restart();
        rackd
    }

    /// kill -9, when it runs.
    fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.shutdown_background();
        }
    }

    fn restart(&mut self) {
        self.kill();
        let authority = &self.rack.authority;
        let issued = authority.issue(&Identity::Rack("r1".into()), &["127.0.0.1".into()], HOUR).unwrap();
        let credentials =
            Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem()).unwrap();
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let process = builder.worker_threads(1).enable_all().build().unwrap();
        // The old process's socket may take a moment to close.
        let listener = (0..500)
            .find_map(|_| {
                let socket = std::net::TcpListener::bind(self.address).ok();
                if socket.is_none() {
                    std::thread::yield_now();
                }
                socket
            })
            .expect("the port is free again");
        listener.set_nonblocking(true).unwrap();
        self.address = listener.local_addr().unwrap();
        let service = AgentServiceServer::new(Service(self.rack.clone()));
        process.spawn(async move {
            let incoming = accept(
                TcpListener::from_std(listener).unwrap(),
                credentials,
                ClientAuth::Optional,
                farrier_identity::server::Limits::default(),
            );
            tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming).await
        });
        self.process = Some(process);
    }

    fn config(&self) -> Config {
        let ca = PinnedCa::of(self.rack.authority.cert_der());
        let mut config = Config::new(format!("https://{}", self.address), ca, Token::new(TOKEN));
        config.limits = Limits {
            reconnect_min: Duration::from_millis(10),
            reconnect_max: Duration::from_millis(100),
            retry_min: Duration::from_millis(5),
            progress_interval: Duration::ZERO,
            disk_wait: Duration::ZERO,
            power_off_grace: Duration::from_secs(5),
            ..Limits::default()
        };
        config
    }

    /// The next stream an agent opens, after its Hello.
    async fn session(&mut self) -> (Session, String) {
        let session = timeout(Duration::from_secs(20), self.sessions.recv()).await;
        let mut session = session.expect("a session in time").unwrap();
        match session.report().await {
            Report::Hello(hello) => (session, hello.boot_id),
            other => panic!("expected Hello, seen {other:?}"),
        }
    }

    fn registrations(&self) -> usize {
        self.rack.registrations.load(Ordering::SeqCst)
    }
}

impl Drop for Rackd {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Agent {
    dir: tempfile::TempDir,
    machine: Arc<PretendMachine>,
    task: JoinHandle<Ended>,
    shutdown: CancellationToken,
}

impl Agent {
    fn start(rackd: &Rackd) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = PretendDisk::new(dir.path(), "vda", 32 << 20);
        let machine = Arc::new(PretendMachine::new("n1", "52:54:00:00:00:01", vec![disk]).unwrap());
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(run(machine.clone(), rackd.config(), shutdown.clone()));
        Self { dir, machine, task, shutdown }
    }
}

fn is_done(result: &CommandResult) -> bool {
    matches!(result.outcome, Some(Outcome::Done(_)))
}

#[tokio::test]
async fn power_off_is_answered_before_the_machine_goes_off() {
    let mut rackd = Rackd::start();
    let agent = Agent::start(&rackd);
    let (mut session, _) = rackd.session().await;
    session.send("1", Command::Inspect(Inspect::default())).await;
    let result = session.result().await;
    let Some(Outcome::Done(done)) = result.outcome else { panic!("{result:?}") };
    assert_eq!(done.hardware.unwrap().disks[0].name, "/dev/vda");

    session.send("2", Command::PowerOff(PowerOff {})).await;
    assert!(is_done(&session.result().await));
    // The agent has ended its half and waits for ours.
    assert!(session.reports.message().await.unwrap().is_none());
    assert!(!agent.machine.is_off());
    drop(session);
    assert_eq!(agent.task.await.unwrap(), Ended::PoweredOff);
    assert!(agent.machine.is_off());
}

#[tokio::test]
async fn a_machine_that_is_to_start_again_does_once_that_is_answered() {
    let mut rackd = Rackd::start();
    let agent = Agent::start(&rackd);
    let (mut session, _) = rackd.session().await;
    session.send("1", Command::Restart(Restart {})).await;
    assert!(is_done(&session.result().await));
    assert!(session.reports.message().await.unwrap().is_none());
    assert!(!agent.machine.is_restarted());
    drop(session);
    assert_eq!(agent.task.await.unwrap(), Ended::Restarted);
    assert!(agent.machine.is_restarted() && !agent.machine.is_off());
}

#[tokio::test]
async fn a_machine_goes_off_though_rackd_died_before_it_heard_so() {
    let mut rackd = Rackd::start();
    let agent = Agent::start(&rackd);
    let (session, _) = rackd.session().await;
    session.send("1", Command::PowerOff(PowerOff {})).await;
    rackd.kill();
    // Either the command arrived, then the machine goes off by itself, or rackd sends it again.
    rackd.restart();
    let again = async {
        if let Some(mut session) = rackd.sessions.recv().await {
            session.report().await;
            session.send("1", Command::PowerOff(PowerOff {})).await;
            while let Ok(Some(_)) = session.reports.message().await {}
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = agent.task => assert_eq!(ended.unwrap(), Ended::PoweredOff),
        () = again => {}
    }
}

#[tokio::test]
async fn a_command_survives_rackd_and_is_run_once_however_often_it_is_sent() {
    let mut rackd = Rackd::start();
    let agent = Agent::start(&rackd);
    let mut images = ImageServer::start(image(agent.dir.path(), &[]), &[]).await;
    images.fall_silent_after(4);
    let write = |images: &ImageServer| {
        let manifest = Some(images.manifest(1 << 20));
        Command::WriteImage(WriteImage { root_device: None, manifest, url: images.url() })
    };
    let (mut session, boot) = rackd.session().await;
    session.send("w", write(&images)).await;
    assert_eq!(session.progress().await.command_id, "w");
    images.until_served(4).await;

    // Both of rackd's ports die in mid-write and come back.
    rackd.kill();
    images.kill();
    let before = images.served();
    rackd.restart();
    let (mut session, same_boot) = rackd.session().await;
    assert_eq!(boot, same_boot);
    session.send("w", write(&images)).await;
    session.send("w", write(&images)).await;
    let progress = session.progress().await;
    assert!(progress.command_id == "w" && progress.done_bytes > 0, "{progress:?}");
    images.come_back().await;
    assert!(is_done(&session.result().await));
    let after = images.served();
    for (first, _) in before {
        assert_eq!(after.iter().filter(|(f, _)| *f == first).count(), 1, "chunk at {first} came twice");
    }

    // Asked again, on this stream and on the next: answered from memory.
    let served = images.served().len();
    session.send("w", write(&images)).await;
    assert!(is_done(&session.result().await));
    rackd.restart();
    let (mut session, _) = rackd.session().await;
    session.send("w", write(&images)).await;
    assert!(is_done(&session.result().await));
    assert_eq!(images.served().len(), served);
    assert_eq!(rackd.registrations(), 1, "the certificate outlives the connection");
    agent.shutdown.cancel();
    assert_eq!(agent.task.await.unwrap(), Ended::Shutdown);
}

#[tokio::test]
async fn commands_run_in_the_order_they_were_sent_and_failures_are_told() {
    let mut rackd = Rackd::start();
    let _agent = Agent::start(&rackd);
    let (mut session, _) = rackd.session().await;
    session.send("a", Command::WriteConfigDrive(WriteConfigDrive::default())).await;
    session.send("b", Command::Inspect(Inspect::default())).await;
    session.commands.send(Ok(SessionResponse { command_id: "c".into(), command: None })).await.unwrap();
    let mut results = std::collections::BTreeMap::new();
    for _ in 0..3 {
        let result = session.result().await;
        results.insert(result.command_id.clone(), result);
    }
    let reason = |id: &str| match &results[id].outcome {
        Some(Outcome::Failure(failure)) => failure.reason(),
        other => panic!("{id}: {other:?}"),
    };
    assert_eq!(reason("a"), FailureReason::Unsupported, "no partition table");
    assert!(is_done(&results["b"]));
    assert_eq!(reason("c"), FailureReason::Unsupported, "a command of the future");
}

#[tokio::test]
async fn the_token_is_not_shown_to_a_rackd_of_another_authority() {
    let rackd = Rackd::start();
    let stranger = Authority::generate("other").unwrap().0;
    let mut config = rackd.config();
    config.ca = PinnedCa::of(stranger.cert_der());
    let dir = tempfile::tempdir().unwrap();
    let disk = PretendDisk::new(dir.path(), "vda", 1 << 20);
    let machine = Arc::new(PretendMachine::new("n1", "52:54:00:00:00:01", vec![disk]).unwrap());
    assert!(
        timeout(Duration::from_millis(500), run(machine, config, CancellationToken::new())).await.is_err()
    );
    assert_eq!(rackd.registrations(), 0);
}

/// Its rackd has lost what it was told of it: it waits for nobody for ever.
#[tokio::test]
async fn a_stranger_of_whose_boot_rackd_knows_nothing_starts_again_and_not_because_rackd_is_away() {
    let mut rackd = Rackd::start();
    let mut config = rackd.config();
    config.limits.unknown_patience = Duration::from_millis(300);
    config.is_discovery = true;
    let dir = tempfile::tempdir().unwrap();
    let disk = PretendDisk::new(dir.path(), "vda", 1 << 20);
    let machine = Arc::new(PretendMachine::new("n1", "52:54:00:00:00:01", vec![disk]).unwrap());
    let agent = tokio::spawn(run(machine.clone(), config, CancellationToken::new()));
    let (session, _) = rackd.session().await;
    drop(session);
    // Twice as long as it waits for one that does not know it.
    rackd.kill();
    tokio::time::sleep(Duration::from_millis(600)).await;
    rackd.restart();
    let (session, _) = rackd.session().await;
    assert!(!machine.is_restarted() && !agent.is_finished());

    rackd.rack.forgets.store(true, Ordering::SeqCst);
    let before = rackd.registrations();
    drop(session);
    let ended = timeout(Duration::from_secs(20), agent).await.expect("it starts again");
    assert_eq!(ended.unwrap(), Ended::Restarted);
    assert!(machine.is_restarted() && !machine.is_off());
    assert!(rackd.registrations() > before + 1, "it asked more than once");
}

/// Its task has failed, and its BMC did not obey: what that left on its disks is not started.
#[tokio::test]
async fn a_node_of_whose_boot_rackd_knows_nothing_switches_itself_off() {
    let rackd = Rackd::start();
    let mut config = rackd.config();
    config.limits.unknown_patience = Duration::from_millis(300);
    let dir = tempfile::tempdir().unwrap();
    let disk = PretendDisk::new(dir.path(), "vda", 1 << 20);
    let machine = Arc::new(PretendMachine::new("n1", "52:54:00:00:00:01", vec![disk]).unwrap());
    rackd.rack.forgets.store(true, Ordering::SeqCst);
    let agent = run(machine.clone(), config, CancellationToken::new());
    let ended = timeout(Duration::from_secs(20), agent).await.expect("it goes off");
    assert_eq!(ended, Ended::PoweredOff);
    assert!(machine.is_off() && !machine.is_restarted());
    assert!(rackd.registrations() > 1, "it asked more than once");
}

/// A driver with a bug.
struct Haunted(PretendMachine);

impl Machine for Haunted {
    fn hardware(&self) -> io::Result<Hardware> {
        self.0.hardware()
    }
    fn open_disk(&self, _: &str) -> io::Result<Arc<dyn BlockDevice>> {
        panic!("boo")
    }
    fn efi_vars(&self) -> Option<Arc<dyn EfiVars>> {
        None
    }
    fn boot_id(&self) -> String {
        self.0.boot_id()
    }
    fn power_off(&self) -> io::Result<()> {
        self.0.power_off()
    }
    fn restart(&self) -> io::Result<()> {
        self.0.restart()
    }
}

#[tokio::test]
async fn a_panic_in_a_command_is_an_answer() {
    let mut rackd = Rackd::start();
    let dir = tempfile::tempdir().unwrap();
    let disk = PretendDisk::new(dir.path(), "vda", 1 << 20);
    let machine = PretendMachine::new("n1", "52:54:00:00:00:01", vec![disk]).unwrap();
    let agent = tokio::spawn(run(Arc::new(Haunted(machine)), rackd.config(), CancellationToken::new()));
    let (mut session, _) = rackd.session().await;
    session.send("a", Command::WriteConfigDrive(WriteConfigDrive::default())).await;
    let result = session.result().await;
    let Some(Outcome::Failure(failure)) = result.outcome else { panic!("{result:?}") };
    assert!(failure.message.contains("bug"), "{}", failure.message);
    session.send("b", Command::Inspect(Inspect::default())).await;
    assert!(is_done(&session.result().await));
    agent.abort();
}
