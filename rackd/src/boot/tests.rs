//! Which of two ramdisks a machine is given, and what is refused before it is switched on.

use super::*;
use crate::config::{RamdiskFiles, SignedBoot};
use crate::fixture;
use crate::ramdisks;
use farrier_proto::rack::MachinePort;
use std::sync::Arc;

const MAC: &str = "02:00:00:00:00:01";

/// With ramdisks for these, and shim and GRUB of arm64 alone.
async fn rack(
    data: &std::path::Path,
    first: Option<Architecture>,
    second: Option<Architecture>,
) -> Arc<Rack> {
    let mut rack = fixture::rack(data, &[9]).await;
    let changed = Arc::get_mut(&mut rack).unwrap();
    let files =
        |kernel: &str| RamdiskFiles { kernel: kernel.into(), initrd: "/i".into(), args: String::new() };
    changed.config.ramdisk.arm64 = second.map(|_| files("/k-arm64"));
    changed.config.signed_boot.arm64 = Some(SignedBoot { shim: "/shim".into(), grub: "/grub".into() });
    changed.ramdisks = ramdisks::Ramdisks::of(&changed.config.ramdisk, first, second).unwrap();
    rack
}

fn machine(architecture: &str, secure_boot: bool) -> Machine {
    let port = MachinePort { mac_address: MAC.into(), pxe_enabled: true, ..MachinePort::default() };
    let (name, architecture) = ("nodes/n1".into(), architecture.into());
    Machine { name, ports: vec![port], architecture, secure_boot, ..Machine::default() }
}

/// What the machine boots, or why nothing.
async fn publish(rack: &Rack, machine: &Machine, serve: &Serve<'_>) -> Result<Boot, String> {
    let place = Place::In(rack.provisioning().next().unwrap());
    rack.publish(machine, "n1", place, serve).await.map_err(|error| error.to_string())?;
    Ok(rack.netboot.table().entry(MAC.parse().unwrap(), "row-1").unwrap().boot.clone())
}

const RAMDISK: Serve<'static> = Serve::Ramdisk { token: "t" };

#[tokio::test]
async fn whatever_a_machine_is_its_boot_program_finds_the_ramdisk_of_its_architecture() {
    let dir = tempfile::tempdir().unwrap();
    let rack = rack(dir.path(), Some(Architecture::X86), Some(Architecture::Arm64)).await;
    for architecture in ["", "x86_64", "aarch64"] {
        let boot = publish(&rack, &machine(architecture, false), &RAMDISK).await.unwrap();
        let Boot::Script(Ramdisks::Two { x86, arm64 }) = boot else { panic!("{boot:?}") };
        assert_eq!(
            (x86.kernel.to_string(), arm64.kernel.to_string()),
            ("kernel".into(), "kernel-arm64".into())
        );
        // For one boot of one machine, whichever of them starts.
        assert!(x86.args == arm64.args && format!("{x86:?}").contains("farrier.token"), "{x86:?}");
    }
    // One that was never looked at may be one that has its shim.
    for architecture in ["", "aarch64"] {
        let boot = publish(&rack, &machine(architecture, true), &RAMDISK).await.unwrap();
        assert!(matches!(boot, Boot::Signed(Ramdisks::Two { .. })), "{boot:?}");
    }
    let refused = publish(&rack, &machine("x86_64", true), &RAMDISK).await.unwrap_err();
    assert!(
        refused.contains("[signed_boot.x86_64]") && refused.contains("grub-efi-amd64-signed"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_machine_without_a_ramdisk_of_its_architecture_is_not_switched_on() {
    let dir = tempfile::tempdir().unwrap();
    let rack = rack(dir.path(), Some(Architecture::X86), None).await;
    let (own, other) = (machine("x86_64", false), machine("aarch64", false));
    assert!(matches!(publish(&rack, &own, &RAMDISK).await, Ok(Boot::Script(Ramdisks::One(_)))));
    let refused = publish(&rack, &other, &RAMDISK).await.unwrap_err();
    assert!(
        refused.contains("node nodes/n1 is of arm64") && refused.contains("[ramdisk.arm64]"),
        "{refused}"
    );
    // Nor from a CD.
    let segment = rack.provisioning().next().unwrap();
    let refused = rack.publish_cd(&other, segment, "key", "t").await.unwrap_err();
    assert!(matches!(refused, PublishError::NoRamdisk { .. }), "{refused}");
    // Its own disk starts all the same.
    assert_eq!(publish(&rack, &other, &Serve::LocalDisk).await, Ok(Boot::LocalDisk));
}

#[tokio::test]
async fn an_arm64_machine_without_ipxe_is_not_diskless() {
    let dir = tempfile::tempdir().unwrap();
    let rack = rack(dir.path(), Some(Architecture::X86), Some(Architecture::Arm64)).await;
    let access = Access { target: "iqn.2026-11.x:t".into(), initiator: "iqn.2026-11.x:i".into(), port: 3260 };
    let account: Account = serde_json::from_str(r#"{ "number": 1, "secret": "abcdef0123456789" }"#).unwrap();
    let serve = Serve::San { access: &access, account: &account };
    for architecture in ["", "x86_64"] {
        let boot = publish(&rack, &machine(architecture, false), &serve).await;
        assert!(matches!(boot, Ok(Boot::San(_))), "{boot:?}");
    }
    let refused = publish(&rack, &machine("aarch64", false), &serve).await.unwrap_err();
    assert!(refused.contains("snponly-arm64.efi"), "{refused}");
}
