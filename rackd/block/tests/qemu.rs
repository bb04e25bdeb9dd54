//! QEMU's own initiator: an image through it and back, on an overlay, with the image below untouched.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::process::{Command, Stdio};
use std::sync::Arc;

use farrier_block::{Backing, FileBacking, Image, Limits, LunSpec, Mode, Overlay, OverlayOptions};
use support::{Server, target};

const NODE: &str = "iqn.2026-01.dev.farrier:node";

#[test]
fn qemu_writes_discards_compares_and_reads_back() {
    let directory = tempfile::tempdir().expect("a directory");
    let at = |name: &str| directory.path().join(name);
    let image: Vec<u8> =
        (0..SIZE / 4).flat_map(|number: u32| number.wrapping_mul(0x9e37_79b9).to_le_bytes()).collect();
    std::fs::write(at("image"), &image).expect("written");
    let below: Arc<dyn Image> = FileBacking::open(&at("image"), Mode::ReadOnly).expect("opens");
    let overlay = Overlay::create(&at("overlay"), &OverlayOptions::default(), below, "image").expect("made");
    let server = Server::start(Limits::default(), 1);
    server.targets.add(target(NODE, LunSpec::new(0, overlay.clone() as Arc<dyn Backing>))).expect("added");
    let url = server.url(NODE);
    // The clone is the image.
    let compared = qemu("qemu-img", &["compare", "-f", "raw", "-F", "raw", &url, path(&at("image"))]);
    assert!(compared.contains("identical"), "{compared}");
    let script = [
        "write -P 0x11 0 64k",
        "write -P 0x22 100k 3k",
        "write -z 1M 128k",
        "discard 2M 1M",
        "flush",
        "read -P 0x11 0 64k",
        "read -P 0x22 100k 3k",
        "read -P 0 1M 128k",
        "read -P 0 2M 1M",
    ];
    let mut arguments = vec!["-f", "raw", "-t", "none"];
    for line in script {
        arguments.extend(["-c", line]);
    }
    arguments.push(&url);
    let done = qemu("qemu-io", &arguments);
    assert!(!done.contains("verification failed"), "{done}");
    let mut expected = image.clone();
    expected[..64 << 10].fill(0x11);
    expected[100 << 10..103 << 10].fill(0x22);
    expected[1 << 20..(1 << 20) + (128 << 10)].fill(0);
    expected[2 << 20..3 << 20].fill(0);
    qemu("qemu-img", &["convert", "-f", "raw", "-O", "raw", &url, path(&at("copy"))]);
    assert!(std::fs::read(at("copy")).expect("there") == expected, "what QEMU read");
    assert!(std::fs::read(at("image")).expect("there") == image, "the image below is untouched");
    let usage = overlay.usage().expect("counted");
    assert!(usage.allocated <= 80 << 10, "discarded blocks take no space: {usage:?}");
    // Another image over the whole disk.
    std::fs::write(at("other"), vec![0x5a; SIZE as usize]).expect("written");
    qemu("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", path(&at("other")), &url]);
    let compared = qemu("qemu-img", &["compare", "-f", "raw", "-F", "raw", &url, path(&at("other"))]);
    assert!(compared.contains("identical"), "{compared}");
}

fn path(path: &std::path::Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn qemu(program: &str, arguments: &[&str]) -> String {
    let output = Command::new("timeout")
        .args(["300", program])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("timeout of coreutils runs");
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {text}");
    text
}

const SIZE: u32 = 8 << 20;
