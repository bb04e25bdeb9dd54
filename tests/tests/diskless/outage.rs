//! rackd is killed under a running Debian whose root is an ext4 on its iSCSI disk, stays away, and comes back: the
//! guest waits and goes on, and loses nothing that it had synced. Somebody watches its console from its firmware on, and logs
//! in there.

// Helpers of tests may fail like tests; clippy's allowance covers only the test functions themselves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use farrier_block::{FileBacking, Mode, Overlay};
use farrier_proto::rack::{PowerAction, ReadyGate};
use farrier_proto::scheduler::Instance;
use farrier_proto::types::DeployMethod;
use farrier_sim::lab::{ImageFile, Service, compress};
use farrier_sim::machine::Firmware;
use farrier_sim::media::MediaStore;
use farrier_sim::tool::install_missing;
use farrier_sim::virtual_server::ServerOptions;

use super::login::Console;
use crate::qemu::{Lab, boot_mode, make_available, on_a_rack};

#[test]
fn a_debian_outlives_its_rackd() {
    // Before there is a rack: its namespace has no way to where packages come from.
    install_missing(|text| eprintln!("{text}")).unwrap();
    let guest = MediaStore::of_workspace().unwrap().debian().unwrap();
    let debian = ImageFile::raw(&compress(&guest.path).unwrap()).unwrap();
    let options = ServerOptions { disks: Vec::new(), ..ServerOptions::default() };
    on_a_rack(Firmware::Bios, options, |lab| Box::pin(outlive(lab, debian)));
}

async fn outlive(lab: &mut Lab, debian: ImageFile) -> Result<()> {
    make_available(&lab.client, &lab.server, &debian, boot_mode(Firmware::Bios)).await?;
    let start = lab.server.machine.serial_position();
    let mut person = Console::attach(lab, "n1").await?;
    let instance = Instance {
        name: "anvil".into(),
        flavor: "flavors/any".into(),
        image: "images/mini".into(),
        hostname: "hammer".into(),
        method: DeployMethod::Diskless.into(),
        ready: ReadyGate::PhoneHome.into(),
        ready_seconds: 1500,
        user_data: user_data().into_bytes(),
        ..Instance::default()
    };
    lab.client.wait(lab.client.create_instance(instance).await?, |_| {}).await?;
    log_in(&mut person).await?;
    person.leave().await?;
    expect(lab, start, "FARRIER-WITNESS synced=5 root=ext4 rw.").await?;
    expect(lab, start, "FARRIER-SESSION state=LOGGED_IN away=0.").await?;

    // More of a disk, as an operator types it; the guest looks again once a second.
    let larger = ["instance", "resize", "anvil", "--disk", "4GiB"];
    tokio::task::block_in_place(|| lab.farrier.farrier(&larger))?;
    expect(lab, start, &format!("FARRIER-DISK bytes={}.", 4_u64 << 30)).await?;

    // A restart, and half a minute by the guest's own clock in which its session is gone and writes wait.
    for away in [0, 30] {
        lab.farrier.kill(Service::Rackd);
        let mut at = lab.server.machine.serial_position();
        if away > 0 {
            at = expect(lab, at, &format!("FARRIER-SESSION state=FAILED away={away}.")).await?;
        }
        lab.farrier.restart(Service::Rackd).await?;
        at = expect(lab, at, "FARRIER-SESSION state=LOGGED_IN away=0.").await?;
        // The write that waited, and ones after it.
        for _ in 0..3 {
            at = expect(lab, at, "FARRIER-WITNESS synced=").await?;
            at = expect(lab, at, "root=ext4 rw.").await?;
        }
    }
    let console = console(lab, start);
    for bad in ["root=ext4 ro", "WITNESS write failed", "WITNESS sync failed", "EXT4-fs error", "I/O error"] {
        ensure!(!console.contains(bad), "the console has {bad:?}");
    }

    lab.client.wait(lab.client.power("n1", PowerAction::SoftOff).await?, |_| {}).await?;
    let synced = last_synced(&self::console(lab, start)).context("nothing synced")?;
    // Nobody else has the overlay open.
    lab.farrier.kill(Service::Rackd);
    let data = lab.farrier.data(Service::Rackd);
    let lines = tokio::task::spawn_blocking(move || lines_on_clean_root(&data, "anvil")).await??;
    ensure!(lines.len() >= synced, "{} lines, {synced} were synced", lines.len());
    for (number, line) in (1..).zip(lines) {
        ensure!(line == format!("line {number}"), "{line:?} is not line {number}");
    }
    Ok(())
}

