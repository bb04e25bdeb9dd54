//! A rack small enough for a test: a namespace with the server, one with a client, a cable between them.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use farrier_netboot::{
    Boot, BootEntry, BootEvent, BootFiles, BootTable, Config, EventKind, MacAddr, Netboot, Segment, http,
};
use tokio::sync::{broadcast, oneshot};
use tokio_util::sync::CancellationToken;

/// The port every test boots.
pub(crate) const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x77, 0, 1]);
pub(crate) const SERVER_IP: &str = "10.77.0.1";
pub(crate) const CLIENT_IP: &str = "10.77.0.50";
pub(crate) const HTTP_PORT: u16 = 8080;

/// A network namespace of `ip netns`, deleted on drop.
pub(crate) struct Namespace(String);

impl Namespace {
    pub(crate) fn new(role: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static TIDY: std::sync::Once = std::sync::Once::new();
        TIDY.call_once(delete_leftovers);
        let name = format!("fnb-{}-{}-{role}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run(Command::new(tool("ip", "iproute2")).args(["netns", "add", &name]));
        let this = Self(name);
        // Link-local addresses at once: duplicate detection takes seconds and there is nobody to collide with.
        this.sh("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad; ip link set lo up");
        this
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// A command that runs inside.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(tool("ip", "iproute2"));
        command.args(["netns", "exec", &self.0]).arg(program);
        command
    }

    /// A client program, ended after `seconds` whatever it does.
    pub(crate) fn client(&self, seconds: u32, name: &str, package: &str, args: &[&str]) -> Output {
        let mut command = self.command(&tool("timeout", "coreutils"));
        command.arg(seconds.to_string()).arg(tool(name, package)).args(args);
        command.stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn sh(&self, script: &str) -> String {
        run(self.command(Path::new("/bin/sh")).args(["-ec", script]))
    }

    /// Moves the calling thread inside.
    pub(crate) fn enter(&self) {
        use std::os::fd::AsFd as _;
        let file = std::fs::File::open(Path::new("/run/netns").join(&self.0)).unwrap();
        let kind = rustix::thread::LinkNameSpaceType::Network;
        rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind)).unwrap();
    }

    /// Runs `work` on a thread of its own inside.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    self.enter();
                    work()
                })
                .join()
                .unwrap()
        })
    }
}

