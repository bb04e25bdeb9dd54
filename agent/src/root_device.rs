//! Which disk takes the operating system, in the words of the protocol.
use farrier_model::root_device;
pub use farrier_model::root_device::Rejection;
use farrier_proto::types::{Disk, RootDeviceHints};

/// The smallest disk that matches every hint that is set, ties by name; else why each disk does not match.
pub fn pick<'a>(disks: &'a [Disk], hints: &RootDeviceHints) -> Result<&'a Disk, Vec<Rejection>> {
    let known: Vec<_> = disks.iter().map(disk).collect();
    let index = root_device::pick(&known, &wanted(hints))?;
    disks.get(index).ok_or_else(Vec::new)
}

fn disk(disk: &Disk) -> root_device::Disk {
    root_device::Disk {
        name: disk.name.clone(),
        size_bytes: u64::try_from(disk.size_bytes).unwrap_or(0),
        model: disk.model.clone(),
        serial_number: disk.serial_number.clone(),
        wwn: disk.wwn.clone(),
        rotational: disk.rotational,
        by_path: disk.by_path.clone(),
    }
}

fn wanted(hints: &RootDeviceHints) -> root_device::Hints {
    root_device::Hints {
        name: hints.name.clone(),
        serial_number: hints.serial_number.clone(),
        wwn: hints.wwn.clone(),
        model: hints.model.clone(),
        min_size_bytes: u64::try_from(hints.min_size_bytes).unwrap_or(0),
        rotational: hints.rotational,
        by_path: hints.by_path.clone(),
    }
}
