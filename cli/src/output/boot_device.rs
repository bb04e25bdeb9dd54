//! What a machine starts from.

use super::{Column, Resource, column};
use farrier_proto::rack::{BmcBootDevice, BootSource};
use serde_json::{Value, json};

impl Resource for BmcBootDevice {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("DEVICE", |b, _| device(b).to_owned()),
            column("TIMES", |b, _| times(b).to_owned()),
            column("MODE", |b, _| mode(b).to_owned()),
        ]
    }

    const FIRST: &'static [&'static str] = &["device", "times", "boot_mode", "driver"];

    fn value(&self) -> Value {
        json!({
            "device": device(self),
            "times": times(self),
            "boot_mode": mode(self),
            "driver": self.driver,
        })
    }
}

/// As the command line takes it.
fn device(boot: &BmcBootDevice) -> &'static str {
    match boot.source() {
        BootSource::Unspecified => "",
        BootSource::None => "none",
        BootSource::Network => "pxe",
        BootSource::Disk => "disk",
        BootSource::Cdrom => "cdrom",
        BootSource::BiosSetup => "bios-setup",
        BootSource::Other => "other",
    }
}

fn times(boot: &BmcBootDevice) -> &'static str {
    match boot.source() {
        BootSource::None => "",
        _ if boot.persistent => "always",
        _ => "once",
    }
}

fn mode(boot: &BmcBootDevice) -> &'static str {
    match boot.boot_mode() {
        _ if boot.source() == BootSource::None => "",
        mode => super::boot_mode::word(mode),
    }
}
