//! An arm64 machine whose firmware runs signed programs only: AAVMF with Microsoft's keys, Debian's shim, GRUB and kernel, and
//! a ramdisk, all from `rackd --standalone`, which has one for x86 beside it.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use farrier_sim::lab::Programs;
use farrier_sim::media::{Arm64, MediaStore};
use farrier_sim::net::Netns;
use farrier_sim::tool::install_missing;

const MAC: &str = "52:54:00:76:00:01";
/// Firmware, emulated and slow, is at its kernel in a minute, on a busy machine in four.
const PATIENCE: &str = "280";

#[test]
fn an_arm64_machine_with_secure_boot_goes_from_shim_to_grub_to_its_kernel_and_ramdisk() {
    farrier_sim::cleanup::on_signals();
    install_missing(|text| eprintln!("{text}")).unwrap();
    let rackd = Programs::beside_tests().unwrap().path("rackd").unwrap().to_owned();
    let Arm64 { shim, grub, kernel, initrd, .. } = MediaStore::of_workspace().unwrap().arm64().unwrap();
    let netns = Netns::create().unwrap();
    let bridge = netns.bridge("prov", 1, "10.76.0.1/24").unwrap();
    let tap = netns.tap("t0", &bridge).unwrap();
    let dir = netns.dir();
    let snapshot = dir.join("rack.yaml");
    let text = format!(
        "generation: 1\nsegments:\n- {{ name: lab, interface: {}, address: 10.76.0.1/24 }}\nmachines:\n\
         - {{ name: a1, mac: \"{MAC}\", segment: lab, address: 10.76.0.50, boot: {{ linux: {{ kernel: x, initrd: x, \
         args: proof=86, signed: true, arm64: {{ kernel: k, initrd: i, args: \"console=ttyAMA0 proof=52\" }} }} }} }}\n\
         artifacts: {{ x: {}, k: {}, i: {} }}\n...\n",
        bridge.name(),
        // Of x86: it is not asked for.
        snapshot.display(),
        kernel.display(),
        initrd.display()
    );
    std::fs::write(&snapshot, text).unwrap();
    let mut command = netns.command(&rackd.to_string_lossy());
    command.arg("--standalone").arg(&snapshot).arg("--data").arg(dir.join("data"));
    command.arg("--shim-arm64").arg(&shim).arg("--grub-arm64").arg(&grub);
    let mut serving = command.stdout(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(serving.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    assert_eq!(said, "serving generation 1: 1 segments, 1 machines");

    let vars = dir.join("vars.fd");
    std::fs::copy("/usr/share/AAVMF/AAVMF_VARS.ms.fd", &vars).expect("apt-get install qemu-efi-aarch64");
    let mut qemu = netns.command("timeout");
    qemu.args([
        PATIENCE,
        "qemu-system-aarch64",
        "-accel",
        "tcg",
        "-m",
        "512",
        "-nodefaults",
        "-no-user-config",
    ]);
    qemu.args(["-display", "none", "-serial", "stdio", "-machine", "virt", "-cpu", "cortex-a57", "-drive"]);
    qemu.arg("if=pflash,format=raw,unit=0,readonly=on,file=/usr/share/AAVMF/AAVMF_CODE.ms.fd");
    qemu.arg("-drive").arg(format!("if=pflash,format=raw,unit=1,file={}", vars.display()));
    qemu.arg("-netdev").arg(format!("tap,id=n0,ifname={},script=no,downscript=no", tap.name()));
    qemu.arg("-device").arg(format!("virtio-net-pci,netdev=n0,mac={MAC},bootindex=1,romfile="));
    qemu.args(["-device", "virtio-rng-pci", "-fw_cfg", "name=opt/org.tianocore/IPv6PXESupport,string=n"]);
    // Its ramdisk switches it off.
    let console = qemu.stdin(Stdio::null()).output().expect("apt-get install qemu-system-arm");
    let console = String::from_utf8_lossy(&console.stdout).into_owned();
    let up = console.lines().find(|line| line.starts_with(Arm64::UP));
    let up = up.unwrap_or_else(|| panic!("no system came up: {console}"));
    assert!(up.contains("aarch64") && up.contains("console=ttyAMA0 proof=52"), "{up}");
    // The kernel says that the firmware was locked.
    assert!(console.contains("UEFI Secure Boot is enabled"), "{console}");
    serving.kill().unwrap();
    serving.wait().unwrap();
}
