//! Whether two reports are of one machine: pure.
//!
//! Any identifier may be missing, or be a vendor's placeholder that a thousand machines share; an interface may move to
//! another machine. So one that agrees is enough, unless all others that both have disagree.

use farrier_inventory_store::{MachineKeys, SystemKeys};
use farrier_proto::inventory::DiscoveredMachine;
use farrier_proto::types::{Hardware, System};
use std::collections::BTreeSet;

/// What a machine is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identifiers {
    uuid: Option<String>,
    /// With the maker, who alone keeps it unique.
    serial: Option<(String, String)>,
    macs: BTreeSet<String>,
    /// Of its BMC, which is on its board; blades may share one.
    bmc: Option<String>,
}

impl Identifiers {
    pub(super) fn of(machine: &DiscoveredMachine) -> Self {
        let nothing = Hardware::default();
        Self::new(&machine.boot_mac_address, machine.hardware.as_ref().unwrap_or(&nothing))
    }

    /// What a machine says of itself, and the interface that it booted from; empty: not known.
    pub(super) fn new(boot_mac: &str, hardware: &Hardware) -> Self {
        let none = System::default();
        let system = hardware.system.as_ref().unwrap_or(&none);
        let uuid = system.uuid.trim().to_ascii_lowercase();
        let serial = system.serial_number.trim().to_ascii_lowercase();
        let macs = hardware.nics.iter().map(|nic| nic.mac_address.as_str()).chain([boot_mac]);
        let macs = macs.filter(|mac| !mac.is_empty());
        Self {
            uuid: is_uuid(&uuid).then_some(uuid),
            serial: (is_serial(&serial) && is_short_text(&system.manufacturer))
                .then(|| (system.manufacturer.trim().to_ascii_lowercase(), serial)),
            macs: macs.map(str::to_ascii_lowercase).collect(),
            bmc: hardware
                .own_bmc
                .as_ref()
                .map(|bmc| bmc.mac_address.to_ascii_lowercase())
                .filter(|mac| !mac.is_empty()),
        }
    }

    /// Whether both are one machine's.
    pub(super) fn same(&self, other: &Self) -> bool {
        let uuid = agree(&self.uuid, &other.uuid);
        let serial = agree(&self.serial, &other.serial);
        match (uuid, serial) {
            (Some(true), Some(true)) => true,
            // A board that was changed, or a placeholder that we do not know.
            (Some(true), Some(false)) | (Some(false), Some(true)) => self.shares_part(other),
            // A network card that moved, or a BMC that serves several.
            (Some(false), Some(false)) => false,
            (Some(true), None) | (None, Some(true)) => true,
            (Some(false), None) | (None, Some(false)) => false,
            (None, None) => self.shares_part(other),
        }
    }

    /// Whether both have the same BMC.
    pub(super) fn same_bmc(&self, other: &Self) -> bool {
        agree(&self.bmc, &other.bmc) == Some(true)
    }

    /// Whether the machine itself says so. An interface proves little: it moves, and whoever has none of the others may
    /// name any.
    fn proven(&self, other: &Self) -> bool {
        agree(&self.uuid, &other.uuid) == Some(true) || agree(&self.serial, &other.serial) == Some(true)
    }

    /// As a node keeps them.
    pub(super) fn system(&self) -> SystemKeys {
        let MachineKeys { uuid, serial, .. } = self.keys();
        SystemKeys { uuid, serial, bmc: self.bmc.clone() }
    }

    /// As they are searched for.
    pub(super) fn keys(&self) -> MachineKeys {
        let serial = self.serial.as_ref().map(|(maker, serial)| format!("{maker} {serial}"));
        // Beside interfaces, and none of them: a BMC's address is no port of a machine.
        let bmc = self.bmc.iter().map(|mac| format!("bmc {mac}"));
        MachineKeys { uuid: self.uuid.clone(), serial, macs: self.macs.iter().cloned().chain(bmc).collect() }
    }

    fn shares_part(&self, other: &Self) -> bool {
        !self.macs.is_disjoint(&other.macs) || self.same_bmc(other)
    }
}

/// What a report does to the rows that are like it.
#[derive(Debug)]
pub(super) struct Merge<'a> {
    /// It is written over; `None`: a row of its own.
    pub(super) first: Option<&'a DiscoveredMachine>,
    /// They go.
    pub(super) gone: Vec<&'a DiscoveredMachine>,
}

/// One machine has one row, the oldest. Rows that only share an interface with it stay, but for the one it boots from,
/// and so do those of other racks: nobody takes away what others found by naming its interfaces.
pub(super) fn merge<'a>(
    alike: &'a [DiscoveredMachine],
    seen: &DiscoveredMachine,
    its: &Identifiers,
) -> Merge<'a> {
    let mut first = None;
    let mut gone = Vec::new();
    for known in alike {
        let of_known = Identifiers::of(known);
        let proven = its.proven(&of_known);
        if its.same(&of_known) && (proven || known.rack == seen.rack) {
            match first {
                None => first = Some(known),
                Some(_) if proven || known.name == seen.name => gone.push(known),
                Some(_) => {}
            }
        } else if known.name == seen.name {
            // Another machine was seen by the interface that this one has now.
            gone.push(known);
        }
    }
    Merge { first, gone }
}

