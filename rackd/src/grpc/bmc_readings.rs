//! Events, sensors and the inventory of a machine, in the words of the wire.

use farrier_bmc::{Inventory, SensorHealth, SensorValue};
use farrier_proto::rack::{
    BmcDisk, BmcEvent, BmcEventDirection, BmcFirmware, BmcInventory, BmcNic, BmcSensor, BmcSensorHealth,
};

pub(super) fn event(event: farrier_bmc::BmcEvent) -> BmcEvent {
    let direction = match event.asserted {
        None => BmcEventDirection::Unspecified,
        Some(true) => BmcEventDirection::Asserted,
        Some(false) => BmcEventDirection::Deasserted,
    };
    BmcEvent {
        id: event.id,
        time: event.time.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
        sensor: event.sensor,
        message: event.message,
        direction: direction.into(),
    }
}

pub(super) fn sensor(sensor: SensorValue) -> BmcSensor {
    let health = match sensor.health {
        SensorHealth::Unknown => BmcSensorHealth::Unspecified,
        SensorHealth::Ok => BmcSensorHealth::Ok,
        SensorHealth::Warning => BmcSensorHealth::Warning,
        SensorHealth::Critical => BmcSensorHealth::Critical,
    };
    BmcSensor {
        name: sensor.name,
        kind: sensor.kind,
        value: sensor.value,
        unit: sensor.unit.to_owned(),
        health: health.into(),
        states: sensor.states,
    }
}

pub(super) fn inventory(read: Inventory, driver: String) -> BmcInventory {
    let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    let nics = read.nics.into_iter().map(|nic| BmcNic {
        name: nic.name,
        mac_address: nic.mac_address,
        link_up: nic.link_up,
    });
    let disks = read.disks.into_iter().map(|disk| BmcDisk {
        name: disk.name,
        manufacturer: disk.manufacturer,
        model: disk.model,
        serial_number: disk.serial_number,
        size_bytes: count(disk.size_bytes),
        media: disk.media,
        protocol: disk.protocol,
        health: disk.health,
    });
    let firmware = read.firmware.into_iter().map(|(name, version)| BmcFirmware { name, version });
    BmcInventory {
        manufacturer: read.manufacturer,
        model: read.model,
        serial_number: read.serial_number,
        uuid: read.uuid,
        cpu_model: read.cpu_model,
        cpu_count: count(read.cpu_count),
        thread_count: count(read.thread_count),
        memory_bytes: count(read.memory_bytes),
        nics: nics.collect(),
        firmware: firmware.collect(),
        warnings: read.warnings,
        driver,
        disks: disks.collect(),
    }
}