/// Deletes namespaces of test processes that were killed before they could.
fn delete_leftovers() {
    let names = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix("fnb-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            drop(Namespace(name));
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

/// Two namespaces and a cable: `s0` is the server's end, `c0` the client's, whose address is [`MAC`].
pub(crate) struct Cable {
    pub(crate) server: Namespace,
    pub(crate) client: Namespace,
    pub(crate) dir: tempfile::TempDir,
}

impl Cable {
    pub(crate) fn new() -> Self {
        let this = Self {
            server: Namespace::new("s"),
            client: Namespace::new("c"),
            dir: tempfile::tempdir().unwrap(),
        };
        this.server.sh(&format!(
            "ip link add s0 type veth peer name c0 address {MAC} netns {}; ip addr add {SERVER_IP}/24 dev s0; \
             ip link set s0 up",
            this.client.0
        ));
        this.client.sh("ip link set c0 up");
        this
    }

    /// With the client's address set by hand, for tests that are not about DHCP.
    pub(crate) fn addressed() -> Self {
        let this = Self::new();
        this.client.sh(&format!("ip addr add {CLIENT_IP}/24 dev c0"));
        this
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

/// The segment on the cable.
pub(crate) fn segment() -> Segment {
    Segment {
        gateway: Some("10.77.0.254".parse().unwrap()),
        dns: vec!["10.77.0.2".parse().unwrap()],
        domain: Some("rack.example".into()),
        ..Segment::new("provisioning", "s0", SERVER_IP.parse().unwrap(), 24)
    }
}

pub(crate) fn entry(boot: Boot) -> BootEntry {
    BootEntry {
        mac: MAC,
        node: "node-1".into(),
        hostname: "host-1".into(),
        ip: CLIENT_IP.parse().unwrap(),
        network: "provisioning".into(),
        boot,
    }
}

pub(crate) fn table(segment: Segment, boot: Boot) -> BootTable {
    let mut table = BootTable::new();
    table.set_segments(vec![segment]);
    table.publish(entry(boot));
    table
}

/// A server running in a namespace, on a thread and runtime of its own. Stopped and joined on drop.
pub(crate) struct Running {
    pub(crate) netboot: Netboot,
    /// What firmware is offered of what is there.
    pub(crate) files: BootFiles,
    events: broadcast::Receiver<Arc<BootEvent>>,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub(crate) fn start(namespace: &Namespace, config: Config, table: BootTable) -> Self {
        let running = Self::begin(namespace, config, table);
        for segment in running.netboot.segments() {
            assert_eq!(segment.error, None);
        }
        running
    }

    /// Whatever becomes of its segments.
    pub(crate) fn begin(namespace: &Namespace, config: Config, table: BootTable) -> Self {
        let hasty = http::Limits { header_timeout: Duration::from_secs(2), ..Default::default() };
        Self::begin_within(namespace, config, table, hasty)
    }

    /// With these limits of HTTP.
    pub(crate) fn begin_within(
        namespace: &Namespace,
        config: Config,
        table: BootTable,
        limits: http::Limits,
    ) -> Self {
        let mut files = config.boot_files.clone();
        files.by_architecture.retain(|(_, name)| config.files.contains_key(name));
        files.sizes = config.files.iter().map(|(name, bytes)| (name.clone(), bytes.len() as u64)).collect();
        let shutdown = CancellationToken::new();
        let (stop, name) = (shutdown.clone(), Namespace(namespace.0.clone()));
        let (ready, started) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            name.enter();
            std::mem::forget(name); // the test's to delete
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let netboot = Netboot::start(config, table).await;
                let listener = tokio::net::TcpListener::bind(("::", HTTP_PORT)).await.unwrap();
                let http = tokio::spawn(http::serve(
                    listener,
                    netboot.http_crowded(),
                    netboot.router(),
                    limits,
                    stop.clone(),
                ));
                assert!(ready.send(netboot.clone()).is_ok());
                stop.cancelled().await;
                netboot.shutdown().await;
                http.await.unwrap();
            });
        });
        let netboot = started.blocking_recv().expect("the server did not start");
        let events = netboot.events();
        Self { netboot, files, events, shutdown, thread: Some(thread) }
    }

    /// The next event that matches, within `seconds`; else the whole trace is in the failure.
    pub(crate) fn wait(&mut self, seconds: u64, matches: impl Fn(&EventKind) -> bool) -> Arc<BootEvent> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let search = async {
            loop {
                match self.events.recv().await {
                    Ok(event) if matches(&event.kind) => return event,
                    Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => panic!("the server is gone"),
                }
            }
        };
        let found =
            runtime.block_on(async { tokio::time::timeout(Duration::from_secs(seconds), search).await });
        found.unwrap_or_else(|_| panic!("no such event; seen: {:#?}", self.netboot.trace(MAC)))
    }

    pub(crate) fn kinds(&self) -> Vec<EventKind> {
        self.netboot.trace(MAC).iter().map(|event| event.kind.clone()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A child process, killed on drop.
pub(crate) struct Killed(pub(crate) Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where a program is.
pub(crate) fn tool(name: &str, package: &str) -> PathBuf {
    ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"]
        .iter()
        .map(|dir| Path::new(dir).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("{name} is missing: install the Debian package {package}"))
}

/// A file of a package.
pub(crate) fn file(path: &str, package: &str) -> PathBuf {
    assert!(Path::new(path).exists(), "{path} is missing: install the Debian package {package}");
    path.into()
}

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(crate) fn text(output: &Output) -> String {
    format!(
        "{} {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Bytes that look like nothing, the same every time.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(len)
    .collect()
}
