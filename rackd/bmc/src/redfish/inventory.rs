//! What documents say about hardware. Nothing in here fails: what is missing becomes a warning.

use super::document::Document;
use crate::{Inventory, InventoryNic};

/// Where in an inventory something goes.
type Field<T> = fn(&mut Inventory) -> &mut T;

/// What is read from a ComputerSystem (DSP0268), and where it goes.
const TEXTS: &[(&str, Field<String>)] = &[
    ("Manufacturer", |i| &mut i.manufacturer),
    ("Model", |i| &mut i.model),
    ("SerialNumber", |i| &mut i.serial_number),
    ("UUID", |i| &mut i.uuid),
    ("ProcessorSummary/Model", |i| &mut i.cpu_model),
];
const NUMBERS: &[(&str, Field<u64>)] = &[
    ("ProcessorSummary/Count", |i| &mut i.cpu_count),
    ("ProcessorSummary/LogicalProcessorCount", |i| &mut i.thread_count),
];

/// Takes the system's own properties over.
pub(super) fn system(inventory: &mut Inventory, system: &Document) {
    for (path, field) in TEXTS {
        match system.text(path) {
            Some(text) => *field(inventory) = text,
            None => warn(&mut inventory.warnings, format!("the system has no {path}")),
        }
    }
    for (path, field) in NUMBERS {
        match system.number(path) {
            Some(number) => *field(inventory) = number,
            None => warn(&mut inventory.warnings, format!("the system has no {path}")),
        }
    }
    match memory(system) {
        Some(bytes) => inventory.memory_bytes = bytes,
        None => {
            warn(&mut inventory.warnings, "the system has no MemorySummary/TotalSystemMemoryGiB".to_owned())
        }
    }
    if let Some(version) = system.text("BiosVersion") {
        inventory.firmware.push(("BIOS".to_owned(), version));
    }
}

/// Takes the BMC's own firmware over.
pub(super) fn manager(inventory: &mut Inventory, manager: Option<&Document>) {
    match manager.and_then(|manager| manager.text("FirmwareVersion")) {
        Some(version) => inventory.firmware.push(("BMC".to_owned(), version)),
        None => warn(&mut inventory.warnings, "no manager has a FirmwareVersion".to_owned()),
    }
}

/// One EthernetInterface. The permanent address first: the other may be set by an operating system.
pub(super) fn nic(inventory: &mut Inventory, document: &Document) {
    let name = document.text("Id").or_else(|| document.text("Name")).unwrap_or_else(|| "unnamed".to_owned());
    let mac = document.text("PermanentMACAddress").or_else(|| document.text("MACAddress"));
    match mac.as_deref().and_then(mac_address) {
        Some(mac_address) => {
            let link_up = document.text("LinkStatus").map(|status| status == "LinkUp");
            inventory.nics.push(InventoryNic { name, mac_address, link_up });
        }
        None => warn(&mut inventory.warnings, format!("NIC {name} has no MAC address")),
    }
}

/// One SoftwareInventory.
pub(super) fn firmware(inventory: &mut Inventory, document: &Document) {
    let name = document.text("Name").or_else(|| document.text("Id"));
    let Some(name) = name else { return warn(&mut inventory.warnings, "firmware without a name".to_owned()) };
    match document.text("Version") {
        Some(version) if !inventory.firmware.contains(&(name.clone(), version.clone())) => {
            inventory.firmware.push((name, version));
        }
        Some(_) => {}
        None => warn(&mut inventory.warnings, format!("firmware {name} has no version")),
    }
}

/// Says what is wrong, as long as there are not too many.
pub(super) fn warn(warnings: &mut Vec<String>, warning: String) {
    if warnings.len() < 32 {
        warnings.push(warning);
    }
}

/// One that is told however many there are.
pub(super) fn foremost(warnings: &mut Vec<String>, warning: String) {
    warnings.insert(0, warning);
    warnings.truncate(32);
}

/// 16 bytes of a UUID in text; the first half's byte order is the text's.
pub(super) fn uuid(text: &str) -> Option<[u8; 16]> {
    let digits: Vec<u8> = text.bytes().filter(|b| *b != b'-').collect();
    let mut bytes = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

fn memory(system: &Document) -> Option<u64> {
    const GIB: f64 = (1_u64 << 30) as f64;
    let gib = system.at("MemorySummary/TotalSystemMemoryGiB")?.as_f64()?;
    // A petabyte is more than any machine has.
    (0.0..=1_048_576.0).contains(&gib).then_some((gib * GIB) as u64)
}

/// Lower case with colons, from whatever separator.
pub(crate) fn mac_address(text: &str) -> Option<String> {
    let digits: String =
        text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
    let separators = text.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '-' | '.'));
    if digits.len() != 12 || !separators {
        return None;
    }
    let pairs = digits.as_bytes().chunks_exact(2).map(|pair| String::from_utf8_lossy(pair).into_owned());
    Some(pairs.collect::<Vec<_>>().join(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_a_warning_and_never_an_end() {
        let text = br#"{"Manufacturer": 7, "Model": "M1", "ProcessorSummary": {"Count": 2},
            "MemorySummary": {"TotalSystemMemoryGiB": 0.5}}"#;
        let mut seen = Inventory::default();
        system(&mut seen, &Document::parse(text, None).unwrap());
        assert_eq!((seen.model.as_str(), seen.cpu_count, seen.memory_bytes), ("M1", 2, 1 << 29));
        assert_eq!(seen.warnings.len(), 5, "{:?}", seen.warnings);
        nic(&mut seen, &Document::default());
        firmware(&mut seen, &Document::default());
        manager(&mut seen, None);
        assert_eq!((seen.warnings.len(), seen.nics.len(), seen.firmware.len()), (8, 0, 0));
    }

    #[test]
    fn macs_and_uuids_are_read_as_they_come() {
        assert_eq!(mac_address("00-1A-2B-3C-4D-5E").as_deref(), Some("00:1a:2b:3c:4d:5e"));
        assert_eq!(mac_address("001a2b3c4d5e").as_deref(), Some("00:1a:2b:3c:4d:5e"));
        assert_eq!((mac_address("00:1a"), mac_address("zz:1a:2b:3c:4d:5e")), (None, None));
        let bytes = uuid("00112233-4455-6677-8899-aabbccddeeff").unwrap();
        assert_eq!((bytes[0], bytes[15]), (0, 0xff));
        assert_eq!((uuid("0011"), uuid("é0112233445566778899aabbccddeef")), (None, None));
    }
}
