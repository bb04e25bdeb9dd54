//! Disks: by Storage and its Drives, or by SimpleStorage (DSP0268) where there is none of those.

use super::document::{Document, Path};
use super::driver::optional;
use super::inventory::warn;
use super::link::Link;
use crate::actor::Call;
use crate::{BmcError, Inventory, InventoryDisk};

/// Disks of one machine that are read: a shelf behind it has some dozens.
const MOST: usize = 128;

impl Link {
    /// All disks that the system knows. A controller that cannot be read is a warning.
    pub(super) async fn disks(
        &mut self,
        call: &mut Call,
        system: &Document,
        seen: &mut Inventory,
    ) -> Result<(), BmcError> {
        let (storage, simple) = (system.link("Storage"), system.link("SimpleStorage"));
        if storage.is_none() && simple.is_none() {
            warn(&mut seen.warnings, "there is no Storage and no SimpleStorage".to_owned());
        }
        for controller in self.controllers(call, storage, seen).await? {
            for drive in controller.links("Drives", MOST.saturating_sub(seen.disks.len())) {
                let document = self.get(call, &drive).await;
                if let Some(document) = optional(document, &mut seen.warnings, drive.as_str())? {
                    disk(seen, &document);
                }
            }
        }
        if seen.disks.is_empty() {
            for controller in self.controllers(call, simple, seen).await? {
                for device in controller.parts("Devices", MOST.saturating_sub(seen.disks.len())) {
                    disk(seen, &device);
                }
            }
        }
        Ok(())
    }

    async fn controllers(
        &mut self,
        call: &mut Call,
        all: Option<Path>,
        seen: &mut Inventory,
    ) -> Result<Vec<Document>, BmcError> {
        let Some(all) = all else { return Ok(Vec::new()) };
        let list = optional(self.get(call, &all).await, &mut seen.warnings, all.as_str())?;
        let mut controllers = Vec::new();
        for path in list.map(|list| list.links("Members", self.tuning.max_members)).unwrap_or_default() {
            controllers.extend(optional(self.get(call, &path).await, &mut seen.warnings, path.as_str())?);
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
    use super::*;

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
}
