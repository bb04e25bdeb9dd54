//! The commands against disks that are files, judged by other people's tools.
mod boot_entry;
mod config_drive;
mod erase;
mod write_image;
mod write_image_iscsi;

use super::*;
use crate::machine::{PretendDisk, PretendMachine};
use farrier_proto::agent::FailureReason;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A machine with one disk of that size, and deadlines fit for a test.
struct Bench {
    dir: tempfile::TempDir,
    context: Arc<Context>,
}

fn quick() -> Limits {
    Limits {
        read_timeout: Duration::from_millis(300),
        download_patience: Duration::from_millis(600),
        retry_min: Duration::from_millis(2),
        retry_max: Duration::from_millis(20),
        disk_wait: Duration::ZERO,
        disk_poll: Duration::from_millis(2),
        carrier_wait: Duration::ZERO,
        ..Limits::default()
    }
}

impl Bench {
    fn new(disk_bytes: u64) -> Self {
        Self::with(disk_bytes, |machine, _| machine)
    }

    fn with(disk_bytes: u64, change: impl FnOnce(PretendMachine, &Path) -> PretendMachine) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let disk = PretendDisk::new(dir.path(), "vda", disk_bytes);
        let machine = PretendMachine::new("n1", "52:54:00:00:00:01", vec![disk]).unwrap();
        let machine = Arc::new(change(machine, dir.path()));
        Self { context: Arc::new(Context::new(machine, quick())), dir }
    }

    fn without_disks() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let machine = Arc::new(PretendMachine::new("n1", "52:54:00:00:00:01", Vec::new()).unwrap());
        Self { context: Arc::new(Context::new(machine, quick())), dir }
    }

    fn disk(&self) -> PathBuf {
        self.dir.path().join("vda.raw")
    }

    fn disk_name(&self) -> String {
        self.disk().to_str().unwrap().to_owned()
    }

    async fn run(&self, command: Command) -> Result<Done, CommandError> {
        self.run_from(command, watch::Sender::new(String::new()).subscribe()).await
    }

    async fn run_from(&self, command: Command, url: watch::Receiver<String>) -> Result<Done, CommandError> {
        let progress = Progress::new(Duration::ZERO, |_, _, _| {});
        execute(&self.context, command, url, progress).await
    }
}

#[tokio::test]
async fn inspect_reports_the_hardware() {
    let bench = Bench::new(1 << 20);
    let done = bench.run(Command::Inspect(Default::default())).await.unwrap();
    assert_eq!(done.hardware.unwrap().disks[0].name, "/dev/vda");
}
