//! What a BMC knows of its machine.

use super::{Column, Resource, column};
use farrier_proto::rack::BmcInventory;
use serde_json::{Value, json};

impl Resource for BmcInventory {
    fn columns() -> Vec<Column<Self>> {
        vec![
            column("MANUFACTURER", |i, _| i.manufacturer.clone()),
            column("MODEL", |i, _| i.model.clone()),
            column("SERIAL", |i, _| i.serial_number.clone()),
        ]
    }

    const FIRST: &'static [&'static str] = &["manufacturer", "model", "serial_number", "uuid"];

    fn value(&self) -> Value {
        json!({
            "manufacturer": self.manufacturer,
            "model": self.model,
            "serial_number": self.serial_number,
            "uuid": self.uuid,
            "cpu_model": self.cpu_model,
            "cpu_count": self.cpu_count,
            "thread_count": self.thread_count,
            "memory_bytes": self.memory_bytes,
            "nics": self.nics.iter().map(|nic| json!({
                "name": nic.name,
                "mac_address": nic.mac_address,
                "link_up": nic.link_up,
            })).collect::<Vec<_>>(),
            "disks": self.disks.iter().map(|disk| json!({
                "name": disk.name,
                "manufacturer": disk.manufacturer,
                "model": disk.model,
                "serial_number": disk.serial_number,
                "size_bytes": disk.size_bytes,
                "media": disk.media,
                "protocol": disk.protocol,
                "health": disk.health,
            })).collect::<Vec<_>>(),
            "firmware": self.firmware.iter().map(|part| json!({
                "name": part.name,
                "version": part.version,
            })).collect::<Vec<_>>(),
            "warnings": self.warnings,
            "driver": self.driver,
        })
    }
}