/// Over SOL, as it happens: firmware, its loader, the system's prompt, and a login typed there with the password that the
/// instance was given. What it starts is what the rest of the test looks at.
async fn log_in(console: &mut Console) -> Result<()> {
    for shown in ["SeaBIOS (version", "iPXE", "hammer login: "] {
        console.shows(shown).await?;
    }
    console.types("root\r")?;
    console.shows("Password: ").await?;
    console.types(&format!("{PASSWORD}\r"))?;
    console.shows("root@hammer:~# ").await?;
    console.types("echo FARRIER-$((6*7))-$(hostname) $(uname -s)\r")?;
    console.shows("FARRIER-42-hammer Linux").await?;
    console.types("systemd-run --unit=witness /usr/local/sbin/witness\r")?;
    console.shows("Running as unit: witness.service").await?;
    // A BREAK and a letter, which Linux answers itself.
    console.types("\r~Sh")?;
    console.shows("sysrq: HELP : loglevel(0-9)").await
}

/// The file system of an instance's root: whole, and clean once its journal is replayed, as a mount would. Returns
/// what the guest wrote.
fn lines_on_clean_root(data: &Path, instance: &str) -> Result<Vec<String>> {
    let dir = tempfile::tempdir()?;
    let record = std::fs::read(data.join(format!("volumes/{instance}.json")))?;
    let record: serde_json::Value = serde_json::from_slice(&record)?;
    let digest = record["manifest_sha256"].as_str().context("a volume without an image")?;
    let base = FileBacking::open(&data.join(format!("images/{digest}.raw")), Mode::ReadOnly)?;
    let overlay = Overlay::open(&data.join(format!("volumes/{instance}.overlay")), base, digest)?;
    let disk = dir.path().join("disk.raw");
    overlay.export(&mut std::fs::File::create(&disk)?)?;

    let table = run("partx", &["-g", "-o", "START,SECTORS,NAME", path(&disk)])?;
    let words: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let place = words.iter().find_map(|line| match line.as_slice() {
        [start, sectors, "root"] => Some((*start, *sectors)),
        _ => None,
    });
    let (start, sectors) = place.with_context(|| format!("no partition root: {table:?}"))?;
    let root: PathBuf = dir.path().join("root.ext4");
    let (input, output) = (format!("if={}", disk.display()), format!("of={}", root.display()));
    let (skip, count) = (format!("skip={start}"), format!("count={sectors}"));
    run("dd", &[&input, &output, "bs=512", &skip, &count, "conv=sparse", "status=none"])?;
    run("e2fsck", &["-E", "journal_only", "-y", path(&root)])?;
    run("e2fsck", &["-fn", path(&root)])?;
    let text = run("debugfs", &["-R", "cat /var/witness", path(&root)])?;
    Ok(text.lines().map(str::to_owned).collect())
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let done = Command::new(program).args(arguments).env("PATH", SBIN).output()?;
    ensure!(done.status.success(), "{program} {arguments:?}: {}\n{done:?}", done.status);
    Ok(String::from_utf8(done.stdout)?)
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary directory has a plain name")
}

/// cloud-init puts the witness there; who logs in starts it.
fn user_data() -> String {
    let script = WITNESS.lines().map(|line| format!("      {line}\n")).collect::<String>();
    format!(
        "#cloud-config\nwrite_files:\n  - path: /usr/local/sbin/witness\n    permissions: '0755'\n    content: |\n{script}\
         chpasswd:\n  expire: false\n  users:\n  - {{ name: root, password: {PASSWORD}, type: text }}\n"
    )
}

fn last_synced(console: &str) -> Option<usize> {
    let (_, last) = console.rsplit_once("FARRIER-WITNESS synced=")?;
    last.split(' ').next()?.parse().ok()
}

fn console(lab: &Lab, after: usize) -> String {
    let bytes = std::fs::read(lab.server.machine.spec().serial_log()).unwrap_or_default();
    String::from_utf8_lossy(bytes.get(after..).unwrap_or_default()).into_owned()
}

async fn expect(lab: &Lab, after: usize, text: &str) -> Result<usize> {
    Ok(lab.server.machine.wait_serial(after, text, LIMIT).await?)
}

const PASSWORD: &str = "horseshoe";
const WITNESS: &str = include_str!("witness.sh");
/// A Debian under emulation on a busy machine.
const LIMIT: Duration = Duration::from_secs(600);
/// File system tools are not in everybody's path.
const SBIN: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
