//! The commands against disks that are files, judged by other people's tools.
mod boot_entry;
mod config_drive;
mod erase;
mod write_image;
mod write_image_iscsi;

use super::*;
use crate::machine::{Machine, PretendDisk, PretendMachine};
use farrier_proto::agent::FailureReason;
use farrier_proto::types::{Hardware, Neighbour};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
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

/// Its switch is heard when its hardware is read for the fifth time.
struct AtItsFifthWord {
    machine: PretendMachine,
    since: std::time::Instant,
    read: AtomicUsize,
}

impl Machine for AtItsFifthWord {
    fn hardware(&self) -> io::Result<Hardware> {
        let mut hardware = self.machine.hardware()?;
        if self.read.fetch_add(1, Ordering::Relaxed) >= 4 {
            let heard = Neighbour { system_name: "tor-a1".to_owned(), ..Neighbour::default() };
            hardware.nics.iter_mut().for_each(|nic| nic.neighbour = Some(heard.clone()));
        }
        Ok(hardware)
    }
    fn listening_since(&self) -> Option<std::time::Instant> {
        Some(self.since)
    }
    fn open_disk(&self, name: &str) -> io::Result<Arc<dyn crate::machine::BlockDevice>> {
        self.machine.open_disk(name)
    }
    fn efi_vars(&self) -> Option<Arc<dyn crate::machine::EfiVars>> {
        self.machine.efi_vars()
    }
    fn boot_id(&self) -> String {
        self.machine.boot_id()
    }
    fn power_off(&self) -> io::Result<()> {
        self.machine.power_off()
    }
    fn restart(&self) -> io::Result<()> {
        self.machine.restart()
    }
}

#[tokio::test]
async fn an_inspection_waits_for_the_switch_as_long_as_it_is_told_to_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let heard = async |neighbour_seconds| {
        let disk = PretendDisk::new(dir.path(), "vda", 1 << 20);
        let machine = PretendMachine::new("n1", "52:54:00:00:00:01", vec![disk]).unwrap();
        let machine = AtItsFifthWord { machine, since: std::time::Instant::now(), read: AtomicUsize::new(0) };
        let context = Arc::new(Context::new(Arc::new(machine), quick()));
        let progress = Progress::new(Duration::ZERO, |_, _, _| {});
        let command = Command::Inspect(Inspect { neighbour_seconds });
        let url = watch::Sender::new(String::new()).subscribe();
        let done = execute(&context, command, url, progress).await.unwrap();
        done.hardware.unwrap().nics[0].neighbour.clone().map(|neighbour| neighbour.system_name)
    };
    assert_eq!(heard(3600).await.as_deref(), Some("tor-a1"));
    assert_eq!(heard(0).await, None, "what was heard by then is told");
}