/// `None`: one of them does not know.
pub(super) fn agree<T: PartialEq>(one: &Option<T>, other: &Option<T>) -> Option<bool> {
    Some(one.as_ref()? == other.as_ref()?)
}

pub(super) fn is_uuid(uuid: &str) -> bool {
    let digits: String = uuid.chars().filter(|c| *c != '-').collect();
    let one_digit = digits.bytes().all(|b| Some(&b) == digits.as_bytes().first());
    digits.len() == 32
        && digits.bytes().all(|b| b.is_ascii_hexdigit())
        && !one_digit
        && !PLACEHOLDER_UUIDS.contains(&uuid)
}

/// Long enough to be one machine's in the world.
pub(super) fn is_serial(serial: &str) -> bool {
    serial.len() > 2 && is_said(serial)
}

/// Somebody gave it to the machine; in a list of machines a short one will do.
pub(super) fn is_said(serial: &str) -> bool {
    let one_digit = serial.bytes().all(|b| Some(&b) == serial.as_bytes().first());
    is_short_text(serial) && !one_digit && !PLACEHOLDER_SERIALS.contains(&serial)
}

/// As SMBIOS has it, and as an index of a database takes it: what an agent says of a machine is not checked before.
fn is_short_text(text: &str) -> bool {
    text.len() <= 256 && !text.contains(char::is_control)
}

/// What boards say that were never told who they are.
const PLACEHOLDER_UUIDS: &[&str] =
    &["03000200-0400-0500-0006-000700080009", "12345678-1234-5678-90ab-cddeefaabbcc"];
const PLACEHOLDER_SERIALS: &[&str] = &[
    "0123456789",
    "1234567890",
    "123456789",
    "default string",
    "n/a",
    "none",
    "not applicable",
    "not specified",
    "system serial number",
    "to be filled by o.e.m.",
    "unknown",
];

#[cfg(test)]
mod tests {
    use super::*;
    use farrier_proto::types::Nic;

    const A: &str = "4c4c4544-0031-3010-8052-b4c04f4a3532";
    const B: &str = "4c4c4544-0031-3010-8052-b4c04f4a3533";

    fn machine(uuid: &str, serial: &str, macs: &[u8]) -> Identifiers {
        let mac = |n: &u8| format!("52:54:00:00:00:{n:02x}");
        let nics = macs.iter().map(|n| Nic { mac_address: mac(n), ..Nic::default() }).collect();
        let system = System {
            manufacturer: "Dell Inc.".into(),
            uuid: uuid.into(),
            serial_number: serial.into(),
            ..System::default()
        };
        let hardware = Some(Hardware { system: Some(system), nics, ..Hardware::default() });
        let boot_mac_address = mac(macs.first().unwrap());
        Identifiers::of(&DiscoveredMachine { boot_mac_address, hardware, ..DiscoveredMachine::default() })
    }

    fn with_bmc(machine: Identifiers) -> Identifiers {
        Identifiers { bmc: Some("52:54:00:00:00:99".into()), ..machine }
    }

    #[test]
    fn machines_without_a_name_are_known_by_their_bmc() {
        let (one, other) = (with_bmc(machine("", "", &[1])), with_bmc(machine("", "", &[2])));
        assert!(one.same(&other));
        assert!(one.keys().macs.contains(&"bmc 52:54:00:00:00:99".to_owned()));
        assert!(!one.same(&Identifiers { bmc: Some("52:54:00:00:00:98".into()), ..other.clone() }));
        assert!(!one.same(&Identifiers { bmc: None, ..other }));
    }

    #[test]
    fn one_identifier_is_enough_unless_the_others_disagree() {
        let known = machine(A, "ABC123", &[1, 2]);
        for (same, what, other) in [
            (true, "everything", machine(A, "ABC123", &[1, 2])),
            (true, "new network cards", machine(A, "ABC123", &[8, 9])),
            (true, "another case of letters", machine(&A.to_uppercase(), "abc123", &[8])),
            (true, "a new board: another uuid", machine(B, "ABC123", &[2])),
            (true, "a serial that was lost", machine(A, "To Be Filled By O.E.M.", &[9])),
            (true, "nothing but a network card", machine("", "", &[2, 3])),
            (false, "a network card that moved", machine(B, "ABC124", &[1, 9])),
            (false, "nothing in common", machine(B, "ABC124", &[8])),
            (false, "the serial of another board and other cards", machine(B, "ABC123", &[8])),
            (false, "no name and other cards", machine("", "", &[8])),
            (true, "a new board with its BMC, and other cards", with_bmc(machine(B, "ABC123", &[8]))),
            (false, "a BMC that is another machine's too", with_bmc(machine(B, "ABC124", &[8]))),
        ] {
            let known = with_bmc(known.clone());
            assert_eq!(known.same(&other), same, "{what}");
            assert_eq!(other.same(&known), same, "{what}, the other way round");
        }
    }

    #[test]
    fn placeholders_are_nobodys_name() {
        let placeholder = "03000200-0400-0500-0006-000700080009";
        for (uuid, serial) in [
            (placeholder, "Default string"),
            ("", "0000000"),
            ("00000000-0000-0000-0000-000000000000", "NA"),
            ("", "A\0BC"),
        ] {
            assert!(!machine(uuid, serial, &[1]).same(&machine(uuid, serial, &[2])), "{uuid} {serial}");
        }
    }
}
