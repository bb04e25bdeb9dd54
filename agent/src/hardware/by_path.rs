//! The name a disk has below `/dev/disk/by-path`, from where it hangs in the device tree.
//!
//! udev is not in the ramdisk, so its rules for the common buses are repeated here (systemd
//! src/udev/udev-builtin-path_id.c): nearest PCI function, then how the disk hangs on it. SAS and
//! Fibre Channel names need more than the path; those disks get none rather than a wrong one.
use super::{attribute, number};
use std::path::Path;

/// `device` is the resolved `/sys/block/<name>`; `None` when the bus is not one of the known.
pub(super) fn by_path(root: &Path, device: &Path) -> Option<String> {
    let root = std::fs::canonicalize(root).ok()?;
    let below = device.strip_prefix(root.join("sys/devices")).ok()?;
    let parts: Vec<&str> = below.iter().filter_map(|part| part.to_str()).collect();
    let pci_at = parts.iter().rposition(|part| is_pci_address(part))?;
    let pci = parts.get(pci_at)?;
    let rest = parts.get(pci_at + 1..)?;
    let tail = tail(device, rest)?;
    Some(if tail.is_empty() { format!("pci-{pci}") } else { format!("pci-{pci}-{tail}") })
}

fn tail(device: &Path, rest: &[&str]) -> Option<String> {
    match rest {
        // …/virtio0/block/vda
        [virtio, "block", _] if virtio.starts_with("virtio") => Some(String::new()),
        // …/nvme/nvme0/nvme0n1
        ["nvme", _, _] => Some(format!("nvme-{}", number(&device.join("nsid"))?)),
        // …/virtio1/host0/target0:0:0/0:0:0:0/block/sda (virtio-scsi)
        [virtio, host, target, address, "block", _]
            if virtio.starts_with("virtio") && host.starts_with("host") && target.starts_with("target") =>
        {
            scsi(address)
        }
        // …/ata1/host0/target0:0:0/0:0:0:0/block/sda
        [ata, host, _, _, "block", _] if ata.starts_with("ata") && host.starts_with("host") => {
            // device → block → address → target → host → ata1
            let port = device.ancestors().nth(5)?.join("ata_port").join(ata).join("port_no");
            Some(format!("ata-{}", attribute(&port).parse::<u32>().ok()?))
        }
        // …/host0/target0:0:0/0:0:0:0/block/sda
        [host, target, address, "block", _] if host.starts_with("host") && target.starts_with("target") => {
            scsi(address)
        }
        // …/usb1/1-2/1-2:1.0/host6/target6:0:0/6:0:0:0/block/sdb
        [usb, .., interface, host, _, address, "block", _]
            if usb.starts_with("usb") && host.starts_with("host") =>
        {
            // udev drops the bus number: it depends on the order of probing.
            let (_, port) = interface.split_once('-')?;
            Some(format!("usb-0:{port}-{}", scsi(address)?))
        }
        _ => None,
    }
}

/// Host numbers depend on the order of probing too: udev counts from the first host of the parent,
/// which with one host a function is always 0.
fn scsi(address: &str) -> Option<String> {
    let (_, rest) = address.split_once(':')?;
    Some(format!("scsi-0:{rest}"))
}

/// `0000:00:1f.2`
fn is_pci_address(part: &str) -> bool {
    let hex = |s: &str| s.bytes().all(|b| b.is_ascii_hexdigit());
    let mut fields = part.split(':');
    let (Some(domain), Some(bus), Some(device), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return false;
    };
    let Some((slot, function)) = device.split_once('.') else { return false };
    domain.len() >= 4
        && bus.len() == 2
        && slot.len() == 2
        && function.len() == 1
        && [domain, bus, slot, function].iter().all(|s| hex(s))
}
