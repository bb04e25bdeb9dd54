//! `rackd block serve` as somebody without rights starts it: driven by libiscsi's programs and QEMU's.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

const FIRST: &str = "iqn.2026-01.com.example:first";
const SECOND: &str = "iqn.2026-01.com.example:second";

/// A server, and what it serves.
struct Served {
    dir: tempfile::TempDir,
    child: Child,
    portal: String,
}

impl Served {
    /// Two targets of a MiB and of two, with these further arguments.
    fn start(more: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        open_to_all(dir.path(), 0o777);
        let mut args = vec!["block".to_owned(), "serve".into(), "--listen".into(), "127.0.0.1:0".into()];
        for (name, file, mib) in [(FIRST, "first", 1), (SECOND, "second", 2)] {
            let path = dir.path().join(file);
            std::fs::write(&path, vec![7; mib << 20]).unwrap();
            open_to_all(&path, 0o666);
            args.push(format!("--target={name}={}", path.display()));
        }
        let secret = dir.path().join("secret");
        std::fs::write(&secret, "a-secret-of-sixteen\n").unwrap();
        open_to_all(&secret, 0o644);
        args.extend(more.iter().map(|arg| arg.replace("SECRET", &secret.display().to_string())));
        let mut command = Command::new(program(dir.path()));
        command.args(&args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        if rustix::process::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let portal =
            line.trim().strip_prefix("listening on ").unwrap_or_else(|| panic!("{line:?}")).to_owned();
        Self { dir, child, portal }
    }

    fn inquiry(&self, login: &str, target: &str) -> Output {
        run("iscsi-inq", &["-i", "iqn.x:i", &format!("iscsi://{login}{}/{target}/0", self.portal)])
    }

    fn qemu_io(&self, how: &[&str], target: &str, command: &str) -> Output {
        let url = format!("iscsi://{}/{target}/0", self.portal);
        run("qemu-io", &[how, &["-f", "raw", "-c", command, &url]].concat())
    }

    /// As a service manager ends it.
    fn terminate(&mut self) -> std::process::ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn two_targets_are_listed_read_and_written_without_rights_and_end_by_sigterm() {
    let mut served = Served::start(&["--threads", "1"]);
    let listed = run("iscsi-ls", &["-i", "iqn.x:i", &format!("iscsi://{}", served.portal)]);
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains(FIRST) && text.contains(SECOND), "{listed:?}");
    for (target, mib) in [(FIRST, 1), (SECOND, 2)] {
        assert!(served.inquiry("", target).status.success());
        let about =
            run("qemu-img", &["info", "--output=json", &format!("iscsi://{}/{target}/0", served.portal)]);
        let text = String::from_utf8_lossy(&about.stdout).into_owned();
        assert!(text.contains(&format!("\"virtual-size\": {}", mib << 20)), "{text} {about:?}");
    }
    let written = served.qemu_io(&[], SECOND, "write -P 0x42 64k 4k");
    assert!(written.status.success(), "{written:?}");
    let disk = std::fs::read(served.dir.path().join("second")).unwrap();
    assert!(disk[64 << 10..68 << 10].iter().all(|byte| *byte == 0x42));
    assert_eq!((disk[(64 << 10) - 1], disk[68 << 10], disk.len()), (7, 7, 2 << 20));
    let ended = served.terminate();
    assert!(ended.success() && ended.signal().is_none(), "{ended:?}");
    assert!(!served.inquiry("", FIRST).status.success());
}

#[test]
fn chap_and_readonly_are_what_they_say() {
    let mut served = Served::start(&["--chap", "me:SECRET", "--readonly"]);
    assert!(served.inquiry("me%a-secret-of-sixteen@", FIRST).status.success());
    for wrong in ["", "me%another-secret!!@", "you%a-secret-of-sixteen@"] {
        assert!(!served.inquiry(wrong, FIRST).status.success(), "{wrong:?}");
    }
    assert!(served.terminate().success());

    let served = Served::start(&["--readonly"]);
    let read = served.qemu_io(&["-r"], FIRST, "read -P 7 0 64k");
    assert!(read.status.success(), "{read:?}");
    let said = String::from_utf8_lossy(&read.stdout).into_owned();
    assert!(said.contains("read 65536/65536 bytes") && !said.contains("failed"), "{said}");
    assert!(!served.qemu_io(&[], FIRST, "write -P 0x42 0 4k").status.success());
    assert!(std::fs::read(served.dir.path().join("first")).unwrap().iter().all(|byte| *byte == 7));
}

#[test]
fn what_cannot_be_served_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let short = dir.path().join("short");
    std::fs::write(&short, "short\n").unwrap();
    let disk = dir.path().join("disk");
    std::fs::write(&disk, vec![0; 1 << 20]).unwrap();
    let disk = format!("--target={FIRST}={}", disk.display());
    for (args, word) in [
        (vec!["--target=disk".to_owned()], "IQN=FILE"),
        (vec![format!("--target={FIRST}=/nowhere/disk")], "/nowhere/disk"),
        (vec![disk.clone(), format!("--chap=me:{}", short.display())], "12 characters"),
        (vec![disk.clone(), "--chap=me".into()], "USER:SECRETFILE"),
        (vec![disk.clone(), disk], FIRST),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rackd"));
        let output =
            command.args(["block", "serve", "--listen", "127.0.0.1:0"]).args(&args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{args:?}: {said}");
        assert!(!said.contains("short\n"), "{said}");
    }
}

/// The program where NOBODY can reach it: a build directory may be its owner's only.
fn program(dir: &Path) -> PathBuf {
    let built = Path::new(env!("CARGO_BIN_EXE_rackd"));
    let ours = dir.join("rackd");
    if std::fs::hard_link(built, &ours).is_err() {
        std::fs::copy(built, &ours).unwrap();
    }
    ours
}

fn open_to_all(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new("timeout").arg("60").arg(program).args(args).stdin(Stdio::null()).output();
    output.unwrap_or_else(|error| {
        panic!("{program} of the Debian packages libiscsi-bin and qemu-utils: {error}")
    })
}

/// Owns nothing.
const NOBODY: u32 = 65534;
