//! Which disk takes the operating system: Ironic's root device hints, as a pure function.
//!
//! Placement asks it of what the last inspection saw, and the agent of what it sees: the same answer twice.

/// A disk, as an inspection sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disk {
    /// Device name, `/dev/sda`.
    pub name: String,
    pub size_bytes: u64,
    pub model: String,
    pub serial_number: String,
    /// World wide name without `0x`.
    pub wwn: String,
    pub rotational: bool,
    /// Name in /dev/disk/by-path.
    pub by_path: String,
}

/// What the disk has to be. Empty, zero and `None`: anything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hints {
    pub name: String,
    pub serial_number: String,
    pub wwn: String,
    /// Part of the model's name, in upper or lower case.
    pub model: String,
    pub min_size_bytes: u64,
    pub rotational: Option<bool>,
    pub by_path: String,
}

/// Why a disk was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    pub disk: String,
    pub because: String,
}

/// The index of the smallest disk that matches every hint that is set, ties by name; else why each does not.
pub fn pick(disks: &[Disk], hints: &Hints) -> Result<usize, Vec<Rejection>> {
    let mut rejections = Vec::new();
    let mut best: Option<(usize, &Disk)> = None;
    for (index, disk) in disks.iter().enumerate() {
        if let Some(because) = mismatch(disk, hints) {
            rejections.push(Rejection { disk: disk.name.clone(), because });
        } else if best.is_none_or(|(_, b)| (disk.size_bytes, &disk.name) < (b.size_bytes, &b.name)) {
            best = Some((index, disk));
        }
    }
    best.map(|(index, _)| index).ok_or(rejections)
}

fn mismatch(disk: &Disk, hints: &Hints) -> Option<String> {
    let differs = |what: &str, expected: &str, seen: &str| {
        (!expected.is_empty() && !expected.trim().eq_ignore_ascii_case(seen))
            .then(|| format!("{what} is {seen:?}, expected {expected:?}"))
    };
    let wwn = hints.wwn.trim().trim_start_matches("0x");
    let (model, wanted_model) = (disk.model.to_lowercase(), hints.model.to_lowercase());

    differs("name", &hints.name, &disk.name)
        .or_else(|| differs("serial number", &hints.serial_number, &disk.serial_number))
        .or_else(|| differs("wwn", wwn, &disk.wwn))
        .or_else(|| differs("by-path", hints.by_path.trim_start_matches("/dev/disk/by-path/"), &disk.by_path))
        .or_else(|| {
            (!model.contains(&wanted_model))
                .then(|| format!("model is {:?}, expected one with {:?} in it", disk.model, hints.model))
        })
        .or_else(|| {
            (disk.size_bytes < hints.min_size_bytes)
                .then(|| format!("has {} bytes, expected at least {}", disk.size_bytes, hints.min_size_bytes))
        })
        .or_else(|| {
            hints.rotational.filter(|wanted| *wanted != disk.rotational).map(|wanted| {
                let kind = |rotational| if rotational { "rotational" } else { "solid-state" };
                format!("is {}, expected {}", kind(disk.rotational), kind(wanted))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks() -> Vec<Disk> {
        let disk = |name: &str, size_bytes, serial: &str, model: &str, rotational| Disk {
            name: name.into(),
            size_bytes,
            serial_number: serial.into(),
            model: model.into(),
            rotational,
            wwn: format!("5000{serial}"),
            by_path: format!("pci-{serial}"),
        };
        vec![
            disk("/dev/sda", 4000, "a1", "ST4000NM", true),
            disk("/dev/nvme0n1", 1000, "b2", "SAMSUNG MZQL2", false),
            disk("/dev/nvme1n1", 1000, "c3", "SAMSUNG MZQL2", false),
        ]
    }

    fn check(hints: Hints, expect: Result<&str, &[&str]>) {
        let disks = disks();
        let seen = pick(&disks, &hints);
        match expect {
            Ok(name) => assert_eq!(seen.as_ref().map(|i| disks[*i].name.as_str()), Ok(name), "{hints:?}"),
            Err(reasons) => {
                let seen: Vec<_> = seen.unwrap_err().into_iter().map(|r| r.because).collect();
                assert_eq!(seen, reasons, "{hints:?}");
            }
        }
    }

    #[test]
    fn every_hint_that_is_set_must_match_and_the_smallest_disk_wins() {
        let none = Hints::default;
        check(none(), Ok("/dev/nvme0n1"));
        check(Hints { name: "/dev/sda".into(), ..none() }, Ok("/dev/sda"));
        check(Hints { serial_number: "C3".into(), ..none() }, Ok("/dev/nvme1n1"));
        check(Hints { wwn: "0x5000A1".into(), ..none() }, Ok("/dev/sda"));
        check(Hints { model: "samsung".into(), ..none() }, Ok("/dev/nvme0n1"));
        check(Hints { rotational: Some(true), ..none() }, Ok("/dev/sda"));
        check(Hints { min_size_bytes: 1001, ..none() }, Ok("/dev/sda"));
        check(Hints { by_path: "/dev/disk/by-path/pci-c3".into(), ..none() }, Ok("/dev/nvme1n1"));
    }

    #[test]
    fn each_rejection_has_its_reason() {
        check(
            Hints { model: "st4000".into(), min_size_bytes: 5000, ..Hints::default() },
            Err(&[
                "has 4000 bytes, expected at least 5000",
                "model is \"SAMSUNG MZQL2\", expected one with \"st4000\" in it",
                "model is \"SAMSUNG MZQL2\", expected one with \"st4000\" in it",
            ]),
        );
    }

    #[test]
    fn no_disks_match_nothing() {
        assert_eq!(pick(&[], &Hints::default()), Err(vec![]));
    }
}
