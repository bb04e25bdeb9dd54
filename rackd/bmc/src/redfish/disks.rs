//! Disks: by Storage and its Drives, or by SimpleStorage (DSP0268) where there is none of those.

use super::collection::BATCH;
use super::document::{Document, Path};
use super::driver::{RedfishBmc, optional};
use super::inventory::{foremost, warn};
use crate::{BmcError, Deadline, Inventory, InventoryDisk};

/// Disks of one machine that are read: a shelf behind it has some dozens.
const MOST: usize = 128;

impl RedfishBmc {
    /// All disks that the system knows, as far as there is time for them: what else was read is told all the same.
    pub(super) async fn disks(
        &self,
        system: &Document,
        seen: &mut Inventory,
        deadline: Deadline,
    ) -> Result<(), BmcError> {
        match self.read_disks(system, seen, deadline).await {
            Err(error) if error.is_transient() => {
                foremost(&mut seen.warnings, format!("not all disks are read: {error}"));
                Ok(())
            }
            read => read,
        }
    }

    /// A controller that cannot be read is a warning.
    async fn read_disks(
        &self,
        system: &Document,
        seen: &mut Inventory,
        deadline: Deadline,
    ) -> Result<(), BmcError> {
        let (storage, simple) = (system.link("Storage"), system.link("SimpleStorage"));
        if storage.is_none() && simple.is_none() {
            warn(&mut seen.warnings, "there is no Storage and no SimpleStorage".to_owned());
        }
        for controller in self.controllers(storage, seen, deadline).await? {
            let drives = controller.links("Drives", MOST.saturating_sub(seen.disks.len()));
            for batch in drives.chunks(BATCH) {
                let read = self.some(batch, &mut seen.warnings, deadline).await?;
                read.iter().for_each(|(_, drive)| disk(seen, drive));
            }
        }
        if seen.disks.is_empty() {
            for controller in self.controllers(simple, seen, deadline).await? {
                for device in controller.parts("Devices", MOST.saturating_sub(seen.disks.len())) {
                    disk(seen, &device);
                }
            }
        }
        Ok(())
    }

    async fn controllers(
        &self,
        all: Option<Path>,
        seen: &mut Inventory,
        deadline: Deadline,
    ) -> Result<Vec<Document>, BmcError> {
        let Some(all) = all else { return Ok(Vec::new()) };
        let name = all.as_str().to_owned();
        let listed = self.listed(all, &mut seen.warnings, deadline).await;
        let members = optional(listed, &mut seen.warnings, &name)?.unwrap_or_default();
        let mut controllers = Vec::with_capacity(members.len());
        for batch in members.chunks(BATCH) {
            let read = self.some(batch, &mut seen.warnings, deadline).await?;
            controllers.extend(read.into_iter().map(|(_, controller)| controller));
        }
        Ok(controllers)
    }
}

/// A Drive, or a device of SimpleStorage: their words are the same. A bay without a disk is none.
fn disk(inventory: &mut Inventory, document: &Document) {
    let text = |path| document.text(path).unwrap_or_default();
    if text("Status/State") == "Absent" {
        return;
    }
    let name = document.text("Name").or_else(|| document.text("Id")).unwrap_or_else(|| "unnamed".to_owned());
    let size_bytes = document.number("CapacityBytes").unwrap_or_default();
    if size_bytes == 0 {
        warn(&mut inventory.warnings, format!("disk {name} has no CapacityBytes"));
    }
    inventory.disks.push(InventoryDisk {
        name,
        manufacturer: text("Manufacturer"),
        model: text("Model"),
        serial_number: text("SerialNumber"),
        size_bytes,
        media: text("MediaType"),
        protocol: text("Protocol"),
        health: text("Status/Health"),
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::redfish::scripted;

    #[test]
    fn a_disk_is_read_as_far_as_it_says_something_and_an_empty_bay_is_none() {
        let mut seen = Inventory::default();
        let mut read = |text: &str| disk(&mut seen, &Document::parse(text.as_bytes(), None).unwrap());
        read(
            r#"{"Name": "SSD 0", "CapacityBytes": 480103981056, "MediaType": "SSD", "Protocol": "NVMe",
                "Model": "PM983", "SerialNumber": "S1", "Status": {"State": "Enabled", "Health": "Warning"}}"#,
        );
        read(r#"{"Name": "Bay 1", "Status": {"State": "Absent"}}"#);
        read(r#"{"Id": "2", "CapacityBytes": "much", "Model": 7}"#);
        read("{}");
        let names: Vec<_> = seen.disks.iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["SSD 0", "2", "unnamed"]);
        assert_eq!((seen.disks[0].size_bytes, seen.disks[0].health.as_str()), (480_103_981_056, "Warning"));
        assert_eq!(seen.warnings, ["disk 2 has no CapacityBytes", "disk unnamed has no CapacityBytes"]);
    }

    /// Twenty disks, the last of which makes the BMC hang.
    #[tokio::test(start_paused = true)]
    async fn disks_that_there_is_no_time_for_are_a_warning_and_others_have_their_turn() {
        let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let log = std::sync::Arc::clone(&asked);
        let hub = scripted::hub(move |request| {
            log.lock().unwrap().push(request.to_owned());
            let body = match request {
                "GET /redfish/v1/" => scripted::ROOT.to_owned(),
                "GET /S" => r#"{"Members": [{"@odata.id": "/S/1"}]}"#.to_owned(),
                "GET /S/1" => {
                    r#"{"PowerState": "On", "Model": "M1", "Storage": {"@odata.id": "/C"}}"#.to_owned()
                }
                "GET /C" => r#"{"Members": [{"@odata.id": "/C/1"}]}"#.to_owned(),
                "GET /C/1" => {
                    let drives: Vec<_> = (0..20).map(|n| format!(r#"{{"@odata.id": "/D/{n}"}}"#)).collect();
                    format!(r#"{{"Drives": [{}]}}"#, drives.join(","))
                }
                "GET /D/19" => return None,
                drive if drive.starts_with("GET /D/") => r#"{"Name": "d", "CapacityBytes": 9}"#.to_owned(),
                _ => return Some((404, "{}".to_owned())),
            };
            Some((200, body))
        });
        let bmc = hub.bmc(scripted::address());
        let (seen, power) = tokio::join!(bmc.inventory(Deadline::after(Duration::from_secs(60))), async {
            while !asked.lock().unwrap().iter().any(|request| request == "GET /D/0") {
                tokio::task::yield_now().await;
            }
            bmc.power_status(Deadline::after(Duration::from_secs(60))).await
        });
        let seen = seen.unwrap();
        assert_eq!((seen.model.as_str(), seen.disks.len(), power), ("M1", 16, Ok(crate::PowerState::On)));
        assert!(seen.warnings[0].starts_with("not all disks are read: "), "{:?}", seen.warnings);
        let asked = asked.lock().unwrap().clone();
        let last = |request: &str| asked.iter().rposition(|asked| asked == request);
        assert!(last("GET /S/1") < last("GET /D/19"), "power is read between two batches: {asked:?}");
        hub.shutdown().await;
    }
}
