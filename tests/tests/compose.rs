//! `deploy/compose.yaml` for real: Debian's dockerd in a network namespace of its own, an image built without any
//! registry, a pretend node deployed through the containers by a client outside them, every service restarted.

// Helpers of tests may fail like tests; clippy's allowance covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use farrier_sim::lab::{Programs, tail};
use farrier_sim::net::Netns;
use rustix::process::{Pid, Signal, kill_process};

#[tokio::test]
async fn one_node_is_deployed_through_the_containers_which_may_be_restarted() {
    farrier_sim::cleanup::on_signals();
    let programs = Programs::beside_tests().unwrap();
    let farrier = programs.path("farrier").unwrap();
    let beside = farrier.parent().unwrap();
    let netns = Netns::create().unwrap();
    let docker = Docker::start(&netns).await;
    docker.run("build-images.sh", &[("FARRIER_BIN_DIR", beside)]);
    docker.run("try.sh", &[("FARRIER", farrier), ("FARRIER_SIM", &beside.join("farrier-sim"))]);
    docker.end().await;
}

/// A Docker daemon that shares nothing with the machine's own: its data, its socket and its bridges are in the
/// namespace and its directory.
struct Docker<'a> {
    netns: &'a Netns,
    daemon: Child,
}

impl<'a> Docker<'a> {
    async fn start(netns: &'a Netns) -> Self {
        let dir = netns.dir();
        let log = std::fs::File::create(dir.join("dockerd.log")).unwrap();
        let mut command = Command::new("/usr/sbin/dockerd");
        command
            .arg("--data-root")
            .arg(dir.join("data"))
            .arg("--exec-root")
            .arg(dir.join("exec"))
            .arg("--pidfile")
            .arg(dir.join("dockerd.pid"))
            .arg("--host")
            .arg(host(netns))
            .env("PATH", PATH)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        let daemon = netns.spawn(command).unwrap();
        let mut docker = Self { netns, daemon };
        docker.wait_ready().await;
        docker
    }

    async fn wait_ready(&mut self) {
        let deadline = Instant::now() + START;
        loop {
            let mut info = self.command(Path::new("/usr/bin/docker"));
            let answers = info.arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
            if answers.success() {
                return;
            }
            let ended = self.daemon.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "dockerd: expected an answer within {START:?}, ended: {ended:?}; its log:\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Gracefully, so that it unmounts what it mounted.
    async fn end(mut self) {
        let pid = i32::try_from(self.daemon.id()).ok().and_then(Pid::from_raw).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
        let deadline = Instant::now() + END;
        while self.daemon.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "dockerd does not end; its log:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs a script of `deploy/` against this daemon, inside the namespace: that is where the ports are.
    fn run(&self, script: &str, paths: &[(&str, &Path)]) {
        let mut command = self.command(&deploy().join(script));
        command.envs(paths.iter().copied());
        let done = command.output().unwrap();
        assert!(
            done.status.success(),
            "{script} ended with {}\n{}\n{}\n── dockerd\n{}",
            done.status,
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
            self.log()
        );
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = self.netns.command(&program.to_string_lossy());
        command.env("PATH", PATH).env("DOCKER_HOST", host(self.netns)).stdin(Stdio::null());
        command
    }

    fn log(&self) -> String {
        tail(&self.netns.dir().join("dockerd.log"), 30)
    }
}

impl Drop for Docker<'_> {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn host(netns: &Netns) -> String {
    format!("unix://{}", netns.dir().join("docker.sock").display())
}

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy")
}

/// Debian's programs, not others that a machine may have before them.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// containerd and dockerd start in about 2 s here; a busy machine takes several times that.
const START: Duration = Duration::from_secs(120);
/// Containers are told to end first; `try.sh` has removed them by then.
const END: Duration = Duration::from_secs(60);
