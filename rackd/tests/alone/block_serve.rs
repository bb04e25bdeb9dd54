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
        for (file, text) in [("secret", "a-secret-of-sixteen\n"), ("own-secret", "another-of-sixteen\n")] {
            let secret = dir.path().join(file);
            std::fs::write(&secret, text).unwrap();
            open_to_all(&secret, 0o644);
        }
        args.extend(more.iter().map(|arg| arg.replace("DIR", &dir.path().display().to_string())));
        Self::start_with(dir, &args)
    }

    fn start_with(dir: tempfile::TempDir, args: &[String]) -> Self {
        let mut command = unprivileged(dir.path());
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
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
    let mut served = Served::start(&["--chap", "me:DIR/secret", "--readonly"]);
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
fn the_target_proves_itself_and_lets_in_who_is_named() {
    let served = Served::start(&[
        "--chap=me:DIR/secret",
        "--mutual-chap=rack:DIR/own-secret",
        "--initiator=iqn.x:i",
        "--initiator=iqn.x:j",
    ]);
    let inquiry = |initiator: &str, own: &str| {
        let login = "me%a-secret-of-sixteen@";
        let proof = format!("?target_user=rack&target_password={own}");
        let url = format!("iscsi://{login}{}/{FIRST}/0{proof}", served.portal);
        run("iscsi-inq", &["-i", initiator, &url]).status.success()
    };
    assert!(inquiry("iqn.x:i", "another-of-sixteen") && inquiry("iqn.x:j", "another-of-sixteen"));
    assert!(!inquiry("iqn.x:i", "something-wrong-here"), "the initiator finds out");
    assert!(!inquiry("iqn.x:k", "another-of-sixteen"), "not named");
}

#[test]
fn a_copy_on_write_disk_is_made_served_copied_rebased_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    open_to_all(dir.path(), 0o777);
    let at = dir.path().to_owned();
    let path = |name: &str| at.join(name).display().to_string();
    // The second image has what will be written, at the same place.
    let golden = vec![7; 4 << 20];
    let mut newer = golden.clone();
    newer[64 << 10..128 << 10].fill(0x42);
    for (name, content) in [("golden", &golden), ("newer", &newer)] {
        std::fs::write(at.join(name), content).unwrap();
        open_to_all(&at.join(name), 0o444);
    }
    let overlay = |args: &[&str]| {
        let output = unprivileged(&at).args(["block", "overlay"]).args(args).output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), said)
    };
    let done = |args: &[&str]| {
        let (ok, said) = overlay(args);
        assert!(ok, "{args:?}: {said}");
        said
    };
    let disk = path("disk");
    done(&["create", &disk, "--base", &path("golden"), "--size", "8MiB"]);
    assert!(!overlay(&["create", &disk, "--base", &path("golden")]).0, "never over another");

    let args = ["block", "serve", "--listen", "127.0.0.1:0"].map(str::to_owned);
    let target = format!("--target={FIRST}=overlay:{disk}");
    let mut served = Served::start_with(dir, &[&args[..], &[target]].concat());
    let written = served.qemu_io(&[], FIRST, "write -P 0x42 64k 64k");
    assert!(written.status.success(), "{written:?}");
    assert!(served.qemu_io(&[], FIRST, "read -P 7 0 64k").status.success());
    // Two that write to one file would destroy it.
    let (ok, said) = overlay(&["show", &disk]);
    assert!(!ok && said.contains("stop what serves it"), "{said}");
    assert!(served.terminate().success());

    // A raw disk is one whatever its guest has written into it, but it has to be said.
    let elsewhere = tempfile::tempdir().unwrap();
    open_to_all(elsewhere.path(), 0o777);
    let unsaid = [&args[..], &[format!("--target={FIRST}={disk}")]].concat();
    let refused = unprivileged(&at).args(unsaid).output().unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("overlay:"));
    let (ok, said) = overlay(&["create", &path("over-over"), "--base", &disk]);
    assert!(!ok && said.contains("rackd block overlay export"), "{said}");
    let raw = format!("--target={FIRST}=raw:{disk}");
    let mut plain = Served::start_with(elsewhere, &[&args[..], std::slice::from_ref(&raw)].concat());
    // Whoever writes to a file has it alone.
    let twice = unprivileged(&at).args([&args[..], std::slice::from_ref(&raw)].concat()).output().unwrap();
    let text = String::from_utf8_lossy(&twice.stderr);
    assert!(!twice.status.success() && text.contains("it is in use"), "{text}");
    let first = plain.qemu_io(&["-r"], FIRST, "read -v 0 512");
    assert!(String::from_utf8_lossy(&first.stdout).contains("FARROVL1"), "{first:?}");
    assert!(plain.terminate().success());

    let said = done(&["show", &disk]);
    assert!(said.contains("own        65536 bytes") && said.contains("size       8388608 bytes"), "{said}");
    done(&["snapshot", &disk, &path("copy")]);
    done(&["rebase", &disk, "--onto", &path("newer")]);
    let said = done(&["show", &disk]);
    assert!(said.contains("own        0 bytes") && said.contains("/newer"), "{said}");
    done(&["resize", &disk, "4194304"]);
    for (from, raw) in [("disk", "disk.raw"), ("copy", "copy.raw")] {
        done(&["export", &path(from), &path(raw)]);
        assert!(!at.join(format!("{raw}.part")).exists());
        let mut content = std::fs::read(at.join(raw)).unwrap();
        content.truncate(4 << 20);
        assert!(content == newer, "{raw}");
    }
    assert_eq!(std::fs::read(at.join("golden")).unwrap(), golden, "the image below is untouched");
    let (ok, said) = overlay(&["show", &path("golden")]);
    assert!(!ok && said.contains("rackd block overlay create"), "{said}");
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
    if ours.exists() {
        return ours;
    }
    if std::fs::hard_link(built, &ours).is_err() {
        std::fs::copy(built, &ours).unwrap();
    }
    ours
}

/// The program as somebody without rights.
fn unprivileged(dir: &Path) -> Command {
    let mut command = Command::new(program(dir));
    if rustix::process::geteuid().is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
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
