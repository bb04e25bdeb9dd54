//! WriteImage from an iSCSI disk, of a target that is not ours: tgt.

use super::*;
use crate::testing::{ImageServer, image, tool};
use farrier_proto::agent::session_response::WriteImage;
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

/// tgtd with one disk (its LUN 1; LUN 0 is a controller) and one account.
struct Tgt {
    daemon: Child,
    socket: PathBuf,
    host: Ipv4Addr,
}

impl Tgt {
    async fn start(dir: &Path, disk: &Path) -> Self {
        // An address of our own instead of a free port: tgtd takes no port 0.
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let [_, _, a, b] = std::process::id().to_be_bytes();
        let host = Ipv4Addr::new(127, 130 + (a & 63), b, NEXT.fetch_add(1, Ordering::Relaxed));
        let socket = dir.join("tgt");
        let mut daemon = std::process::Command::new("tgtd");
        daemon.env("PATH", PATH).env("TGT_IPC_SOCKET", &socket).arg("-f");
        daemon.args(["--iscsi", &format!("portal={host}:3260")]);
        daemon.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let daemon = daemon.spawn().expect("install the package tgt");
        let tgt = Self { daemon, socket, host };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !tgt.admin(&["--op", "new", "--mode", "target", "--tid", "1", "-T", TARGET]) {
            assert!(Instant::now() < deadline, "tgtd does not answer");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let disk = disk.to_str().unwrap();
        assert!(tgt.admin(&["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", disk]));
        assert!(tgt.admin(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"]));
        tgt
    }

    fn admin(&self, args: &[&str]) -> bool {
        let mut command = std::process::Command::new("tgtadm");
        command.env("PATH", PATH).env("TGT_IPC_SOCKET", &self.socket).args(["--lld", "iscsi"]).args(args);
        command.stderr(Stdio::null()).status().unwrap().success()
    }

    /// From now on initiators must prove themselves. tgt's CHAP has MD5 (5) and a SHA-1 that it calls 7, which is
    /// SHA-256 in RFC 7143 section 12.1.3: what it can do with us is to refuse.
    fn want_proof(&self) {
        let secret = "0123456789abcdef";
        assert!(self.admin(&["--op", "new", "--mode", "account", "--user", "n1", "--password", secret]));
        assert!(self.admin(&["--op", "bind", "--mode", "account", "--tid", "1", "--user", "n1"]));
    }

    fn url(&self, proof: &str) -> String {
        format!("iscsi://{proof}{}:3260/{TARGET}/1?initiator=iqn.2026-11.dev.farrier:t:node:n1", self.host)
    }
}

impl Drop for Tgt {
    /// tgtd ignores SIGTERM while it has targets.
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[tokio::test]
async fn an_image_is_copied_from_a_foreign_target_and_a_refusal_is_told_without_the_secret() {
    let bench = Bench::new(64 << 20);
    let bytes = image(bench.dir.path(), &["/EFI/BOOT/BOOTX64.EFI"]);
    let disk = bench.dir.path().join("source.raw");
    std::fs::write(&disk, &bytes).unwrap();
    let tgt = Tgt::start(bench.dir.path(), &disk).await;
    let manifest = ImageServer::start(bytes.clone(), &[]).await.manifest(1 << 20);
    let write = async |proof: &str| {
        let url = tgt.url(proof);
        let sender = watch::Sender::new(url.clone());
        let command = WriteImage { root_device: None, manifest: Some(manifest.clone()), url };
        bench.run_from(Command::WriteImage(command), sender.subscribe()).await
    };
    let done = write("").await.unwrap();
    assert_eq!(done.disks, ["/dev/vda"]);
    let written = std::fs::read(bench.disk()).unwrap();
    // The backup of the partition table moved to the end of the larger disk, and the head names it.
    assert!(written[1 << 20..23 << 20] == bytes[1 << 20..23 << 20], "the disk does not hold the image");
    let said = tool("sgdisk", "gdisk", &["-v", &bench.disk_name()]);
    assert!(said.contains("No problems found"), "{said}");

    tgt.want_proof();
    let error = write("n1%not-the-secret@").await.unwrap_err();
    assert_eq!(error.reason(), FailureReason::Download);
    assert!(error.to_string().contains("login refused"), "{error}");
    assert!(!error.to_string().contains("not-the-secret"), "{error}");
}

const TARGET: &str = "iqn.2026-11.test:image";
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
