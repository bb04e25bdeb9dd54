//! OVMF with Secure Boot enforced: what is not signed does not run, and Debian's shim and GRUB lead to the kernel.

use std::{path::Path, time::Instant};

use farrier_netboot::{Artifact, Boot, Config, EventKind, Segment, SignedChain};

use crate::firmware::{PATIENCE, Rack, two};
use crate::lab::{HTTP_PORT, MAC, Running, SERVER_IP, entry, file, noise, table};
use crate::record::Recording;

const SHIM: &str = "/usr/lib/shim/shimx64.efi.signed";
const GRUB: &str = "/usr/lib/grub/x86_64-efi-signed/grubnetx64.efi.signed";
/// More than a piece that is read at once, and less than GRUB's patience.
const KERNEL: usize = 300_001;

fn boot(signed: bool) -> Boot {
    let ramdisks = two("console=ttyS0 farrier.token=abc");
    if signed { Boot::Signed(ramdisks) } else { Boot::Script(ramdisks) }
}

#[test]
fn locked_firmware_refuses_ipxe_and_goes_from_shim_to_grub_to_its_kernel() {
    let rack = Rack::new();
    let mut config = Config::new(HTTP_PORT);
    file("/usr/lib/ipxe/snponly.efi", "ipxe");
    config.load_files(Path::new("/usr/lib/ipxe")).unwrap();
    let (shim, grub) = (file(SHIM, "shim-signed"), file(GRUB, "grub-efi-amd64-signed"));
    config.load_signed(SignedChain::X64, &shim, &grub).unwrap();
    let segment = Segment::new("provisioning", "br0", SERVER_IP.parse().unwrap(), 24);
    let mut table = table(segment, boot(false));
    // No kernel: GRUB, who would ask shim for its signature, says so when it has read the beginning of it.
    let kernel = rack.dir.path().join("vmlinuz");
    std::fs::write(&kernel, noise(KERNEL)).unwrap();
    table.publish_artifact("vmlinuz".parse().unwrap(), Artifact::File(kernel));
    let mut server = Running::start(&rack.namespace, config, table);

    // The lock holds: it has all of iPXE, and does not run it.
    let machine = rack.locked();
    let size = std::fs::metadata("/usr/lib/ipxe/snponly.efi").unwrap().len();
    server.wait(PATIENCE, |kind| matches!(kind, EventKind::TftpDone { bytes, .. } if *bytes == size));
    machine.expect_serial(b"Access Denied");
    drop(machine);
    assert!(!server.kinds().iter().any(EventKind::gave_script), "{:?}", server.kinds());

    server.netboot.update(|table| table.publish(entry(boot(true))));
    let recording = Recording::begin("ovmf-secure-boot", &rack.namespace, "br0");
    let started = Instant::now();
    let machine = rack.locked();
    server.wait(PATIENCE, |kind| *kind == EventKind::TftpScript);
    eprintln!("secure boot: script after {:?}", started.elapsed());
    machine.expect_serial(b"bad shim signature");
    recording.end(&server);
    let trace = server.netboot.trace(MAC);
    let last = |name: &str| {
        trace.iter().any(|e| e.detail.starts_with(name) && matches!(e.kind, EventKind::TftpDone { .. }))
    };
    assert!(last("shimx64.efi") && last("grubx64.efi"), "{trace:#?}");
    // What shim and GRUB look for and do without is no news.
    assert!(!trace.iter().any(|event| event.kind == EventKind::TftpRefused), "{trace:#?}");
    assert!(!format!("{trace:?}").contains("abc"), "the secret is in no event");
}
