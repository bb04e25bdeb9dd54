//! Consoles over SSH: a BMC whose SSH server is OpenSSH's, reached by a whole rackd.

use std::fmt::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farrier_proto::rack::{ConsoleMode, Machine, console_input};
use farrier_sim::lab::Programs;
use farrier_sim::pretend::PretendNode;
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

use crate::bench::{Bench, within};
use crate::console::{Viewer, log, machine};

/// `sshd`, one process a connection, in a mount namespace whose machine has a user like the BMC's.
struct Sshd {
    dir: tempfile::TempDir,
    port: u16,
    connections: Arc<Mutex<Vec<Child>>>,
    server: JoinHandle<()>,
}

impl Sshd {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path();
        // Where Debian's sshd keeps the process that has no rights.
        std::fs::create_dir_all("/run/sshd").unwrap();
        for kind in ["ed25519", "rsa"] {
            let key = path.join(kind);
            let made = Command::new("ssh-keygen").args(["-q", "-t", kind, "-N", "", "-f"]).arg(key).status();
            assert!(made.await.unwrap().success());
        }
        let with = |file: &str, line: &str| {
            let mut text = std::fs::read_to_string(Path::new("/etc").join(file)).unwrap();
            writeln!(text, "{line}").unwrap();
            std::fs::write(path.join(file), text).unwrap();
        };
        with("passwd", "admin:x:0:0::/:/bin/sh");
        with("shadow", &format!("admin:{PRETEND}:19000:0:99999:7:::"));
        let here = path.display();
        std::fs::write(
            path.join("console"),
            format!("printf 'Booting\\nn1 login: '\nexec tee -a {here}/typed\n"),
        )
        .unwrap();
        std::fs::write(
            path.join("config"),
            format!(
                "HostKey {here}/ed25519\nHostKey {here}/rsa\nUsePAM no\nPasswordAuthentication yes\n\
                 PermitRootLogin yes\nForceCommand /bin/sh {here}/console\nStrictModes no\nPrintMotd no\n\
                 PrintLastLog no\nLogLevel DEBUG1\n"
            ),
        )
        .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections: Arc<Mutex<Vec<Child>>> = Arc::default();
        let (children, place) = (Arc::clone(&connections), path.to_owned());
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let stream = stream.into_std().unwrap();
                stream.set_nonblocking(false).unwrap();
                let output = OwnedFd::from(stream.try_clone().unwrap());
                let child = Command::new("unshare")
                    .args(["--mount", "/bin/sh", "-c", IN_NAMESPACE])
                    .arg(&place)
                    .stdin(Stdio::from(OwnedFd::from(stream)))
                    .stdout(Stdio::from(output))
                    .stderr(Stdio::null())
                    .kill_on_drop(true)
                    .spawn()
                    .unwrap();
                children.lock().unwrap().push(child);
            }
        });
        Self { dir, port, connections, server }
    }

    /// As OpenSSH says it.
    async fn fingerprint(&self, kind: &str) -> String {
        let public = self.dir.path().join(format!("{kind}.pub"));
        let told = Command::new("ssh-keygen").arg("-lf").arg(public).output().await.unwrap();
        let told = String::from_utf8(told.stdout).unwrap();
        told.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
    }

    fn connections(&self) -> usize {
        self.connections.lock().unwrap().len()
    }

    /// The BMC restarts, or its network ends.
    async fn drop_connections(&self) {
        let children = std::mem::take(&mut *self.connections.lock().unwrap());
        for mut child in children {
            child.kill().await.unwrap();
        }
    }

    async fn until(&self, file: &str, there: impl Fn(&str) -> bool) {
        let path: PathBuf = self.dir.path().join(file);
        within(async {
            loop {
                let text = tokio::fs::read(&path).await.unwrap_or_default();
                if there(&String::from_utf8_lossy(&text)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    async fn stop(self) {
        self.server.abort();
        self.drop_connections().await;
    }
}

/// `pretend`, by crypt(5).
const PRETEND: &str =
    "$6$farrier$5ugY7tk655zgcesiCehsHOqS7xIwBAGgcKkyuA5ph/y8r2FtpeTxlrtf6UbV63kFocI7V.ifYWEHH0juPq.Nl0";
const IN_NAMESPACE: &str = "mount --bind $0/passwd /etc/passwd && mount --bind $0/shadow /etc/shadow && \
                            exec /usr/sbin/sshd -i -f $0/config -E $0/log";

/// A rack with one node that has Redfish, and whose console is at that server.
async fn rack(sshd: &Sshd) -> (Bench, PretendNode) {
    let helper = Programs::beside_tests().unwrap().path("rackd").unwrap().to_owned();
    let bench = Bench::start_with_ssh(helper).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = sshd.port;
    let node = bench
        .node_with(1, |options| {
            options.sockets = listener.into();
            options.ssh_console = Some(port);
        })
        .await;
    (bench, node)
}

fn over_ssh(node: &PretendNode, host_key: &str) -> Machine {
    Machine {
        bmc_driver: "redfish".into(),
        bmc_scheme: "http".into(),
        bmc_ssh_host_key_sha256: host_key.to_owned(),
        ..machine(node)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_console_over_ssh_is_shared_logged_and_opened_again_as_one_over_ipmi() {
    let sshd = Sshd::start().await;
    let (bench, node) = rack(&sshd).await;
    let host_key = sshd.fingerprint("ed25519").await;
    let attach = |mode, who| Viewer::attach(&bench, over_ssh(&node, &host_key), mode, who);
    let mut ann = attach(ConsoleMode::Write, "ann").await.unwrap();
    ann.sees("n1 login: ").await;
    let mut bob = attach(ConsoleMode::ReadOnly, "bob").await.unwrap();
    bob.sees("Booting\r\nn1 login: ").await;
    assert_eq!((ann.driver.as_str(), bob.driver.as_str()), ("redfish", "redfish"));
    assert_eq!(sshd.connections(), 1, "one line for both");
    // What ssh would take for a word of its own is typed like all else.
    ann.types("root\r~.\x1e.\r").await;
    sshd.until("typed", |typed| typed == "root\n~.\x1e.\n").await;
    bob.sees("~.").await;
    ann.sends(console_input::What::MagicSysrq("h".into())).await;
    sshd.until("log", |log| log.contains("session 0 req break")).await;
    // A BREAK needs the beginning of a line, and nothing is typed to get there.
    ann.sends(console_input::What::MagicSysrq("b".into())).await;
    ann.is_told("at the beginning of a line only").await;
    ann.types("\r").await;
    sshd.until("typed", |typed| typed == "root\n~.\x1e.\nh\n").await;

    sshd.drop_connections().await;
    ann.is_told("the line is lost, opening it again").await;
    bob.is_told("the line is back").await;
    ann.types("again\r").await;
    sshd.until("typed", |typed| typed.ends_with("h\nagain\n")).await;
    assert!(log(&bench, "login").await.iter().any(|line| line.contains("n1 login: root")));
    // Gone with the last who wants it, and with rackd.
    drop((ann, bob));
    bench.stop(vec![node]).await;
    let server = sshd.connections.lock().unwrap().pop();
    within(server.unwrap().wait()).await.unwrap();
    sshd.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_is_said_to_the_bmc_with_the_nodes_host_key_alone() {
    let sshd = Sshd::start().await;
    let (bench, node) = rack(&sshd).await;
    let refused = async |machine: Machine| {
        Viewer::attach(&bench, machine, ConsoleMode::Write, "ann").await.err().unwrap().message().to_owned()
    };
    let (first, other) = (sshd.fingerprint("ed25519").await, sshd.fingerprint("rsa").await);
    let told = refused(over_ssh(&node, "")).await;
    assert!(told.contains(&first) && told.contains("--bmc-ssh-host-key-sha256"), "{told}");
    assert_eq!(sshd.connections(), 1, "who names none is not asked for more");
    let told = refused(over_ssh(&node, &format!("SHA256:{}", "A".repeat(43)))).await;
    assert!(told.contains(&first) && told.contains(&other) && told.contains("the pinned one"), "{told}");
    let heard = std::fs::read_to_string(sshd.dir.path().join("log")).unwrap();
    assert!(!heard.contains("userauth-request"), "nobody tried to log in: {heard}");
    // Any of its keys will do: people copy the one that they are shown.
    let mut ann = Viewer::attach(&bench, over_ssh(&node, &other), ConsoleMode::Write, "ann").await.unwrap();
    ann.sees("n1 login: ").await;
    drop(ann);
    // The BMC has another password since; Redfish still has its session.
    sshd.drop_connections().await;
    let shadow = sshd.dir.path().join("shadow");
    let changed = std::fs::read_to_string(&shadow).unwrap().replace("$farrier$5", "$farrier$6");
    std::fs::write(&shadow, changed).unwrap();
    let again = bench.node(2).await;
    let told = refused(Machine { name: again_name(&again), ..over_ssh(&node, &first) }).await;
    assert!(told.contains("the password does not match"), "{told}");
    // Who asks next is told without the BMC, which counts each.
    let told = refused(Machine { name: again_name(&again), ..over_ssh(&node, &first) }).await;
    assert!(
        told.contains("the password does not match") && told.contains("is not asked again for"),
        "{told}"
    );
    let heard = std::fs::read_to_string(sshd.dir.path().join("log")).unwrap();
    assert_eq!(heard.matches("Failed password").count(), 1, "a wrong password is said once: {heard}");
    bench.stop(vec![node, again]).await;
    sshd.stop().await;
}

/// A desk of its own, at the same BMC.
fn again_name(node: &PretendNode) -> String {
    format!("nodes/{}", node.name())
}
