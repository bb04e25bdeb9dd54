//! A rackd of one node, to boot the ramdisk by hand: prints the kernel arguments, then has the agent
//! inspect, erase, write an image, add a config drive, set the boot entry and switch off.
//!
//! ```text
//! cargo run -p farrier-agent --example deploy_by_hand -- IMAGE.raw 10.0.2.2 10.0.2.15/24
//! qemu-system-x86_64 -accel tcg -machine q35 -m 1024 -kernel vmlinuz -initrd ramdisk.cpio \
//!   -append "console=ttyS0 <what it printed>" -netdev user,id=n -device virtio-net-pci,netdev=n …
//! ```
use anyhow::{Context as _, bail};
use farrier_agent::manifest::Manifest;
use farrier_identity::agent::PinnedCa;
use farrier_identity::ca::Authority;
use farrier_identity::server::{ClientAuth, accept};
use farrier_identity::{Credentials, Identity};
use farrier_proto::agent::agent_service_server::{AgentService, AgentServiceServer};
use farrier_proto::agent::session_request::{Report, result::Outcome};
use farrier_proto::agent::session_response::erase::Depth;
use farrier_proto::agent::session_response::{
    Command, Erase, File, Inspect, PowerOff, SetBootEntry, WriteConfigDrive, WriteImage,
};
use farrier_proto::agent::{RegisterRequest, RegisterResponse, SessionRequest, SessionResponse};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

const HOUR: Duration = Duration::from_secs(3600);

struct Rackd {
    authority: Authority,
    script: Vec<(&'static str, Command)>,
    finished: mpsc::Sender<()>,
}

#[tonic::async_trait]
impl AgentService for Rackd {
    async fn register(
        &self,
        request: Request<RegisterRequest>,
    ) -> Result<Response<RegisterResponse>, Status> {
        let request = request.into_inner();
        println!("register: {:#?}", request.hardware);
        let node = Identity::Node("by-hand".to_owned());
        let certificate_der = self
            .authority
            .sign_request(&request.csr_der, &node, &[], HOUR)
            .map_err(|e| Status::invalid_argument(e.to_string()))?;
        Ok(Response::new(RegisterResponse { certificate_der, node: "nodes/by-hand".to_owned() }))
    }

    type SessionStream = ReceiverStream<Result<SessionResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (commands, outbox) = mpsc::channel(8);
        let (script, finished) = (self.script.clone(), self.finished.clone());
        tokio::spawn(async move {
            if let Err(error) = drive(request.into_inner(), commands, script).await {
                println!("session: {error:#}");
            } else {
                let _ = finished.send(()).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(outbox)))
    }
}

async fn drive(
    mut reports: Streaming<SessionRequest>,
    commands: mpsc::Sender<Result<SessionResponse, Status>>,
    script: Vec<(&'static str, Command)>,
) -> anyhow::Result<()> {
    for (id, command) in script {
        let started = Instant::now();
        let message = SessionResponse { command_id: id.to_owned(), command: Some(command) };
        commands.send(Ok(message)).await?;
        loop {
            let message = reports.message().await?.context("the agent ended the stream")?;
            match message.report {
                Some(Report::Progress(p)) => println!("{id}: {} of {}", p.done_bytes, p.total_bytes),
                Some(Report::Result(result)) if result.command_id == id => match result.outcome {
                    Some(Outcome::Done(done)) => {
                        println!("{id}: {:.2} s: {}", started.elapsed().as_secs_f32(), done.detail);
                        break;
                    }
                    other => bail!("{id}: {other:?}"),
                },
                _ => {}
            }
        }
    }
    while reports.message().await?.is_some() {}
    Ok(())
}

/// Answers `Range: bytes=a-b` with those bytes of the image, for ever.
async fn serve_image(stream: TcpStream, image: Arc<Vec<u8>>) -> anyhow::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut range = None;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(text) = line.strip_prefix("range: bytes=") {
                let (first, last) = text.split_once('-').context("range")?;
                range = Some((first.parse::<usize>()?, last.parse::<usize>()?));
            }
            if line.is_empty() {
                break;
            }
        }
        let (first, last) = range.context("a request without a range")?;
        let body = image.get(first..=last).context("range")?;
        let head = format!(
            "HTTP/1.1 206 Partial Content\r\ncontent-length: {}\r\ncontent-range: bytes {first}-{last}/{}\r\n\r\n",
            body.len(),
            image.len()
        );
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        stream.flush().await?;
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [image, host, address] = args.as_slice() else {
        bail!("usage: deploy_by_hand IMAGE HOST ADDRESS/PREFIX")
    };
    let image = Arc::new(std::fs::read(image).context("reading the image")?);

    let images = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{host}:{}/image", images.local_addr()?.port());
    let manifest = Manifest::of(&image, 4 << 20);
    tokio::spawn(async move {
        while let Ok((stream, _)) = images.accept().await {
            tokio::spawn(serve_image(stream, image.clone()));
        }
    });

    let file =
        |name: &str, content: &str| File { name: name.to_owned(), content: content.as_bytes().to_vec() };
    let files = vec![file("meta-data", "instance-id: by-hand\n"), file("user-data", "#cloud-config\n")];
    let label = "farrier: by hand".to_owned();
    let script = vec![
        ("inspect", Command::Inspect(Inspect::default())),
        ("erase", Command::Erase(Erase { depth: Depth::Metadata.into(), inspected: None })),
        ("write", Command::WriteImage(WriteImage { root_device: None, manifest: Some(manifest), url })),
        ("config-drive", Command::WriteConfigDrive(WriteConfigDrive { root_device: None, files })),
        ("boot-entry", Command::SetBootEntry(SetBootEntry { root_device: None, label })),
        ("power-off", Command::PowerOff(PowerOff {})),
    ];

    let authority = Authority::generate("by hand")?.0;
    let issued = authority.issue(&Identity::Rack("by-hand".to_owned()), std::slice::from_ref(host), HOUR)?;
    let credentials = Credentials::from_pem(&issued.cert_pem, &issued.key_pem, authority.cert_pem())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    println!(
        "farrier.url=https://{host}:{} farrier.ca={} farrier.token=by-hand farrier.node=by-hand farrier.ip={address}, farrier.time={now}",
        listener.local_addr()?.port(),
        PinnedCa::of(authority.cert_der()).to_hex(),
    );
    let (finished, mut done) = mpsc::channel(1);
    let service = AgentServiceServer::new(Rackd { authority, script, finished });
    let incoming =
        accept(listener, credentials, ClientAuth::Optional, farrier_identity::server::Limits::default());
    tokio::select! {
        served = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming) => served?,
        _ = done.recv() => println!("done"),
    }
    Ok(())
}
